//! Makes `/run/keys` memory that cannot be swapped; the unit `keys-mount.service` runs it outside the agent's sandbox.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::sysinfo::sysinfo;
use nix::unistd::Group;

/// Where keys are.
pub(crate) const FOLDER: &str = "/run/keys";
/// The group that may pass through it.
const GROUP: &str = "keys";
/// Everyone may pass through who knows a name; nobody may list it.
const MODE: u32 = 0o751;
/// The most memory for keys: the largest push, twice, as the old generation is there until the new one is.
const SIZE: u64 = 2 * keys_protocol::limits::PUSH_BYTES;
/// The most inodes: file, folder and link for each key of the old and the new generation, and some.
const INODES: u64 = 5 * keys_protocol::limits::KEYS as u64;
/// No program, no device and no setuid bit is ever a key.
const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// What is at `/run/keys` now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It was fit already (NixOS mounts a ramfs).
    Kept(Kind),
    /// It was mounted.
    Mounted(Kind),
}

/// Memory that is never swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With a size, from Linux 6.4 on.
    TmpfsNoswap,
    /// Without: the agent's own quota is the only limit.
    Ramfs,
}

/// Why there is no such memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// Something else is mounted there; mounting over it would hide keys.
    #[error("{FOLDER} is a mount that may be swapped: {0}")]
    Unfit(String),
    /// Something else put files there; mounting over it would hide them.
    #[error("{FOLDER} is no mount and not empty")]
    Occupied,
    /// `systemd-sysusers` has not run.
    #[error("no group {GROUP}")]
    NoGroup,
    /// A system call failed.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

impl MountError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unfit(_) => Some("stop what mounts it, then: umount /run/keys"),
            Self::Occupied => Some("move the files away, then: systemctl restart keys-mount"),
            Self::NoGroup => Some("systemd-sysusers"),
            Self::Io(..) => None,
        }
    }
}

/// Keeps what is fit, mounts where nothing is, and sets owner and mode in both cases.
pub(crate) fn ready() -> Result<Memory, MountError> {
    let failed = |what| move |e: io::Error| MountError::Io(what, e);
    let group =
        Group::from_name(GROUP).map_err(|e| MountError::Io("look up group keys", e.into()))?;
    let group = group.ok_or(MountError::NoGroup)?.gid;
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read the mounts"))?;
    let memory = match found(&mounts) {
        Found::Fit(kind) => Memory::Kept(kind),
        Found::Unfit(line) => return Err(MountError::Unfit(line)),
        Found::Nothing => Memory::Mounted(mount_anew()?),
    };
    let folder = open().map_err(failed("open /run/keys"))?;
    fchown(&folder, Some(0), Some(group.as_raw())).map_err(failed("set the owner of /run/keys"))?;
    folder
        .set_permissions(Permissions::from_mode(MODE))
        .map_err(failed("set the mode of /run/keys"))?;
    Ok(memory)
}

fn open() -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(FOLDER)
}

/// What the table of mounts says of the folder.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Fit(Kind),
    Unfit(String),
}

/// Reads `mountinfo` of proc(5). The last mount on a path is the one that shows.
fn found(mountinfo: &str) -> Found {
    let here = |line: &&str| line.split(' ').nth(4) == Some(FOLDER);
    let Some(line) = mountinfo.lines().rfind(here) else {
        return Found::Nothing;
    };
    let after = line.split_once(" - ").map_or("", |(_, after)| after);
    let mut fields = after.split(' ');
    let (kind, options) = (fields.next(), fields.nth(1).unwrap_or(""));
    match kind {
        Some("ramfs") => Found::Fit(Kind::Ramfs),
        Some("tmpfs") if options.split(',').any(|o| o == "noswap") => Found::Fit(Kind::TmpfsNoswap),
        _ => Found::Unfit(after.to_owned()),
    }
}

fn mount_anew() -> Result<Kind, MountError> {
    match fs::create_dir(FOLDER) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(MountError::Io("make /run/keys", e));
        }
        _ => {}
    }
    let folder = open().map_err(|e| MountError::Io("open /run/keys", e))?;
    let mut inside = fs::read_dir(FOLDER).map_err(|e| MountError::Io("list /run/keys", e))?;
    if inside.next().is_some() {
        return Err(MountError::Occupied);
    }
    drop(folder);
    let memory = sysinfo()
        .map_err(|e| MountError::Io("ask for the memory", e.into()))?
        .ram_total();
    let size = SIZE.min(memory / 2);
    let options = format!("noswap,mode=0{MODE:o},size={size},nr_inodes={INODES}");
    match mount(
        Some("keys"),
        FOLDER,
        Some("tmpfs"),
        FLAGS,
        Some(options.as_str()),
    ) {
        Ok(()) => Ok(Kind::TmpfsNoswap),
        // `noswap` is not known before Linux 6.4, and not in a kernel without swap.
        Err(Errno::EINVAL) => mount_ramfs(),
        Err(e) => Err(MountError::Io("mount tmpfs at /run/keys", e.into())),
    }
}

fn mount_ramfs() -> Result<Kind, MountError> {
    let options = format!("mode=0{MODE:o}");
    mount(
        Some("keys"),
        FOLDER,
        Some("ramfs"),
        FLAGS,
        Some(options.as_str()),
    )
    .map(|()| Kind::Ramfs)
    .map_err(|e| MountError::Io("mount ramfs at /run/keys", e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, options: &str) -> String {
        format!(
            "22 1 0:21 / /run rw - tmpfs tmpfs rw\n99 22 0:50 / /run/keys rw,nosuid shared:7 - {kind} keys {options}\n"
        )
    }

    #[test]
    fn only_memory_that_cannot_be_swapped_is_kept() {
        let check = |text: &str, expected| assert_eq!(found(text), expected, "{text}");
        check(&line("ramfs", "rw,mode=751"), Found::Fit(Kind::Ramfs));
        check(
            &line("tmpfs", "rw,size=4k,noswap"),
            Found::Fit(Kind::TmpfsNoswap),
        );
        check(
            &line("tmpfs", "rw,size=4k"),
            Found::Unfit("tmpfs keys rw,size=4k".into()),
        );
        check(
            &line("ext4", "rw,noswap"),
            Found::Unfit("ext4 keys rw,noswap".into()),
        );
        check("22 1 0:21 / /run rw - tmpfs tmpfs rw\n", Found::Nothing);
        check("22 1 0:21 / /run/keys2 rw - ramfs x rw\n", Found::Nothing);
    }

    #[test]
    fn of_two_mounts_the_last_one_counts() {
        let both = line("ramfs", "rw") + &line("tmpfs", "rw");
        assert_eq!(found(&both), Found::Unfit("tmpfs keys rw".into()));
    }
}
