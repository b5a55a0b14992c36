//! The fixtures: what sops made, and what it says is in there. `fixtures/make` makes them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use keys_sops::{Document, Error, Format, Plain, WrappedKey};
use zeroize::Zeroizing;

pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) format: Format,
    pub(crate) document: Vec<u8>,
}

impl Fixture {
    pub(crate) fn all() -> Vec<Self> {
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
    pub(crate) fn named(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        Self::read(&root.join(name))
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

    pub(crate) fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }

    /// What each recipient unwraps.
    pub(crate) fn keys(&self) -> HashMap<String, Vec<u8>> {
        let line = |line: &str| {
            let (recipient, key) = line.split_once(' ').unwrap();
            (recipient.to_owned(), unhex(key))
        };
        self.text("keys").unwrap().lines().map(line).collect()
    }

    pub(crate) fn decrypt(&self, document: &[u8]) -> Result<Plain, Error> {
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

    pub(crate) fn plain(&self) -> Plain {
        self.decrypt(&self.document)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
