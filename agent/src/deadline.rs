//! Reading and writing that ends: with the frame's deadline, the session's, or a signal.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use keys_protocol::limits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The most that is written at once. A pipe or socket that poll(2) calls writable takes it without blocking, so that
/// no `O_NONBLOCK` is needed: that flag would be set for everyone who shares the descriptor.
const CHUNK: usize = 4096;

/// A signal came; not `ErrorKind::Interrupted`, which readers and writers take for «try again».
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub(crate) struct Stopped;

impl Stopped {
    /// Returns whether an error comes from it.
    pub(crate) fn caused(error: &io::Error) -> bool {
        let inner = error.get_ref();
        inner.and_then(|e| e.downcast_ref::<Self>()).is_some()
    }
}

/// When this session's waits end.
pub(crate) struct Clock {
    frame: Cell<Instant>,
    session: Cell<Instant>,
    signals: SignalFd,
}

impl Clock {
    /// Starts the session, and holds back SIGTERM, SIGINT and SIGHUP: from here they end a wait, and a commit that has
    /// begun is finished.
    pub(crate) fn start() -> nix::Result<Rc<Self>> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let now = Instant::now();
        Ok(Rc::new(Self {
            frame: Cell::new(now + limits::IDLE),
            session: Cell::new(now + limits::SESSION),
            signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
        }))
    }

    /// Gives the next frame `wait` to come whole: a peer that sends a byte a second gets no more than a silent one.
    pub(crate) fn expect_within(&self, wait: Duration) {
        self.frame.set(Instant::now() + wait);
    }

    /// Lengthens the session by what `bytes` take on the slowest line that is served.
    pub(crate) fn allow_for(&self, bytes: u64) {
        let extra = Duration::from_secs(bytes / limits::SLOWEST);
        self.session.set(self.session.get() + extra);
    }

    /// Waits until `fd` is ready.
    fn wait(&self, fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
        let end = self.frame.get().min(self.session.get());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Rounded up: a wait of less than a millisecond must not become a busy loop.
            let timeout = PollTimeout::try_from(left + Duration::from_micros(999))
                .unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(fd, events),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => return Err(self.timed_out()),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if fds[1].any() == Some(true) => {
                    return Err(io::Error::other(Stopped));
                }
                Ok(_) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for nothing but a signal.
    pub(crate) fn pause(&self, time: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut fds,
            PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(0) | Err(Errno::EINTR) => Ok(()),
            Ok(_) => Err(io::Error::other(Stopped)),
            Err(e) => Err(e.into()),
        }
    }

    fn timed_out(&self) -> io::Error {
        let what = if self.session.get() <= Instant::now() {
            "the session took too long"
        } else {
            "the peer said nothing for too long"
        };
        io::Error::new(io::ErrorKind::TimedOut, what)
    }
}

/// Reads from a descriptor, by the clock.
pub(crate) struct Input {
    fd: OwnedFd,
    clock: Rc<Clock>,
}

impl Input {
    pub(crate) fn new(fd: OwnedFd, clock: Rc<Clock>) -> Self {
        Self { fd, clock }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.clock.wait(self.fd.as_fd(), PollFlags::POLLIN)?;
        Ok(nix::unistd::read(&self.fd, buffer)?)
    }
}

/// Writes to a descriptor, by the clock.
pub(crate) struct Output {
    fd: OwnedFd,
    clock: Rc<Clock>,
}

impl Output {
    pub(crate) fn new(fd: OwnedFd, clock: Rc<Clock>) -> Self {
        Self { fd, clock }
    }
}

impl Write for Output {
    /// Writes all of `bytes`, for which the peer has as long as for a frame.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.clock.expect_within(limits::IDLE);
        let mut written = 0;
        while written < bytes.len() {
            self.clock.wait(self.fd.as_fd(), PollFlags::POLLOUT)?;
            let chunk = &bytes[written..bytes.len().min(written + CHUNK)];
            written += nix::unistd::write(&self.fd, chunk)?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
