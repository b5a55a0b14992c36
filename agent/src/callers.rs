//! Connections without a process of their own: those that have not said what they want, and those that wait for keys.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use keys_protocol::limits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Uid;

use crate::bell::{NEWS, WAIT};
use crate::journal::{Level, note};

/// The most connections that have not said what they want: what connects says it at once.
const FRESH: usize = 256;
/// The most that wait for keys: one for each key there may be. One more polls.
const WAITING: usize = limits::KEYS as usize;
/// How many may have gone without our noticing.
const FORGOTTEN: usize = 64;

/// A connection and whose it is.
pub(crate) struct Caller {
    pub(crate) connection: UnixStream,
    pub(crate) uid: Uid,
    pub(crate) pid: i32,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Callers {
    /// Each with the time by which it must have said its byte, oldest first.
    fresh: Vec<(Instant, Caller)>,
    waiting: Vec<UnixStream>,
    /// At how many that wait those are sought that have gone.
    tidy_at: usize,
}

/// What became of a connection.
enum Said {
    Nothing(Caller),
    Session(Caller),
    Done,
}

impl Callers {
    /// Takes a connection in.
    pub(crate) fn admit(&mut self, caller: Caller) {
        if self.fresh.len() >= FRESH {
            let text = format!("busy: closed a connection of pid {}", caller.pid);
            return note(Level::Warning, &text);
        }
        self.fresh.push((Instant::now() + limits::IDLE, caller));
    }

    /// Returns what to listen to.
    pub(crate) fn listen_to(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.fresh
            .iter()
            .map(|(_, caller)| caller.connection.as_fd())
    }

    /// Returns how long to listen: until the oldest has used its time up.
    pub(crate) fn patience(&self) -> PollTimeout {
        let left = |(until, _): &(Instant, Caller)| {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up: never too early.
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        };
        self.fresh.first().map_or(PollTimeout::NONE, left)
    }

    /// Hears what those have said that have said something, and returns who wants a session.
    pub(crate) fn hear(&mut self) -> Vec<Caller> {
        let now = Instant::now();
        let mut sessions = Vec::new();
        for (until, caller) in std::mem::take(&mut self.fresh) {
            match self.ask(caller) {
                Said::Nothing(caller) if now < until => self.fresh.push((until, caller)),
                Said::Session(caller) => sessions.push(caller),
                // Closed by the way.
                Said::Nothing(_) | Said::Done => {}
            }
        }
        sessions
    }

    fn ask(&mut self, caller: Caller) -> Said {
        let mut byte = [0];
        // Only looked at: the byte is the session's to read.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match (recv(caller.connection.as_raw_fd(), &mut byte, flags), byte) {
            (Err(Errno::EAGAIN | Errno::EINTR), _) => Said::Nothing(caller),
            (Err(_) | Ok(0), _) => Said::Done,
            (Ok(_), [WAIT | NEWS]) if !caller.uid.is_root() => {
                let text = format!("refused: uid {} may not wait for keys", caller.uid);
                note(Level::Warning, &text);
                Said::Done
            }
            (Ok(_), [NEWS]) => {
                self.wake();
                Said::Done
            }
            (Ok(_), [WAIT]) => {
                self.wait(caller);
                Said::Done
            }
            (Ok(_), _) => Said::Session(caller),
        }
    }

    /// From here on it is told of every commit, and it is told that.
    fn wait(&mut self, caller: Caller) {
        if self.waiting.len() >= self.tidy_at {
            self.tidy();
            self.tidy_at = self.waiting.len() * 2 + FORGOTTEN;
        }
        if self.waiting.len() >= WAITING {
            return note(Level::Warning, "too many wait for keys: closed one");
        }
        if ring(&caller.connection) {
            self.waiting.push(caller.connection);
        }
    }

    /// Tells all that wait to look.
    pub(crate) fn wake(&mut self) {
        self.waiting.retain(ring);
    }

    /// Drops those that are gone. Nobody listens to them otherwise, so that it costs nothing that they are there.
    fn tidy(&mut self) {
        let mut look: Vec<PollFd> = self
            .waiting
            .iter()
            .map(|waiting| PollFd::new(waiting.as_fd(), PollFlags::POLLHUP))
            .collect();
        let polled = poll(&mut look, PollTimeout::ZERO);
        let gone: Vec<bool> = look.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        match polled {
            Ok(_) => {
                let mut gone = gone.into_iter();
                self.waiting.retain(|_| !gone.next().unwrap_or(false));
            }
            // They stay for now, and are dropped when they are woken.
            Err(e) => note(Level::Error, &format!("look for those that wait: {e}")),
        }
    }
}

/// Sends one byte, and returns whether the other end is there. One that has not read the last yet will look anyway.
fn ring(waiting: &UnixStream) -> bool {
    let mut waiting = waiting;
    let rung = waiting.set_nonblocking(true);
    match rung.and_then(|()| waiting.write_all(b"!")) {
        Ok(()) => true,
        Err(e) => e.kind() == io::ErrorKind::WouldBlock,
    }
}
