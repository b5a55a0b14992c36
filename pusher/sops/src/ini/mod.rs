//! Ini files as Go's ini.v1 has them, which sops reads and writes them with.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::write;
