//! The manifest that a flake had when it was last evaluated. No secret is in it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::failure::Failure;
use crate::manifest::find;

/// Where the manifest of one flake is kept: a line with a digest of what it follows from, then the manifest.
pub(super) struct Kept(PathBuf);

impl Kept {
    /// Returns the place for a part of the flake that is this file: below `XDG_CACHE_HOME`, or `~/.cache`.
    pub(super) fn of(flake: &Path, machines: &str) -> Result<Self, Failure> {
        let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = named
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
        let cache = cache.ok_or_else(|| Failure::usage("no home to keep a manifest in"))?;
        let name = digest(&format!("{}#{machines}", flake.display()));
        Ok(Self(cache.join("keys").join(format!("{name}.json"))))
    }

    /// Returns the manifest, if it is still that of this state.
    pub(super) fn read(&self, state: &str) -> Result<Option<String>, Failure> {
        if let Err(error) = fs::symlink_metadata(&self.0) {
            return match error.kind() {
                ErrorKind::NotFound => Ok(None),
                _ => Err(self.failed(&error)),
            };
        }
        // It can run commands like any other manifest, so nobody else may have written it.
        let (_, text) = find::read(&self.0)?;
        let manifest = text
            .split_once('\n')
            .filter(|(of, _)| *of == digest(state))
            .map(|(_, manifest)| manifest.to_owned());
        Ok(manifest)
    }

    /// Keeps the manifest of this state, instead of the last one.
    pub(super) fn write(&self, state: &str, manifest: &str) -> Result<(), Failure> {
        let text = format!("{}\n{manifest}", digest(state));
        self.replace(text.as_bytes()).map_err(|error| {
            self.failed(&error)
                .hint("XDG_CACHE_HOME names another folder to keep manifests in")
        })
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        // By the number of this process: two runs at once write two files, and the last one stays.
        let new = self.0.with_extension(std::process::id().to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, &self.0)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::usage(format!(
            "keep the manifest in {}: {error}",
            self.0.display()
        ))
    }
}

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text.as_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
