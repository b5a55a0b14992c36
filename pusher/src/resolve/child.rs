//! A program that runs for a source: what it is given, what it prints and says, and its end.

use std::process::ExitStatus;

use keys_protocol::{Secret, printable};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// How much of what a program says on its standard error is kept, in bytes.
const LONGEST_TALK: usize = 4 << 10;

/// How many lines of it are shown.
const LAST_LINES: usize = 8;

/// A program that runs; it is killed, with its process group, when this goes away before it ended.
pub(crate) struct Running {
    child: Child,
    group: Group,
}

/// Whose process group the program is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Own,
    /// Ours: only the foreground group may read from the terminal.
    Foreground,
}

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: Said,
    printed: Secret,
}

/// The end of what a program said; nothing where its standard error was no pipe.
#[derive(Default)]
pub(crate) struct Said {
    kept: Vec<u8>,
    /// Whether it said more than that.
    cut: bool,
}

impl Running {
    /// Starts a command that is complete.
    pub(crate) fn spawn(mut command: Command, group: Group) -> Result<Self, Failure> {
        command.kill_on_drop(true);
        if group == Group::Own {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|e| Failure::source(format!("start: {e}")))?;
        Ok(Self { child, group })
    }

    /// Waits for the end, with `input` for its standard input if that is a pipe, and returns what was printed: at most
    /// `most` bytes.
    pub(crate) async fn finish(&mut self, input: &[u8], most: u64) -> Result<Secret, Failure> {
        let Ended {
            status,
            said,
            printed,
        } = self.end(input, most).await?;
        if status.success() {
            return Ok(printed);
        }
        let failure = Failure::source(status.to_string());
        Err(match said.lines().as_str() {
            "" => failure,
            lines => failure.hint(format!("it said: {lines}")),
        })
    }

    /// Waits for the end as [`Running::finish`] does, whatever it is.
    pub(crate) async fn end(&mut self, input: &[u8], most: u64) -> Result<Ended, Failure> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let stdin = self.child.stdin.take();
        let told = async { tokio::join!(feed(stdin, input), tail(stderr)).1 };
        // What is too much ends the wait at once: it may have no end.
        let (printed, said) =
            tokio::try_join!(all(stdout, most), async { Ok::<_, Failure>(told.await) })?;
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Failure::source(e.to_string()))?;
        Ok(Ended {
            status,
            said,
            printed,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without an id it has ended, and the number may be another's by now.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let (Some(id), Group::Own) = (id, self.group) {
            // It may have ended just now; there is nobody to tell.
            let _gone = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Said {
    /// Returns whether `value` may be in it: where something was cut, a part of the value may be left.
    pub(crate) fn may_hold(&self, value: &[u8]) -> bool {
        let inner = value.trim_ascii();
        self.cut || inner.len() > 2 && self.kept.windows(inner.len()).any(|part| part == inner)
    }

    /// Returns the last lines of it, as one.
    pub(crate) fn lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        last.iter()
            .map(|line| printable(line, LONGEST_TALK))
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

/// Writes to a program. One that ends without reading all of it is judged by its exit status.
async fn feed(pipe: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut pipe) = pipe {
        pipe.write_all(input).await.ok();
    }
}

/// Reads what a program prints.
async fn all(pipe: Option<ChildStdout>, most: u64) -> Result<Secret, Failure> {
    let mut secret = Secret::with_capacity(CHUNK);
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let Some(mut pipe) = pipe else {
        return Ok(secret);
    };
    loop {
        let read = pipe
            .read(&mut chunk)
            .await
            .map_err(|e| Failure::source(e.to_string()))?;
        if read == 0 {
            return Ok(secret);
        }
        secret.push(&chunk[..read]);
        if secret.len() as u64 > most {
            return Err(Failure::source(format!(
                "it printed more than {}",
                size(most)
            )));
        }
    }
}

const CHUNK: usize = 16 << 10;

/// Returns a limit as messages show it.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib => format!("{mib} MiB"),
    }
}

/// Reads what a program says, and keeps the end of it.
async fn tail(pipe: Option<ChildStderr>) -> Said {
    let mut said = Said::default();
    let Some(mut pipe) = pipe else {
        return said;
    };
    let mut chunk = vec![0; LONGEST_TALK];
    // Where reading fails, only words are lost: the exit status decides.
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        said.kept.extend_from_slice(&chunk[..read]);
        let surplus = said.kept.len().saturating_sub(LONGEST_TALK);
        said.cut |= surplus > 0;
        said.kept.drain(..surplus);
    }
    said
}
