//! A data key as it is encrypted to one recipient.

use std::fmt;

use crate::error::shown;

/// The data key, or a share of it, as encrypted to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrappedKey {
    /// By age: an armored file.
    Age {
        /// The recipient as text: `age1…`, `ssh-ed25519 …`.
        recipient: String,
        /// The armored age file.
        enc: String,
    },
    /// By `gpg`: an armored message.
    Pgp {
        /// The fingerprint of the key.
        fingerprint: String,
        /// The armored message.
        enc: String,
    },
    /// By the transit engine of Vault or OpenBao.
    Vault {
        /// The address the file names. A file that someone planted can name any: send no token there because of it.
        address: String,
        /// The path of the engine.
        engine_path: String,
        /// The name of the key in it.
        key_name: String,
        /// The ciphertext, `vault:v1:…`.
        enc: String,
    },
    /// By a service that this crate only names.
    Unsupported {
        /// The name of its list: `kms`, `gcp_kms`, `hckms`, `azure_kv`.
        service: &'static str,
        /// The name of the key there.
        name: String,
    },
}

impl fmt::Display for WrappedKey {
    /// Writes kind and name of the recipient, as messages have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age { recipient, .. } => write!(f, "age {}", shown(recipient)),
            Self::Pgp { fingerprint, .. } => write!(f, "pgp {}", shown(fingerprint)),
            Self::Vault {
                address,
                engine_path,
                key_name,
                ..
            } => write!(
                f,
                "hc_vault {} {}/{}",
                shown(address),
                shown(engine_path),
                shown(key_name)
            ),
            Self::Unsupported { service, name } => write!(f, "{service} {}", shown(name)),
        }
    }
}
