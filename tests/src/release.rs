//! The releases of Debian that hosts run.

use std::path::PathBuf;
use std::thread;

use crate::lab;

/// A release of Debian, with its cached root tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12: systemd 252, OpenSSH 9.2.
    Bookworm,
    /// Debian 13: systemd 257, OpenSSH 10.
    Trixie,
}

impl Release {
    /// Every release, for cases that run on each.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Runs a case on every release, side by side: for one that spends its time waiting.
    ///
    /// # Panics
    /// Where the case does.
    pub fn side_by_side(case: fn(Self)) {
        thread::scope(|scope| {
            let runs = Self::ALL.map(|release| (release, scope.spawn(move || case(release))));
            for (release, run) in runs {
                assert!(run.join().is_ok(), "it failed on {release:?}");
            }
        });
    }

    /// Returns its root tree, which no test writes to.
    pub(crate) fn tree(self) -> PathBuf {
        lab::cache().join("trees").join(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}
