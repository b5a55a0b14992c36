//! ssh private keys as age identities, also behind a passphrase.
//!
//! An ed25519 key opens both what is encrypted to `ssh-ed25519 …` and what is encrypted to the X25519 recipient that
//! ssh-to-age makes of it.

use std::sync::Arc;

use age::{DecryptError, Identity};
use age_core::format::{FileKey, Stanza};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bech32::{Bech32, Hrp};
use sha2::{Digest as _, Sha256, Sha512};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::Terminal;

use super::found::{Found, Opened, Opening};
use super::passphrase;

/// Reads one private key in PEM, from the file that the user calls `name`.
pub(super) fn parse(name: &str, pem: &[u8], terminal: &Terminal) -> Result<Found, Failure> {
    let mut found = Found::default();
    if pem.starts_with(b"-----BEGIN RSA PRIVATE KEY") {
        found.open.push(native(pem)?);
        return Ok(found);
    }
    if !pem.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY") {
        return Err(Failure::source(
            "a private key of a kind that age does not use",
        ));
    }
    // The error is not shown: it may quote what it could not read.
    let key = PrivateKey::from_openssh(pem)
        .map_err(|_| Failure::source("the ssh private key cannot be read"))?;
    if key.is_encrypted() {
        let key = Arc::new(LockedKey::new(name, key, terminal)?);
        found.native.push(Native(key.clone()));
        found.converted.push(Converted(key));
    } else {
        found.open = open(&key)?;
    }
    Ok(found)
}

/// Returns the identities that an unlocked key is.
fn open(key: &PrivateKey) -> Result<Vec<Opened>, Failure> {
    let unusable = |_| Failure::source("the ssh private key cannot be read");
    let pem = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    let mut identities = vec![native(pem.as_bytes())?];
    if let Some(pair) = key.key_data().ed25519() {
        let seed = Zeroizing::new(pair.private.to_bytes());
        let identity: age::x25519::Identity = to_age(&seed)?
            .parse()
            .map_err(|_| Failure::source("the ssh private key cannot be converted"))?;
        identities.push(Box::new(identity));
    }
    Ok(identities)
}

fn native(pem: &[u8]) -> Result<Opened, Failure> {
    match age::ssh::Identity::from_buffer(pem, None) {
        Ok(identity @ age::ssh::Identity::Unencrypted(_)) => Ok(Box::new(identity)),
        Ok(age::ssh::Identity::Encrypted(_)) => Err(old_format()),
        Ok(age::ssh::Identity::Unsupported(_)) if pem.starts_with(b"-----BEGIN RSA") => {
            Err(old_format())
        }
        Ok(age::ssh::Identity::Unsupported(_)) => Err(Failure::source(
            "age uses ssh keys of the types ed25519 and rsa only",
        )),
        Err(_) => Err(Failure::source("the ssh private key cannot be read")),
    }
}

fn old_format() -> Failure {
    Failure::source("a key under a passphrase in the old PEM format")
        .hint("ssh-keygen -p writes it in the new one")
}

/// Returns the age identity that ssh-to-age makes of an ed25519 seed: the scalar is not clamped, or the text differs.
fn to_age(seed: &[u8; 32]) -> Result<Zeroizing<String>, Failure> {
    let mut hash = Zeroizing::new([0; 64]);
    hash.copy_from_slice(&Sha512::digest(seed));
    let failed = |_| Failure::source("the ssh private key cannot be converted");
    let prefix = Hrp::parse("age-secret-key-").map_err(failed)?;
    // 74 characters come: with less room growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(128));
    bech32::encode_upper_to_fmt::<Bech32, String>(&mut text, prefix, &hash[..32])
        .map_err(|_| Failure::source("the ssh private key cannot be converted"))?;
    Ok(text)
}

