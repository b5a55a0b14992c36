//! The agent's system calls: written down, slowed, made to fail, or made its last.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use crate::{Inside, Session};

/// Where the calls of one run are written down, on the host.
const LOG: &str = "/tmp/strace";

/// One system call of the agent: the `nth` of its name, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub nth: u32,
    /// The line that strace wrote of it.
    pub line: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.name, self.nth, self.line)
    }
}

/// What happens at a system call.
#[derive(Debug, Clone, Copy)]
pub enum Strace<'a> {
    /// It is the agent's last, and is not made.
    Kill(&'a Call),
    /// It fails with the error of this name.
    Fail(&'a Call, &'a str),
    /// All calls of these names, separated by commas, take so many microseconds longer.
    Delay(&'a str, u32),
}

impl Strace<'_> {
    /// Returns the command that runs `keys-agent receive` on the host with it.
    #[must_use]
    pub fn command(self, host: &Inside) -> Command {
        let (names, fault) = match self {
            Self::Kill(call) => (
                call.name.as_str(),
                format!("signal=SIGKILL:when={}", call.nth),
            ),
            Self::Fail(call, error) => (
                call.name.as_str(),
                format!("error={error}:when={}", call.nth),
            ),
            Self::Delay(names, time) => (names, format!("delay_enter={time}")),
        };
        let inject = format!("--inject={names}:{fault}");
        let trace = format!("--trace={names}");
        // No --seccomp-bpf: at its stops a signal is lost.
        strace(host, &["--output=/dev/null", &trace, &inject])
    }

    /// Returns the system calls that the agent makes while `talk` is had with it, those of its children left out.
    pub fn calls(host: &Inside, talk: impl FnOnce(Session)) -> Vec<Call> {
        let session = Session::of(strace(host, &["-s", "200", "--output", LOG]));
        talk(session.unwrap_or_else(|e| panic!("strace keys-agent receive: {e}")));
        let log = String::from_utf8(host.read(LOG)).expect("strace writes text");
        let first = log.split(' ').next().unwrap_or_default();
        let mut count = BTreeMap::new();
        log.lines()
            .filter_map(|line| line.strip_prefix(first)?.trim_start().split_once('('))
            // Not the ends of calls that others came between, nor signals.
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
            .map(|(name, rest)| {
                let nth = count.entry(name.to_owned()).or_insert(0);
                *nth += 1;
                Call {
                    name: name.to_owned(),
                    nth: *nth,
                    line: rest.to_owned(),
                }
            })
            .collect()
    }
}

fn strace(host: &Inside, words: &[&str]) -> Command {
    let mut command = host.command("strace");
    command.args(["--follow-forks", "--quiet=all"]);
    command.args(words).args(["keys-agent", "receive"]);
    command
}
