//! What can be wrong with a document, in words that hold names of fields and recipients but never a value.

use std::fmt::Write as _;

use crate::Format;

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than [`limits`](crate::limits) allow.
    #[error("the file is larger than {} MiB", .0 >> 20)]
    TooLarge(
        /// The limit, in bytes.
        usize,
    ),
    /// Maps or lists lie deeper than [`limits::DEPTH`](crate::limits::DEPTH).
    #[error("maps and lists are nested more than 200 deep")]
    TooDeep,
    /// There are more than [`limits::NODES`](crate::limits::NODES) values.
    #[error("there are more than 100000 values")]
    TooMany,
    /// The names above a value are longer than [`limits::PATH`](crate::limits::PATH).
    #[error("the names above a value are longer than 16 KiB")]
    LongPath,
    /// The file is not what its format says.
    #[error("not {format} that sops reads: line {line}: {rule}")]
    Syntax {
        /// The format.
        format: Format,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        rule: String,
    },
    /// A map has two fields of one name.
    #[error("two fields are named `{0}`")]
    Duplicate(String),
    /// There is no `sops` block.
    #[error("there is no sops metadata: the file is not encrypted")]
    NotEncrypted,
    /// The `sops` block is not as sops writes it.
    #[error("sops metadata: {0}")]
    Metadata(String),
    /// The `.sops.yaml` cannot be read, or has no rule for the file.
    #[error(".sops.yaml: {0}")]
    Config(String),
    /// No data key could be had; names every recipient that was tried and says why it did not serve.
    #[error("no data key: {0}")]
    NoDataKey(String),
    /// What was unwrapped is no data key.
    #[error("the data key has {0} bytes where 32 are due")]
    DataKeySize(usize),
    /// A value that must be encrypted is not.
    #[error("`{path}` is not encrypted, and the file's rules say that it is")]
    NotSealed {
        /// Where.
        path: String,
    },
    /// A value cannot be decrypted with the data key, or was encrypted for another place.
    #[error("`{path}` cannot be decrypted: {reason}")]
    Unsealable {
        /// Where.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The MAC is missing.
    #[error("there is no MAC: nothing says that the values belong together")]
    NoMac,
    /// The MAC is that of another file or of other values.
    #[error("MAC mismatch: the file was changed without sops")]
    MacMismatch,
    /// A path leads nowhere.
    #[error("no field `{field}` at {at}")]
    NoField {
        /// The field that is missing.
        field: String,
        /// The map or list it is missing in.
        at: String,
        /// What that has, escaped for a terminal.
        siblings: Vec<String>,
    },
    /// What is at a path cannot be had in the form that was asked for.
    #[error("{at} is {found}: {rule}")]
    Unsuitable {
        /// The path.
        at: String,
        /// What is there.
        found: &'static str,
        /// Why it does not serve.
        rule: &'static str,
    },
}

impl Error {
    pub(crate) fn syntax(format: Format, line: usize, rule: &str) -> Self {
        Self::Syntax {
            format,
            line,
            rule: rule.to_owned(),
        }
    }

    /// Returns what may help, for a line of its own.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        /// How many names a hint has: a file of a thousand fields is not listed whole.
        const MOST: usize = 30;
        match self {
            Self::NoField { siblings, .. } if siblings.is_empty() => {
                Some("there are no fields there".to_owned())
            }
            Self::NoField { siblings, .. } => {
                let rest = siblings.len().saturating_sub(MOST);
                let mut names = siblings[..siblings.len() - rest].join(", ");
                if rest > 0 {
                    let _infallible = write!(names, " and {rest} more");
                }
                Some(format!("fields there: {names}"))
            }
            _ => None,
        }
    }
}

/// Returns the number of the line that comes after `text`, from 1.
pub(crate) fn line_after(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

/// Returns a name as a message shows it: control characters escaped, and not longer than a line.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::new();
    for (count, c) in name.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => out.push(c),
            // Direction marks are format characters, which `escape_debug` escapes together with all controls.
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Returns a path as a message shows it: `a/b`, or a word for the document itself.
pub(crate) fn shown_path<S: AsRef<str>>(path: &[S]) -> String {
    if path.is_empty() {
        return "the top".to_owned();
    }
    let parts: Vec<String> = path.iter().map(|part| shown(part.as_ref())).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_file_cannot_drive_a_terminal() {
        assert_eq!(
            shown("a\x1b[2J\u{202e}\u{9b}ü"),
            "a\\u{1b}[2J\\u{202e}\\u{9b}ü"
        );
        assert_eq!(shown(&"x".repeat(200)).chars().count(), 81);
        assert_eq!(shown_path(&["a", "b\n"]), "a/b\\n");
    }

    #[test]
    fn a_hint_names_what_is_there_and_stays_short() {
        let missing = |count: usize| Error::NoField {
            field: "x".to_owned(),
            at: "the top".to_owned(),
            siblings: (0..count).map(|n| format!("f{n}")).collect(),
        };
        assert_eq!(missing(2).hint().unwrap(), "fields there: f0, f1");
        assert!(missing(31).hint().unwrap().ends_with("f29 and 1 more"));
        assert_eq!(missing(0).hint().unwrap(), "there are no fields there");
        assert_eq!(Error::NoMac.hint(), None);
    }
}
