//! `keys-agent`: the side of `keys` that writes keys on a host.

mod account;
mod body;
mod boot;
mod clash;
mod compare;
mod deadline;
mod draft;
mod failure;
mod file;
mod finish;
mod folder;
mod generation;
mod greet;
mod harden;
mod host;
mod inventory;
mod journal;
mod lock;
mod mountinfo;
mod next;
mod notify;
mod place;
mod push;
mod receive;
mod record;
mod report;
mod session;
mod settle;
mod space;
mod stage;
mod status;
mod sweep;
mod visible;

use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::failure::{Doing as _, Failure};
use crate::journal::{Level, note};
use crate::report::Outcome;
use crate::session::Session;

/// The verbs, and what starts them.
const USAGE: &str = "usage: keys-agent receive | status | finish";
/// `EX_USAGE` of sysexits(3).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = harden::harden().and_then(|()| match words[..] {
        ["receive"] => apply(receive::receive),
        ["status"] => apply(status::status),
        ["finish"] => finish::finish().map(|()| Outcome::InPlace.exit()),
        ["retire", number] => retire(number),
        _ => {
            note(Level::Warning, USAGE);
            Ok(EX_USAGE)
        }
    });
    ExitCode::from(ended.unwrap_or_else(|failure| {
        note(Level::Warning, &failure.to_string());
        failure.exit()
    }))
}

/// Speaks with the pusher on standard input and output; a failure is told to it, if it still listens.
fn apply(verb: impl FnOnce(&mut Session) -> Result<Outcome, Failure>) -> Result<u8, Failure> {
    let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let input = own(&std::io::stdin()).doing(|| "dup standard input".into())?;
    let output = own(&std::io::stdout()).doing(|| "dup standard output".into())?;
    let mut session = Session::start(input, output)?;
    let ended = harden::require_root().and_then(|()| verb(&mut session));
    match ended {
        Ok(outcome) => Ok(outcome.exit()),
        Err(Failure::Refused(refusal)) if session.refuse(&refusal).is_ok() => {
            Ok(Failure::Refused(refusal).exit())
        }
        Err(failure) => Err(failure),
    }
}

/// What `receive` starts for the generation it has replaced.
fn retire(number: &str) -> Result<u8, Failure> {
    match number.parse() {
        Ok(number) => sweep::retire(number).map(|()| Outcome::InPlace.exit()),
        Err(_) => Ok(EX_USAGE),
    }
}
