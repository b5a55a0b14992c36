//! The bell: what waits for keys hangs on the agent's socket, and what commits keys rings it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

use crate::failure::{Doing as _, Failure};
use crate::socket::connect;

/// The first byte of a connection that is to hear of each commit: a byte each, and one when it is known of.
pub(crate) const WAIT: u8 = b'w';
/// The first and only byte of a connection that says that there was a commit.
pub(crate) const NEWS: u8 = b'n';
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long is listened at a time before the agent is known to ring, and after it. Then it is time to look all the same.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(300);

/// The variable by which the service tells its sessions which process it is.
pub(crate) const SERVICE: &str = "KEYS_AGENT_SERVICE";

/// Wakes everything that waits for keys. Where there is no socket, nobody hangs on it.
pub(crate) fn ring() -> Result<(), Failure> {
    let ringing = || "tell those who wait for keys".to_owned();
    // The socket may be another user's, and a session of the service could not open it.
    let service = std::env::var(SERVICE)
        .ok()
        .and_then(|text| text.parse().ok());
    if service == Some(getppid().as_raw()) {
        return kill(getppid(), Signal::SIGUSR1).doing(ringing);
    }
    match connect(PATIENCE)? {
        Some(mut socket) => socket.write_all(&[NEWS]).doing(ringing),
        None => Ok(()),
    }
}

/// Why to look for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It rang, or it is time to.
    Look,
    /// The other end is gone.
    Gone,
}

/// A connection that hears of commits.
pub(crate) struct Bell(UnixStream);

impl Bell {
    /// Asks to hear of commits; `None` where there is no socket.
    pub(crate) fn hang() -> Result<Option<Self>, Failure> {
        let asking = || "ask the agent to be told of keys".to_owned();
        let Some(mut socket) = connect(PATIENCE)? else {
            return Ok(None);
        };
        socket.set_read_timeout(Some(SHORT)).doing(asking)?;
        socket.write_all(&[WAIT]).doing(asking)?;
        Ok(Some(Self(socket)))
    }

    /// Waits for the bell. Whoever looks after it rang the first time misses no commit from then on.
    pub(crate) fn listen(&mut self) -> Result<Heard, Failure> {
        use io::ErrorKind::{Interrupted, WouldBlock};
        let listening = || "wait for the agent".to_owned();
        let mut rings = [0; 64];
        match self.0.read(&mut rings) {
            Err(e) if matches!(e.kind(), WouldBlock | Interrupted) => Ok(Heard::Look),
            // Reset: it went away with our byte unread.
            Ok(0) | Err(_) => Ok(Heard::Gone),
            Ok(_) => {
                self.0.set_read_timeout(Some(LONG)).doing(listening)?;
                Ok(Heard::Look)
            }
        }
    }
}
