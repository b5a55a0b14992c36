//! The agent's socket, seen by those who connect to it.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keys_protocol::RefusalCode;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::TimeVal;

use crate::failure::{Doing as _, Failure};

/// Where `keys-agent.socket` listens.
pub(crate) const SOCKET: &str = "/run/keys-agent.sock";

/// Nobody took the connection, or what took it went away.
pub(crate) fn busy() -> Failure {
    Failure::new(
        RefusalCode::Busy,
        format!("the agent at {SOCKET} took no session"),
    )
    .hint("other sessions are open, or it failed: journalctl -u keys-agent")
}

/// Connects, or says that there is no socket. Bounded by `wait`, as a full backlog would block for ever; so is the wait
/// for the first byte.
pub(crate) fn connect(wait: Duration) -> Result<Option<UnixStream>, Failure> {
    let connecting = || format!("connect to the agent at {SOCKET}");
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let fd = fd.doing(connecting)?;
    // Zero would mean for ever.
    let seconds = TimeVal::new(wait.as_secs().max(1).cast_signed(), 0);
    socket::setsockopt(&fd, sockopt::SendTimeout, &seconds).doing(connecting)?;
    socket::setsockopt(&fd, sockopt::ReceiveTimeout, &seconds).doing(connecting)?;
    let address = UnixAddr::new(SOCKET).doing(connecting)?;
    match socket::connect(fd.as_raw_fd(), &address) {
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::EAGAIN) => return Err(busy()),
        Err(Errno::EACCES) => {
            let text = format!("this user may not connect to the agent at {SOCKET}");
            return Err(Failure::new(RefusalCode::Policy, text).hint(
                "log in as root, or as the user that SocketUser= of keys-agent.socket names",
            ));
        }
        // Refused, say: never a reason to go around the socket.
        connected => connected.doing(connecting)?,
    }
    let socket = UnixStream::from(fd);
    socket.set_write_timeout(None).doing(connecting)?;
    Ok(Some(socket))
}
