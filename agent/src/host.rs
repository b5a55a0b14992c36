//! Who this host is: its ssh host keys.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use keys_protocol::Digest;

use crate::failure::{Doing as _, Failure};

/// Where sshd has its host keys.
const FOLDER: &str = "/etc/ssh";
/// The most keys that are told; sshd has one for each of a few algorithms.
const MOST: usize = 16;

/// What the host's public keys say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// SHA-256 of the ed25519 public key blob.
    pub(crate) id: Option<Digest>,
    /// The fingerprints of all, as `ssh-keygen -l` prints them.
    pub(crate) fingerprints: Vec<String>,
}

impl Identity {
    /// Reads `/etc/ssh/ssh_host_*_key.pub`. A host without them has no identity; one that cannot be read is an error.
    pub(crate) fn read() -> Result<Self, Failure> {
        let entries = match fs::read_dir(FOLDER) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.doing(|| format!("list {FOLDER}"))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.doing(|| format!("list {FOLDER}"))?.path();
            if is_host_key(&path) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut identity = Self::default();
        for path in paths.iter().take(MOST) {
            let line = fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
            identity.add(&line);
        }
        Ok(identity)
    }

    /// Adds the key of one line, `TYPE BASE64 COMMENT`; what is not a key is left out.
    fn add(&mut self, line: &str) {
        let mut fields = line.split_ascii_whitespace();
        let kind = fields.next();
        let Some(blob) = fields.next().and_then(|text| STANDARD.decode(text).ok()) else {
            return;
        };
        let digest = Digest::of(&blob);
        if kind == Some("ssh-ed25519") {
            self.id = Some(digest);
        }
        self.fingerprints
            .push(format!("SHA256:{}", STANDARD_NO_PAD.encode(digest.0)));
    }
}

fn is_host_key(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("ssh_host_") && name.ends_with("_key.pub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_ssh_keygen() {
        let mut identity = Identity::default();
        identity.add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKwUdS0mHGDEE8ppqwXkVh5KyaUvDbOMvvpYKuDS5Th root@x\n");
        assert_eq!(
            identity.fingerprints,
            ["SHA256:gHKfJeh4G8LzT599NcxRgKH/tSJPZvb3xSFvwM4Xl1A"]
        );
        assert_eq!(
            identity.id.unwrap().to_string(),
            "80729f25e8781bc2f34f9f7d35cc5180a1ffb5224f66f6f7c5216fc0ce179750"
        );
        identity.add("");
        identity.add("ssh-rsa not!base64");
        assert_eq!(identity.fingerprints.len(), 1);
    }
}
