//! A command while it runs.

use std::path::Path;
use std::process::Stdio;

use keys_protocol::{Secret, printable};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::program::OURS;
use crate::resolve::LARGEST;

use super::{CommandSource, Owner};

/// How much of what a failed command said on its standard error is kept, in bytes.
const LONGEST_TALK: usize = 4 << 10;

/// How many lines of it are shown.
const LAST_LINES: usize = 8;

/// A command that runs; it is killed, with its process group, when this goes away before it ended.
pub(super) struct Running {
    child: Child,
    group: Group,
}

/// Whose process group the command is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Own,
    /// Ours: only the foreground group may read from the terminal.
    Foreground,
}

impl Running {
    /// Starts the command in `folder`.
    pub(super) fn start(source: &CommandSource, folder: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(source.program(folder)?);
        command
            .args(&source.argv[1..])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if source.owner == Owner::Manifest {
            for name in OURS {
                command.env_remove(name);
            }
        }
        command.envs(&source.env);
        let group = if source.prompts {
            Group::Foreground
        } else {
            Group::Own
        };
        if group == Group::Own {
            command.process_group(0).stderr(Stdio::piped());
        }
        let child = command
            .spawn()
            .map_err(|e| Failure::source(format!("start: {e}")))?;
        Ok(Self { child, group })
    }

    /// Waits for the end, and returns what was printed.
    pub(super) async fn finish(&mut self) -> Result<Secret, Failure> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (secret, talk) = tokio::join!(all(stdout), tail(stderr));
        let secret = secret?;
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Failure::source(e.to_string()))?;
        if !status.success() {
            let failure = Failure::source(status.to_string());
            return Err(match talk.as_str() {
                "" => failure,
                talk => failure.hint(format!("it said: {talk}")),
            });
        }
        Ok(secret)
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

/// Reads what a command prints.
async fn all(pipe: Option<ChildStdout>) -> Result<Secret, Failure> {
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
        if secret.len() as u64 > LARGEST {
            return Err(Failure::source(format!(
                "it printed more than {} MiB",
                LARGEST >> 20
            )));
        }
    }
}

const CHUNK: usize = 16 << 10;

/// Reads what a command says, and keeps the end of it.
async fn tail(pipe: Option<ChildStderr>) -> String {
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut chunk = vec![0; LONGEST_TALK];
    // Where reading fails, only words are lost: the exit status decides.
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        kept.drain(..kept.len().saturating_sub(LONGEST_TALK));
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.trim().lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    last.iter()
        .map(|line| printable(line, LONGEST_TALK))
        .collect::<Vec<_>>()
        .join(" | ")
}
