//! Decrypts every value of a document and checks the MAC over all of them.

use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;

use crate::Error;
use crate::cipher::{Cipher, DataKey};
use crate::error::shown_path;
use crate::limits;
use crate::metadata::Metadata;
use crate::rule::Rule;
use crate::tree::{Entry, Kind, Leaf, Map, Node};

/// What the MAC of a `mac_only_encrypted` document starts with: SHA-256 of `sops`.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
    0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Decrypts `documents` in place. On an error they hold some plaintext, and the caller drops them.
pub(crate) fn decrypt(
    documents: &mut [Map],
    metadata: &Metadata,
    key: &DataKey,
) -> Result<(), Error> {
    let mut walk = Walk {
        cipher: Cipher::new(key),
        rule: &metadata.rule,
        only_encrypted: metadata.mac_only_encrypted,
        mac: Sha512::new(),
        path: Vec::new(),
        aad: String::new(),
    };
    if metadata.mac_only_encrypted {
        walk.mac.update(ONLY_ENCRYPTED);
    }
    for document in documents {
        walk.map(document, false)?;
    }
    walk.verify(metadata)
}

struct Walk<'m> {
    cipher: Cipher,
    rule: &'m Rule,
    only_encrypted: bool,
    mac: Sha512,
    /// Where the walk is, for messages.
    path: Vec<String>,
    /// Where the walk is, as values are bound to it: each name with a colon after it, no indices.
    aad: String,
}

impl Walk<'_> {
    fn map(&mut self, map: &mut Map, matched: bool) -> Result<(), Error> {
        // Whether a comment directly before the current field matched.
        let mut run = false;
        for entry in &mut map.0 {
            match entry {
                Entry::Comment(comment) => run |= self.comment(comment, matched || run)?,
                Entry::Field(name, value) => {
                    let matched = matched || run || self.rule.matches_name(name);
                    let aad = self.aad.len();
                    self.aad.push_str(name);
                    self.aad.push(':');
                    if self.aad.len() > limits::PATH {
                        return Err(Error::LongPath);
                    }
                    self.path.push(name.clone());
                    self.node(value, matched)?;
                    if value.kind() == Kind::Comment {
                        return Err(self.unsealable("a comment where a value is due"));
                    }
                    self.path.pop();
                    self.aad.truncate(aad);
                    run = false;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, list: &mut [Node], matched: bool) -> Result<(), Error> {
        let mut run = false;
        for (index, item) in list.iter_mut().enumerate() {
            if let Node::Leaf(comment) = item
                && comment.kind == Kind::Comment
            {
                run |= self.comment(comment, matched || run)?;
                continue;
            }
            self.path.push(index.to_string());
            self.node(item, matched || run)?;
            self.path.pop();
            // An encrypted comment is written as an item: the run goes on after it.
            run &= item.kind() == Kind::Comment;
        }
        Ok(())
    }

    fn node(&mut self, node: &mut Node, matched: bool) -> Result<(), Error> {
        match node {
            Node::Map(map) => self.map(map, matched),
            Node::List(list) => self.list(list, matched),
            Node::Leaf(leaf) => self.leaf(leaf, self.rule.seals(matched)),
        }
    }

    fn leaf(&mut self, leaf: &mut Leaf, sealed: bool) -> Result<(), Error> {
        leaf.sealed = sealed;
        if sealed {
            match leaf.kind {
                // Neither is ever encrypted.
                Kind::Null => {}
                Kind::Str if leaf.text.is_empty() => {}
                Kind::Str => *leaf = self.open(leaf)?,
                _ => return Err(self.not_sealed()),
            }
        }
        let hashed = !matches!(leaf.kind, Kind::Null | Kind::Comment);
        if hashed && (sealed || !self.only_encrypted) {
            self.mac.update(&*leaf.text);
        }
        Ok(())
    }

    fn open(&self, leaf: &Leaf) -> Result<Leaf, Error> {
        match leaf.utf8() {
            Some(token) if token.starts_with("ENC[") => self
                .cipher
                .open(token, &self.aad)
                .map_err(|reason| self.unsealable(reason)),
            _ => Err(self.not_sealed()),
        }
    }

    /// Decrypts a comment if it must be, and returns whether it matches the rule.
    fn comment(&self, comment: &mut Leaf, matched: bool) -> Result<bool, Error> {
        let text = comment.utf8().unwrap_or_default();
        let decides = self.rule.matches_comment(text);
        if self.rule.seals_comment(matched, text) {
            let aad = if self.aad.is_empty() { ":" } else { &self.aad };
            // Old versions left comments plain, and sops takes what it cannot decrypt for one.
            if let Ok(opened) = self.cipher.open(text, aad) {
                if opened.kind != Kind::Comment {
                    // A value of the list around it: hiding it there must not go unnoticed.
                    return Err(self.unsealable("a value where a comment is due"));
                }
                *comment = opened;
            }
        }
        Ok(decides)
    }

    fn verify(self, metadata: &Metadata) -> Result<(), Error> {
        if metadata.mac.is_empty() {
            return Err(Error::NoMac);
        }
        let said = self
            .cipher
            .open(&metadata.mac, &metadata.last_modified)
            .map_err(|_| Error::MacMismatch)?;
        let found = self
            .mac
            .finalize()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| b"0123456789ABCDEF"[usize::from(digit)])
            .collect::<Vec<u8>>();
        let equal = said.kind == Kind::Str && bool::from(said.text[..].ct_eq(&found[..]));
        equal.then_some(()).ok_or(Error::MacMismatch)
    }

    fn not_sealed(&self) -> Error {
        let path = shown_path(&self.path);
        Error::NotSealed { path }
    }

    fn unsealable(&self, reason: &'static str) -> Error {
        let path = shown_path(&self.path);
        Error::Unsealable { path, reason }
    }
}
