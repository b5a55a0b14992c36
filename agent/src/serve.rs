//! The service behind the socket: it takes connections and starts a session for each, of which it sees one byte: the verb.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use keys_protocol::RefusalCode;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;

use crate::bell;
use crate::callers::{Caller, Callers};
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
        for caller in server.callers.hear() {
            server.begin(caller);
        }
    }
    status(&[("STOPPING", "1"), ("STATUS", "waiting for open sessions")]);
    // Who waits for keys comes again, and finds the next agent behind the socket.
    drop((server.listener, server.callers));
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
    callers: Callers,
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
        // A session has committed.
        wanted.add(Signal::SIGUSR1);
        // Children start with no signal blocked: std sees to that.
        wanted.thread_block().doing(|| "block signals".into())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags).doing(|| "signalfd".into())?;
        Ok(Self {
            listener,
            signals,
            peer,
            sessions: Vec::new(),
            callers: Callers::default(),
        })
    }

    /// Waits for a connection, its verb or a signal; reaps what ended, and returns whether SIGTERM came.
    fn terminated(&mut self) -> Result<bool, Failure> {
        let own = [self.listener.as_fd(), self.signals.as_fd()];
        let mut wait: Vec<PollFd> = own
            .into_iter()
            .chain(self.callers.listen_to())
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut wait, self.callers.patience()) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).doing(|| "wait for connections".into()),
        }
        let (mut terminated, mut committed) = (false, false);
        while let Some(signal) = self
            .signals
            .read_signal()
            .doing(|| "read a signal".into())?
        {
            terminated |= signal.ssi_signo == Signal::SIGTERM as u32;
            committed |= signal.ssi_signo == Signal::SIGUSR1 as u32;
        }
        if committed {
            self.callers.wake();
        }
        self.reap();
        Ok(terminated)
    }

    fn reap(&mut self) {
        let mut is_killed = false;
        let before = self.sessions.len();
        self.sessions
            .retain_mut(|session| match session.try_wait() {
                Ok(ended) => {
                    is_killed |= ended.is_some_and(was_killed);
                    ended.is_none()
                }
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
        // It may have committed, and told nobody.
        if is_killed {
            self.callers.wake();
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

    /// Waits for the verb of a connection, unless the peer may not have any: then it is closed.
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
        self.callers.admit(Caller {
            connection,
            uid,
            pid: peer.pid(),
        });
    }

    /// Starts a session, unless there are enough: then the connection is closed.
    fn begin(
        &mut self,
        Caller {
            connection, pid, ..
        }: Caller,
    ) {
        if self.sessions.len() >= SESSIONS {
            let text = format!("busy: {SESSIONS} sessions are open, closed one of pid {pid}");
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
            .env(bell::SERVICE, std::process::id().to_string())
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

/// Whether a signal ended it.
fn was_killed(status: ExitStatus) -> bool {
    status.code().is_none()
}

/// Tells systemd. That nobody listens is no failure of ours.
fn status(state: &[(&str, &str)]) {
    if let Err(e) = systemd::daemon::notify(state.iter()) {
        note(Level::Warning, &format!("notify systemd: {e}"));
    }
}
