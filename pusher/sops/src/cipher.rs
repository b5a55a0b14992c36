//! The data key, and the values it encrypts: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::Error;
use crate::timestamp::Timestamp;
use crate::tree::{Kind, Leaf};

/// The key of a document: 32 bytes that every recipient can unwrap.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Takes over an unwrapped key.
    ///
    /// # Errors
    /// When it has not 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(Error::DataKeySize(bytes.len()));
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }
}

/// Opens the values of one document.
pub(crate) struct Cipher(AesGcm<Aes256, U32>);

impl Cipher {
    pub(crate) fn new(key: &DataKey) -> Self {
        Self(AesGcm::new((&*key.0).into()))
    }

    /// Decrypts a token that was made for the place that `aad` names, or returns why it cannot be.
    pub(crate) fn open(&self, token: &str, aad: &str) -> Result<Leaf, &'static str> {
        let token = Token::parse(token).ok_or("not as sops writes an encrypted value")?;
        let iv = decode::<32>(token.iv).ok_or("its iv is not 32 bytes")?;
        let tag = decode::<16>(token.tag).ok_or("its tag is not 16 bytes")?;
        let mut text = Zeroizing::new(STANDARD.decode(token.data).map_err(|_| "not base64")?);
        self.0
            .decrypt_in_place_detached(
                Nonce::from_slice(&iv),
                aad.as_bytes(),
                &mut text,
                Tag::from_slice(&tag),
            )
            .map_err(|_| "it was changed, moved, or encrypted with another data key")?;
        typed(token.kind, text)
    }
}

/// The parts of a token, still encoded.
struct Token<'a> {
    data: &'a str,
    iv: &'a str,
    tag: &'a str,
    kind: &'a str,
}

impl<'a> Token<'a> {
    /// Splits a token. Go's sops takes text after the bracket as well, which it never writes: refused here.
    fn parse(text: &'a str) -> Option<Self> {
        let inner = text
            .strip_prefix("ENC[AES256_GCM,data:")?
            .strip_suffix(']')?;
        let (data, rest) = inner.split_once(",iv:")?;
        let (iv, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        (!data.is_empty()).then_some(Self {
            data,
            iv,
            tag,
            kind,
        })
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Reads a decrypted value by its type.
///
/// Sealed values were written by whoever has the data key, so that another spelling of a number is not an attack; the
/// canonical one is taken because that is what sops hashes and prints.
fn typed(kind: &str, text: Zeroizing<Vec<u8>>) -> Result<Leaf, &'static str> {
    let as_is = |kind, text| Leaf {
        kind,
        text,
        sealed: true,
    };
    match kind {
        "str" => return Ok(as_is(Kind::Str, text)),
        "bytes" => return Ok(as_is(Kind::Bytes, text)),
        "comment" => return Ok(as_is(Kind::Comment, text)),
        _ => {}
    }
    let utf8 = std::str::from_utf8(&text).map_err(|_| "a number that is not text")?;
    let leaf = match kind {
        "int" => {
            let int: i64 = utf8.parse().map_err(|_| "not a 64-bit integer")?;
            Leaf::new(Kind::Int, int.to_string())
        }
        "float" => Leaf::float(float(utf8).ok_or("not a double")?),
        "bool" => Leaf::bool(truth(utf8).ok_or("neither true nor false")?),
        "time" => {
            let time = Timestamp::rfc3339(utf8).ok_or("not a point in time")?;
            Leaf::new(Kind::Time, time.exact())
        }
        _ => return Err("of a type that is unknown"),
    };
    Ok(Leaf {
        sealed: true,
        ..leaf
    })
}

fn float(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let said_so = text.contains(['n', 'N']);
    // Rust reads 1e400 as infinity, where Go refuses it.
    (number.is_finite() || said_so).then_some(number)
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, text: &str) -> Option<String> {
        let leaf = typed(kind, Zeroizing::new(text.as_bytes().to_vec())).ok()?;
        assert!(leaf.sealed);
        Some(leaf.utf8()?.to_owned())
    }

    #[test]
    fn typed_values_are_read_as_go_reads_them() {
        for (kind, text, expected) in [
            ("int", "+7", Some("7")),
            ("int", "-9223372036854775808", Some("-9223372036854775808")),
            ("int", "9223372036854775808", None),
            ("int", "1_000", None),
            ("float", "1.50", Some("1.5")),
            ("float", "1e21", Some("1000000000000000000000")),
            ("float", "+Inf", Some("+Inf")),
            ("float", "-Inf", Some("-Inf")),
            ("float", "NaN", Some("NaN")),
            ("float", "1e400", None),
            ("bool", "True", Some("True")),
            ("bool", "f", Some("False")),
            ("bool", "yes", None),
            (
                "time",
                "2001-12-14T00:00:00.50Z",
                Some("2001-12-14T00:00:00.5Z"),
            ),
            ("time", "2001-12-14", None),
            ("complex", "1", None),
        ] {
            assert_eq!(read(kind, text).as_deref(), expected, "{kind} {text}");
        }
    }

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        assert!(Token::parse("ENC[AES256_GCM,data:YQ==,iv:a,tag:b,type:str]").is_some());
        for bad in [
            "ENC[AES256_GCM,data:YQ==,iv:a,tag:b,type:str]x",
            "ENC[AES256_GCM,data:YQ==,iv:a,tag:b,type:str",
            " ENC[AES256_GCM,data:YQ==,iv:a,tag:b,type:str]",
            "ENC[AES256_GCM,data:,iv:a,tag:b,type:str]",
            "ENC[AES256_GCM,data:YQ==,tag:b,iv:a,type:str]",
            "ENC[AES128_GCM,data:YQ==,iv:a,tag:b,type:str]",
            "",
        ] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }
}
