//! Asks every source once, side by side.

pub(crate) mod age;
pub(crate) mod command;
pub(crate) mod file;
pub(crate) mod sops;
pub(crate) mod vault;
