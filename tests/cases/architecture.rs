//! Which crate may depend on which, and what every source file has.
