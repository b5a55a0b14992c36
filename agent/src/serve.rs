//! The service behind the socket: it takes connections, starts a session for each, and sees no byte of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use keys_protocol::RefusalCode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;

use crate::failure::{Doing as _, Failure};
use crate::journal::{Level, note};

/// The most sessions at once; a further connection is closed at once, which a relay takes for «busy».
const SESSIONS: usize = 8;
/// The pause after an accept that failed for want of something, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until SIGTERM, then waits for the sessions that are open.
///
/// Only root may connect, and `peer`, whose forced command runs the relay without being root.
pub(crate) fn serve(peer: Option<Uid>) -> Result<(), Failure> {
    let mut server = Server::on_stdin(peer)?;
    server.start("finish", Stdio::null(), Stdio::null());
    status(&[("READY", "1"), ("STATUS", "waiting")]);
    while !server.terminated()? {
        server.accept();
    }
    status(&[("STOPPING", "1"), ("STATUS", "waiting for open sessions")]);
    drop(server.listener);
    for mut session in server.sessions {
        session.wait().doing(|| "wait for a session".into())?;
    }
    Ok(())
}

struct Server {
    listener: UnixListener,
    signals: SignalFd,
    peer: Option<Uid>,
    /// What was started and has not ended.
    sessions: Vec<Child>,
}

impl Server {
    /// Takes the socket from standard input, where `StandardInput=socket` puts it. A number from `LISTEN_FDS` would
    /// have to be trusted to be a descriptor, which safe code cannot do.
    fn on_stdin(peer: Option<Uid>) -> Result<Self, Failure> {
        let stdin = io::stdin();
        if !matches!(getsockopt(&stdin.as_fd(), sockopt::AcceptConn), Ok(true)) {
            let text = "standard input is no listening socket";
            return Err(Failure::new(RefusalCode::Io, text)
                .hint("`serve` is started by systemd: systemctl start keys-agent.socket"));
        }
        let listening = || "take over the socket".to_owned();
        let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned().doing(listening)?);
        listener.set_nonblocking(true).doing(listening)?;
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGCHLD);
        wanted.add(Signal::SIGTERM);
        // Children start with no signal blocked: std sees to that.
        wanted.thread_block().doing(|| "block signals".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags).doing(|| "signalfd".into())?;
        Ok(Self {
            listener,
            signals,
            peer,
            sessions: Vec::new(),
        })
    }

    /// Waits for a connection or a signal; reaps what ended, and returns whether SIGTERM came.
    fn terminated(&mut self) -> Result<bool, Failure> {
        let mut wait = [
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wait, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).doing(|| "wait for connections".into()),
        }
        let mut terminated = false;
        while let Some(signal) = self
            .signals
            .read_signal()
            .doing(|| "read a signal".into())?
        {
            terminated |= signal.ssi_signo == Signal::SIGTERM as u32;
        }
        self.reap();
        Ok(terminated)
    }

    fn reap(&mut self) {
        let before = self.sessions.len();
        self.sessions
            .retain_mut(|session| match session.try_wait() {
                Ok(ended) => ended.is_none(),
                Err(e) => {
                    note(
                        Level::Error,
                        &format!("wait for session {}: {e}", session.id()),
                    );
                    false
                }
            });
        if self.sessions.len() != before {
            self.say_how_many();
        }
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((connection, _)) => self.admit(connection),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) => {}
            Err(e) => {
                note(Level::Error, &format!("accept a connection: {e}"));
                thread::sleep(PAUSE);
            }
        }
    }

    /// Starts a session, unless the peer may not or there are enough: then the connection is closed.
    fn admit(&mut self, connection: UnixStream) {
        let peer = match getsockopt(&connection, sockopt::PeerCredentials) {
            Ok(peer) => peer,
            Err(e) => return note(Level::Error, &format!("ask who connected: {e}")),
        };
        let uid = Uid::from_raw(peer.uid());
        if !uid.is_root() && Some(uid) != self.peer {
            return note(
                Level::Warning,
                &format!("refused: a connection of uid {uid}"),
            );
        }
        if self.sessions.len() >= SESSIONS {
            let text = format!(
                "busy: {SESSIONS} sessions are open, closed one of pid {}",
                peer.pid()
            );
            return note(Level::Warning, &text);
        }
        match connection.try_clone() {
            Ok(input) => {
                self.start(
                    "session",
                    OwnedFd::from(input).into(),
                    OwnedFd::from(connection).into(),
                );
            }
            Err(e) => note(Level::Error, &format!("start a session: {e}")),
        }
    }

    /// Starts this very program, which an update may have replaced on disk.
    fn start(&mut self, verb: &str, input: Stdio, output: Stdio) {
        let started = Command::new("/proc/self/exe")
            .arg0("keys-agent")
            .arg(verb)
            .env_clear()
            .envs(std::env::var_os("JOURNAL_STREAM").map(|value| ("JOURNAL_STREAM", value)))
            .stdin(input)
            .stdout(output)
            .spawn();
        match started {
            Ok(child) => {
                self.sessions.push(child);
                self.say_how_many();
            }
            Err(e) => note(Level::Error, &format!("start `{verb}`: {e}")),
        }
    }

    fn say_how_many(&self) {
        let text = match self.sessions.len() {
            0 => "waiting".to_owned(),
            1 => "1 session".to_owned(),
            many => format!("{many} sessions"),
        };
        status(&[("STATUS", &text)]);
    }
}

/// Tells systemd. That nobody listens is no failure of ours.
fn status(state: &[(&str, &str)]) {
    if let Err(e) = systemd::daemon::notify(state.iter()) {
        note(Level::Warning, &format!("notify systemd: {e}"));
    }
}
