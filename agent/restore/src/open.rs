//! Opens a bundle: decrypts it with the host's own key, and believes nothing of it before its signature is verified.

use std::fs;
use std::iter;

use age::Decryptor;
use keys_protocol::bundle::{self, Entry, Head};
use keys_protocol::{Digest, Secret, limits};
use ssh_key::PrivateKey;

use crate::refused::{Refused, Trying as _};
use crate::signers::Signers;

/// The key that bundles of this host are encrypted to.
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// The host's private key, and the id that follows from the public one.
pub(crate) struct HostKey {
    pem: Secret,
    id: Digest,
}

/// A bundle whose signature is verified and that is for this host.
pub(crate) struct Bundle {
    pub(crate) head: Head,
    pub(crate) keys: Vec<(Entry, Secret)>,
}

impl HostKey {
    /// Reads it from where sshd has it.
    pub(crate) fn read() -> Result<Self, Refused> {
        let pem = Secret::new(fs::read(HOST_KEY).trying(|| format!("read {HOST_KEY}"))?);
        let broken = || format!("{HOST_KEY} is no private key of ssh");
        let key = PrivateKey::from_openssh(pem.expose()).trying(broken)?;
        let blob = key.public_key().to_bytes().trying(broken)?;
        let id = Digest::of(&blob);
        Ok(Self { pem, id })
    }
}

/// Opens the bytes of a bundle's file, all of them.
pub(crate) fn open(file: &[u8], host: &HostKey, signers: &Signers) -> Result<Bundle, Refused> {
    let plain = decrypt(file, host)?;
    let damaged = || "damaged".to_owned();
    let (signature, container) = bundle::split(plain.expose()).trying(damaged)?;
    let container = Secret::new(container.to_vec());
    signers.verify(&bundle::signed_text(&container), signature)?;
    let (head, keys) = bundle::read(container.expose()).trying(damaged)?;
    if head.host != host.id {
        let text = format!("foreign: it is for the host {}", head.host);
        return Err(Refused::new(text));
    }
    Ok(Bundle { head, keys })
}

fn decrypt(file: &[u8], host: &HostKey) -> Result<Secret, Refused> {
    let refuse = |error: age::DecryptError| {
        Refused::new(match error {
            age::DecryptError::NoMatchingKeys => {
                format!("foreign: it is not encrypted to {HOST_KEY}")
            }
            error => format!("damaged: it is no age file of ours: {error}"),
        })
    };
    let identity = age::ssh::Identity::from_buffer(host.pem.expose(), None)
        .trying(|| format!("read {HOST_KEY}"))?;
    let decryptor = Decryptor::new_buffered(file).map_err(refuse)?;
    let identities = iter::once(&identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(refuse)?;
    // To the end: a file that is cut fails at its last chunk, after most of it was given out.
    Secret::read_sized(&mut reader, file.len(), limits::BUNDLE_BYTES)
        .trying(|| "damaged: it is cut off or changed".into())
}
