//! A command that ran: what it was, how it ended, what it said, and what the hosts looked like.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::Inside;

/// How long any command may take: a test that hangs costs more than one that fails.
const LIMIT: Duration = Duration::from_secs(180);

/// A command that ended.
#[must_use = "a command that nobody looks at may have failed"]
pub struct Ran {
    command: String,
    status: ExitStatus,
    /// What it wrote to its standard output, as it is.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
    /// Where to look for keys when something is to be explained.
    hosts: Vec<Inside>,
}

impl Ran {
    /// Runs `command` with `input` on its standard input, and waits for it at most three minutes.
    pub fn of(command: Command, input: &[u8]) -> Self {
        Self::within(command, input, LIMIT)
    }

    /// Runs `command` with `input` on its standard input, and waits for it for `limit`.
    pub fn within(mut command: Command, input: &[u8], limit: Duration) -> Self {
        let line = format!("{command:?}");
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let (said, hear) = mpsc::channel();
        listen(&mut child, &said);
        feed(&mut child, input.to_vec());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            match hear.recv_timeout(limit.saturating_sub(start.elapsed())) {
                Ok((Stream::Out, bytes)) => stdout = bytes,
                Ok((Stream::Err, bytes)) => stderr = bytes,
                Err(_) => {
                    child.kill().expect("our own child can be killed");
                    panic!("{line}: not at an end after {limit:?}");
                }
            }
        }
        let status = child.wait().expect("our own child can be waited for");
        Self {
            command: line,
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took: start.elapsed(),
            hosts: Vec::new(),
        }
    }

    /// Shows /run/keys of these hosts when something is to be explained.
    pub(crate) fn on(mut self, hosts: Vec<Inside>) -> Self {
        self.hosts = hosts;
        self
    }

    /// Returns its exit code, or 128 and the signal that ended it, as a shell does.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .or(self.status.signal().map(|signal| 128 + signal))
            .expect("it ended one way or the other")
    }

    /// Returns its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics unless it ended with 0.
    pub fn succeeded(self) -> Self {
        self.exited(0)
    }

    /// Panics unless it ended with `code`.
    pub fn exited(self, code: i32) -> Self {
        assert!(self.code() == code, "exit {code} was expected\n{self}");
        self
    }

    /// Panics unless its standard error holds `text`.
    pub fn said(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} was expected on stderr\n{self}"
        );
        self
    }

    /// Panics unless its standard output holds `text`.
    pub fn printed(self, text: &str) -> Self {
        assert!(
            self.text().contains(text),
            "{text:?} was expected on stdout\n{self}"
        );
        self
    }
}

/// All there is to know, as one block.
impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "command: {}", self.command)?;
        writeln!(f, "ended:   {} after {:?}", self.status, self.took)?;
        writeln!(f, "stdout:\n{}", self.text())?;
        writeln!(f, "stderr:\n{}", self.stderr)?;
        self.hosts.iter().try_for_each(|host| {
            writeln!(f, "{}:/run/keys:\n{}", host.name(), host.tree("/run/keys"))
        })
    }
}

enum Stream {
    Out,
    Err,
}

/// Reads both outputs to their ends, so that the child never waits for us.
fn listen(child: &mut Child, said: &Sender<(Stream, Vec<u8>)>) {
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let stderr = child.stderr.take().expect("stderr is a pipe");
    let to = said.clone();
    thread::spawn(move || to.send((Stream::Out, all_of(stdout))));
    let to = said.clone();
    thread::spawn(move || to.send((Stream::Err, all_of(stderr))));
}

fn all_of(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(e) = pipe.read_to_end(&mut bytes) {
        bytes.extend_from_slice(format!("\n(reading failed: {e})").as_bytes());
    }
    bytes
}

/// Writes `input` to the child; one that ends without reading it all is no failure of ours.
fn feed(child: &mut Child, input: Vec<u8>) {
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    thread::spawn(move || match stdin.write_all(&input) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => panic!("writing to a command: {e}"),
        _ => {}
    });
}
