//! What a session is for: a word on ssh's command line, and one byte on the agent's socket.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use keys_protocol::limits;

/// What the pusher asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Keys come.
    Receive,
    /// Nothing comes; it wants to know what is here.
    Status,
}

impl Verb {
    /// The verb of a remote command, which must be one of ours to the byte: with a forced command, sshd passes on
    /// whatever the other side asked for, and no shell may ever see it.
    pub(crate) fn of_command(command: &OsStr) -> Option<Self> {
        let command = command.as_bytes();
        match command.strip_prefix(b"sudo -n ").unwrap_or(command) {
            b"keys-agent receive" => Some(Self::Receive),
            b"keys-agent status" => Some(Self::Status),
            _ => None,
        }
    }

    /// The first byte on the socket.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Receive => b'r',
            Self::Status => b's',
        }
    }

    /// Waits for the first byte on the socket, and takes nothing behind it.
    pub(crate) fn read(socket: &mut impl Read) -> io::Result<Self> {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        match byte {
            [b'r'] => Ok(Self::Receive),
            [b's'] => Ok(Self::Status),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no verb of ours",
            )),
        }
    }

    /// As [`Verb::read`], from the connection that is standard input.
    pub(crate) fn on_stdin() -> io::Result<Self> {
        let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        socket.set_read_timeout(Some(limits::IDLE))?;
        let verb = Self::read(&mut socket)?;
        socket.set_read_timeout(None)?;
        Ok(verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_words_are_a_verb() {
        let verb = |command: &str| Verb::of_command(OsStr::new(command));
        assert_eq!(verb("keys-agent receive"), Some(Verb::Receive));
        assert_eq!(verb("sudo -n keys-agent status"), Some(Verb::Status));
        let long = "keys-agent receive".to_owned() + &" ".repeat(100 << 10);
        for other in [
            "",
            "sh",
            "keys-agent",
            "keys-agent relay",
            "keys-agent session",
            "keys-agent receive ",
            " keys-agent receive",
            "keys-agent  receive",
            "keys-agent receive; id",
            "keys-agent receive\n",
            "keys-agent 'receive'",
            "KEYS-AGENT receive",
            "/usr/local/bin/keys-agent receive",
            "sudo keys-agent receive",
            "sudo -n sudo -n keys-agent receive",
            "sudo -n -u keys keys-agent receive",
            "internal-sftp",
            &long,
        ] {
            assert_eq!(
                verb(other),
                None,
                "{:?} was accepted",
                &other[..other.len().min(40)]
            );
        }
    }

    #[test]
    fn a_verb_reads_back_and_leaves_the_rest() {
        for verb in [Verb::Receive, Verb::Status] {
            let bytes = [verb.byte(), b'x'];
            let mut socket = &bytes[..];
            assert_eq!(Verb::read(&mut socket).unwrap(), verb);
            assert_eq!(socket, b"x");
        }
        assert!(Verb::read(&mut &b"\n"[..]).is_err());
        assert!(Verb::read(&mut &b""[..]).is_err());
    }
}
