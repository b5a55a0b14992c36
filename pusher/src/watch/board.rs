//! What a watcher knows of its hosts: names, counts and times, never a value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use keys_protocol::limits::TEXT;
use keys_protocol::{KeyName, printable};

use crate::failure::Failure;
use crate::host::HostName;
use crate::manifest::Host;

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has answered yet.
    Unknown,
    /// The connection failed or was lost.
    Unreachable,
    /// Keys are missing.
    Lacking,
    /// Every key is there.
    Complete,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
            Self::Lacking => "lacking",
            Self::Complete => "complete",
        }
    }
}

/// One host.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Since when.
    pub(super) since: Timestamp,
    /// When it last answered.
    pub(super) seen: Option<Timestamp>,
    pub(super) boot: String,
    pub(super) wanted: usize,
    pub(super) missing: Vec<KeyName>,
    /// What went wrong last, if that still matters.
    pub(super) trouble: Option<String>,
    pub(super) logins: u64,
    pub(super) reboots: u64,
    pub(super) reseeds: u64,
}

/// All of them, and what was done for them together.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) hosts: BTreeMap<HostName, Entry>,
    /// How often another `keys` was started to send.
    pub(super) runs: u64,
    /// How many of those met a source that failed.
    pub(super) source_failures: u64,
    /// How many run now.
    pub(super) running: u64,
}

/// The view that everyone writes to.
#[derive(Debug)]
pub(super) struct Board(Mutex<View>);

impl Board {
    pub(super) fn of(hosts: &[Arc<Host>]) -> Self {
        let entry = |host: &Arc<Host>| Entry {
            state: State::Unknown,
            since: Timestamp::now(),
            seen: None,
            boot: String::new(),
            wanted: host.keys.len(),
            missing: Vec::new(),
            trouble: None,
            logins: 0,
            reboots: 0,
            reseeds: 0,
        };
        Self(Mutex::new(View {
            hosts: hosts
                .iter()
                .map(|host| (host.name.clone(), entry(host)))
                .collect(),
            ..View::default()
        }))
    }

    /// Nothing in here can be half done: whoever panicked with it has left it whole.
    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> View {
        self.lock().clone()
    }

    /// Changes the view as a whole.
    pub(super) fn note(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.lock());
    }

    fn at(&self, host: &HostName, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().hosts.get_mut(host) {
            change(entry);
        }
    }

    pub(super) fn logged_in(&self, host: &HostName) {
        self.at(host, |entry| entry.logins += 1);
    }

    pub(super) fn reseeded(&self, host: &HostName, trouble: Option<String>) {
        self.at(host, |entry| {
            entry.reseeds += 1;
            entry.trouble = trouble;
        });
    }

    /// Enters what a host has said, and returns whether that is another state than before.
    pub(super) fn answered(&self, host: &HostName, boot: &str, missing: &[&KeyName]) -> bool {
        let state = if missing.is_empty() {
            State::Complete
        } else {
            State::Lacking
        };
        let boot = printable(boot, TEXT);
        let mut is_news = false;
        self.at(host, |entry| {
            // No mark is a boot in which nothing was sent yet.
            if !entry.boot.is_empty() && entry.boot != boot {
                entry.reboots += 1;
            }
            entry.boot = boot;
            entry.seen = Some(Timestamp::now());
            entry.missing = missing.iter().map(|name| (*name).clone()).collect();
            if state == State::Complete {
                entry.trouble = None;
            }
            is_news = entry.enter(state);
        });
        is_news
    }

    /// Enters that a host cannot be reached, and returns whether that is news.
    pub(super) fn lost(&self, host: &HostName, failure: &Failure) -> bool {
        let mut is_news = false;
        self.at(host, |entry| {
            entry.trouble = Some(failure.to_string());
            is_news = entry.enter(State::Unreachable);
        });
        is_news
    }
}

impl Entry {
    fn enter(&mut self, state: State) -> bool {
        let is_news = self.state != state;
        if is_news {
            self.state = state;
            self.since = Timestamp::now();
        }
        is_news
    }
}
