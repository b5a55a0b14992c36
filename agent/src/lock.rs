//! One writer at a time.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use keys_protocol::{RefusalCode, limits};
use nix::fcntl::OFlag;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::failure::{Doing as _, Failure};
use crate::place::{PATH, Place};

/// How often a push that waits looks again. There is no flock(2) with a deadline.
const RETRY: Duration = Duration::from_millis(20);

/// The right to write, until it is dropped.
///
/// It is on the folder itself, so it needs no file, and a place that was mounted over is another lock.
pub(crate) struct Lock(#[expect(dead_code, reason = "closing it ends the lock")] OwnedFd);

impl Lock {
    /// Waits until no other push writes, at most 30 s, with `pause` between two tries.
    pub(crate) fn take(
        place: &Place,
        pause: impl Fn(Duration) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let end = Instant::now() + limits::LOCK_WAIT;
        // An open file description of its own: locks belong to those.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let fd = place.folder.open(".", flags);
        let fd = fd.doing(|| format!("open {PATH}"))?;
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(fd)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(e).doing(|| format!("flock {PATH}")),
            }
            if Instant::now() >= end {
                let text = "another push is being written on this host";
                return Err(Failure::new(RefusalCode::Busy, text).hint("send again when it ended"));
            }
            pause(RETRY)?;
        }
    }
}
