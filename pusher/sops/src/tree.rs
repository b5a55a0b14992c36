//! A document as a tree: what the readers make, decryption rewrites and extraction walks.

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::error::{Error, shown};
use crate::limits;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text; maybe not UTF-8 where it comes from a binary file.
    Str,
    /// A 64-bit signed integer.
    Int,
    /// A double.
    Float,
    /// True or false.
    Bool,
    /// A point in time.
    Time,
    /// Raw bytes, which only sops before 2.0 wrote.
    Bytes,
    /// Nothing: `null`.
    Null,
    /// A comment that takes a place in a list.
    Comment,
    /// A map.
    Map,
    /// A list.
    List,
}

/// A value without parts.
///
/// `text` is the bytes that sops hashes: decimal for numbers (without exponent), `True` and `False`, RFC 3339.
pub(crate) struct Leaf {
    pub(crate) kind: Kind,
    pub(crate) text: Zeroizing<Vec<u8>>,
    /// Whether the rules of the document want it encrypted; false until it is decrypted.
    pub(crate) sealed: bool,
}

impl Leaf {
    pub(crate) fn new(kind: Kind, text: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            text: Zeroizing::new(text.into()),
            sealed: false,
        }
    }

    pub(crate) fn null() -> Self {
        Self::new(Kind::Null, [])
    }

    pub(crate) fn float(number: f64) -> Self {
        // Rust prints the shortest decimal without exponent, as Go's FormatFloat(f, 'f', -1, 64), but for infinities.
        Self::new(
            Kind::Float,
            match number {
                f64::INFINITY => "+Inf".to_owned(),
                f64::NEG_INFINITY => "-Inf".to_owned(),
                finite => finite.to_string(),
            },
        )
    }

    pub(crate) fn bool(truth: bool) -> Self {
        Self::new(Kind::Bool, if truth { "True" } else { "False" })
    }

    /// Returns the text where it is UTF-8: always, but for decrypted strings.
    pub(crate) fn utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.text).ok()
    }
}

/// A value.
pub(crate) enum Node {
    Map(Map),
    List(Vec<Node>),
    Leaf(Leaf),
}

impl Node {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Map(_) => Kind::Map,
            Self::List(_) => Kind::List,
            Self::Leaf(leaf) => leaf.kind,
        }
    }
}

/// An entry of a map: a field, or a comment between fields.
pub(crate) enum Entry {
    Field(String, Node),
    Comment(Leaf),
}

/// A map in the order of the file.
#[derive(Default)]
pub(crate) struct Map(pub(crate) Vec<Entry>);

impl Map {
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().filter_map(|entry| match entry {
            Entry::Field(name, value) => Some((name.as_str(), value)),
            Entry::Comment(_) => None,
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.fields()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let at = self
            .0
            .iter()
            .position(|entry| matches!(entry, Entry::Field(field, _) if field == name))?;
        match self.0.remove(at) {
            Entry::Field(_, value) => Some(value),
            Entry::Comment(_) => None,
        }
    }
}

/// Counts what a reader makes of a file, and refuses what is too much or too deep.
pub(crate) struct Budget {
    nodes: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            nodes: limits::NODES,
        }
    }

    pub(crate) fn spend(&mut self, depth: usize) -> Result<(), Error> {
        if depth > limits::DEPTH {
            return Err(Error::TooDeep);
        }
        self.nodes = self.nodes.checked_sub(1).ok_or(Error::TooMany)?;
        Ok(())
    }
}

/// Builds a map and refuses a second field of one name, as sops does in YAML.
#[derive(Default)]
pub(crate) struct MapBuilder {
    map: Map,
    names: HashSet<String>,
}

impl MapBuilder {
    pub(crate) fn field(&mut self, name: String, value: Node) -> Result<(), Error> {
        if !self.names.insert(name.clone()) {
            return Err(Error::Duplicate(shown(&name)));
        }
        self.map.0.push(Entry::Field(name, value));
        Ok(())
    }

    pub(crate) fn comment(&mut self, text: String) {
        let comment = Leaf::new(Kind::Comment, text);
        self.map.0.push(Entry::Comment(comment));
    }

    /// Adds a comment that stands behind the newest field.
    pub(crate) fn comment_before_last(&mut self, text: String) {
        let comment = Leaf::new(Kind::Comment, text);
        let last = self.map.0.len().saturating_sub(1);
        self.map.0.insert(last, Entry::Comment(comment));
    }

    pub(crate) fn finish(self) -> Map {
        self.map
    }
}
