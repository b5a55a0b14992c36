//! What is wrong with a manifest, and how it is said: file, line, column, what was found, what was expected, a hint.

use std::fmt::{self, Display};
use std::path::Path as File;

use keys_protocol::printable;
use serde::de::{self, Expected, Unexpected};

use super::hint;
use super::tree::{Node, Path, Step};
use crate::failure::Failure;

/// Something wrong in a document, and where.
#[derive(Debug)]
pub(super) struct Problem {
    kind: Kind,
    /// The way there, innermost step first: it grows as the error goes up.
    way: Vec<Step>,
    spot: Spot,
}

#[derive(Debug)]
enum Kind {
    Said {
        text: String,
        hint: Option<String>,
    },
    WrongType {
        found: String,
        expected: String,
    },
    UnknownField {
        found: String,
        known: &'static [&'static str],
    },
    UnknownVariant {
        found: String,
        known: &'static [&'static str],
    },
    NotOne {
        found: Vec<String>,
        known: &'static [&'static str],
    },
}

/// What of the thing at the end of the way is wrong.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Name,
    Value,
    /// The document could not be read as far as to know a way.
    Offset(usize),
}

/// A document that a problem is explained with.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) file: &'a File,
    pub(super) text: &'a str,
    /// There is none if the syntax is wrong.
    pub(super) tree: Option<&'a Node>,
}

impl Problem {
    /// A problem in words.
    pub(super) fn new(text: impl Into<String>) -> Self {
        let kind = Kind::Said {
            text: text.into(),
            hint: None,
        };
        Self {
            kind,
            way: Vec::new(),
            spot: Spot::Value,
        }
    }

    /// The document is no TOML or JSON at that byte.
    pub(super) fn syntax(at: usize, text: &str) -> Self {
        Self {
            spot: Spot::Offset(at),
            ..Self::new(text)
        }
    }

    /// A table that should name exactly one of `known`.
    pub(super) fn not_one(found: Vec<String>, known: &'static [&'static str]) -> Self {
        Kind::NotOne { found, known }.into()
    }

    /// Adds what to do about it.
    pub(super) fn hint(mut self, advice: Option<String>) -> Self {
        if let Kind::Said { hint, .. } = &mut self.kind {
            *hint = advice;
        }
        self
    }

    /// Says that it is the name that is wrong, not what it stands for.
    pub(super) fn of_name(mut self) -> Self {
        self.spot = Spot::Name;
        self
    }

    /// Puts a step in front of the way there.
    pub(super) fn inside(mut self, step: impl Into<Step>) -> Self {
        self.way.push(step.into());
        self
    }

    /// Says it to the user.
    pub(super) fn explain(mut self, document: Origin<'_>) -> Failure {
        self.way.reverse();
        // serde reports an unknown field from inside its name or from the table, by who reads the table.
        if let Kind::UnknownField { found, .. } = &self.kind {
            let name = Step::Name(found.clone());
            if self.way.last() != Some(&name) {
                self.way.push(name);
            }
            self.spot = Spot::Name;
        }
        let node = document.tree.map(|tree| tree.walk(&self.way));
        let at = match (self.spot, node) {
            (Spot::Offset(at), _) | (Spot::Name, Some((at, _))) => at,
            (Spot::Value, Some((_, node))) => node.at,
            (_, None) => 0,
        };
        let advice = self.advice(document.text, at, node.map(|(_, node)| node));
        let text = match Path(self.shown_way()).to_string() {
            way if way.is_empty() => self.kind.to_string(),
            way => format!("{way}: {}", self.kind),
        };
        let (line, column) = position(document.text, at);
        let file = printable(&document.file.to_string_lossy(), LONGEST_PATH);
        let failure = Failure::usage(text).at(format!("{file}:{line}:{column}"));
        match advice {
            Some(advice) => failure.hint(advice),
            None => failure,
        }
    }

    /// The way in words: to the table, where the text says the name itself.
    fn shown_way(&self) -> &[Step] {
        match (self.spot, self.way.split_last()) {
            (Spot::Name, Some((_, table))) => table,
            _ => &self.way,
        }
    }

    fn advice(&self, text: &str, at: usize, node: Option<&Node>) -> Option<String> {
        let field = match self.way.last() {
            Some(Step::Name(name)) => name.as_str(),
            _ => "",
        };
        match &self.kind {
            Kind::Said {
                hint: Some(hint), ..
            } => Some(hint.clone()),
            Kind::Said { .. } if matches!(self.spot, Spot::Offset(_)) => {
                hint::unquoted_mode(text, at)
            }
            Kind::WrongType { .. } if field == "mode" => text.get(at..).map(hint::quoted_mode),
            Kind::UnknownVariant { .. } | Kind::WrongType { .. } if field == "source" => {
                Some("write source = { vault = \"…\" }, or another kind".to_owned())
            }
            Kind::Said { .. } | Kind::WrongType { .. } => None,
            Kind::UnknownField { found, known } => hint::quoted_name(&self.way, node, known)
                .or_else(|| hint::inside_kind(&self.way, found, known))
                .or_else(|| Some(hint::meant(found, known))),
            Kind::UnknownVariant { found, known } => Some(hint::meant(found, known)),
            Kind::NotOne { known, .. } => Some(format!(
                "exactly one of {} is wanted; what else there is to say goes inside it",
                hint::listed(known)
            )),
        }
    }
}

