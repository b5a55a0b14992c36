//! One ssh session: OpenSSH as a child process, with the user's configuration and our rules on top of it.

mod pipe;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use keys_protocol::limits;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ending::Ending;
use crate::host::Destination;
use crate::host_key::HostKey;
use crate::manifest::{Host, SshSettings, Sudo};
use crate::program;

pub(crate) use pipe::{Incoming, Outgoing};

/// What is run on a host. The remote command is exactly one of these lines; names and data go over stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Receive,
    Status,
    /// Status, again and again: each time something is said to it.
    Watch,
    /// The host's own reboot, which does not wait for the session to end.
    Reboot,
    /// Asks systemd how the units on stdin are, each ended by a NUL; it needs no root.
    Units,
}

impl Verb {
    fn command(self, sudo: Sudo) -> &'static str {
        match (sudo, self) {
            (Sudo::No, Self::Receive) => "keys-agent receive",
            (Sudo::No, Self::Status) => "keys-agent status",
            (Sudo::Yes, Self::Receive) => "sudo -n keys-agent receive",
            (Sudo::Yes, Self::Status) => "sudo -n keys-agent status",
            (Sudo::No, Self::Watch) => "keys-agent watch",
            (Sudo::Yes, Self::Watch) => "sudo -n keys-agent watch",
            (Sudo::No, Self::Reboot) => "systemctl --no-block reboot",
            (Sudo::Yes, Self::Reboot) => "sudo -n systemctl --no-block reboot",
            (_, Self::Units) => "xargs -0 systemctl show --property=Id,ActiveState --",
        }
    }
}

/// Whether ssh may ask the user (a passphrase, a touch).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    Allowed,
    Never,
}

impl Asking {
    /// Only with one host, so that prompts do not mix, and a terminal to ask on.
    pub(crate) fn among(hosts: usize) -> Self {
        if hosts == 1 && io::stdin().is_terminal() {
            Self::Allowed
        } else {
            Self::Never
        }
    }

    /// How long the first byte of the agent may take: a login, and the wait for a place among the host's sessions. A
    /// person who is asked needs longer.
    fn patience(self) -> Duration {
        limits::ROOM_WAIT
            + match self {
                Self::Allowed => Duration::from_secs(150),
                Self::Never => Duration::from_secs(25),
            }
    }
}

/// Options that hold whatever the user's configuration says. Each of `RemoteCommand`, `StdinNull`, `SessionType none` and
/// `ForkAfterAuthentication` there breaks a client that does not reset it; `VerifyHostKeyDNS` and
/// `NoHostAuthenticationForLocalhost` would accept a host key that is neither pinned nor known. A connection that is silent
/// for 15 s is over: the agent has given up on it by then. The names that OpenSSH 8.5 lacks are ignored by it.
const ALWAYS: [&str; 25] = [
    "IgnoreUnknown=GSSAPIKeyExchange,SessionType,StdinNull,ForkAfterAuthentication",
    "StrictHostKeyChecking=yes",
    "VerifyHostKeyDNS=no",
    "NoHostAuthenticationForLocalhost=no",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ControlPersist=no",
    "RemoteCommand=none",
    "SessionType=default",
    "StdinNull=no",
    "ForkAfterAuthentication=no",
    "EscapeChar=none",
    "RequestTTY=no",
    "GSSAPIKeyExchange=no",
    "GSSAPIDelegateCredentials=no",
    "LogLevel=ERROR",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=2",
    "ConnectionAttempts=1",
];

/// How much of what ssh and the login shell print on stderr is kept.
const STDERR_KEPT: usize = 64 << 10;

/// A session whose other end is the agent, or will soon turn out not to be.
pub(crate) struct Session {
    child: Child,
    stderr: JoinHandle<Vec<u8>>,
}

impl Session {
    /// Starts ssh. Must be called within the runtime.
    ///
    /// The reader and writer block, for use off the runtime's own threads.
    pub(crate) fn start(
        host: &Host,
        settings: &SshSettings,
        verb: Verb,
        asking: Asking,
    ) -> io::Result<(Self, Incoming, Outgoing)> {
        let mut child = command(host, settings, verb, asking)?.spawn()?;
        let missing = || io::Error::other("ssh was started without a pipe");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = tokio::spawn(keep_tail(child.stderr.take().ok_or_else(missing)?));
        let runtime = Handle::current();
        let incoming = Incoming {
            pipe: stdout,
            patience: asking.patience(),
            runtime: runtime.clone(),
        };
        Ok((
            Self { child, stderr },
            incoming,
            Outgoing {
                pipe: stdin,
                runtime,
            },
        ))
    }

