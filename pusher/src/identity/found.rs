//! The identities that were found, in the order in which they are tried.

use std::sync::OnceLock;

use age::Identity;

use crate::failure::Failure;

use super::locked_file::LockedFile;
use super::plugin::Plugin;
use super::ssh::{Converted, Native};

/// An identity that needs nothing more.
pub(super) type Opened = Box<dyn Identity + Send + Sync>;

/// What a place, or all of them, gave.
#[derive(Default)]
pub(super) struct Found {
    pub(super) open: Vec<Opened>,
    pub(super) native: Vec<Native>,
    pub(super) plugins: Vec<Plugin>,
    pub(super) files: Vec<LockedFile>,
    pub(super) converted: Vec<Converted>,
    /// What is there and was not used, and why.
    pub(super) passed_over: Vec<String>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && !self.has_locked()
    }

    /// Returns whether there are identities that ask for something first.
    pub(super) fn has_locked(&self) -> bool {
        !(self.native.is_empty() && self.plugins.is_empty() && self.files.is_empty())
    }

    /// Adds what was found at the place that the user calls `name`.
    pub(super) fn add(&mut self, name: &str, found: Self) {
        self.open.extend(found.open);
        self.native.extend(found.native);
        self.plugins.extend(found.plugins);
        self.files.extend(found.files);
        self.converted.extend(found.converted);
        let passed_over = found.passed_over.iter();
        self.passed_over
            .extend(passed_over.map(|why| format!("{name}: {why}")));
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &dyn Identity> {
        self.open
            .iter()
            .map(|identity| &**identity as &dyn Identity)
    }

    /// Returns those that ask for something first: what a file names, then what may be for any file.
    pub(super) fn locked(&self, recipient: Option<&str>) -> impl Iterator<Item = &dyn Identity> {
        let native = self.native.iter().map(|key| key as &dyn Identity);
        let plugins = self.plugins.iter().map(|plugin| plugin as &dyn Identity);
        let files = self.files.iter().map(|file| file as &dyn Identity);
        let converted = self
            .converted
            .iter()
            .filter(move |key| recipient.is_none_or(|recipient| key.is(recipient)))
            .map(|key| key as &dyn Identity);
        native.chain(plugins).chain(files).chain(converted)
    }

    /// Returns what was not used so far, and why.
    pub(super) fn not_used(&self) -> Vec<String> {
        let keys = self.native.iter().filter_map(|Native(key)| key.not_used());
        let plugins = self.plugins.iter().filter_map(Plugin::not_used);
        let files = self.files.iter().flat_map(LockedFile::not_used);
        let passed_over = self.passed_over.iter().cloned();
        passed_over
            .chain(keys)
            .chain(plugins)
            .chain(files)
            .collect()
    }
}

/// Identities that something has to be done for, at the first need, once.
#[derive(Default)]
pub(super) struct Opening(OnceLock<Found>);

impl Opening {
    /// Returns what there is; where `open` failed that is nothing, with the reason.
    pub(super) fn get(&self, open: impl FnOnce() -> Result<Found, Failure>) -> &Found {
        self.0.get_or_init(|| {
            open().unwrap_or_else(|failure| Found {
                passed_over: vec![failure.to_string()],
                ..Found::default()
            })
        })
    }

    /// Returns what was not used, and why, if it was tried.
    pub(super) fn not_used(&self) -> Vec<String> {
        self.0.get().map(Found::not_used).unwrap_or_default()
    }
}
