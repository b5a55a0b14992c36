//! The real sops, with a fresh age identity.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Age, Ran, lab};

/// sops for one age recipient.
pub struct Sops {
    age: Age,
    folder: TempDir,
    environment: BTreeMap<String, OsString>,
}

impl Sops {
    /// Makes one with a new identity.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "making an identity is no default"
    )]
    pub fn new() -> Self {
        Self::of(Age::new_identity())
    }

    /// Makes one for this identity.
    #[must_use]
    pub fn of(age: Age) -> Self {
        let folder = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        Self {
            age,
            folder,
            environment: BTreeMap::new(),
        }
    }

    /// Returns the identity that can read what it encrypts.
    #[must_use]
    pub fn age(&self) -> &Age {
        &self.age
    }

    /// Encrypts a document. `name` tells sops the format by its end: yaml, json, env, ini or any other for binary.
    #[must_use]
    pub fn encrypt(&self, name: &str, text: &str) -> String {
        self.encrypt_with(name, text, &[])
    }

    /// Encrypts a document with further words for sops such as `--unencrypted-suffix`.
    #[must_use]
    pub fn encrypt_with(&self, name: &str, text: &str, words: &[&str]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the lab's folder can be written");
        let mut command = self.command(&["encrypt"]);
        command
            .args(["--age", self.age.recipient()])
            .args(words)
            .arg(&path);
        Ran::of(command, b"").succeeded().text()
    }

    /// Decrypts a file with sops itself: all of it, or one value by its path such as `["a"]["b"]`.
    pub fn decrypt(&self, file: &Path, extract: Option<&str>) -> Ran {
        let mut command = self.command(&["decrypt"]);
        if let Some(path) = extract {
            command.args(["--extract", path]);
        }
        command.arg(file);
        Ran::of(command, b"")
    }

    /// Encrypts a document by these rules, which stand in a `.sops.yaml`.
    #[must_use]
    pub fn encrypt_by(&self, rules: &str, name: &str, text: &str) -> String {
        let (path, config) = (
            self.folder.path().join(name),
            self.folder.path().join("rules.yaml"),
        );
        fs::write(&path, text).expect("the lab's folder can be written");
        fs::write(&config, rules).expect("the lab's folder can be written");
        let mut command = self.command(&["--config"]);
        command.arg(config).arg("encrypt").arg(path);
        Ran::of(command, b"").succeeded().text()
    }

    /// Sets a variable for all commands from now on.
    pub fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the command `sops` with these words, not yet run.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(lab::peer("sops"));
        command
            .args(words)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/bin:/bin");
        command.env("SOPS_AGE_KEY_FILE", self.age.identity());
        command.envs(&self.environment);
        command
    }
}
