//! What is fuzzed: one function for each parser of the project, which takes any bytes and must neither panic nor contradict
//! itself. The folder `corpus/NAME` holds what has been found interesting; `cases/corpus.rs` replays it.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::consts::U32;
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keys_sops::{Config, DataKey, Document, Error, Format, Plain};
use sha2::{Digest as _, Sha256, Sha512};

/// A parser under test.
pub(crate) type Target = fn(&[u8]);

/// All of them by name, each with a corpus of that name and a binary in `fuzz_targets`.
pub(crate) const ALL: [(&str, Target); 9] = [
    ("sops_binary", sops_binary),
    ("sops_config", sops_config),
    ("sops_dotenv", sops_dotenv),
    ("sops_ini", sops_ini),
    ("sops_json", sops_json),
    ("sops_metadata", sops_metadata),
    ("sops_sealed", sops_sealed),
    ("sops_token", sops_token),
    ("sops_yaml", sops_yaml),
];

/// The data key of all documents here.
const KEY: [u8; 32] = [7; 32];
const TIME: &str = "2026-01-01T00:00:00Z";

/// A whole file of each format.
pub(crate) fn sops_binary(data: &[u8]) {
    drop(open(data, Format::Binary));
}

/// The fields of a YAML document that nothing is encrypted in.
pub(crate) fn sops_yaml(data: &[u8]) {
    drop(open(data, Format::Yaml));
    round_trip(data, Format::Yaml, |text| {
        let about = about(": ").join("\n  ");
        format!("{text}\nsops:\n  age: [{{recipient: r}}]\n  {about}\n")
    });
}

/// A JSON object.
pub(crate) fn sops_json(data: &[u8]) {
    drop(open(data, Format::Json));
    round_trip(data, Format::Json, |text| {
        let about = about("\": \"").join("\", \"");
        let fields = text.trim_end().strip_suffix('}').unwrap_or(text).trim_end();
        let comma = if fields.ends_with('{') { "" } else { "," };
        format!("{fields}{comma} \"sops\": {{\"age\": [{{\"recipient\": \"r\"}}], \"{about}\"}}}}")
    });
}

/// Lines of a dotenv file.
pub(crate) fn sops_dotenv(data: &[u8]) {
    drop(open(data, Format::Dotenv));
    round_trip(data, Format::Dotenv, |text| {
        let about = about("=").join("\nsops_");
        format!("{text}\nsops_age__list_0__map_recipient=r\nsops_{about}\n")
    });
}

/// Sections of an ini file.
pub(crate) fn sops_ini(data: &[u8]) {
    drop(open(data, Format::Ini));
    round_trip(data, Format::Ini, |text| {
        let about = about(" = ").join("\n");
        format!("{text}\n[sops]\nage__list_0__map_recipient = r\n{about}\n")
    });
}

/// The metadata of a document, as JSON.
pub(crate) fn sops_metadata(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    drop(open(
        format!("{{\"a\": \"\", \"sops\": {text}}}").as_bytes(),
        Format::Json,
    ));
    // And flattened, as the formats without maps have it.
    drop(open(format!("a=\n{text}").as_bytes(), Format::Dotenv));
}

/// An encrypted value: the text of its token.
pub(crate) fn sops_token(data: &[u8]) {
    let token = serde_json::Value::from(String::from_utf8_lossy(data));
    drop(open(envelope(&token.to_string()).as_bytes(), Format::Json));
}

/// An encrypted value: what is in it, of the type that the first byte chooses.
pub(crate) fn sops_sealed(data: &[u8]) {
    const KINDS: [&str; 8] = [
        "str", "int", "float", "bool", "time", "bytes", "comment", "x",
    ];
    let (first, plain) = data.split_first().unwrap_or((&0, &[]));
    let token = seal(KINDS[usize::from(first % 8)], plain, "a:");
    drop(open(
        envelope(&format!("\"{token}\"")).as_bytes(),
        Format::Json,
    ));
}

/// A `.sops.yaml`.
pub(crate) fn sops_config(data: &[u8]) {
    if let Ok(config) = Config::parse(data) {
        drop(config.rule_for("hosts/a.yaml"));
    }
}

/// A JSON document that has one value, to be encrypted.
fn envelope(value: &str) -> String {
    format!(
        "{{\"a\": {value}, \"sops\": {{\"age\": [{{\"recipient\": \"r\"}}], \"lastmodified\": \"{TIME}\", \"mac\": \"x\"}}}}"
    )
}

/// Parses and decrypts. What is refused must be refused in words that can be printed.
fn open(file: &[u8], format: Format) -> Result<Plain, Error> {
    let opened = Document::parse(file, format).and_then(|document| {
        let _said = document.data_key(|_| Err("nobody")).map(drop);
        document.decrypt(&DataKey::new(&KEY)?)
    });
    opened.inspect_err(|error| {
        let said = format!("{error} {:?}", error.hint());
        assert!(!said.chars().any(char::is_control), "{said:?}");
    })
}

/// Metadata under which nothing is encrypted and the MAC is always right: it is one over nothing.
fn about(is: &str) -> [String; 4] {
    // SHA-256 of `sops` is what the hash starts with where only encrypted values are in it.
    let hash = Sha512::digest(Sha256::digest(b"sops"));
    let mac: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let quote = if is == ": " { "\"" } else { "" };
    [
        format!("lastmodified{is}{quote}{TIME}{quote}"),
        format!("mac{is}{}", seal("str", mac.as_bytes(), TIME)),
        format!("mac_only_encrypted{is}true"),
        format!("encrypted_suffix{is}-never-"),
    ]
}

/// What is read, written and read again is the same.
fn round_trip(data: &[u8], format: Format, file: impl Fn(&str) -> String) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(plain) = open(file(text).as_bytes(), format) else {
        return;
    };
    let Ok(written) = plain.whole() else {
        return;
    };
    let written = String::from_utf8_lossy(&written);
    let again = open(file(&written).as_bytes(), format);
    let again = again.unwrap_or_else(|error| panic!("{format}: {error}\n{text:?}\n{written:?}"));
    match (plain.json(), again.json()) {
        (Ok(one), Ok(two)) => assert_eq!(
            String::from_utf8_lossy(&one),
            String::from_utf8_lossy(&two),
            "{format}\n{text:?}\n{written:?}"
        ),
        (one, two) => assert_eq!(
            one.is_err(),
            two.is_err(),
            "{format}\n{text:?}\n{written:?}"
        ),
    }
}

/// Encrypts as sops does.
fn seal(kind: &str, plain: &[u8], aad: &str) -> String {
    let cipher: AesGcm<Aes256, U32> = AesGcm::new((&KEY).into());
    let (iv, mut text) = ([9; 32], plain.to_vec());
    let tag = cipher
        .encrypt_in_place_detached(Nonce::from_slice(&iv), aad.as_bytes(), &mut text)
        .unwrap_or_else(|_| panic!("AES encrypts {} bytes", plain.len()));
    let [data, iv, tag] = [&text[..], &iv, &tag].map(|bytes| BASE64_STANDARD.encode(bytes));
    format!("ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind}]")
}
