//! The real gpg, with a key made on the spot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Ran, lab};

/// A home of gpg that holds one key.
pub struct Gpg {
    home: TempDir,
    fingerprint: String,
}

impl Gpg {
    /// Makes a key behind this passphrase, or without one if it is empty. Nothing knows the passphrase any more.
    #[must_use]
    pub fn with_passphrase(passphrase: &str) -> Self {
        let home = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))
            .expect("our own folder");
        let words = ["--pinentry-mode", "loopback", "--passphrase", passphrase];
        let key = [
            "--quick-generate-key",
            "lab@example.org",
            "future-default",
            "default",
            "never",
        ];
        let _made = gpg(home.path(), &[&words[..], &key].concat());
        let listed = gpg(home.path(), &["--with-colons", "--list-keys"]).text();
        let fingerprint = listed
            .lines()
            .find_map(|line| line.strip_prefix("fpr:::::::::"))
            .expect("gpg lists the key it made")
            .trim_end_matches(':')
            .to_owned();
        let gpg = Self { home, fingerprint };
        gpg.forget();
        gpg
    }

    /// Returns its home, for `GNUPGHOME`.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the fingerprint of the key.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Ends the agent, with all that it has cached.
    pub fn forget(&self) {
        let mut command = Command::new("gpgconf");
        command
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", self.home());
        let _ended = Ran::of(command, b"").succeeded();
    }
}

fn gpg(home: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new("gpg");
    command
        .args(["--batch", "--quiet"])
        .args(words)
        .env("GNUPGHOME", home);
    Ran::of(command, b"").succeeded()
}

impl Drop for Gpg {
    fn drop(&mut self) {
        self.forget();
    }
}
