//! The host key that the manifest pins.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// A public host key as `ssh-keyscan` prints it, without the host's name. The type inside is the type in front of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HostKey {
    kind: &'static Kind,
    blob: Vec<u8>,
}

/// Why a text is no host key that can be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no host key: {0}")]
pub(crate) struct HostKeyError(&'static str);

/// A type of host key, and the lengths of the fields that follow its name in the blob (RFC 8709, 5656 and 4253).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    name: &'static str,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Shape {
    Ed25519,
    /// The curve's name and the length of an uncompressed point on it.
    Ecdsa(&'static str, usize),
    Rsa,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "ssh-ed25519",
        shape: Shape::Ed25519,
    },
    Kind {
        name: "ecdsa-sha2-nistp256",
        shape: Shape::Ecdsa("nistp256", 65),
    },
    Kind {
        name: "ecdsa-sha2-nistp384",
        shape: Shape::Ecdsa("nistp384", 97),
    },
    Kind {
        name: "ecdsa-sha2-nistp521",
        shape: Shape::Ecdsa("nistp521", 133),
    },
    Kind {
        name: "ssh-rsa",
        shape: Shape::Rsa,
    },
];

/// The shortest RSA modulus, in bytes: 2048 bits, what ssh-keygen has made since 2008.
const RSA_MODULUS: usize = 256;

impl HostKey {
    /// The type and the key, as they stand in `known_hosts` after the host's name.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.kind.name, BASE64_STANDARD.encode(&self.blob))
    }

    /// The type: `ssh-ed25519`.
    pub(crate) fn algorithm(&self) -> &'static str {
        self.kind.name
    }

    /// Whether it is of the one type that age can encrypt to.
    pub(crate) fn is_ed25519(&self) -> bool {
        self.kind.shape == Shape::Ed25519
    }

    /// The SHA-256 of the key.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.blob).into()
    }

    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    pub(crate) fn fingerprint(&self) -> String {
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(self.digest()))
    }
}

impl FromStr for HostKey {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        if text.contains(char::is_control) {
            return Err(HostKeyError("it is one line, without control characters"));
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let first = words.next().ok_or(HostKeyError("it is empty"))?;
        let second = words.next();
        if first.starts_with("SHA256:") || first.starts_with("MD5:") {
            return Err(HostKeyError(
                "a fingerprint is not enough, the whole key is wanted: ssh-ed25519 AAAA…",
            ));
        }
        if second.and_then(kind).is_some() {
            return Err(HostKeyError("leave out the host name before the type"));
        }
        let kind = kind(first).ok_or(HostKeyError(
            "it begins with its type: ssh-ed25519, ecdsa-sha2-nistp256 (384, 521) or ssh-rsa",
        ))?;
        let encoded = second.ok_or(HostKeyError("nothing follows the type"))?;
        let blob = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| HostKeyError("what follows the type is not base64"))?;
        check(&blob, kind)?;
        Ok(Self { kind, blob })
    }
}

fn kind(word: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == word)
}

/// Reads the blob to its end.
fn check(blob: &[u8], kind: &Kind) -> Result<(), HostKeyError> {
    let mut rest = blob;
    if field(&mut rest)? != kind.name.as_bytes() {
        return Err(HostKeyError(
            "the type inside is another than the type in front",
        ));
    }
    let fits = match kind.shape {
        Shape::Ed25519 => field(&mut rest)?.len() == 32,
        Shape::Ecdsa(curve, point) => {
            field(&mut rest)? == curve.as_bytes() && field(&mut rest)?.len() == point
        }
        Shape::Rsa => {
            let _exponent = field(&mut rest)?;
            let modulus = field(&mut rest)?;
            // A number with its highest bit set has a zero in front.
            let digits = modulus.strip_prefix(&[0]).unwrap_or(modulus);
            if digits.len() < RSA_MODULUS {
                return Err(HostKeyError("RSA keys below 2048 bits are too weak to pin"));
            }
            true
        }
    };
    if !fits || !rest.is_empty() {
        return Err(HostKeyError("the key is cut off or damaged"));
    }
    Ok(())
}

/// Takes one length-prefixed field off the front.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], HostKeyError> {
    let cut = HostKeyError("the key is cut off or damaged");
    let (length, after) = rest.split_first_chunk().ok_or(cut.clone())?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut.clone())?;
    let (field, after) = after.split_at_checked(length).ok_or(cut)?;
    *rest = after;
    Ok(field)
}

impl TryFrom<String> for HostKey {
    type Error = HostKeyError;

