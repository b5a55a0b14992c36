//! Makes `/run/keys` memory that cannot be swapped; `keys-mount.service` runs it, outside the agent's sandbox.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};

use keys_protocol::{RefusalCode, limits};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::sysinfo::sysinfo;
use nix::unistd::Group;

use crate::failure::{Doing as _, Failure};
use crate::mountinfo::Mount;
use crate::place::PATH;

/// The group that may list it.
const GROUP: &str = "keys";
/// Everyone may pass through who knows a name.
const MODE: u32 = 0o751;
/// The most memory for keys: the largest push, twice, as the old generation is there until the new one is.
const SIZE: u64 = 2 * limits::PUSH_BYTES;
/// The most inodes: file, folder and link for each key of the old and the new generation, and some.
const INODES: u64 = 5 * limits::KEYS as u64;
/// No program, no device and no setuid bit is ever a key.
const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// What is at `/run/keys` now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It was fit already (NixOS mounts a ramfs).
    Kept,
    /// A tmpfs with `noswap`, which has a size.
    Tmpfs,
    /// A ramfs, where the agent's own quota is the only limit.
    Ramfs,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept what is mounted at /run/keys",
            Self::Tmpfs => "mounted a tmpfs without swap at /run/keys",
            Self::Ramfs => "mounted a ramfs at /run/keys",
        })
    }
}

/// Keeps what is fit, mounts where nothing is, and sets owner and mode in both cases.
pub(crate) fn mount() -> Result<Memory, Failure> {
    let group = Group::from_name(GROUP).doing(|| format!("look up group {GROUP}"))?;
    let Some(group) = group else {
        return Err(refuse(
            format!("no group {GROUP}"),
            "systemd-sysusers makes it",
        ));
    };
    if let Err(e) = fs::create_dir(PATH)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(e).doing(|| format!("mkdir {PATH}"));
    }
    let memory = match mounted()? {
        Some(mount) if is_fit(&mount) => Memory::Kept,
        Some(mount) => {
            let text = format!("a {} that may be swapped is mounted at {PATH}", mount.kind);
            return Err(refuse(text, "stop what mounts it, then: umount /run/keys"));
        }
        None => mount_anew()?,
    };
    // Opened again: what was opened before is below the mount.
    let folder = open()?;
    fchown(&folder, Some(0), Some(group.gid.as_raw())).doing(|| format!("chown {PATH}"))?;
    let mode = Permissions::from_mode(MODE);
    folder
        .set_permissions(mode)
        .doing(|| format!("chmod {PATH}"))?;
    Ok(memory)
}

fn refuse(text: impl Into<String>, hint: &str) -> Failure {
    Failure::new(RefusalCode::Filesystem, text).hint(hint)
}

fn open() -> Result<File, Failure> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(PATH);
    folder.doing(|| format!("open {PATH}"))
}

/// What is mounted at the folder itself, if it is not a part of `/run`.
fn mounted() -> Result<Option<Mount>, Failure> {
    let run = File::open("/run").doing(|| "open /run".into())?;
    let mount = Mount::of(&open()?)?;
    let around = Mount::id_of(&run)?;
    Ok(mount.filter(|mount| mount.id != around))
}

fn is_fit(mount: &Mount) -> bool {
    match mount.kind.as_str() {
        "ramfs" => true,
        "tmpfs" => mount.has("noswap"),
        _ => false,
    }
}

fn mount_anew() -> Result<Memory, Failure> {
    let listing = || format!("list {PATH}");
    if fs::read_dir(PATH).doing(listing)?.next().is_some() {
        // Mounting over them would hide them from whoever put them there.
        let text = format!("{PATH} is no mount and not empty");
        return Err(refuse(
            text,
            "move the files away, then: systemctl restart keys-mount",
        ));
    }
    let memory = sysinfo().doing(|| "sysinfo".into())?.ram_total();
    let size = SIZE.min(memory / 2);
    match at_folder(
        "tmpfs",
        &format!("noswap,mode=0{MODE:o},size={size},nr_inodes={INODES}"),
    ) {
        // Linux before 6.4, or without swap, knows no `noswap`.
        Err(Errno::EINVAL) => at_folder("ramfs", &format!("mode=0{MODE:o}"))
            .map(|()| Memory::Ramfs)
            .doing(|| format!("mount ramfs at {PATH}")),
        tried => tried
            .map(|()| Memory::Tmpfs)
            .doing(|| format!("mount tmpfs at {PATH}")),
    }
}

fn at_folder(kind: &str, options: &str) -> nix::Result<()> {
    nix::mount::mount(Some("keys"), PATH, Some(kind), FLAGS, Some(options))
}
