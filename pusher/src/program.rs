//! Programs that we start: where they are, and what they do not get to see.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use keys_protocol::printable;

use crate::failure::Failure;

/// Variables that hold a secret of ours, which no child needs to see.
pub(crate) const OURS: [&str; 3] = ["VAULT_TOKEN", "BAO_TOKEN", "SOPS_AGE_KEY"];

/// Returns the absolute path of the program `name`, which holds no `/`: from PATH, but of that only what is absolute. So
/// the current folder is never searched.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
        .ok_or_else(|| Failure::source(format!("no program `{}` in PATH", printable(name, 80))))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
