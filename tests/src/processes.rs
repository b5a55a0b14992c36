//! What every process of the lab shows to all others of its user: its words and its environment.

use std::fs;

/// A process at one moment.
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its words, each ended by a NUL.
    pub words: Vec<u8>,
    /// Its variables, each ended by a NUL.
    pub environment: Vec<u8>,
}

impl Process {
    /// Returns all that run now; those that end meanwhile are left out.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").expect("the lab has a /proc");
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter_map(Self::read).collect()
    }

    fn read(id: u32) -> Option<Self> {
        Some(Self {
            id,
            words: fs::read(format!("/proc/{id}/cmdline")).ok()?,
            environment: fs::read(format!("/proc/{id}/environ")).ok()?,
        })
    }

    /// Returns whether `text` is in its words or its environment.
    #[must_use]
    pub fn shows(&self, text: &str) -> bool {
        [&self.words, &self.environment].iter().any(|bytes| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    }
}
