//! The unix socket on which a watcher shows its pages: HTTP/1.0, one GET a connection.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::failure::{Exit, Failure};
use crate::watch::board::Board;
use crate::watch::page;

/// How long a visitor may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request.
const LONGEST: usize = 8 << 10;
/// The pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that only its owner can connect to; gone with the watcher.
pub(super) struct Page {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Page {
    fn drop(&mut self) {
        // A socket that nobody listens on is taken over by the next watcher.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Opens the socket, if there is to be one.
pub(super) fn open(path: Option<&Path>) -> Result<Option<Page>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let cannot = |error: io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot listen on {}: {error}", path.display()),
        )
    };
    make_room(path).map_err(cannot)?;
    // Not chmod afterwards: it would be open to others for a moment. Nothing else makes files now.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    Ok(Some(Page {
        path: path.to_owned(),
        listener: listener.map_err(cannot)?,
    }))
}

/// Removes what a watcher left that was killed: a socket on which nobody listens, and nothing else.
fn make_room(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match Blocking::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)
            }
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

/// Serves for ever.
pub(super) async fn serve(page: Option<Page>, board: &Board) -> Failure {
    let Some(page) = page else {
        return std::future::pending().await;
    };
    loop {
        match page.listener.accept().await {
            // One at a time: it is for one scraper and an administrator.
            Ok((visitor, _)) => {
                // Whoever hangs up or dawdles has had its chance.
                let _gone = timeout(PATIENCE, show(visitor, board)).await;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn show(mut visitor: UnixStream, board: &Board) -> io::Result<()> {
    let request = request(&mut visitor).await?;
    let (status, kind, body) = answer(&request, board);
    let length = body.len();
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    visitor.write_all(head.as_bytes()).await?;
    visitor.write_all(body.as_bytes()).await?;
    visitor.shutdown().await
}

/// Reads to the empty line, and returns the first one.
async fn request(visitor: &mut UnixStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") && bytes.len() < LONGEST {
        if visitor.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn answer(request: &str, board: &Board) -> (&'static str, &'static str, String) {
    let plain = "text/plain; charset=utf-8";
    let mut words = request.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => (
            "200 OK",
            "text/plain; version=0.0.4; charset=utf-8",
            page::metrics(&board.view()),
        ),
        (Some("GET"), Some("/")) => ("200 OK", plain, page::text(&board.view())),
        (Some("GET"), _) => ("404 Not Found", plain, "there are / and /metrics\n".into()),
        _ => ("405 Method Not Allowed", plain, "only GET\n".into()),
    }
}
