//! How a unit is told: one word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// How a unit is told. Where one that runs is to be told in several ways, the last of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum How {
    /// Started if it does not run.
    Start,
    /// Its main process gets a signal, if it runs.
    Signal(Signal),
    /// Reloaded if it runs and can; restarted if it runs and cannot.
    Reload,
    /// Restarted if it runs.
    Restart,
    /// Stopped if it runs.
    Stop,
}

impl How {
    /// Returns whether a key that comes or changes tells a unit this way.
    #[must_use]
    pub fn is_for_change(self) -> bool {
        self != Self::Stop
    }

    /// Returns whether a key that goes tells a unit this way.
    #[must_use]
    pub fn is_for_removal(self) -> bool {
        self != Self::Start
    }

    /// Returns its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal(signal) => signal.word(),
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for How {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "start" => Ok(Self::Start),
            "reload" => Ok(Self::Reload),
            "restart" => Ok(Self::Restart),
            "stop" => Ok(Self::Stop),
            signal if signal.starts_with("SIG") => signal.parse().map(Self::Signal),
            other => Err(NameError::new(
                "way to tell a unit",
                other,
                "it is not known",
            )),
        }
    }
}

impl TryFrom<String> for How {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<How> for String {
    fn from(how: How) -> Self {
        how.word().to_owned()
    }
}

/// A signal that programs take for a word to them. Not `SIGKILL`, which none hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Signal {
    /// Mostly: read your configuration again.
    Hup,
    /// End, as by Ctrl-C.
    Int,
    /// Mostly: end when all is served.
    Quit,
    /// Whatever the program says.
    Usr1,
    /// Whatever the program says.
    Usr2,
    /// End.
    Term,
    /// Mostly: end when all is served.
    Winch,
}

impl Signal {
    /// Every signal.
    const ALL: [Self; 7] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Usr1,
        Self::Usr2,
        Self::Term,
        Self::Winch,
    ];

    /// Returns its name, as signal(7) has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Term => "SIGTERM",
            Self::Winch => "SIGWINCH",
        }
    }
}

impl FromStr for Signal {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rule = "only SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM and SIGWINCH are sent";
        let known = Self::ALL.into_iter().find(|signal| signal.word() == text);
        known.ok_or_else(|| NameError::new("signal", text, rule))
    }
}

impl TryFrom<String> for Signal {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.word().to_owned()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_reads_back_and_nothing_else_is_one() {
        let signals = Signal::ALL.map(How::Signal);
        let ways = [How::Start, How::Reload, How::Restart, How::Stop];
        for how in ways.into_iter().chain(signals) {
            assert_eq!(how.word().parse(), Ok(how));
        }
        for bad in [
            "", "kill", "SIGKILL", "SIGSTOP", "HUP", "sighup", "1", "Restart",
        ] {
            assert!(bad.parse::<How>().is_err(), "{bad:?} was accepted");
        }
    }
}
