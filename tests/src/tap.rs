//! An `ssh` before the real one: it notes how it was called and what was said to it, and hands both on.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::inside::write;
use crate::{Operator, lab};

/// What an operator's `ssh` was called with and told. Gone when dropped: keep it as long as the operator.
pub struct Tap {
    folder: TempDir,
}

impl Tap {
    /// Puts it into the operator's PATH.
    #[must_use]
    pub fn on(operator: &mut Operator) -> Self {
        Self::with(
            operator,
            "exec /usr/bin/ssh \"$@\" < <(exec tee \"$call/said\" 2>/dev/null)",
        )
    }

    /// Puts one that goes nowhere into the operator's PATH: every host is unreachable.
    #[must_use]
    pub fn dead(operator: &mut Operator) -> Self {
        Self::with(operator, "exec cat >\"$call/said\"")
    }

    /// Puts one that goes nowhere into the operator's PATH, and takes its time about it.
    #[must_use]
    pub fn slow(operator: &mut Operator) -> Self {
        let count =
            "mkdir \"$call/running\"; ls -d \"$call\"/../*/running | wc -l >\"$call/at_once\"";
        Self::with(
            operator,
            &format!("{count}; sleep 0.5; rmdir \"$call/running\""),
        )
    }

    fn with(operator: &mut Operator, line: &str) -> Self {
        let folder = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        let calls = folder.path().display();
        let script = format!(
            "#!/bin/bash\ncall=$(mktemp -d {calls}/$(date +%s%N).XXXXXX)\nprintf '%s\\n' \"$@\" >$call/words\n{line}\n"
        );
        let bin = folder.path().join("bin");
        write(&bin.join("ssh"), script.as_bytes(), 0o755);
        operator.env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()),
        );
        Self { folder }
    }

    /// Returns the words of each call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Vec<String>> {
        let words = self.notes("words").into_iter();
        words
            .map(|text| text.lines().map(str::to_owned).collect())
            .collect()
    }

    /// Returns all that was said in any call so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.notes("said").concat()
    }

    /// Returns how many calls of a [`Tap::slow`] there were at the same time, at most.
    #[must_use]
    pub fn at_once(&self) -> u32 {
        let counts = self.notes("at_once").into_iter();
        counts
            .filter_map(|count| count.trim().parse().ok())
            .max()
            .unwrap_or(0)
    }

    fn notes(&self, name: &str) -> Vec<String> {
        let folders = fs::read_dir(self.folder.path()).expect("it is there until dropped");
        let mut calls: Vec<PathBuf> = folders
            .map(|entry| entry.expect("it can be listed").path())
            .filter(|path| !path.ends_with("bin"))
            .collect();
        calls.sort();
        let texts = calls
            .iter()
            .map(|call| fs::read(call.join(name)).unwrap_or_default());
        texts
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}
