//! What can be wrong with a name, and with a conversation.

use std::io;

use crate::{Kind, Refusal};

/// A name, mode, owner or unit that is not allowed, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}`: {rule}")]
pub struct NameError {
    what: &'static str,
    found: String,
    rule: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, found: &str, rule: &'static str) -> Self {
        Self {
            what,
            found: crate::printable(found, 80),
            rule,
        }
    }

    /// Returns the rule that is broken, as a sentence fragment.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed the connection between two frames. Never success: only `Commit` and `Done` say that.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the connection inside a frame.
    #[error("the connection was cut inside a frame")]
    Cut,
    /// The connection failed or its deadline passed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// No magic bytes among what a login shell printed; holds what it printed.
    #[error("no agent answered")]
    NoMagic(Vec<u8>),
    /// A frame type that this version does not know.
    #[error("unknown frame type {0:#04x}")]
    UnknownKind(u8),
    /// A frame longer than its type allows.
    #[error("a {kind:?} frame of {length} bytes: at most {limit} are allowed")]
    TooLong {
        /// The type of the frame.
        kind: Kind,
        /// The length its header says.
        length: usize,
        /// The greatest length of that type.
        limit: usize,
    },
    /// A frame where another was due.
    #[error("a {found:?} frame where {wanted} was due")]
    Unexpected {
        /// The type of the frame that came.
        found: Kind,
        /// What was due.
        wanted: String,
    },
    /// A frame whose text cannot be read; `detail` holds no value.
    #[error("a {kind:?} frame that cannot be read: {detail}")]
    Malformed {
        /// The type of the frame.
        kind: Kind,
        /// What is wrong with it.
        detail: String,
    },
    /// A promise of an earlier frame that a later one broke: a count, a size, a digest.
    #[error("{0}")]
    Broken(String),
    /// The peer refused and said why.
    #[error("{0}")]
    Refused(Refusal),
}
