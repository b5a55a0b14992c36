//! What sshd starts: it carries bytes between the ssh session and the agent's socket, and reads none of them.
//!
//! Plain read and write, never `std::io::copy`: that takes splice(2) from the socket to sshd's pipe, which then holds the
//! pipe while it waits for the socket, and sshd hangs in an uninterruptible sleep.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{Refusal, RefusalCode, Wire, limits, printable};
use nix::sys::prctl;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::TimeVal;
use zeroize::{Zeroize, Zeroizing};

use crate::journal::{self, Level};
use crate::verb::Verb;

/// Where `keys-agent.socket` listens.
pub(crate) const SOCKET: &str = "/run/keys-agent.sock";
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

/// Why a relay failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The forced command was asked for something else. Said without the words, which may be anything.
    #[error("this login may run `keys-agent receive` and `keys-agent status`, and nothing else")]
    Refused,
    /// The agent took no session within [`limits::LOCK_WAIT`].
    #[error("busy: the agent at {SOCKET} took no session")]
    Busy,
    /// The socket is there and could not be connected. Never a reason to go around it.
    #[error("connect to the agent at {SOCKET}: {0}")]
    Connect(io::Error),
    /// The connection failed on the way.
    #[error("carry the session: {0}")]
    Carry(#[from] io::Error),
}

impl RelayError {
    /// The exit status, as sysexits(3) has it.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Refused => 77,
            Self::Busy => 75,
            Self::Connect(_) | Self::Carry(_) => 1,
        }
    }
}

/// The verb that a login with a forced command asked for: `SSH_ORIGINAL_COMMAND`.
pub(crate) fn forced(command: Option<&OsStr>) -> Result<Verb, RelayError> {
    let command = command.unwrap_or_default();
    Verb::of_command(command).ok_or_else(|| {
        let quoted = printable(&command.to_string_lossy(), QUOTED);
        journal::note(
            Level::Warning,
            &format!("refused a command of {} bytes: {quoted}", command.len()),
        );
        RelayError::Refused
    })
}

/// Carries one session, from the agent's first byte to its last.
///
/// The pusher's bytes are not touched before the agent's first: so an agent without room can be asked again.
pub(crate) fn relay(verb: Verb) -> Result<Relayed, RelayError> {
    prctl::set_dumpable(false).map_err(io::Error::from)?;
    let mut out = raw(io::stdout())?;
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let until = Instant::now() + limits::LOCK_WAIT;
    let mut down = loop {
        let Some(mut socket) = connect()? else {
            return Ok(Relayed::NoSocket);
        };
        let read = first(&mut socket, verb, &mut chunk)?;
        if read > 0 {
            out.write_all(&chunk[..read])?;
            chunk[..read].zeroize();
            break socket;
        }
        if Instant::now() + RETRY > until {
            refuse_busy(&mut out)?;
            return Err(RelayError::Busy);
        }
        thread::sleep(RETRY);
    };
    let up = down.try_clone()?;
    // Not joined: it may sit in a read of the pusher's next byte, and ends with the process.
    let _detached = thread::Builder::new().spawn(move || carry_up(up))?;
    carry(&mut down, &mut out, &mut chunk)?;
    Ok(Relayed::Spoken)
}

/// Connects, or says that there is no socket. Bounded, as a full backlog would block for ever.
fn connect() -> Result<Option<UnixStream>, RelayError> {
    let refused = |e: nix::Error| RelayError::Connect(e.into());
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(refused)?;
    let wait = TimeVal::new(limits::IDLE.as_secs().cast_signed(), 0);
    socket::setsockopt(&fd, sockopt::SendTimeout, &wait).map_err(refused)?;
    match socket::connect(fd.as_raw_fd(), &UnixAddr::new(SOCKET).map_err(refused)?) {
        Ok(()) => {}
        Err(nix::Error::ENOENT) => return Ok(None),
        Err(nix::Error::EAGAIN) => return Err(RelayError::Busy),
        Err(e) => return Err(refused(e)),
    }
    let socket = UnixStream::from(fd);
    socket.set_write_timeout(None)?;
    Ok(Some(socket))
}

/// Says the verb and returns how much the agent said first: nothing, where it had no room.
fn first(socket: &mut UnixStream, verb: Verb, chunk: &mut [u8]) -> Result<usize, RelayError> {
    let closed = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        )
    };
    socket.set_read_timeout(Some(limits::LOCK_WAIT))?;
    let read = match socket
        .write_all(&[verb.byte()])
        .and_then(|()| socket.read(chunk))
    {
        Ok(read) => read,
        // Closed with our verb unread.
        Err(e) if closed(&e) => 0,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(RelayError::Busy),
        Err(e) => return Err(e.into()),
    };
    socket.set_read_timeout(None)?;
    Ok(read)
}

/// Tells the pusher in its own words, so that it need not guess from an exit status.
fn refuse_busy(out: &mut File) -> Result<(), RelayError> {
    let refusal = Refusal {
        code: RefusalCode::Busy,
        message: "the agent took no session".to_owned(),
        hint: "other sessions are open, or it failed: journalctl -u keys-agent".to_owned(),
    };
    let mut wire = Wire::accept(io::empty(), out);
    wire.send(&refusal)
        .and_then(|()| wire.flush())
        .map_err(|e| io::Error::other(e).into())
}

/// The pusher's side; its end of input is passed on, and so is its loss.
fn carry_up(mut up: UnixStream) {
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let carried = raw(io::stdin()).and_then(|mut input| carry(&mut input, &mut up, &mut chunk));
    // An error here is the agent's end or the pusher's: either way no more comes. The agent applies nothing without a
    // Commit, so a cut is all it needs to see; that the socket may be closed already is no news.
    let _either_way = (carried, up.shutdown(Shutdown::Write));
}

/// Carries to the end of `from`; each byte is wiped once it is passed on, as the process may end in any read.
fn carry(from: &mut impl Read, to: &mut impl Write, chunk: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let written = to.write_all(&chunk[..read]);
                chunk[..read].zeroize();
                written?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The stream without the buffer of std, which would keep copies.
fn raw(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}
