//! An encrypted document: parsed, but with nothing decrypted yet.

use std::fmt;

use zeroize::Zeroizing;

use crate::cipher::DataKey;
use crate::error::{Error, line_after};
use crate::metadata::Metadata;
use crate::plain::Plain;
use crate::tree::{Entry, Leaf, Map, Node};
use crate::unlock::Unlock;
use crate::wrapped::WrappedKey;
use crate::{Format, decrypt, dotenv, flat, ini, json, limits, yaml};

/// The name of the metadata.
const BLOCK: &str = "sops";

/// A parsed document. Its values are still encrypted, and its metadata is not authenticated.
pub struct Document {
    format: Format,
    documents: Vec<Map>,
    metadata: Metadata,
}

impl Document {
    /// Parses a file.
    ///
    /// # Errors
    /// When it is larger or deeper than [`limits`] allow, not of the format, not UTF-8, has two
    /// fields of one name, or no metadata as sops writes it.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, Error> {
        let limit = match format {
            Format::Yaml => limits::YAML_BYTES,
            _ => limits::BYTES,
        };
        if bytes.len() > limit {
            return Err(Error::TooLarge(limit));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = line_after(&bytes[..e.valid_up_to()]);
            Error::syntax(format, line, "not UTF-8")
        })?;
        let (documents, block) = split(text, format)?;
        let metadata = Metadata::parse(&block)?;
        Ok(Self {
            format,
            documents,
            metadata,
        })
    }

    /// Returns what the document says about itself.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Starts to collect the data key, for callers that cannot unwrap keys in a closure (async ones, say).
    #[must_use]
    pub fn unlock(&self) -> Unlock<'_> {
        Unlock::new(&self.metadata)
    }

    /// Returns the data key, asking `unwrap` for each wrapped key that is needed until one of its group serves.
    ///
    /// What `unwrap` says of a key that it cannot unwrap ends up in the message, so it must hold no secret.
    ///
    /// # Errors
    /// When too few keys could be unwrapped; names them all, each with its reason.
    pub fn data_key<E: fmt::Display>(
        &self,
        mut unwrap: impl FnMut(&WrappedKey) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<DataKey, Error> {
        let mut unlock = self.unlock();
        while let Some(key) = unlock.next_key() {
            match unwrap(key) {
                Ok(unwrapped) => unlock.accept(unwrapped),
                Err(reason) => unlock.refuse(reason),
            }
        }
        unlock.finish()
    }

    /// Decrypts every value and checks the MAC over all of them.
    ///
    /// # Errors
    /// When a value that must be encrypted is not, one cannot be decrypted, or the MAC is missing or wrong. No value
    /// is handed out then.
    pub fn decrypt(mut self, key: &DataKey) -> Result<Plain, Error> {
        decrypt::decrypt(&mut self.documents, &self.metadata, key)?;
        Ok(Plain {
            format: self.format,
            documents: self.documents,
        })
    }
}

/// Reads a file into its documents and the metadata block of the first.
fn split(text: &str, format: Format) -> Result<(Vec<Map>, Map), Error> {
    let mut documents = match format {
        Format::Json | Format::Binary => vec![json::read(text)?],
        Format::Yaml => yaml::read(text)?,
        Format::Ini => vec![ini::read(text)?],
        Format::Dotenv => {
            let (fields, metadata) = dotenv::read(text)?;
            if metadata.0.is_empty() {
                return Err(Error::NotEncrypted);
            }
            return Ok((vec![fields], flat::unflatten(metadata)?));
        }
    };
    // Every document of a YAML file carries a copy; the first counts.
    let blocks: Vec<Option<Node>> = documents
        .iter_mut()
        .map(|document| document.take(BLOCK))
        .collect();
    if documents.iter().any(|map| map.get(BLOCK).is_some()) {
        return Err(Error::Duplicate(BLOCK.to_owned()));
    }
    match blocks.into_iter().next().flatten() {
        None => Err(Error::NotEncrypted),
        Some(Node::Map(block)) if format == Format::Ini => {
            Ok((documents, flat::unflatten(unescape(block))?))
        }
        Some(Node::Map(block)) => Ok((documents, block)),
        Some(_) => Err(Error::Metadata("it is not a map".to_owned())),
    }
}

/// Puts the newlines back that sops writes as two characters in the metadata of ini files.
fn unescape(mut block: Map) -> Map {
    for entry in &mut block.0 {
        if let Entry::Field(_, Node::Leaf(leaf)) = entry {
            let text = leaf.utf8().unwrap_or_default().replace("\\n", "\n");
            *leaf = Leaf::new(leaf.kind, text);
        }
    }
    block
}