    fn try_from(text: String) -> Result<Self, HostKeyError> {
        text.parse()
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by ssh-keygen for these tests alone; the fingerprints are what `ssh-keygen -l` printed.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhTYMbzKBShLWqXYzPEgYmQovDbOofeeZKD06RnHC3q";
    const ECDSA_256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEnTnqtR9KEnBy9bnmPsSw3w/OVLLgs6M7bYrUhUZeKPg6imO/pM87/CN16pT3yNtmgDtvG/AzHO2DW2dGZlQdU=";
    const ECDSA_384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBPHA5xjXas0sme/PO+MLBTO2dQrbhc3lXgsqZw9vkEh4nn6JIEztOxzXKdgZvErcyWfpPVqHfVNH/8ucL4YHN69u9zQ8e0nh6BwROi9YcSZiHwl2xyUYTonjOq+q3x5rAw==";
    const ECDSA_521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBADOUE6DRr6JLIHQep4R+bdOquKz2Dvd/OQ024sE3yW2egeqSph3nF3gim+wZUYrFK2n4O8tLrjfPK2y/5naAOS7FACktKVw6B6X1PgnBmJHzwmpYIKiI371uOUvZKc/7kxfZlqaxYkHUUA6DSDzyS+CdwL6I/ZbU0XUmX/ZZkBhRAJ91Q==";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDNBQv5d9ocX7mxcJAZTXanrpcjn7mT1Yzx7kj0m68ArkUZKDCb+fYpwmvmKdPNgbRr/Fm/sEE2eYTDgUtE+qDtIHsQ01tgQdc0aHPb9I3hoqchUAoLvcv7l8tkO+GK81bj28XZAdwAMc6zjTwxWRJj719Sup9SoJWNHE2EUFscez4piVvLrbY8bJ9k6ckJ67YLpQ5i091rgy2bHAawBbdrgnQ1vurLxloVM/39JxJJj+1YKBB18gi5TU3w7y3OPxeq/DwSC04raz2RaKNkccbIDESieIOKDBgS8txVFdmMkg0/vf4/NgRSqXqWq7vRIf9ssAE3ZAVLJyzSYQoxOFkh";
    const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDTmLyuI2Gz8GyEUJpJdjiCrNBYhLqD/Jf966Ku6DzwE6xVMRVDvUxy96KAUgRec72gz9JjFnjtIKJ8RAUPOeJvoExyWq6Bs5XocH73heXiW71fp2Ggxs5vJTgvkyzwptDiNu2oljjAesxzNgR03Uy5pWea7UHoZQ5Afr3btIVUlw==";

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        for (key, fingerprint) in [
            (
                ED25519,
                "SHA256:pC4FQiYh+NzkDPpwMawbpFkX8EjNG3IqR1Ag8OVyfLg",
            ),
            (
                ECDSA_256,
                "SHA256:mwD3agLwKJ7A195cZR9PHiYDhWfvXD3hpkoSp86l0iU",
            ),
            (
                ECDSA_384,
                "SHA256:QOHlqEDexNyeLnIHwbVzZGiUK3QdtmD7QtU6tMQvQ+c",
            ),
            (
                ECDSA_521,
                "SHA256:3q1XctGcy7/B+Fzwm/ONsyoKQCJsG23IE42hR2qLU2M",
            ),
            (RSA, "SHA256:3SPqA1ayJCARbCUL2N7vSGiFLnZTfN59FXmUWv2ZmPE"),
        ] {
            let parsed: HostKey = format!("{key}  root@pigeon and more").parse().unwrap();
            assert_eq!(parsed.fingerprint(), fingerprint);
            assert_eq!(parsed.line(), key);
            assert!(key.starts_with(&parsed.line()));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        let blob = ED25519.split(' ').nth(1).unwrap();
        let check = |text: &str, reason: &str| {
            let error = text.parse::<HostKey>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("this is no host key: {reason}"),
                "{text}"
            );
        };
        let types =
            "it begins with its type: ssh-ed25519, ecdsa-sha2-nistp256 (384, 521) or ssh-rsa";
        check("", "it is empty");
        check("ssh-ed25519", "nothing follows the type");
        check(&format!("ssh-dss {blob}"), types);
        check(&format!("ssh-ed25519-cert-v01@openssh.com {blob}"), types);
        check(&format!("Ssh-ed25519 {blob}"), types);
        check(
            &format!("pigeon {ED25519}"),
            "leave out the host name before the type",
        );
        check(
            "SHA256:pC4FQiYh+NzkDPpwMawbpFkX8EjNG3IqR1Ag8OVyfLg",
            "a fingerprint is not enough, the whole key is wanted: ssh-ed25519 AAAA…",
        );
        check(
            &format!("{ED25519}\n* {ED25519}"),
            "it is one line, without control characters",
        );
        check("ssh-ed25519 AAAA…", "what follows the type is not base64");
        check(
            &format!("ssh-rsa {blob}"),
            "the type inside is another than the type in front",
        );
        check(RSA_1024, "RSA keys below 2048 bits are too weak to pin");
        check(
            // A length of 4 GiB, and nothing behind it.
            "ssh-ed25519 /////w==",
            "the key is cut off or damaged",
        );
    }

    #[test]
    fn no_part_of_a_key_is_taken_for_a_key() {
        for whole in [ED25519, ECDSA_256, ECDSA_384, ECDSA_521, RSA] {
            let (algorithm, encoded) = whole.split_once(' ').unwrap();
            let blob = BASE64_STANDARD.decode(encoded).unwrap();
            for end in 0..blob.len() {
                let part = format!("{algorithm} {}", BASE64_STANDARD.encode(&blob[..end]));
                assert!(part.parse::<HostKey>().is_err(), "{part} was accepted");
            }
            let more = format!(
                "{algorithm} {}",
                BASE64_STANDARD.encode([&blob[..], b"x"].concat())
            );
            assert!(more.parse::<HostKey>().is_err(), "{more} was accepted");
        }
    }
}
