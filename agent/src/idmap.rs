//! The users and groups that this process can give files to: all of them, except in a user namespace.

use std::ops::RangeInclusive;

use crate::account::Database;
use crate::failure::{Doing as _, Failure};

/// The numbers that exist here.
pub(crate) struct IdMap {
    users: Vec<RangeInclusive<u32>>,
    groups: Vec<RangeInclusive<u32>>,
}

impl IdMap {
    /// Reads the maps of this process.
    pub(crate) fn read() -> Result<Self, Failure> {
        let read = |path: &str| std::fs::read_to_string(path).doing(|| format!("read {path}"));
        Ok(Self {
            users: ranges(&read("/proc/self/uid_map")?),
            groups: ranges(&read("/proc/self/gid_map")?),
        })
    }

    /// Returns the number, or why no file can be given to it.
    pub(crate) fn check(&self, database: Database, id: u32) -> Result<u32, String> {
        let (ranges, what) = match database {
            Database::Users => (&self.users, "uid"),
            Database::Groups => (&self.groups, "gid"),
        };
        if ranges.iter().any(|range| range.contains(&id)) {
            return Ok(id);
        }
        Err(format!("{what} {id} does not exist in this user namespace"))
    }
}

/// Reads lines of «first here, first outside, how many»: see `user_namespaces(7)`.
fn ranges(map: &str) -> Vec<RangeInclusive<u32>> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.nth(1)?.parse().ok()?;
        Some(first..=first.checked_add(count.checked_sub(1)?)?)
    };
    map.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mapped_numbers_can_own_a_file() {
        let check = |map: &str, id| {
            let (users, groups) = (ranges(map), Vec::new());
            IdMap { users, groups }.check(Database::Users, id).is_ok()
        };
        let whole = "         0          0 4294967295\n";
        assert!(check(whole, 0) && check(whole, i32::MAX.unsigned_abs()));
        let alone = "         0       1000          1\n";
        assert!(check(alone, 0) && !check(alone, 1));
        let two = "0 1000 1\n1 100000 65536\n";
        assert!(check(two, 65536) && !check(two, 65537));
        assert!(!check("", 0) && !check("0 0 0\n", 0));
    }
}
