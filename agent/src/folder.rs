//! An open folder, and what can be done below it: never through a link, never outside, never across a mount.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag};
use nix::fcntl::{openat2, readlinkat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};
use nix::{NixPath, Result};

/// How every path below a folder is walked.
const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);
const PASSABLE: Mode = Mode::from_bits_truncate(0o751);
/// Deeper than any key can be: a tree that somebody planted may use up neither the stack nor the descriptors.
const DEEPEST: usize = 64;

/// A folder, by its descriptor.
pub(crate) struct Folder(OwnedFd);

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// Takes over the descriptor of a folder.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Opens what is at `path`, which may have several components.
    pub(crate) fn open<P: NixPath + ?Sized>(&self, path: &P, flags: OFlag) -> Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(BENEATH);
        openat2(&self.0, path, how)
    }

    /// Opens the folder at `path`.
    pub(crate) fn enter<P: NixPath + ?Sized>(&self, path: &P) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        self.open(path, flags).map(Self)
    }

    /// Does something in the folder that holds `path`, with the last component of it.
    pub(crate) fn within<T>(
        &self,
        path: &str,
        act: impl FnOnce(&Self, &str) -> Result<T>,
    ) -> Result<T> {
        match path.rsplit_once('/') {
            Some((folder, leaf)) => act(&self.enter(folder)?, leaf),
            None => act(self, path),
        }
    }

    /// Returns the names in it, in no order.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(self.enter(".")?.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Returns what is at `name` itself, or `None`.
    pub(crate) fn look_at<P: NixPath + ?Sized>(&self, name: &P) -> Result<Option<FileStat>> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns where the link `name` points; `None` if there is none, or something that is not a link.
    pub(crate) fn target<P: NixPath + ?Sized>(&self, name: &P) -> Result<Option<OsString>> {
        match readlinkat(&self.0, name) {
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes the folder `name`, root's and its group's, open to nobody else yet.
    pub(crate) fn make<P: NixPath + ?Sized>(&self, name: &P, group: Gid) -> Result<Self> {
        mkdirat(&self.0, name, Mode::S_IRWXU)?;
        let made = self.enter(name).and_then(|made| {
            drop_inherited_acl(&made)?;
            fchown(&made, Some(Uid::from_raw(0)), Some(group))?;
            Ok(made)
        });
        if made.is_err() {
            unlinkat(&self.0, name, UnlinkatFlags::RemoveDir)?;
        }
        made
    }

    /// Lets everyone pass, who knows the names, and the group read them.
    pub(crate) fn let_pass(&self) -> Result<()> {
        fchmod(&self.0, PASSABLE)
    }

    /// Returns whether it is as [`Folder::make`] and [`Folder::let_pass`] left it.
    pub(crate) fn is_as_made(&self, group: Gid) -> Result<bool> {
        let stat = fstat(&self.0)?;
        let as_made = (0, group.as_raw(), PASSABLE.bits());
        Ok((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == as_made)
    }

    /// Makes the link `name`, which must not be there.
    pub(crate) fn make_link(&self, name: &str, target: &str) -> Result<()> {
        symlinkat(target, &self.0, name)
    }

    /// Makes `name` a link to `target` in one step, whatever link was there; or leaves it as it is.
    pub(crate) fn turn_link(&self, name: &str, target: &str, draft: &str) -> Result<()> {
        self.make_link(draft, target)?;
        let turned = renameat(&self.0, draft, &self.0, name);
        if turned.is_err() {
            self.unlink(draft)?;
        }
        turned
    }

    /// Gives what is at `new` the name `name`, whatever was there, in one step.
    pub(crate) fn replace(&self, new: &str, name: &str) -> Result<()> {
        renameat(&self.0, new, &self.0, name)
    }

    /// Waits until the names in it are on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        fsync(&self.0)
    }

    /// Moves `name` to another folder, unless something is there.
    pub(crate) fn move_to(&self, name: &OsStr, to: &Self) -> Result<()> {
        renameat2(&self.0, name, &to.0, name, RenameFlags::RENAME_NOREPLACE)
    }

    /// Removes a name that is not a folder; that it is gone already is fine.
    pub(crate) fn unlink<P: NixPath + ?Sized>(&self, name: &P) -> Result<()> {
        gone(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir))
    }

    /// Removes `name` and all below it, following nothing; that parts are gone already is fine.
    pub(crate) fn remove_tree(&self, name: &OsStr) -> Result<()> {
        self.remove_to_depth(name, DEEPEST)
    }

    fn remove_to_depth(&self, name: &OsStr, depth: usize) -> Result<()> {
        match self.unlink(name) {
            Err(Errno::EISDIR) if depth > 0 => {}
            Err(Errno::EISDIR) => return Err(Errno::ELOOP),
            other => return other,
        }
        let below = match self.enter(name) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        for inner in below.names()? {
            below.remove_to_depth(&inner, depth - 1)?;
        }
        gone(unlinkat(&self.0, name, UnlinkatFlags::RemoveDir))
    }
}

/// A default ACL of the folder above would give its readers to every inode made in it.
pub(crate) fn drop_inherited_acl(made: &impl AsFd) -> Result<()> {
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::fremovexattr(made, name) {
            Ok(()) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => {}
            Err(e) => return Err(Errno::from_raw(e.raw_os_error())),
        }
    }
    Ok(())
}

fn gone(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Returns the path by which the kernel gives back an open descriptor.
pub(crate) fn reopened(fd: &impl AsFd) -> CString {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    // Digits hold no NUL.
    CString::new(path).unwrap_or_default()
}
