//! What sshd starts: it carries bytes between the ssh session and the agent's socket, and reads none of them.
//!
//! Plain read and write, never `std::io::copy`: that takes splice(2) from the socket to sshd's pipe, which then holds the
//! pipe while it waits for the socket, and sshd hangs in an uninterruptible sleep.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{Refusal, RefusalCode, Wire, limits, printable};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::{Doing as _, Failure};
use crate::journal::{self, Level};
use crate::socket::{busy, connect};
use crate::verb::Verb;

/// How long a relay waits before it knocks again at an agent that had no room.
const RETRY: Duration = Duration::from_secs(1);
/// What is carried at a time.
const CHUNK: usize = 64 << 10;
/// How much of a refused command goes to the journal, in characters.
const QUOTED: usize = 80;

/// How a relay that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The agent spoke and closed the connection. What it said is between it and the pusher.
    Spoken,
    /// No socket is there. Whoever is root may do the agent's work right here.
    NoSocket,
}

/// The verb that a login with a forced command asked for: `SSH_ORIGINAL_COMMAND`.
pub(crate) fn forced(command: Option<&OsStr>) -> Result<Verb, Failure> {
    let command = command.unwrap_or_default();
    Verb::of_command(command).ok_or_else(|| {
        // To the journal alone: what was asked for may be anything, and is not said back.
        let quoted = printable(&command.to_string_lossy(), QUOTED);
        let text = format!("refused a command of {} bytes: {quoted}", command.len());
        journal::record(Level::Warning, &text);
        let text =
            "this login may run `keys-agent` with `receive`, `status` or `watch`, nothing else";
        Failure::new(RefusalCode::Policy, text)
    })
}

/// Carries one session, from the agent's first byte to its last.
pub(crate) fn relay(verb: Verb) -> Result<Relayed, Failure> {
    let mut out = raw(io::stdout()).doing(|| "dup standard output".into())?;
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let (mut down, read) = match open(verb, &mut chunk) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(Relayed::NoSocket),
        Err(Failure::Refused(refusal)) => {
            say(&refusal, &mut out);
            return Err(Failure::Refused(refusal));
        }
        Err(failure) => return Err(failure),
    };
    let carrying = || "carry the session".to_owned();
    let up = down.try_clone().doing(carrying)?;
    // Not joined: it may sit in a read of the pusher's next byte, and ends with the process.
    let started = thread::Builder::new().spawn(move || carry_up(up));
    let _left_to_itself = started.doing(carrying)?;
    pass_on(&mut chunk[..read], &mut out).doing(carrying)?;
    carry(&mut down, &mut out, &mut chunk).doing(carrying)?;
    Ok(Relayed::Spoken)
}

/// Connects and waits for the agent's first bytes. Nothing of the pusher's is touched before those, so an agent that
/// has no room can be asked again.
fn open(verb: Verb, chunk: &mut [u8]) -> Result<Option<(UnixStream, usize)>, Failure> {
    let until = Instant::now() + limits::ROOM_WAIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(busy());
        }
        let Some(mut socket) = connect(left)? else {
            return Ok(None);
        };
        let read = first(&mut socket, verb, chunk)?;
        if read > 0 {
            return Ok(Some((socket, read)));
        }
        thread::sleep(RETRY);
    }
}

/// Says the verb and returns how much the agent said first: nothing, where it had no room.
fn first(socket: &mut UnixStream, verb: Verb, chunk: &mut [u8]) -> Result<usize, Failure> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};
    let asking = || "ask the agent for a session".to_owned();
    let answer = socket
        .write_all(&[verb.byte()])
        .and_then(|()| socket.read(chunk));
    socket.set_read_timeout(None).doing(asking)?;
    match answer {
        // Closed with our verb unread.
        Err(e) if matches!(e.kind(), BrokenPipe | ConnectionReset) => Ok(0),
        Err(e) if e.kind() == WouldBlock => Err(busy()),
        answer => answer.doing(asking),
    }
}

/// Tells the pusher in its own words, so that it need not guess from an exit status.
fn say(refusal: &Refusal, out: &mut File) {
    let mut wire = Wire::accept(io::empty(), out);
    if let Err(e) = wire.send(refusal).and_then(|()| wire.flush()) {
        journal::record(Level::Warning, &format!("the refusal is lost: {e}"));
    }
}

/// The pusher's side; its end of input is passed on, and so is its loss.
fn carry_up(mut up: UnixStream) {
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let carried = raw(io::stdin()).and_then(|mut input| carry(&mut input, &mut up, &mut chunk));
    // An error here is the agent's end or the pusher's: either way no more comes. The agent applies nothing without a
    // Commit, so a cut is all it needs to see; that the socket may be closed already is no news.
    let _either_way = (carried, up.shutdown(Shutdown::Write));
}

/// Carries to the end of `from`.
fn carry(from: &mut impl Read, to: &mut impl Write, chunk: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => pass_on(&mut chunk[..read], to)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Writes and wipes: the process may end in the middle of any read, without a chance to.
fn pass_on(bytes: &mut [u8], to: &mut impl Write) -> io::Result<()> {
    let written = to.write_all(bytes);
    bytes.zeroize();
    written
}

/// The stream without the buffer of std, which would keep copies.
fn raw(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_comes_out_whole_and_is_wiped() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut out, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        carry(&mut &bytes[..], &mut out, &mut chunk).unwrap();
        assert!(out == bytes, "the bytes came out changed");
        assert!(
            chunk.iter().all(|byte| *byte == 0),
            "bytes were left behind"
        );
    }

    #[test]
    fn what_could_not_be_passed_on_is_wiped_too() {
        let (mut full, mut chunk) = ([0; 4], vec![0; CHUNK]);
        let lost = carry(&mut &b"secret"[..], &mut &mut full[..], &mut chunk);
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert!(
            chunk.iter().all(|byte| *byte == 0),
            "bytes were left behind"
        );
    }

    #[test]
    fn a_login_without_a_command_is_refused_without_its_words() {
        for command in [None, Some(OsStr::new("\x1b]0;evil\x07"))] {
            let refused = forced(command).unwrap_err();
            assert_eq!(refused.exit(), 7);
            assert!(!refused.to_string().contains("evil"), "{refused}");
        }
    }
}
