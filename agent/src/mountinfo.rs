//! Mounts of this process, as `/proc/self/mountinfo` lists them.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::failure::{Doing as _, Failure};

/// What is mounted where a descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The kernel's number of the mount: another one came or went, even at the same place, where it differs.
    pub(crate) id: u64,
    /// The type of the filesystem.
    pub(crate) kind: String,
    /// What is mounted: a device, or a word where there is none.
    pub(crate) source: String,
    /// The options of the filesystem itself, not of this mount of it.
    options: Vec<String>,
}

impl Mount {
    /// Returns the mount that the open `fd` is on.
    pub(crate) fn of(fd: &impl AsFd) -> Result<Option<Self>, Failure> {
        let id = Self::id_of(fd)?;
        let table = std::fs::read_to_string("/proc/self/mountinfo")
            .doing(|| "read /proc/self/mountinfo".into())?;
        Ok(find(&table, id))
    }

    /// Returns the number of the mount that the open `fd` is on.
    pub(crate) fn id_of(fd: &impl AsFd) -> Result<u64, Failure> {
        statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map(|stat| stat.stx_mnt_id)
            .doing(|| "statx a mount".into())
    }

    /// Returns whether the filesystem has the option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }
}

/// Finds one mount in the text of a mountinfo file: see proc(5).
fn find(table: &str, id: u64) -> Option<Mount> {
    table.lines().find_map(|line| {
        if line.split(' ').next()?.parse() != Ok(id) {
            return None;
        }
        // The optional fields before the separator are of any number; names hold no space, they are escaped.
        let (_, filesystem) = line.split_once(" - ")?;
        let mut fields = filesystem.split(' ');
        let kind = fields.next()?.to_owned();
        let source = fields.next()?.to_owned();
        let options = fields.next()?.split(',').map(str::to_owned).collect();
        Some(Mount {
            id,
            kind,
            source,
            options,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
25 24 0:23 / /dev/shm rw,noswap,relatime shared:3 master:1 - tmpfs tmpfs rw,size=24684096k
125 24 0:40 / /run/keys rw,nosuid,nodev,noexec - tmpfs tmp\\040fs rw,size=512k,noswap,mode=751
126 24 0:41 / /run/keys rw - ramfs ramfs rw,mode=750
";

    #[test]
    fn the_options_are_those_of_the_filesystem() {
        let check = |id, option| find(TABLE, id).map(|m| (m.kind.clone(), m.has(option)));
        assert_eq!(check(25, "noswap"), Some(("tmpfs".into(), false)));
        assert_eq!(check(125, "noswap"), Some(("tmpfs".into(), true)));
        assert_eq!(check(126, "noswap"), Some(("ramfs".into(), false)));
        assert_eq!(check(12, "noswap"), None);
    }
}
