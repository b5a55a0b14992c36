//! An identity file that is itself an age file, under a passphrase.

use std::iter;

use age::{DecryptError, Identity};
use age_core::format::{FileKey, Stanza};
use keys_protocol::Secret;

use crate::age_file::{AgeFile, is_age};
use crate::failure::Failure;

use super::Means;
use super::found::{Found, Opening};
use super::keyfile;
use super::passphrase::Passphrase;
use super::place::LARGEST;

/// Such a file, whose passphrase is asked for once, when a file may be for one of its identities.
pub(super) struct LockedFile {
    name: String,
    file: Secret,
    means: Means,
    opening: Opening,
}

impl LockedFile {
    /// Takes the file that the user calls `name`.
    pub(super) fn new(name: &str, file: Secret, means: &Means) -> Self {
        Self {
            name: name.to_owned(),
            file,
            means: means.clone(),
            opening: Opening::default(),
        }
    }

    /// Returns what of it was not used, and why, if that was tried.
    pub(super) fn not_used(&self) -> Vec<String> {
        let not_used = self.opening.not_used().into_iter();
        not_used
            .map(|why| format!("{}: {why}", self.name))
            .collect()
    }

    fn open(&self) -> Result<Found, Failure> {
        let file = AgeFile::open(self.file.expose())?;
        if !file.is_for_passphrase() {
            return Err(Failure::source("encrypted, and not to a passphrase"));
        }
        let passphrase = Passphrase::new(&self.name, &self.means.terminal);
        let identities = iter::once(&passphrase as &dyn Identity);
        let opened = file.decrypt(identities, self.file.len(), LARGEST)?;
        let text = opened.ok_or_else(|| Failure::source(passphrase.why_not()))?;
        if is_age(text.expose()) {
            return Err(Failure::source("encrypted more than once"));
        }
        keyfile::parse(&self.name, text, &self.means)
    }
}

impl Identity for LockedFile {
    /// Any stanza may be for what is in it, but those that are for an ssh key.
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag.starts_with("ssh-") || stanza.tag.ends_with("-grease") {
            return None;
        }
        let found = self.opening.get(|| self.open());
        found
            .open()
            .chain(found.locked(None))
            .find_map(|identity| identity.unwrap_stanza(stanza))
    }
}
