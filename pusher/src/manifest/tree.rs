//! A document as a tree that knows where everything in it stands.

use std::fmt;

use serde::de::Unexpected;

/// One value and the byte at which it begins.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A date or time of TOML, which no field takes.
    Time,
    List(Vec<Node>),
    /// In the order of the document.
    Table(Vec<Member>),
}

/// One name of a table with its value.
#[derive(Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    /// The byte at which the name begins.
    pub(super) at: usize,
    pub(super) node: Node,
}

/// What is said of a name that a table has already; «key» is another thing here.
pub(super) const TWICE: &str = "this name is there twice";

/// One step on the way down into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
}

impl Node {
    /// The members, if this is a table.
    pub(super) fn table(&self) -> Option<&[Member]> {
        match &self.value {
            Value::Table(members) => Some(members),
            _ => None,
        }
    }

    /// Goes down `path` as far as the document goes. Returns where the last name stands, and the value found there.
    pub(super) fn walk(&self, path: &[Step]) -> (usize, &Self) {
        let mut found = (self.at, self);
        for step in path {
            let next = match (&found.1.value, step) {
                (Value::Table(members), Step::Name(name)) => members
                    .iter()
                    .find(|member| member.name == *name)
                    .map(|member| (member.at, &member.node)),
                (Value::List(nodes), Step::Index(index)) => {
                    nodes.get(*index).map(|node| (node.at, node))
                }
                _ => None,
            };
            found = match next {
                Some(next) => next,
                None => return found,
            };
        }
        found
    }
}

impl Value {
    /// What serde calls it.
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Integer(number) => Unexpected::Signed(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Text(text) => Unexpected::Str(text),
            Self::Time => Unexpected::Other("a date or time"),
            Self::List(_) => Unexpected::Seq,
            Self::Table(_) => Unexpected::Map,
        }
    }
}

/// Writes a path as the document's author would: `keys."a.b".hosts[0]`.
pub(super) struct Path<'a>(pub(super) &'a [Step]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(f, "{dot}{}", Bare(name))?;
                }
            }
        }
        Ok(())
    }
}

/// Writes one name, in quotes where TOML wants them.
pub(super) struct Bare<'a>(pub(super) &'a str);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = keys_protocol::printable(self.0, 80);
        let bare = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        if shown.bytes().all(bare) && !shown.is_empty() {
            f.write_str(&shown)
        } else {
            write!(f, "\"{shown}\"")
        }
    }
}
