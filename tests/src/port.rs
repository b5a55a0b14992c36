//! A port of loopback with a host's sshd behind it: for what needs a network address.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::{Inside, Sshd};

/// Such a port, closed when dropped. Sessions that are open then go on.
pub struct Port {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Port {
    /// Opens one that leads to an sshd in `host`.
    #[must_use]
    pub fn to(host: &Sshd) -> Self {
        let inside = host.inside().clone();
        Self::serving(move |stream| serve(&inside, stream))
    }

    /// Opens one that takes every connection and never says a word.
    #[must_use]
    pub fn silent() -> Self {
        let mut held = Vec::new();
        Self::serving(move |stream| held.push(stream))
    }

    /// Opens one that hands every connection to `serve`.
    #[must_use]
    pub fn serving(mut serve: impl FnMut(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                serve(stream);
            }
        });
        Self { address, over }
    }

    /// Returns its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// Returns a number that nobody listens at.
    #[must_use]
    pub fn closed() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        listener.local_addr().expect("it is bound").port()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread, which then sees that it is over; if it cannot be woken, it ends with the run.
        let _woken = TcpStream::connect(self.address);
    }
}

fn serve(inside: &Inside, stream: TcpStream) {
    let words = inside.enter();
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().expect("the first word is the program"));
    command
        .args(words)
        .args(["--", "/usr/sbin/sshd", "-i", "-f", "/etc/ssh/sshd_lab"]);
    let said = stream.try_clone().expect("a socket can be shared");
    command
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(said)))
        .stderr(Stdio::null());
    // Before it is waited for, so that the socket is closed with the child and not with us.
    let child = command.spawn();
    drop(command);
    let mut child = child.expect("nsenter starts");
    thread::spawn(move || child.wait());
}
