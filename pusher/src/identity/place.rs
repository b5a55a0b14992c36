//! Where identities are: the manifest, the variables that SOPS reads, and the usual files.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use keys_protocol::{Secret, printable};

use crate::failure::Failure;
use crate::resolve::{Settings, file};

/// The largest identity file.
pub(super) const LARGEST: u64 = 1 << 20;

/// A place where identities may be.
pub(super) enum Place {
    /// A file that the manifest or the user named: it has to be there.
    Named(PathBuf),
    /// A file that a variable names: it has to be there.
    Pointed(&'static str, PathBuf),
    /// A file that many have.
    Usual(PathBuf),
    /// The text of a variable.
    Variable(&'static str, OsString),
}

/// Returns the places in the order in which they are tried: the manifest, then where SOPS looks.
pub(super) fn usual(settings: &Settings) -> Vec<Place> {
    let mut places: Vec<Place> = settings
        .age
        .identities
        .iter()
        .map(|file| Place::Named(settings.path(file)))
        .collect();
    places.extend(variable("SOPS_AGE_KEY").map(|text| Place::Variable("SOPS_AGE_KEY", text)));
    for name in ["SOPS_AGE_KEY_FILE", "SOPS_AGE_SSH_PRIVATE_KEY_FILE"] {
        places.extend(variable(name).map(|file| Place::Pointed(name, file.into())));
    }
    let home = std::env::home_dir();
    let config = match variable("XDG_CONFIG_HOME").map(PathBuf::from) {
        // As the XDG specification has it: a relative one counts for nothing.
        Some(config) => config.is_absolute().then_some(config),
        None => home.as_ref().map(|home| home.join(".config")),
    };
    places.extend(config.map(|config| Place::Usual(config.join("sops/age/keys.txt"))));
    for key in ["id_ed25519", "id_rsa"] {
        places.extend(
            home.as_ref()
                .map(|home| Place::Usual(home.join(".ssh").join(key))),
        );
    }
    places
}

/// Returns the variables that name a program which prints identities, each with its text.
pub(super) fn programs() -> impl Iterator<Item = (&'static str, OsString)> {
    ["SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD"]
        .into_iter()
        .filter_map(|name| Some((name, variable(name)?)))
}

/// An empty variable is as good as none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Place {
    /// Returns what the user calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Named(path) | Self::Usual(path) => short(path),
            Self::Pointed(name, path) => format!("{} ({name})", short(path)),
            Self::Variable(name, _) => (*name).to_owned(),
        }
    }

    /// Returns whether the user said that it is there.
    pub(super) fn is_named(&self) -> bool {
        matches!(
            self,
            Self::Named(_) | Self::Pointed(..) | Self::Variable(..)
        )
    }

    /// Reads what is there; nothing if a usual file is not.
    pub(super) fn read(self) -> Result<Option<Secret>, Failure> {
        match self {
            Self::Named(path) | Self::Pointed(_, path) => read_private(&path, LARGEST).map(Some),
            Self::Usual(path) => match path.symlink_metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                _ => read_private(&path, LARGEST).map(Some),
            },
            Self::Variable(_, text) => Ok(Some(Secret::new(text.into_vec()))),
        }
    }
}

/// Reads a file that nobody else may read. As ssh does, this looks only at files of the user's own.
pub(crate) fn read_private(path: &Path, limit: u64) -> Result<Secret, Failure> {
    let file = file::open(path)?;
    let about = file
        .metadata()
        .map_err(|e| Failure::source(e.to_string()))?;
    let mode = about.mode() & 0o777;
    if about.uid() == nix::unistd::geteuid().as_raw() && mode & 0o077 != 0 {
        return Err(
            Failure::source(format!("others may read it (mode {mode:04o})"))
                .hint(format!("chmod 600 {}", short(path))),
        );
    }
    file::read(&file, limit)
}

/// Returns `path` with the user's home as `~`.
fn short(path: &Path) -> String {
    let text = match std::env::home_dir().map(|home| path.strip_prefix(home).map(Path::to_owned)) {
        Some(Ok(below)) => format!("~/{}", below.display()),
        _ => path.display().to_string(),
    };
    printable(&text, 300)
}
