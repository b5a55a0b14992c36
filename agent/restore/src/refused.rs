//! Why the bundle is not opened: what was found, with names and never a value.

use std::fmt::{self, Display};

use keys_protocol::bundle::Opened;
use keys_protocol::printable;

/// How much of what was found is told.
const TOLD: usize = 500;

/// The one error of this program.
#[derive(Debug)]
pub(crate) struct Refused {
    text: String,
    /// The time that is to be remembered, so that no clock that goes back revives what ended.
    pub(crate) seen: Option<u64>,
}

impl Refused {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            seen: None,
        }
    }

    /// It ended at a time that was seen.
    pub(crate) fn expired(text: impl Into<String>, seen: u64) -> Self {
        Self {
            seen: Some(seen),
            ..Self::new(text)
        }
    }

    /// Returns what is said of it at this boot; `number` is the one that was remembered.
    pub(crate) fn into_state(self, number: u64) -> Opened {
        Opened {
            epoch: number,
            state: "refused".into(),
            detail: printable(&self.text, TOLD),
        }
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.text, TOLD))
    }
}

/// Says what was being tried.
pub(crate) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Refused>;
}

impl<T, E: Display> Trying<T> for Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, Refused> {
        self.map_err(|error| Refused::new(format!("{}: {error}", what())))
    }
}
