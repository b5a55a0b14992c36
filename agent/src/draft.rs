//! A file without a name, until its owner, bytes and mode are final. The only code that writes files.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use nix::Result;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown};

use crate::file::{Access, link_inode};
use crate::folder::{Folder, drop_inherited_acl};

/// A file being written.
pub(crate) struct Draft {
    file: File,
    access: Access,
}

impl Draft {
    /// Makes a file that nobody can open, on the filesystem of `folder`, and gives it to its owner.
    pub(crate) fn begin(folder: &Folder, access: Access) -> Result<Self> {
        let file = folder.open(".", OFlag::O_TMPFILE | OFlag::O_WRONLY)?;
        drop_inherited_acl(&file)?;
        fchown(
            &file,
            Some(Uid::from_raw(access.uid)),
            Some(Gid::from_raw(access.gid)),
        )?;
        Ok(Self {
            file: file.into(),
            access,
        })
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Waits until the bytes are on the disk.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_all()
    }

    /// Sets the mode, and only then gives it the name `path` below `folder`.
    pub(crate) fn publish(self, folder: &Folder, path: &str) -> Result<()> {
        let file = OwnedFd::from(self.file);
        fchmod(&file, Mode::from_bits_truncate(self.access.mode))?;
        link_inode(&file, folder, path)
    }
}
