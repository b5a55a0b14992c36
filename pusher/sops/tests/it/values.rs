//! Every value, and every whole document, is what sops says.

use std::fs;

use keys_sops::{Format, Kind};
use serde_json::Value as Json;

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
