//! `keys-agent`: the side of `keys` that writes keys on a host.

mod account;
mod at_rest;
mod bell;
mod body;
mod boot;
mod bundle;
mod callers;
mod clash;
mod compare;
mod deadline;
mod draft;
mod etc;
mod failure;
mod file;
mod finish;
mod folder;
mod generation;
mod generator;
mod greet;
mod harden;
mod host;
mod host_manifest;
mod idmap;
mod install;
mod inventory;
mod journal;
mod landing;
mod lock;
mod mount;
mod mountinfo;
mod news;
mod next;
mod notify;
mod place;
mod push;
mod receive;
mod record;
mod refused;
mod relay;
mod report;
mod restart;
mod restoring;
mod revival;
mod serve;
mod session;
mod settle;
mod shelf;
mod socket;
mod space;
mod stage;
mod status;
mod sweep;
mod systemd;
mod task;
mod unit;
mod verb;
mod visible;
mod wait;
mod watch;

use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use keys_protocol::RefusalCode;
use nix::unistd::{Uid, User};

use crate::failure::{Doing as _, Failure};
use crate::journal::{Level, note};
use crate::relay::Relayed;
use crate::report::Outcome;
use crate::session::Session;
use crate::verb::Verb;

/// The verbs for people, and those for units and for this program itself.
const USAGE: &str =
    "usage: keys-agent receive | status | watch | relay | install [--restore [FOLDER]]";
/// `EX_USAGE` of sysexits(3).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = harden::harden().and_then(|()| run(&words));
    let exit = ended.unwrap_or_else(|failure| {
        note(Level::Warning, &failure.to_string());
        if let Some(hint) = failure.advice() {
            note(Level::Warning, &format!("hint: {hint}"));
        }
        failure.exit()
    });
    journal::flush();
    ExitCode::from(exit)
}

fn run(words: &[&str]) -> Result<u8, Failure> {
    match words.split_first() {
        // systemd runs generators by their name, with folders behind it.
        Some((own, [folder, ..])) if own.ends_with(generator::NAME) => {
            generator::generate(Path::new(folder)).map(|()| 0)
        }
        own => verb(own.map_or(&[][..], |(_, words)| words)),
    }
}

fn verb(words: &[&str]) -> Result<u8, Failure> {
    match *words {
        ["receive"] => over(Verb::Receive),
        ["status"] => over(Verb::Status),
        ["watch"] => watch::watch(),
        // The forced command of a login that may do nothing else.
        ["relay"] => {
            let command = std::env::var_os("SSH_ORIGINAL_COMMAND");
            if watch::is_asked(command.as_deref()) {
                return watch::watch();
            }
            over(relay::forced(command.as_deref())?)
        }
        ["install"] => install::install(&mut say).map(|()| 0),
        ["install", "--restore"] => restoring::install(&shelf::declared()?, &mut say).map(|()| 0),
        ["install", "--restore", folder] => restoring::install(folder, &mut say).map(|()| 0),
        ["mount"] => mount::mount().map(|memory| {
            say(&memory.to_string());
            0
        }),
        ["serve"] => serve::serve(None).map(|()| 0),
        ["serve", "--peer", user] => serve::serve(Some(uid(user)?)).map(|()| 0),
        ["session"] => apply(Verb::on_stdin().doing(|| "wait for a verb".into())?),
        ["wait", name] => Ok(wait(name)),
        // Fails while there are any.
        ["refused"] => refused::complain().map(u8::from),
        ["finish"] => finish::finish().map(|()| Outcome::InPlace.exit()),
        ["retire", number] => retire(number),
        _ => {
            note(Level::Warning, USAGE);
            Ok(EX_USAGE)
        }
    }
}

/// Over the socket, where there is one; else right here.
fn over(verb: Verb) -> Result<u8, Failure> {
    match relay::relay(verb)? {
        Relayed::Spoken => Ok(0),
        Relayed::NoSocket => apply(verb),
    }
}

/// Speaks with the pusher on standard input and output; a failure is told to it, if it still listens.
fn apply(verb: Verb) -> Result<u8, Failure> {
    let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let input = own(&std::io::stdin()).doing(|| "dup standard input".into())?;
    let output = own(&std::io::stdout()).doing(|| "dup standard output".into())?;
    let mut session = Session::start(input, output)?;
    let ended = harden::require_root().and_then(|()| match verb {
        Verb::Receive => receive::receive(&mut session),
        Verb::Status => status::status(&mut session),
    });
    match ended {
        Ok(outcome) => Ok(outcome.exit()),
        Err(Failure::Refused(refusal)) if session.refuse(&refusal).is_ok() => {
            journal::refused(&refusal);
            Ok(Failure::Refused(refusal).exit())
        }
        Err(failure) => Err(failure),
    }
}

/// What the unit of a key runs.
fn wait(name: &str) -> u8 {
    match name.parse() {
        Ok(name) => {
            wait::wait(&name);
            0
        }
        Err(e) => {
            note(Level::Warning, &e.to_string());
            EX_USAGE
        }
    }
}

/// What `receive` starts for the generation it has replaced.
fn retire(number: &str) -> Result<u8, Failure> {
    match number.parse() {
        Ok(number) => sweep::retire(number).map(|()| Outcome::InPlace.exit()),
        Err(_) => Ok(EX_USAGE),
    }
}

fn uid(user: &str) -> Result<Uid, Failure> {
    let found = User::from_name(user).doing(|| format!("look up user {user}"))?;
    let found = found.ok_or_else(|| Failure::new(RefusalCode::Policy, format!("no user {user}")));
    found.map(|user| user.uid)
}

/// What was done, for whoever started us by hand.
fn say(text: &str) {
    // Done is done, whether or not somebody reads of it.
    let _unheard = writeln!(std::io::stdout(), "{text}");
}
