//! The one error of the pusher: what was found, what to do, and the exit code that follows.

use std::fmt;

/// How `keys` ends. The numbers are documented in `docs/commands.md`; one test each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Every selected key of every selected host is in place.
    Success = 0,
    /// Something failed that has no number of its own, or several hosts failed for different reasons.
    Failed = 1,
    /// `plan` found something to do.
    Changes = 2,
    /// Some hosts or keys are in place and some are not.
    Partial = 3,
    /// No connection to the host, or it was lost.
    Unreachable = 4,
    /// The host's key is not the one that is pinned or known.
    HostKey = 5,
    /// A source could not be resolved.
    Source = 6,
    /// The host refused: lock, filesystem, policy.
    Refused = 7,
    /// The keys are in place and a unit failed.
    Unit = 8,
    /// The command line or the manifest is wrong (`EX_USAGE` of sysexits(3)).
    Usage = 64,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// A failure with its exit code. The text holds names, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
    hint: Option<String>,
    /// Nothing is wrong: what is missing is made when it is sent.
    pending: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
            hint: None,
            pending: false,
        }
    }

    /// There is no secret yet, and this run is not to make one.
    pub(crate) fn pending(text: impl Into<String>) -> Self {
        Self {
            pending: true,
            ..Self::source(text)
        }
    }

    /// Returns whether only something is missing that a send makes.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// The command line or the manifest is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// A source could not be resolved.
    pub(crate) fn source(text: impl Into<String>) -> Self {
        Self::new(Exit::Source, text)
    }

    /// stdout cannot be written: a closed pipe, a full disk.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the shape that map_err takes"
    )]
    pub(crate) fn output(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot write to stdout: {error}"))
    }

    /// Adds what to do about it, printed on a line of its own.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `place` (a host, a key, a path) before the text.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.text = format!("{place}: {}", self.text);
        self
    }

    /// Makes one failure of several, which ends as the first does.
    pub(crate) fn together(failures: Vec<Self>) -> Option<Self> {
        failures.into_iter().reduce(|mut all, failure| {
            all.text = format!("{}; {}", all.text, failure.text);
            all.pending &= failure.pending;
            all.hint = match (all.hint, failure.hint) {
                (Some(one), Some(other)) if one != other => Some(format!("{one}; {other}")),
                (one, other) => one.or(other),
            };
            all
        })
    }

    /// The hint, if there is one.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
