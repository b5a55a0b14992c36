//! What protects the bundle on its disk, as far as this host can tell.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};

use crate::failure::{Doing as _, Failure};
use crate::folder::Folder;
use crate::mountinfo::Mount;

/// Where the kernel describes disks.
const BLOCKS: &str = "/sys/class/block";
/// Where the key is that opens the bundle.
const HOST_KEYS: &str = "/etc/ssh";
/// Deeper than disks are stacked.
const DEEPEST: u32 = 8;

/// What a thief of the disk still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtRest {
    /// Nothing that is known: the host's ssh key lies beside the bundle.
    Nothing,
    /// The passphrase of a LUKS volume.
    Luks,
}

impl AtRest {
    /// Looks at the disks of the bundle's folder and of the host key. One of the two in LUKS is enough: without it the
    /// other opens nothing.
    pub(crate) fn of(shelf: &Folder) -> Result<Self, Failure> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
        let keys = match openat2(AT_FDCWD, HOST_KEYS, how) {
            Err(Errno::ENOENT) => None,
            other => Mount::of(&other.doing(|| format!("open {HOST_KEYS}"))?)?,
        };
        let mounts = [Mount::of(shelf)?, keys];
        let sealed = mounts.iter().flatten().any(|mount| is_luks(&mount.source));
        Ok(if sealed { Self::Luks } else { Self::Nothing })
    }

    /// Returns the word for it on the wire.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Luks => "luks",
        }
    }
}

/// Returns whether what is mounted from `source` is in LUKS, in whole.
fn is_luks(source: &str) -> bool {
    block(source).is_some_and(|block| is_luks_block(&block, DEEPEST))
}

/// Returns the kernel's folder of a disk. By its name, as a sandbox hides the devices themselves.
fn block(source: &str) -> Option<PathBuf> {
    let name = source.strip_prefix("/dev/")?;
    let Some(mapped) = name.strip_prefix("mapper/") else {
        return (!name.contains('/')).then(|| Path::new(BLOCKS).join(name));
    };
    let is_mapped = |path: &PathBuf| {
        fs::read_to_string(path.join("dm/name")).is_ok_and(|name| name.trim_end() == mapped)
    };
    below(Path::new(BLOCKS)).into_iter().find(is_mapped)
}

fn is_luks_block(block: &Path, depth: u32) -> bool {
    let uuid = fs::read_to_string(block.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-LUKS") {
        return true;
    }
    let parts = below(&block.join("slaves"));
    depth > 0 && !parts.is_empty() && parts.iter().all(|part| is_luks_block(part, depth - 1))
}

/// What cannot be listed has nothing in it: whatever is not known protects nothing.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}
