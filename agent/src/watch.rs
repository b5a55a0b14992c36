//! The verb `watch`: over one login, what is here, as often as the pusher asks for it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use keys_protocol::limits;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{Doing as _, Failure};

/// Returns whether the remote command of a login with a forced command is this verb, to the byte.
pub(crate) fn is_asked(command: Option<&OsStr>) -> bool {
    let command = command.unwrap_or_default().as_bytes();
    command.strip_prefix(b"sudo -n ").unwrap_or(command) == b"keys-agent watch"
}

/// Has `status` answer at once, and again each time the pusher says something, until it hangs up or is silent.
///
/// Each answer is a process and a session of its own: between two, a watcher takes none of the places that pushes need.
pub(crate) fn watch() -> Result<u8, Failure> {
    loop {
        let begun = Instant::now();
        let exit = answer()?;
        if exit != 0 || !is_asked_again()? {
            return Ok(exit);
        }
        thread::sleep(limits::WATCH_PACE.saturating_sub(begun.elapsed()));
    }
}

/// Runs the verb `status` on our standard output, and returns how it ended.
fn answer() -> Result<u8, Failure> {
    let status = Command::new("/proc/self/exe")
        .arg0("keys-agent")
        .arg("status")
        .stdin(Stdio::null())
        .status()
        .doing(|| "start `status`".into())?;
    // Killed: it has said nothing, and neither can we.
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// Waits for the pusher's next word. How many bytes it is of does not matter.
fn is_asked_again() -> Result<bool, Failure> {
    let stdin = io::stdin();
    let mut wait = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let silence = PollTimeout::try_from(limits::WATCH_SILENCE).unwrap_or(PollTimeout::MAX);
    match poll(&mut wait, silence) {
        Ok(0) => return Ok(false),
        Ok(_) => {}
        Err(Errno::EINTR) => return is_asked_again(),
        Err(e) => return Err(e).doing(|| "wait for the pusher".into()),
    }
    let mut word = [0; 64];
    let read = nix::unistd::read(&stdin, &mut word).doing(|| "hear the pusher".into())?;
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_words_ask_for_it() {
        let asked = |command: &str| is_asked(Some(OsStr::new(command)));
        assert!(asked("keys-agent watch") && asked("sudo -n keys-agent watch"));
        for other in [
            "",
            "watch",
            "keys-agent watch ",
            "keys-agent  watch",
            "keys-agent watch; id",
            "sudo keys-agent watch",
            "sudo -n sudo -n keys-agent watch",
        ] {
            assert!(!asked(other), "{other:?} was accepted");
        }
        assert!(!is_asked(None));
    }
}
