//! The one error of the agent: what was found, what to do, and whether there is still somebody to tell.

use std::fmt;
use std::io;

use keys_protocol::{Refusal, RefusalCode, WireError};
use nix::errno::Errno;

use crate::deadline::Stopped;

/// Why a session ended before its time. Nothing was changed on the host.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The pusher is told why.
    Refused(Refusal),
    /// The pusher went away, so there is nobody to tell.
    Lost(WireError),
    /// SIGTERM, SIGINT or SIGHUP came.
    Stopped,
}

impl Failure {
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal {
            code,
            message: message.into(),
            hint: String::new(),
        })
    }

    /// The pusher broke the protocol.
    pub(crate) fn breach(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Protocol, message)
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(Refusal {
                hint: text.into(),
                ..refusal
            }),
            other => other,
        }
    }

    /// What to do about it, if that is known.
    pub(crate) fn advice(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(refusal.hint.as_str()).filter(|hint| !hint.is_empty()),
            Self::Lost(_) | Self::Stopped => None,
        }
    }

    /// How the process ends: 7 where a rule or the state of the host refuses, 143 after a signal, else 1.
    pub(crate) fn exit(&self) -> u8 {
        use RefusalCode::{Busy, Filesystem, Policy, Space};
        match self {
            Self::Refused(r) if matches!(r.code, Busy | Filesystem | Space | Policy) => 7,
            Self::Stopped => 143,
            Self::Refused(_) | Self::Lost(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lost(error) => error.fmt(f),
            Self::Stopped => f.write_str("stopped by a signal"),
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Io(e) if e.kind() == io::ErrorKind::TimedOut => Self::breach(e.to_string()),
            WireError::Io(e) if Stopped::caused(&e) => Self::Stopped,
            WireError::Closed | WireError::Cut | WireError::Io(_) | WireError::Refused(_) => {
                Self::Lost(error)
            }
            other => Self::breach(other.to_string()),
        }
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| {
            let text = format!("{}: {}", what(), errno.desc());
            match errno {
                Errno::ENOSPC | Errno::EDQUOT => Failure::new(RefusalCode::Space, text),
                // Never a fallback: without openat2 there is no confinement to the folder.
                Errno::ENOSYS => Failure::new(RefusalCode::Filesystem, text).hint(
                    "openat2(2) is missing: Linux 5.10 is wanted, and no RestrictSUIDSGID= on the unit",
                ),
                Errno::EROFS => Failure::new(RefusalCode::Filesystem, text),
                _ => Failure::new(RefusalCode::Io, text),
            }
        })
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| match e.raw_os_error() {
            Some(number) => Errno::from_raw(number),
            None => Errno::EIO,
        })
        .doing(what)
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| Errno::from_raw(e.raw_os_error()))
            .doing(what)
    }
}
