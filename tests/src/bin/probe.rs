//! An impatient reader on a host: opens whatever it can name below a folder as soon as it is there, keeps it open, and
//! reads it again and again: `probe FOLDER MARK NAME…` until its standard input ends.
//!
//! It prints a line for each file that it could open: `opened PATH`, and `read PATH` if that ever held MARK.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "it is part of a test, and fails where the test sees it"
)]

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How long a file is kept open and read again.
const KEPT: Duration = Duration::from_secs(5);
/// How far ahead of the newest generation it looks for the next.
const AHEAD: u64 = 3;

struct Open {
    path: PathBuf,
    file: File,
    since: Instant,
    inode: u64,
}

struct Probe {
    folder: PathBuf,
    mark: Vec<u8>,
    names: Vec<String>,
    open: Vec<Open>,
    said: BTreeSet<String>,
    /// The highest generation that was met.
    newest: u64,
}

fn main() {
    let mut words = env::args().skip(1);
    let folder = words.next().expect("a folder");
    let mark = words.next().expect("a mark").into_bytes();
    let mut probe = Probe {
        folder: folder.into(),
        mark,
        names: words.collect(),
        open: Vec::new(),
        said: BTreeSet::new(),
        newest: 0,
    };
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        let _ended = io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let changes = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
    let wanted = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    // Who may not list the folder may not watch it either: it guesses.
    let watches = changes.add_watch(&probe.folder, wanted).is_ok();
    println!("watches {watches}");
    while !over.load(Ordering::Relaxed) {
        match changes.read_events() {
            Ok(events) => events
                .iter()
                .flat_map(|event| &event.name)
                .for_each(|name| {
                    probe.look(&probe.folder.join(name));
                }),
            Err(Errno::EAGAIN) => {}
            Err(e) => panic!("inotify: {e}"),
        }
        probe.guess();
        probe.read_again();
    }
}

impl Probe {
    /// Tries every path that it knows how keys are called at.
    fn guess(&mut self) {
        for name in self.names.clone() {
            self.look(&self.folder.join(&name));
            self.look(&self.folder.join(".current").join(&name));
            for number in self.newest.saturating_sub(1)..=self.newest + AHEAD {
                let generation = self.folder.join(format!(".gen.{number}"));
                if generation.is_dir() {
                    self.newest = self.newest.max(number);
                }
                self.look(&generation.join(&name));
            }
        }
    }

    fn look(&mut self, path: &Path) {
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return;
        }
        let Ok(file) = File::open(path) else { return };
        self.say("opened", path);
        let inode = file.metadata().map_or(0, |meta| meta.ino());
        if !self.open.iter().any(|open| open.inode == inode) {
            self.open.push(Open {
                path: path.to_owned(),
                file,
                since: Instant::now(),
                inode,
            });
        }
    }

    fn read_again(&mut self) {
        let mut found = Vec::new();
        for open in &self.open {
            let mut bytes = [0; 4096];
            let read = open.file.read_at(&mut bytes, 0).unwrap_or(0);
            if bytes[..read]
                .windows(self.mark.len())
                .any(|window| window == self.mark)
            {
                found.push(open.path.clone());
            }
        }
        for path in &found {
            self.say("read", path);
        }
        self.open.retain(|open| open.since.elapsed() < KEPT);
    }

    fn say(&mut self, what: &str, path: &Path) {
        let line = format!("{what} {}", path.display());
        if self.said.insert(line.clone()) {
            println!("{line}");
        }
    }
}
