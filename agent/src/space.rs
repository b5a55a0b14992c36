//! Whether the generation to be fits, beside the one that is there: asked before the first byte is written.

use std::collections::BTreeSet;

use keys_protocol::{KeyName, RefusalCode, limits};
use nix::sys::statvfs::fstatvfs;

use crate::failure::{Doing as _, Failure};
use crate::generation::folders_of;
use crate::inventory::Inventory;
use crate::next::{Make, Next};
use crate::place::{PATH, Place};
use crate::record::Record;
use crate::sweep::{Swept, sweep, sweep_all};

/// What memory is given in.
const PAGE: u64 = 4096;
/// What `.meta` has for one key beside its names, and for one unit of it.
const RECORD: usize = 160;
/// The longest target that a link keeps in its inode, on tmpfs.
const SHORT_LINK: usize = 100;
/// The generation's folder, `.meta`, `.pending`, `.current`, the boot mark, and some.
const OWN_INODES: u64 = 8;

/// What a generation takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Demand {
    bytes: u64,
    inodes: u64,
}

/// Refuses a generation that does not fit; what a recent commit has left is removed for it.
pub(crate) fn reserve(place: &Place, next: &Next, inventory: &Inventory) -> Result<(), Failure> {
    let swept = sweep(place, inventory)?;
    if !next.differs {
        return Ok(());
    }
    match check(place, next) {
        Err(_) if swept == Swept::Young => {
            sweep_all(place, inventory)?;
            check(place, next)
        }
        other => other,
    }
}

fn check(place: &Place, next: &Next) -> Result<(), Failure> {
    let total: u64 = next.steps.iter().map(|step| size(&step.make)).sum();
    if total > limits::PUSH_BYTES {
        let most = limits::PUSH_BYTES;
        let text = format!("{total} bytes of keys: a host has at most {most}");
        return Err(Failure::new(RefusalCode::Space, text));
    }
    let demand = demand(next);
    let found = fstatvfs(&place.folder).doing(|| format!("statvfs {PATH}"))?;
    // A ramfs says 0 for all it has, and so does a tmpfs without limits.
    let limited = |limit: u64, free: u64| if limit == 0 { u64::MAX } else { free };
    let free = limited(
        found.blocks(),
        found.blocks_available() * found.fragment_size(),
    );
    let inodes = limited(found.files(), found.files_available());
    fits("bytes", demand.bytes, free.min(free_memory()?))?;
    fits("inodes", demand.inodes, inodes)
}

fn fits(what: &str, needed: u64, free: u64) -> Result<(), Failure> {
    if needed <= free {
        return Ok(());
    }
    let text = format!("no space in {PATH}: {needed} {what} are needed, {free} are free");
    Err(Failure::new(RefusalCode::Space, text)
        .hint("the old and the new generation are there together for a moment"))
}

fn size(make: &Make) -> u64 {
    match make {
        Make::Body { size, .. } => *size,
        Make::Copy { file, .. } | Make::Link(file) => file.size,
        Make::Absent => 0,
    }
}

fn demand(next: &Next) -> Demand {
    let mut demand = Demand {
        bytes: PAGE,
        inodes: OWN_INODES,
    };
    let mut folders = BTreeSet::new();
    let mut firsts = BTreeSet::new();
    for step in &next.steps {
        // tmpfs counts every name as an inode, also one more of a file that has some.
        demand.inodes += 1;
        demand.bytes += record_size(&step.record);
        if matches!(step.make, Make::Body { .. } | Make::Copy { .. }) {
            demand.bytes += size(&step.make).next_multiple_of(PAGE);
        }
        folders.extend(folders_of(&step.record.name));
        firsts.insert(KeyName::first(&step.record.name));
    }
    let units = next.tell.len() as u64;
    firsts.retain(|first| !next.is_linked(first));
    let long_links = firsts.iter().filter(|first| first.len() > SHORT_LINK);
    demand.bytes += (units + long_links.count() as u64) * PAGE;
    demand.inodes += folders.len() as u64 + units + firsts.len() as u64;
    demand
}

fn record_size(record: &Record) -> u64 {
    let units = record
        .units
        .iter()
        .map(|tell| RECORD + tell.unit.as_str().len());
    let names = record.name.as_str().len() + record.manifest.len();
    (RECORD + names + units.sum::<usize>()) as u64
}

/// Returns how much memory can be had without taking it from programs. What is here cannot be swapped, and a ramfs
/// knows no limit of its own.
fn free_memory() -> Result<u64, Failure> {
    match std::fs::read_to_string("/proc/meminfo") {
        // A sandbox may hide it: then the limit on keys is the only one of a ramfs.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(u64::MAX),
        other => {
            let text = other.doing(|| "read /proc/meminfo".into())?;
            Ok(available(&text).unwrap_or(u64::MAX))
        }
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       48211 kB\nMemFree: 1 kB\nMemAvailable:   24684 kB\n";
        assert_eq!(available(text), Some(24684 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