/// How much of what a type says of its text a message shows, in characters.
const LONGEST_TEXT: usize = 500;
/// How many of the names that should not be side by side a message shows.
const MOST_NAMES: usize = 8;
/// How much of a path a message shows, in characters.
pub(super) const LONGEST_PATH: usize = 4096;

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { text, .. } => f.write_str(text),
            Self::WrongType { found, expected } => write!(f, "found {found}, expected {expected}"),
            Self::UnknownField { found, .. } => {
                write!(f, "unknown field `{}`", printable(found, 80))
            }
            Self::UnknownVariant { found, known } => {
                let (found, known) = (printable(found, 80), hint::listed(known));
                write!(f, "found `{found}`, expected one of {known}")
            }
            Self::NotOne { found, .. } if found.is_empty() => f.write_str("found an empty table"),
            Self::NotOne { found, .. } => {
                let found: Vec<&str> = found.iter().map(String::as_str).take(MOST_NAMES).collect();
                write!(f, "found {} side by side", hint::listed(&found))
            }
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            way: Vec::new(),
            spot: Spot::Value,
        }
    }
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(text: T) -> Self {
        Self::new(printable(&text.to_string(), LONGEST_TEXT))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(number) => format!("the number {number}"),
            Unexpected::Signed(number) => format!("the number {number}"),
            Unexpected::Float(number) => format!("the number {number}"),
            // Not the string itself: this may be where somebody put a secret by mistake.
            Unexpected::Str(_) | Unexpected::Char(_) => "a string".to_owned(),
            Unexpected::Unit | Unexpected::Option => "null".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a table".to_owned(),
            other => other.to_string(),
        };
        // serde's words for what is written down here in TOML's.
        let expected = match expected.to_string() {
            text if text == "a sequence" => "a list".to_owned(),
            text if text == "a map" || text.starts_with("struct ") => "a table".to_owned(),
            text if text == "a boolean" => "true or false".to_owned(),
            text if ["i64", "u32", "u16", "u8"].contains(&text.as_str()) => {
                "a whole number".to_owned()
            }
            text => text,
        };
        Kind::WrongType { found, expected }.into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Kind::UnknownField {
            found: found.to_owned(),
            known,
        }
        .into()
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Kind::UnknownVariant {
            found: found.to_owned(),
            known,
        }
        .into()
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"))
    }
}

/// Line and column of a byte, both from 1, the column in characters.
pub(super) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