    /// Waits for ssh to end by itself: the connection is lost, or the host has closed it.
    pub(crate) async fn lost(&mut self) -> io::Result<()> {
        self.child.wait().await.map(drop)
    }

    /// Waits for ssh to end, and ends it if it does not, then says what it printed and how it ended.
    pub(crate) async fn end(mut self) -> Ending {
        let code = if let Ok(Ok(status)) = timeout(LAST_WORDS, self.child.wait()).await {
            status.code()
        } else {
            // It has had its time; `kill` also reaps it, and fails only if it has just ended.
            self.child.kill().await.ok();
            None
        };
        let printed = match timeout(LAST_WORDS, &mut self.stderr).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        Ending::new(code, &printed)
    }
}

/// How long ssh may take to end once both pipes are closed.
const LAST_WORDS: Duration = Duration::from_secs(5);

fn command(host: &Host, settings: &SshSettings, verb: Verb, asking: Asking) -> io::Result<Command> {
    let mut ssh = base(settings, host.host_key.as_ref(), asking)?;
    towards(&mut ssh, &host.destination);
    ssh.arg(verb.command(host.sudo));
    Ok(ssh)
}

/// Returns an ssh whose standard input and output are a connection to `endpoint`, a host and port as `place` finds them.
pub(crate) fn forwarding(
    place: &Destination,
    pin: Option<&HostKey>,
    settings: &SshSettings,
    endpoint: &str,
) -> io::Result<Command> {
    let mut ssh = base(settings, pin, Asking::among(1))?;
    ssh.arg("-W").arg(endpoint);
    towards(&mut ssh, place);
    Ok(ssh)
}

/// Returns ssh with our rules and without a place to go to.
fn base(settings: &SshSettings, pinned: Option<&HostKey>, asking: Asking) -> io::Result<Command> {
    let mut ssh = Command::new(find_ssh()?);
    if let Some(config) = &settings.config {
        ssh.arg("-F").arg(config);
    }
    for option in ALWAYS {
        ssh.arg("-o").arg(option);
    }
    ssh.arg("-o").arg(format!(
        "ConnectTimeout={}",
        settings.connect_timeout.as_secs().max(1)
    ));
    if asking == Asking::Never {
        ssh.arg("-o").arg("BatchMode=yes");
    }
    if let Some(key) = pinned {
        ssh.args(pin(key)?);
    }
    // `SendEnv *` in a user's configuration cannot be undone on the command line.
    for name in program::with_secrets() {
        ssh.env_remove(name);
    }
    ssh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(ssh)
}

fn towards(ssh: &mut Command, place: &Destination) {
    if let Some(user) = place.user() {
        ssh.arg("-l").arg(user);
    }
    if let Some(port) = place.port() {
        ssh.arg("-p").arg(port.to_string());
    }
    ssh.arg("--").arg(place.host());
}

/// Options that make `key` the only host key that ssh accepts.
///
/// Known hosts are replaced rather than added to, and no file is written: `keys known-host` prints the line. The usual
/// `UserKnownHostsFile=FILE` alone would leave a `KnownHostsCommand` of the user's configuration in force.
fn pin(key: &HostKey) -> io::Result<Vec<OsString>> {
    let exe = std::env::current_exe()?;
    let exe = exe
        .to_str()
        .ok_or_else(|| io::Error::other("the path of keys itself is not UTF-8"))?;
    let quoted = exe
        .replace('%', "%%")
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    let options = [
        "UserKnownHostsFile=none".to_owned(),
        "GlobalKnownHostsFile=none".to_owned(),
        format!(
            "KnownHostsCommand=\"{quoted}\" known-host %H {}",
            key.line()
        ),
    ];
    Ok(options
        .into_iter()
        .flat_map(|option| [OsString::from("-o"), option.into()])
        .collect())
}

/// Finds ssh in the absolute entries of PATH: an empty or relative entry would take it from the current folder.
fn find_ssh() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("ssh"))
        .find(|file| file.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no ssh in PATH"))
}

async fn keep_tail(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4 << 10];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > 2 * STDERR_KEPT {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
    kept
}
