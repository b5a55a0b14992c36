//! What of our environment other programs do not see.

use std::ffi::OsString;

/// Prefixes of variables that hold secrets, or say where they are.
const OURS: [&str; 4] = ["VAULT_", "BAO_", "SOPS_", "AGE_"];

/// Returns the names of the variables that a program gets along without: one that needs none of our secrets must not be
/// the way they leak.
pub(crate) fn ours() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_str();
        name.is_some_and(|name| OURS.iter().any(|prefix| name.starts_with(prefix)))
    })
}
