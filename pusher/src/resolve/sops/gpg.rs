//! Data keys that only the user's own gpg can open: it has their keyring, agent and smartcards.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use keys_protocol::Secret;
use nix::unistd::ttyname;
use tokio::process::Command;
use tokio::time::timeout;

use crate::environment;
use crate::failure::Failure;
use crate::program;
use crate::resolve::Terminal;
use crate::resolve::child::{Group, Running};

/// How long gpg may take: someone may have to find their card and type its PIN.
const PATIENCE: Duration = Duration::from_secs(300);

/// No questions of gpg's own, and no network: the message comes from a file, and may name keys that gpg would look for.
const ALWAYS: [&str; 5] = [
    "--batch",
    "--no-tty",
    "--quiet",
    "--disable-dirmngr",
    "--decrypt",
];

/// Opens an armored message that holds at most `most` bytes. The agent of gpg may ask for a passphrase or a PIN, on the
/// terminal as well.
pub(super) async fn open(message: &str, most: u64, terminal: &Terminal) -> Result<Secret, Failure> {
    let program = program()?;
    let _terminal = terminal.lock().await;
    let mut command = Command::new(program);
    command
        .args(ALWAYS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in environment::ours() {
        command.env_remove(name);
    }
    if let (None, Some(name)) = (std::env::var_os("GPG_TTY"), terminal_name()) {
        command.env("GPG_TTY", name);
    }
    let mut running = Running::spawn(command, Group::Own)?;
    timeout(PATIENCE, running.finish(message.as_bytes(), most))
        .await
        .unwrap_or_else(|_| Err(Failure::source(format!("no end after {PATIENCE:?}"))))
}

/// Finds gpg as sops does, but never relative to the current folder.
fn program() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("SOPS_GPG_EXEC").filter(|name| !name.is_empty());
    let program = named.map_or_else(|| PathBuf::from("gpg"), PathBuf::from);
    match program.to_str() {
        _ if program.is_absolute() => Ok(program),
        Some(name) if !name.contains('/') => program::find(name),
        _ => Err(Failure::source(
            "SOPS_GPG_EXEC is neither a name nor an absolute path",
        )),
    }
}

/// Returns the terminal that we are on: gpg cannot see it from where we put it.
fn terminal_name() -> Option<PathBuf> {
    let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
    let streams = [stdin.as_fd(), stderr.as_fd(), stdout.as_fd()];
    let terminal = streams.into_iter().find(IsTerminal::is_terminal)?;
    ttyname(terminal).ok()
}
