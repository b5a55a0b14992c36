//! The public half of a private key that another source gives.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use ssh_key::PrivateKey;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run};
use crate::source::Source;

/// The source of the private key: of ssh, WireGuard or age.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(transparent)]
pub(crate) struct PublicSource(Box<Source>);

impl Kind for PublicSource {
    fn for_host(&self, _: &str) -> Self {
        self.clone()
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    fn parts(&self) -> Vec<&Source> {
        vec![&self.0]
    }

    fn parts_mut(&mut self) -> Vec<&mut Source> {
        vec![&mut self.0]
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        let private = run.answer(&self.0).await?;
        Ok(vec![public(private.expose()).map_err(|f| f.at(&self))])
    }
}

/// Returns the public half, without a newline at its end.
fn public(private: &[u8]) -> Result<Secret, Failure> {
    let unknown = || {
        Failure::source("no private key of ssh, WireGuard or age").hint(
            "ssh keys are read in the format of OpenSSH (`-----BEGIN OPENSSH PRIVATE KEY-----`)",
        )
    };
    let text = std::str::from_utf8(private).map_err(|_| unknown())?.trim();
    let public = if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        ssh(text)
    } else if let Some(line) = text
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
    {
        age(line)
    } else {
        wireguard(text)
    };
    public
        .map(|text| Secret::new(text.into_bytes()))
        .ok_or_else(unknown)
}

/// What `ssh-keygen -y` prints; a passphrase does not matter, as the public half is not encrypted.
fn ssh(text: &str) -> Option<String> {
    let key = PrivateKey::from_openssh(text).ok()?;
    key.public_key().to_openssh().ok()
}

/// What `age-keygen -y` prints.
fn age(line: &str) -> Option<String> {
    let identity: age::x25519::Identity = line.trim().parse().ok()?;
    Some(identity.to_public().to_string())
}

/// What `wg pubkey` prints.
fn wireguard(text: &str) -> Option<String> {
    // One byte more than a key has, so that what is longer is seen to be.
    let mut bytes = Zeroizing::new([0; 33]);
    let length = STANDARD.decode_slice(text, &mut *bytes).ok()?;
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(bytes[..length].try_into().ok()?);
    let public = PublicKey::from(&StaticSecret::from(*key));
    Some(STANDARD.encode(public.as_bytes()))
}

impl fmt::Display for PublicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "public half of {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wireguard_key_has_the_public_half_of_rfc_7748() {
        // Alice's keys of section 6.1.
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n";
        let found = public(private.as_bytes()).unwrap();
        assert_eq!(
            found.expose(),
            b"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        );
    }

    #[test]
    fn what_is_no_private_key_is_not_repeated() {
        for text in [
            "hunter2",
            "",
            "AGE-SECRET-KEY-1X",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LC==",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
        ] {
            let failure = public(text.as_bytes()).err().unwrap();
            assert_eq!(
                failure.to_string(),
                "no private key of ssh, WireGuard or age",
                "{text}"
            );
        }
    }
}