/// A key behind a passphrase, which is asked for once, when a file seems to need this key.
pub(super) struct LockedKey {
    name: String,
    key: PrivateKey,
    /// How age names the key in a file: the beginning of the hash of its public half.
    tag: String,
    /// The recipient that ssh-to-age makes of the public half, if it can.
    recipient: Option<String>,
    terminal: Terminal,
    opening: Opening,
}

impl LockedKey {
    fn new(name: &str, key: PrivateKey, terminal: &Terminal) -> Result<Self, Failure> {
        let public = key
            .public_key()
            .to_bytes()
            .map_err(|_| Failure::source("the ssh private key cannot be read"))?;
        let recipient = match (key.algorithm().is_ed25519(), key.public_key().to_openssh()) {
            (true, Ok(line)) => ssh_to_age::convert::ssh_public_key_to_age(&line).ok(),
            _ => None,
        };
        Ok(Self {
            name: name.to_owned(),
            key,
            recipient,
            tag: BASE64_STANDARD_NO_PAD.encode(&Sha256::digest(public)[..4]),
            terminal: terminal.clone(),
            opening: Opening::default(),
        })
    }

    /// Returns why this key was not used, if it was to be.
    pub(super) fn not_used(&self) -> Option<String> {
        let not_used = self.opening.not_used();
        let why = not_used.first()?;
        Some(format!("{}: {why}", self.name))
    }

    fn unlock(&self) -> Result<Found, Failure> {
        let key = passphrase::ask(&self.terminal, &self.name, |passphrase| {
            match self.key.decrypt(passphrase.as_bytes()) {
                Ok(key) => Ok(Some(key)),
                Err(ssh_key::Error::Crypto) => Ok(None),
                Err(_) => Err("its cipher is not supported"),
            }
        });
        Ok(Found {
            open: open(&key.map_err(Failure::source)?)?,
            ..Found::default()
        })
    }

    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let found = self.opening.get(|| self.unlock());
        found
            .open()
            .find_map(|identity| identity.unwrap_stanza(stanza))
    }
}

/// A locked key for files that name it.
pub(super) struct Native(pub(super) Arc<LockedKey>);

impl Identity for Native {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let named = matches!(stanza.tag.as_str(), "ssh-ed25519" | "ssh-rsa")
            && stanza.args.first() == Some(&self.0.tag);
        if named {
            self.0.unwrap_stanza(stanza)
        } else {
            None
        }
    }
}

/// A locked ed25519 key as the X25519 identity that ssh-to-age makes of it; files do not name those.
pub(super) struct Converted(pub(super) Arc<LockedKey>);

impl Converted {
    /// Returns whether `recipient` is what ssh-to-age makes of this key.
    pub(super) fn is(&self, recipient: &str) -> bool {
        self.0.recipient.as_deref() == Some(recipient)
    }
}

impl Identity for Converted {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let possible = stanza.tag == "X25519" && self.0.recipient.is_some();
        if possible {
            self.0.unwrap_stanza(stanza)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use keys_protocol::Digest;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Table {
        keys: Vec<Row>,
    }

    /// What the Go ssh-to-age gives for a key.
    #[derive(Deserialize)]
    struct Row {
        public: String,
        seed_hex: Digest,
        recipient: String,
        identity_sha256: Digest,
    }

    #[test]
    fn converted_keys_are_those_of_ssh_to_age() {
        let table: Table =
            serde_json::from_str(include_str!("../../../tests/data/ssh-to-age.json")).unwrap();
        assert_eq!(table.keys.len(), 200);
        for row in table.keys {
            let text = to_age(&row.seed_hex.0).unwrap();
            assert_eq!(
                Digest::of(text.as_bytes()),
                row.identity_sha256,
                "{}",
                row.public
            );
            let identity: age::x25519::Identity = text.parse().unwrap();
            assert_eq!(identity.to_public().to_string(), row.recipient);
            let public = ssh_to_age::convert::ssh_public_key_to_age(&row.public).unwrap();
            assert_eq!(public, row.recipient);
        }
    }
}
