//! `keys-restore`: opens the sealed bundle of this host at boot and gives its keys to the agent.

mod agent;
mod clock;
mod open;
mod refused;
mod shelf;
mod signers;

use std::io::{self, Write};
use std::process::ExitCode;

use keys_protocol::bundle::{Opened, Seen};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::refused::{Refused, Trying as _};
use crate::shelf::Shelf;

fn main() -> ExitCode {
    let (opened, exit) = match harden().and_then(|()| restore()) {
        Ok(opened) => (opened, ExitCode::SUCCESS),
        Err(refused) => (refused.into_state(number()), ExitCode::FAILURE),
    };
    say(&format!("{}: {}", opened.state, opened.detail));
    match shelf::tell(&opened) {
        Ok(()) => exit,
        Err(refused) => {
            say(&refused.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Opens the bundle, if there is one, and checks all of it before the agent hears of the first key.
fn restore() -> Result<Opened, Refused> {
    let none = Opened {
        epoch: 0,
        state: "none".into(),
        detail: "there is no bundle on this host".into(),
    };
    let Some(shelf) = Shelf::open()? else {
        return Ok(none);
    };
    let Some(file) = shelf.bundle()? else {
        return Ok(none);
    };
    let opened = open::open(&file, &open::HostKey::read()?, &signers::read()?)?;
    let head = &opened.head;
    let least = shelf.number()?;
    let checked = clock::check(head, least, shelf.seen()?, clock::now());
    if let Ok(at) | Err(Refused { seen: Some(at), .. }) = checked {
        let epoch = head.epoch;
        shelf.note(Seen { epoch, at })?;
    }
    let _in_time = checked?;
    Ok(Opened {
        epoch: least,
        state: "opened".into(),
        detail: agent::give(&opened)?,
    })
}

/// Returns the number that was remembered, for whoever asks which bundle was refused; 0 where that cannot be said.
fn number() -> u64 {
    let shelf = Shelf::open().ok().flatten();
    shelf.and_then(|shelf| shelf.number().ok()).unwrap_or(0)
}

/// Plain text of secrets passes through here: no core, nobody looks in. That it is not swapped the service sees to.
fn harden() -> Result<(), Refused> {
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).trying(|| "prctl PR_SET_DUMPABLE".into())?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).trying(|| "setrlimit RLIMIT_CORE".into())
}

fn say(text: &str) {
    // The journal, or whoever started us by hand; the state says the same.
    let _unheard = writeln!(io::stderr(), "keys-restore: {text}");
}
