//! The folder of the keys: accepted as it is, or refused. The agent never mounts.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::Gid;

use keys_protocol::RefusalCode;

use crate::failure::{Doing as _, Failure};
use crate::folder::Folder;
use crate::mountinfo::Mount;

/// Where keys are.
pub(crate) const PATH: &str = "/run/keys";
/// `RAMFS_MAGIC` of `linux/magic.h`.
pub(crate) const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
const HINT: &str = "keys-mount.service makes it: systemctl start keys-mount.service; \
                    by hand: mount -t ramfs -o mode=0751 ramfs /run/keys";

/// `/run/keys`, on memory that is never swapped, and root's alone to write.
pub(crate) struct Place {
    pub(crate) folder: Folder,
    /// Who may list it; folders made below it get the same group.
    pub(crate) group: Gid,
    /// Which one it was when it was accepted: mount, device, inode.
    identity: (u64, u64, u64),
}

impl Place {
    /// Opens the folder, or refuses it with what was found there.
    pub(crate) fn open() -> Result<Self, Failure> {
        let found = look()?;
        let stat = fstat(&found).doing(|| format!("fstat {PATH}"))?;
        accept_owner(&stat)?;
        let mount = accept_memory(&found)?;
        Ok(Self {
            group: Gid::from_raw(stat.st_gid),
            identity: (mount.id, stat.st_dev, stat.st_ino),
            folder: found.enter(".").doing(|| format!("open {PATH}"))?,
        })
    }

    /// Makes sure that the path still leads here, and that here is still safe: while the lock or the bytes were waited
    /// for, somebody may have mounted over it, unmounted or remounted it.
    pub(crate) fn check_again(&self) -> Result<(), Failure> {
        let now = Self::open()?;
        if now.identity == self.identity {
            return Ok(());
        }
        let text = format!("another filesystem was mounted at {PATH} while keys were sent");
        Err(Failure::new(RefusalCode::Filesystem, text).hint("send again"))
    }
}

/// Opens the path without opening what is there: following no link, starting no automount.
fn look() -> Result<Folder, Failure> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let refuse = |what: &str| {
        let text = format!("{PATH} {what}");
        Err(Failure::new(RefusalCode::Filesystem, text).hint(HINT))
    };
    match openat2(AT_FDCWD, PATH, how) {
        Ok(fd) => Ok(Folder::new(fd)),
        Err(Errno::ENOENT) => refuse("does not exist"),
        Err(Errno::ENOTDIR) => refuse("is not a folder"),
        Err(Errno::ELOOP) => refuse("is a link, or /run is"),
        Err(e) => Err(e).doing(|| format!("open {PATH}")),
    }
}

fn accept_owner(stat: &FileStat) -> Result<(), Failure> {
    let refuse = |what: String| {
        Err(
            Failure::new(RefusalCode::Filesystem, format!("{PATH} {what}"))
                .hint(format!("chown root:keys {PATH}; chmod 0751 {PATH}")),
        )
    };
    if stat.st_uid != 0 {
        return refuse(format!("belongs to uid {}, not to root", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        let mode = stat.st_mode & 0o7777;
        return refuse(format!(
            "has mode {mode:04o}: others than root can write to it"
        ));
    }
    Ok(())
}

/// Accepts memory that cannot be swapped: ramfs, and tmpfs with `noswap`. Nothing else, even while no swap is on.
fn accept_memory(found: &Folder) -> Result<Mount, Failure> {
    let refuse = |what: String| {
        Err(Failure::new(RefusalCode::Filesystem, format!("{PATH} is on {what}")).hint(HINT))
    };
    let Some(mount) = Mount::of(found)? else {
        return refuse("a mount that /proc/self/mountinfo does not list".into());
    };
    // Of the very descriptor that is used, not of the path: mountinfo alone could speak of another.
    let kind = fstatfs(found).doing(|| format!("fstatfs {PATH}"))?;
    match kind.filesystem_type() {
        RAMFS_MAGIC => Ok(mount),
        TMPFS_MAGIC if mount.kind == "tmpfs" && mount.has("noswap") => Ok(mount),
        TMPFS_MAGIC => refuse(format!(
            "{} without `noswap`: what is on it can reach the swap",
            mount.kind
        )),
        _ => refuse(format!("{}, which is not memory", mount.kind)),
    }
}
