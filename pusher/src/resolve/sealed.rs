//! An encrypted file that is replaced whole, by one writer at a time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::failure::Failure;
use crate::resolve::{LARGEST, file};

/// A file as it is now. What it holds is encrypted.
pub(super) struct Sealed {
    bytes: Vec<u8>,
    mode: u32,
}

/// How long another writer may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// How often its lock is looked at.
const PAUSE: Duration = Duration::from_millis(50);

impl Sealed {
    /// Reads the file at `path`; nothing only where there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Failure> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::source(error.to_string())),
            Ok(_) => {}
        }
        let open = file::open(path)?;
        let about = open.metadata().map_err(failed)?;
        let bytes = file::read(&open, 2 * LARGEST)?;
        Ok(Some(Self {
            bytes: bytes.expose().to_vec(),
            mode: about.permissions().mode() & 0o777,
        }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Waits until no other `keys` writes in the folder of `path`.
    pub(super) async fn lock(path: &Path) -> Result<Flock<File>, Failure> {
        let folder = folder(path);
        let mut open = File::open(&folder).map_err(|e| failed(e).at(folder.display()))?;
        let started = Instant::now();
        loop {
            match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((file, Errno::EWOULDBLOCK)) if started.elapsed() < PATIENCE => open = file,
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(Failure::source(
                        "another `keys` keeps writing in this folder",
                    ));
                }
                Err((_, errno)) => return Err(failed(errno.into()).at("lock the folder")),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts `bytes` in the place of what `before` is, or where nothing was, and nowhere else.
    pub(super) fn replace(path: &Path, before: Option<&Self>, bytes: &[u8]) -> Result<(), Failure> {
        let draft = Draft::new(path, before.map_or(0o600, |file| file.mode), bytes)?;
        match before {
            None => fs::hard_link(&draft.0, path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => changed(),
                _ => failed(error),
            })?,
            Some(before) => {
                let now = Self::open(path)?;
                if now.is_none_or(|now| now.bytes != before.bytes) {
                    return Err(changed());
                }
                // The file that a link leads to, not the link.
                let real = path.canonicalize().map_err(failed)?;
                fs::rename(&draft.0, real).map_err(failed)?;
            }
        }
        File::open(folder(path))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }
}

/// A file beside the one to be replaced, gone when it was not moved there.
struct Draft(PathBuf);

impl Draft {
    fn new(path: &Path, mode: u32, bytes: &[u8]) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let draft = Self(folder(&real).join(format!(".{name}.{:016x}", OsRng.next_u64())));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft.0)
            .map_err(failed)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is none, and what cannot be removed is encrypted.
        let _gone = fs::remove_file(&self.0);
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn failed(error: io::Error) -> Failure {
    Failure::source(error.to_string())
}

fn changed() -> Failure {
    Failure::source("the file was changed meanwhile")
        .hint("run it again: what is there now is taken")
}
