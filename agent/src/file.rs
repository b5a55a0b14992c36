//! A file that is there, held by its descriptor: what was looked at is what is read and linked.

use std::fs::File;
use std::os::fd::OwnedFd;

use keys_protocol::{Digest, KeyedHash};
use nix::Result;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::linkat;
use zeroize::Zeroizing;

use crate::folder::{Folder, reopened};

/// How much of a file is read at a time.
const CHUNK: u64 = 64 << 10;

/// Who may use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Access {
    /// For the agent's own files.
    pub(crate) const ROOT: Self = Self {
        uid: 0,
        gid: 0,
        mode: 0o600,
    };
}

/// What tells one inode from another, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All twelve bits: a setuid bit that somebody set must be seen.
    pub(crate) mode: u32,
}

impl Inode {
    /// Returns what `stat` says, if it is of a regular file.
    pub(crate) fn regular(stat: &FileStat) -> Option<Self> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        (kind == SFlag::S_IFREG).then(|| Self {
            device: stat.st_dev,
            number: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        })
    }

    /// Returns who may use it.
    pub(crate) fn access(&self) -> Access {
        Access {
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }
}

/// A regular file, held without being opened: a fifo or device at its place would be, with side effects.
pub(crate) struct Held {
    fd: OwnedFd,
    pub(crate) inode: Inode,
}

impl Held {
    /// Takes hold of the file at `path` below `folder`; anything but a regular file is `ESTALE`: it was looked at.
    pub(crate) fn at(folder: &Folder, path: &str) -> Result<Self> {
        let fd = folder.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let inode = Inode::regular(&fstat(&fd)?).ok_or(Errno::ESTALE)?;
        Ok(Self { fd, inode })
    }

    /// Opens it for reading.
    pub(crate) fn read(&self) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(open(reopened(&self.fd).as_c_str(), flags, Mode::empty())?.into())
    }

    /// Gives this inode one more name.
    pub(crate) fn link(&self, folder: &Folder, path: &str) -> Result<()> {
        link_inode(&self.fd, folder, path)
    }
}

/// Returns whether an access control list opens the file to others than its mode says.
pub(crate) fn has_acl(file: &File) -> Result<bool> {
    match rustix::fs::fgetxattr_query(file, "system.posix_acl_access") {
        Ok(size) => Ok(size > 0),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(Errno::from_raw(e.raw_os_error())),
    }
}

/// Returns whether the rest of the file has the keyed digest `mac`.
pub(crate) fn has_bytes(file: &mut File, nonce: &Digest, mac: &Digest) -> Result<bool> {
    let size = file.metadata().map_or(0, |meta| meta.len());
    let room = usize::try_from(size.min(CHUNK)).unwrap_or(0).max(1);
    let mut chunk = Zeroizing::new(vec![0; room]);
    let mut hash = KeyedHash::new(nonce);
    loop {
        match nix::unistd::read(&*file, &mut chunk)? {
            0 => return Ok(hash.finish() == *mac),
            read => hash.update(&chunk[..read]),
        }
    }
}

/// Links an inode to `path` below `folder`, whose own folders are there.
pub(crate) fn link_inode(fd: &OwnedFd, folder: &Folder, path: &str) -> Result<()> {
    folder.within(path, |parent, leaf| {
        linkat(
            AT_FDCWD,
            reopened(fd).as_c_str(),
            parent,
            leaf,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
    })
}
