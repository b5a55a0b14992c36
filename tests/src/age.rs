//! The real age, with identities made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Ran, lab};

/// An age identity in a file, and its recipient.
pub struct Age {
    folder: TempDir,
    recipient: String,
}

impl Age {
    /// Makes a new X25519 identity.
    #[must_use]
    pub fn new_identity() -> Self {
        Self::made(&[])
    }

    /// Makes a new post-quantum identity.
    #[must_use]
    pub fn new_post_quantum() -> Self {
        Self::made(&["-pq"])
    }

    fn made(words: &[&str]) -> Self {
        let folder = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        let mut command = Command::new(lab::peer("age-keygen"));
        command
            .args(words)
            .arg("-o")
            .arg(folder.path().join("identity"));
        let made = Ran::of(command, b"").succeeded();
        let recipient = made
            .stderr
            .trim()
            .strip_prefix("Public key: ")
            .expect("age-keygen says it")
            .to_owned();
        Self { folder, recipient }
    }

    /// Returns the file with the identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    /// Returns the text of that file.
    #[must_use]
    pub fn identity_text(&self) -> String {
        fs::read_to_string(self.identity()).expect("age-keygen wrote it")
    }

    /// Returns the recipient, `age1…`.
    #[must_use]
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// Encrypts bytes to this recipient, with further words for age such as `--armor`.
    #[must_use]
    pub fn encrypt(&self, bytes: &[u8], words: &[&str]) -> Vec<u8> {
        let mut command = Command::new(lab::peer("age"));
        command.args(words).args(["-r", &self.recipient]);
        Ran::of(command, bytes).succeeded().stdout
    }

    /// Encrypts bytes to a passphrase, with further words for age such as `--armor`.
    #[must_use]
    pub fn lock(passphrase: &str, bytes: &[u8], words: &str) -> Vec<u8> {
        let folder = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        fs::write(folder.path().join("plain"), bytes).expect("the lab's folder can be written");
        // age asks twice, on the terminal.
        let line = format!("{} -p {words} -o locked plain", lab::peer("age").display());
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]);
        command.env("SHELL", "/bin/sh").current_dir(folder.path());
        let typed = format!("{passphrase}\n{passphrase}\n");
        let _locked = Ran::of(command, typed.as_bytes()).succeeded();
        fs::read(folder.path().join("locked")).expect("age wrote it")
    }

    /// Decrypts a file with age itself.
    pub fn decrypt(identity: &Path, bytes: &[u8]) -> Ran {
        let mut command = Command::new(lab::peer("age"));
        command.arg("-d").arg("-i").arg(identity);
        Ran::of(command, bytes)
    }
}
