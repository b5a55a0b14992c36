//! Digests: of the transcript, of a host, and keyed ones of secrets.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the SHA-256 of `bytes`, which are not secret.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("64 hexadecimal digits are wanted")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotADigest);
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        let mut text = Self::with_capacity(64);
        let _infallible = write!(text, "{digest}");
        text
    }
}

/// HMAC-SHA-256 (RFC 2104) of a secret under the nonce of a session.
///
/// The host compares with it what it has; a digest without the nonce would let anyone who sees it guess short secrets.
pub struct KeyedHash(Hmac<Sha256>);

impl KeyedHash {
    /// Starts a hash under `nonce`.
    #[must_use]
    pub fn new(nonce: &Digest) -> Self {
        // 32 bytes are shorter than a block, so RFC 2104 pads them with zeros: the same as a whole block.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&nonce.0);
        Self(Hmac::new(&block.into()))
    }

    /// Returns the hash of `secret` in one step.
    #[must_use]
    pub fn of(nonce: &Digest, secret: &[u8]) -> Digest {
        let mut hash = Self::new(nonce);
        hash.update(secret);
        hash.finish()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes that were added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_written() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for bad in [
            "",
            &text[1..],
            &text.replace('b', "g"),
            &format!("+{}", &text[1..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_keyed_hash_is_hmac_sha_256_of_rfc_4231() {
        // Test case 1: the key there is shorter, and both are padded with zeros to a block.
        let mut nonce = Digest([0; 32]);
        nonce.0[..20].fill(0x0b);
        assert_eq!(
            KeyedHash::of(&nonce, b"Hi There").to_string(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }
}
