//! A way through ssh to a server that only another host can reach.
//!
//! Each connection that is made to a socket of ours in a folder of ours becomes `ssh -W HOST:PORT`, which has no other
//! forwarding and no shell. TLS goes through it from end to end, and is checked against the address as without it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keys_protocol::printable;
use nix::unistd::mkdtemp;
use tokio::io::{AsyncReadExt as _, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::host::Destination;
use crate::host_key::HostKey;
use crate::manifest::SshSettings;
use crate::ssh::{self, Asking};

use super::address::Address;
use super::site::Site;

/// How long ssh may take to end once its output has.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Such a way; it and its connections end when this is dropped.
pub(super) struct Tunnel {
    folder: Folder,
    accepting: JoinHandle<()>,
    way: Arc<Way>,
}

/// Where it leads, and through what.
struct Way {
    place: Destination,
    pin: Option<HostKey>,
    settings: SshSettings,
    /// Host and port, as that host finds them.
    endpoint: String,
    /// The last line that ssh said.
    said: Mutex<String>,
}

/// A folder of our own with the socket in it, gone when dropped.
struct Folder {
    path: PathBuf,
    socket: PathBuf,
}

impl Tunnel {
    /// Opens the one that a site wants. Nobody logs in before the first request.
    pub(super) fn of(site: Site<'_>, address: &Address) -> Result<Option<Self>, Failure> {
        let Some(place) = &site.vault.tunnel else {
            return Ok(None);
        };
        if address.socket.is_some() {
            return Err(Failure::source(
                "a unix:// address is on this machine, and takes no `tunnel`",
            ));
        }
        let broken = |e: io::Error| Failure::source(format!("open the tunnel: {e}"));
        let folder = Folder::new().map_err(broken)?;
        let listener = UnixListener::bind(&folder.socket).map_err(broken)?;
        let way = Arc::new(Way {
            place: place.clone(),
            pin: site.vault.tunnel_host_key.clone(),
            settings: site.settings.ssh.clone(),
            endpoint: address.endpoint(),
            said: Mutex::default(),
        });
        Ok(Some(Self {
            folder,
            accepting: tokio::spawn(accept(listener, Arc::clone(&way))),
            way,
        }))
    }

    /// The socket that leads to the server.
    pub(super) fn socket(&self) -> &Path {
        &self.folder.socket
    }

    /// Returns what ssh had to say, if it said anything.
    pub(super) fn complaint(&self) -> Option<Failure> {
        let said = self.way.said().clone();
        if said.is_empty() {
            return None;
        }
        let place = &self.way.place;
        let failure = Failure::source(format!("the tunnel through {place}: {said}"));
        Some(if said.contains("Host key verification failed") {
            failure.hint(format!(
                "compare the fingerprint with the host's own: ssh-keyscan -t ed25519 {} | ssh-keygen -lf -\n\
                 then pin it: tunnel_host_key = \"ssh-ed25519 AAAA…\"",
                place.host()
            ))
        } else {
            failure.hint(format!(
                "does `ssh -W {} {place}` work? its sshd must allow forwarding (AllowTcpForwarding)",
                self.way.endpoint
            ))
        })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Way {
    fn said(&self) -> std::sync::MutexGuard<'_, String> {
        // A panic while it was held left a text.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one connection until either end closes it, and keeps what ssh said if it ended first.
    async fn carry(&self, stream: UnixStream) -> io::Result<()> {
        let (pin, settings) = (self.pin.as_ref(), &self.settings);
        let mut command = ssh::forwarding(&self.place, pin, settings, &self.endpoint)?;
        if Asking::among(1) == Asking::Never {
            // Ctrl-C is for us: the way is needed until the token of the run is revoked.
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let missing = || io::Error::other("ssh was started without a pipe");
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let mut stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let (mut from, mut to) = stream.into_split();
        tokio::select! {
            sent = copy(&mut from, &mut stdin) => { sent?; }
            came = copy(&mut stdout, &mut to) => {
                came?;
                let said = last_line(stderr).await;
                if !said.is_empty() {
                    *self.said() = said;
                }
            }
        }
        Ok(())
    }
}

/// Returns the last line of what ssh said before it ended.
async fn last_line(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let all = timeout(LAST_WORDS, stderr.read_to_end(&mut said)).await;
    let text = String::from_utf8_lossy(&said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    match (line, all) {
        (Some(line), _) => printable(line, 300),
        (None, Ok(Err(error))) => error.to_string(),
        (None, _) => String::new(),
    }
}

impl Folder {
    fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let above = runtime
            .filter(|folder| folder.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = mkdtemp(&above.join("keys-XXXXXX"))?;
        Ok(Self {
            socket: path.join("vault.sock"),
            path,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is an empty folder, or a socket that nobody listens to.
        std::fs::remove_file(&self.socket).ok();
        std::fs::remove_dir(&self.path).ok();
    }
}

async fn accept(listener: UnixListener, way: Arc<Way>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let way = Arc::clone(&way);
        connections.spawn(async move {
            if let Err(error) = way.carry(stream).await {
                *way.said() = printable(&error.to_string(), 300);
            }
        });
    }
}
