//! Every value, and every whole document, is what sops says.

use std::fs;

use keys_sops::{Document, Error, Format, Kind, WrappedKey};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::fixture::{Fixture, unhex};

fn path(json: &str) -> Vec<String> {
    let path: Vec<Json> = serde_json::from_str(json).unwrap();
    path.iter()
        .map(|step| {
            step.as_str()
                .map_or_else(|| step.to_string(), str::to_owned)
        })
        .collect()
}

#[test]
fn every_value_is_what_sops_extracts() {
    let mut checked = 0;
    for fixture in Fixture::all() {
        let plain = fixture.plain();
        for line in fixture.text("values").unwrap().lines() {
            let (json, hex) = line.rsplit_once(' ').unwrap();
            let value = plain
                .get(&path(json))
                .unwrap_or_else(|error| panic!("{}: {json}: {error}", fixture.name));
            let expected = unhex(hex);
            match value.bytes() {
                Ok(bytes) => assert_eq!(
                    String::from_utf8_lossy(&bytes),
                    String::from_utf8_lossy(&expected),
                    "{}: {json}",
                    fixture.name
                ),
                // Refused on purpose, as the crate's documentation says.
                Err(_) => assert!(
                    matches!(
                        value.kind(),
                        Kind::Null | Kind::Comment | Kind::Map | Kind::List
                    ),
                    "{}: {json}",
                    fixture.name
                ),
            }
            checked += 1;
        }
    }
    assert!(checked > 400, "only {checked} values");
}

#[test]
fn a_whole_document_is_what_sops_decrypts() {
    for fixture in Fixture::all() {
        let Ok(expected) = fs::read(fixture.folder.join("whole")) else {
            continue;
        };
        let plain = fixture.plain();
        let exact = match fixture.format {
            // There `whole` is the first document as JSON.
            Format::Yaml if plain.documents() > 1 => continue,
            Format::Yaml => {
                let mut json = plain.json().unwrap().to_vec();
                json.push(b'\n');
                json
            }
            _ => plain.whole().unwrap().to_vec(),
        };
        assert_eq!(
            String::from_utf8_lossy(&exact),
            String::from_utf8_lossy(&expected),
            "{}",
            fixture.name
        );
        assert_eq!(exact, expected, "{}", fixture.name);
    }
}

/// Returns the bytes at a path as text, or the message and its hint.
fn get(fixture: &str, path: &[&str]) -> String {
    let plain = Fixture::named(fixture).plain();
    let bytes = plain.get(path).and_then(|value| value.bytes());
    match bytes {
        Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(error) => match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        },
    }
}

#[test]
fn a_list_whose_comments_decide_is_read_though_sops_cannot() {
    for (index, value) in [("0", "first"), ("3", "second"), ("4", "third")] {
        assert_eq!(get("comments-list", &["j", index]), value);
    }
}

/// A fixture, a path into it, and what is said of it.
const WRONG_PATHS: [(&str, &[&str], &str); 10] = [
    (
        "regex",
        &["data", "pasword"],
        "no field `pasword` at data; fields there: password, nested",
    ),
    (
        "regex",
        &["secret"],
        "no field `secret` at the top; fields there: apiVersion, kind, metadata, data, stringData, mydata",
    ),
    (
        "regex",
        &["data", "password", "x"],
        "no field `x` at data/password; there are no fields there",
    ),
    (
        "documents",
        &["second"],
        "no field `second` at the top; fields there: first, same",
    ),
    (
        "nested",
        &["list", "12"],
        "no field `12` at list; fields there: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    ),
    (
        "nested",
        &["list", "01"],
        "no field `01` at list; fields there: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
    ),
    (
        "regex",
        &["data"],
        "data is a map: name a field of it, or take it as JSON",
    ),
    (
        "scalars",
        &["nothing"],
        "nothing is null: there is no value",
    ),
    (
        "nested",
        &["list", "0"],
        "list/0 is a comment: there is no value",
    ),
    ("regex", &[], "the top is a document: name a field"),
];

#[test]
fn a_wrong_path_says_what_is_there() {
    for (fixture, path, message) in WRONG_PATHS {
        assert_eq!(get(fixture, path), message);
    }
}

#[test]
fn a_value_knows_whether_it_was_encrypted() {
    let encrypted = |fixture: &str, path: &[&str]| {
        let plain = Fixture::named(fixture).plain();
        plain.get(path).unwrap().is_encrypted()
    };
    assert!(encrypted("regex", &["data", "password"]));
    assert!(encrypted("regex", &["data"]));
    assert!(!encrypted("regex", &["kind"]));
    assert!(!encrypted("regex", &["metadata"]));
    assert!(encrypted("scalars", &["empty"]));
    assert!(!encrypted("suffix", &["secret_list"]));
    assert!(encrypted("dotenv", &["PLAIN"]));
    assert!(!encrypted("dotenv", &["DUP_unencrypted"]));
    assert!(Fixture::named("text").plain().is_encrypted());
    assert!(!Fixture::named("dotenv").plain().is_encrypted());
}

#[test]
fn a_file_that_is_not_encrypted_is_refused_as_such() {
    for (format, text) in [
        (Format::Yaml, "a: 1\n"),
        (Format::Yaml, ""),
        (Format::Json, "{}"),
        (Format::Dotenv, "A=1\n"),
        (Format::Ini, "[a]\nb=c\n"),
    ] {
        let error = Document::parse(text.as_bytes(), format).err();
        assert_eq!(error, Some(Error::NotEncrypted), "{format}");
    }
}

#[test]
fn a_document_says_for_whom_and_when_it_was_encrypted() {
    let fixture = Fixture::named("shamir");
    let document = Document::parse(&fixture.document, fixture.format).unwrap();
    let metadata = document.metadata();
    assert_eq!((metadata.groups().len(), metadata.threshold()), (3, 2));
    assert_eq!(metadata.version(), "3.13.3");
    let keys = fixture.keys();
    for group in metadata.groups() {
        let [WrappedKey::Age { recipient, enc }] = &group[..] else {
            panic!("{group:?}");
        };
        assert!(keys.contains_key(recipient), "{recipient}");
        assert!(enc.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    }
    let error = document.data_key(|_| Err("no identity matches")).err();
    let message = error.unwrap().to_string();
    assert!(
        message.starts_with("no data key: 0 of 2 key groups that are needed; age age1"),
        "{message}"
    );
}

#[test]
fn any_two_of_three_groups_open_a_file() {
    let fixture = Fixture::named("shamir");
    let keys = fixture.keys();
    for left_out in keys.keys() {
        let document = Document::parse(&fixture.document, fixture.format).unwrap();
        let key = document.data_key(|wrapped| match wrapped {
            WrappedKey::Age { recipient, .. } if recipient != left_out => {
                Ok(Zeroizing::new(keys[recipient].clone()))
            }
            _ => Err("left out"),
        });
        let plain = document.decrypt(&key.unwrap()).unwrap();
        let value = plain.get(&["data", "password"]).unwrap();
        assert_eq!(**value.bytes().unwrap(), *b"hunter2");
    }
}
