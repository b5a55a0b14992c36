//! How a conversation with the agent ended.

use keys_protocol::{KeyOutcome, KeyResult, Refusal, UnitResult, WireError};

/// What the agent said at the end.
#[derive(Debug, Default)]
pub struct Report {
    /// Of the keys, in its order.
    pub keys: Vec<KeyResult>,
    /// Of the units.
    pub units: Vec<UnitResult>,
    /// The generation that is committed.
    pub generation: u64,
}

/// How a conversation ended.
#[derive(Debug)]
#[must_use = "a conversation that nobody looks at may have failed"]
pub struct Ended {
    /// The report, or what the agent broke or refused.
    pub report: Result<Report, WireError>,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard error.
    pub said: String,
}

impl Ended {
    /// Returns the report.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn committed(self) -> Report {
        let (code, said) = (self.code, self.said);
        self.report
            .unwrap_or_else(|e| panic!("a report was expected: {e}; {code:?}: {said}"))
    }

    /// Returns the refusal.
    ///
    /// # Panics
    /// When it did not refuse, or ended as if it had not.
    #[must_use]
    pub fn refused(self) -> Refusal {
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        match self.report {
            Err(WireError::Refused(refusal)) => refusal,
            other => panic!("a refusal was expected: {other:?}; {}", self.said),
        }
    }
}

impl Report {
    /// Returns what became of a key, with what was said of it.
    ///
    /// # Panics
    /// When nothing was said.
    #[must_use]
    pub fn of(&self, name: &str) -> (KeyOutcome, &str) {
        let found = self.keys.iter().find(|key| key.name.as_str() == name);
        let key = found.unwrap_or_else(|| panic!("{name} is not in {self:?}"));
        (key.outcome, &key.detail)
    }
}
