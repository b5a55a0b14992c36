//! What can be made, from the random numbers of the operating system alone.

use std::fmt;

use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys_protocol::Secret;
use rand::rngs::OsRng;
use rand::{Rng as _, RngCore as _};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::failure::Failure;

use super::{GenerateTable, What};

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Recipe {
    Password { length: u16, alphabet: Vec<char> },
    Diceware { words: u16 },
    Hex { bytes: u16 },
    Base64 { bytes: u16 },
    Uuid,
    SshEd25519,
    Wireguard,
    Age,
    Crypt,
}

/// 7776 words, one for five throws of a die. See the README beside it.
const WORDS: &str = include_str!("eff_large_wordlist.txt");

/// Letters and digits: what every configuration file, URL and shell leaves as it is.
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

impl Recipe {
    pub(super) fn new(table: &GenerateTable) -> Result<Self, String> {
        let length = |least| number("length", table.length, (least, 32, 4096));
        let recipe = match table.kind {
            What::Password => Self::Password {
                length: length(8)?,
                alphabet: alphabet(table.alphabet.as_deref().unwrap_or(ALPHABET))?,
            },
            What::Diceware => Self::Diceware {
                words: number("words", table.words, (4, 6, 64))?,
            },
            What::Hex => Self::Hex { bytes: length(16)? },
            What::Base64 => Self::Base64 { bytes: length(16)? },
            What::Uuid => Self::Uuid,
            What::SshEd25519 => Self::SshEd25519,
            What::Wireguard => Self::Wireguard,
            What::Age => Self::Age,
            What::Crypt => Self::Crypt,
        };
        recipe.takes(table)?;
        Ok(recipe)
    }

    /// Refuses what means nothing for this kind.
    fn takes(&self, table: &GenerateTable) -> Result<(), String> {
        let sized = matches!(
            self,
            Self::Password { .. } | Self::Hex { .. } | Self::Base64 { .. }
        );
        for (name, said, meant) in [
            ("length", table.length.is_some(), sized),
            (
                "alphabet",
                table.alphabet.is_some(),
                matches!(self, Self::Password { .. }),
            ),
            (
                "words",
                table.words.is_some(),
                matches!(self, Self::Diceware { .. }),
            ),
        ] {
            if said && !meant {
                return Err(format!("`{name}` means nothing for the kind `{self}`"));
            }
        }
        Ok(())
    }

    /// Makes one.
    pub(super) fn make(&self) -> Result<Secret, Failure> {
        match self {
            Self::Password { length, alphabet } => Ok(password(*length, alphabet)),
            Self::Diceware { words } => diceware(*words),
            Self::Hex { bytes } => Ok(hex(&random(*bytes))),
            Self::Base64 { bytes } => Ok(base64(&random(*bytes))),
            Self::Uuid => Ok(uuid()),
            Self::SshEd25519 => ssh(),
            Self::Wireguard => Ok(wireguard()),
            Self::Age => {
                let identity = age::x25519::Identity::generate().to_string();
                Ok(Secret::copy_of(identity.expose_secret().as_bytes()))
            }
            Self::Crypt => Err(Failure::source("a bug: a hash is made of something")),
        }
    }
}

fn number(
    name: &str,
    said: Option<u16>,
    (least, usual, most): (u16, u16, u16),
) -> Result<u16, String> {
    let number = said.unwrap_or(usual);
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("`{name}` is from {least} to {most}"))
}

fn alphabet(text: &str) -> Result<Vec<char>, String> {
    let characters: Vec<char> = text.chars().collect();
    let mut sorted = characters.clone();
    sorted.sort_unstable();
    sorted.dedup();
    // One that is there twice would come twice as often.
    if sorted.len() != characters.len()
        || sorted.len() < 10
        || sorted.iter().any(|c| c.is_control())
    {
        return Err(
            "`alphabet` is of 10 characters or more, each once, and no control characters".into(),
        );
    }
    Ok(characters)
}

fn random(bytes: u16) -> Zeroizing<Vec<u8>> {
    let mut random = Zeroizing::new(vec![0; bytes.into()]);
    OsRng.fill_bytes(&mut random);
    random
}

/// `gen_range` throws numbers away that would make some characters likelier than others.
fn password(length: u16, alphabet: &[char]) -> Secret {
    let mut secret = Secret::with_capacity(4 * usize::from(length));
    for _ in 0..length {
        let c = alphabet[OsRng.gen_range(0..alphabet.len())];
        secret.push(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    secret
}

fn diceware(words: u16) -> Result<Secret, Failure> {
    let list: Vec<&str> = WORDS
        .lines()
        .filter_map(|line| line.split('\t').nth(1))
        .collect();
    if list.len() != 7776 {
        return Err(Failure::source("a bug: the list of words is not whole"));
    }
    let mut secret = Secret::with_capacity(16 * usize::from(words));
    for number in 0..words {
        if number > 0 {
            secret.push(b"-");
        }
        secret.push(list[OsRng.gen_range(0..list.len())].as_bytes());
    }
    Ok(secret)
}

fn hex(bytes: &[u8]) -> Secret {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut secret = Secret::with_capacity(2 * bytes.len());
    for byte in bytes {
        secret.push(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
    secret
}

fn base64(bytes: &[u8]) -> Secret {
    Secret::new(STANDARD.encode(bytes).into_bytes())
}

/// RFC 9562: all bits random but version and variant.
fn uuid() -> Secret {
    let mut bytes = random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits = hex(&bytes);
    let mut secret = Secret::with_capacity(36);
    for (number, part) in [0..8, 8..12, 12..16, 16..20, 20..32]
        .into_iter()
        .enumerate()
    {
        if number > 0 {
            secret.push(b"-");
        }
        secret.push(&digits.expose()[part]);
    }
    secret
}

fn ssh() -> Result<Secret, Failure> {
    let broken = |_| Failure::source("a bug: the ssh key could not be made");
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(broken)?;
    let text = key.to_openssh(LineEnding::LF).map_err(broken)?;
    Ok(Secret::copy_of(text.as_bytes()))
}

/// `wg genkey` clamps the key itself, so that it is one scalar in all programs.
fn wireguard() -> Secret {
    let mut bytes = random(32);
    bytes[0] &= 0b1111_1000;
    bytes[31] = (bytes[31] & 0b0111_1111) | 0b0100_0000;
    base64(&bytes)
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "password",
            Self::Diceware { .. } => "diceware",
            Self::Hex { .. } => "hex",
            Self::Base64 { .. } => "base64",
            Self::Uuid => "uuid",
            Self::SshEd25519 => "ssh-ed25519",
            Self::Wireguard => "wireguard",
            Self::Age => "age",
            Self::Crypt => "crypt",
        })
    }
}
