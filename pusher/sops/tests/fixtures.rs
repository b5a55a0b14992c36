//! Every fixture that sops made reads back as sops reads it. `fixtures/make` makes them and says what lies in them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use keys_sops::{Document, Format, Kind, Plain, WrappedKey};
use serde_json::Value as Json;
use zeroize::Zeroizing;

struct Fixture {
    name: String,
    folder: PathBuf,
    format: Format,
    document: Vec<u8>,
}

impl Fixture {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let mut all: Vec<Self> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| folder.join("keys").exists())
            .map(|folder| Self::read(&folder))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(all.len() > 25, "only {} fixtures", all.len());
        all
    }

    fn read(folder: &Path) -> Self {
        let file = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|file| file.file_stem().is_some_and(|stem| stem == "file"))
            .unwrap();
        Self {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            folder: folder.to_owned(),
            format: Format::of_name(file.to_str().unwrap()),
            document: fs::read(file).unwrap(),
        }
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }

    /// What each recipient unwraps.
    fn keys(&self) -> HashMap<String, Vec<u8>> {
        let line = |line: &str| {
            let (recipient, key) = line.split_once(' ').unwrap();
            (recipient.to_owned(), unhex(key))
        };
        self.text("keys").unwrap().lines().map(line).collect()
    }

    fn decrypt(&self, document: &[u8]) -> Result<Plain, keys_sops::Error> {
        let keys = self.keys();
        let document = Document::parse(document, self.format)?;
        let key = document.data_key(|wrapped| match wrapped {
            WrappedKey::Age { recipient, .. } => keys
                .get(recipient)
                .map(|key| Zeroizing::new(key.clone()))
                .ok_or("no identity"),
            _ => Err("not age"),
        })?;
        document.decrypt(&key)
    }

    fn plain(&self) -> Plain {
        self.decrypt(&self.document)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

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
