//! The age and ssh identities that open files, from the places where a user expects them.
//!
//! They are asked in three rounds, so that a passphrase is asked for only if nothing else opens a file: first what needs
//! no passphrase, then locked ssh keys that a file names, then locked ed25519 keys as X25519 identities, whose
//! recipients age does not name.

mod keyfile;
mod place;
mod postquantum;
mod ssh;

use std::collections::BTreeMap;
use std::iter;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use age::Identity;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::{Settings, Terminal};

use place::Place;
pub(crate) use place::read_private;
use ssh::{Converted, Native};

/// The `[age]` table.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgeSettings {
    /// Identity files, age or ssh, tried before those of the user.
    pub(crate) identities: Vec<PathBuf>,
}

/// Every keyring of a run, each read once.
pub(crate) struct Keyrings {
    terminal: Terminal,
    /// By the files that were named; none stands for the usual places.
    read: Mutex<BTreeMap<Vec<PathBuf>, Outcome>>,
}

impl Keyrings {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            read: Mutex::default(),
        }
    }

    /// Returns the identities of `files`, or where there are none, those of the manifest and the user.
    pub(crate) fn get(
        &self,
        files: &[PathBuf],
        settings: &Settings,
    ) -> Result<Arc<Keyring>, Failure> {
        // A panic while a keyring was read left the map as it was.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = read.entry(files.to_vec()).or_insert_with(|| {
            let places = match files {
                [] => place::usual(settings),
                files => files
                    .iter()
                    .map(|file| Place::Named(settings.path(file)))
                    .collect(),
            };
            Keyring::read(places, &self.terminal).map(Arc::new)
        });
        keyring.clone()
    }
}

type Outcome = Result<Arc<Keyring>, Failure>;

/// An identity that needs nothing more.
type Opened = Box<dyn Identity + Send + Sync>;

/// Identities in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Keyring {
    open: Vec<Opened>,
    native: Vec<Native>,
    converted: Vec<Converted>,
    /// Where identities were found.
    tried: Vec<String>,
    /// What was not used, and why.
    passed_over: Vec<String>,
}

impl Keyring {
    fn read(places: Vec<Place>, terminal: &Terminal) -> Result<Self, Failure> {
        let mut keyring = Self::default();
        for place in places {
            keyring.add(place, terminal)?;
        }
        Ok(keyring)
    }

    /// Adds what is at `place`. Something wrong there fails only where the user named the place.
    fn add(&mut self, place: Place, terminal: &Terminal) -> Result<(), Failure> {
        let name = place.name();
        let required = place.is_named();
        let text = match place.read() {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(failure) => return self.pass_over(&name, failure, required),
        };
        match keyfile::parse(&name, &text, terminal) {
            Ok(found) => {
                if found.open.len() + found.locked.len() > 0 {
                    self.tried.push(name.clone());
                }
                self.open.extend(found.open);
                for key in found.locked.into_iter().map(Arc::new) {
                    self.native.push(Native(key.clone()));
                    self.converted.push(Converted(key));
                }
                self.passed_over.extend(
                    found
                        .passed_over
                        .into_iter()
                        .map(|why| format!("{name}: {why}")),
                );
                Ok(())
            }
            Err(failure) => self.pass_over(&name, failure, required),
        }
    }

    fn pass_over(&mut self, name: &str, failure: Failure, required: bool) -> Result<(), Failure> {
        if required {
            return Err(failure.at(name));
        }
        let advice = failure
            .advice()
            .map(|advice| format!(" ({advice})"))
            .unwrap_or_default();
        self.passed_over.push(format!("{name}: {failure}{advice}"));
        Ok(())
    }

    /// Returns the identities that need no passphrase. A plugin is never among any of them.
    pub(crate) fn open(&self) -> impl Iterator<Item = &dyn Identity> {
        self.open
            .iter()
            .map(|identity| identity.as_ref() as &dyn Identity)
    }

    /// Returns all identities, for a file that does not name its recipients.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &dyn Identity> {
        let converted = self
            .converted
            .iter()
            .map(|identity| identity as &dyn Identity);
        self.open().chain(self.natives()).chain(converted)
    }

    /// Returns all identities that may be `recipient`.
    pub(crate) fn for_recipient(&self, recipient: &str) -> impl Iterator<Item = &dyn Identity> {
        let converted = self.converted.iter().filter(move |key| key.is(recipient));
        self.open()
            .chain(self.natives())
            .chain(converted.map(|identity| identity as &dyn Identity))
    }

    /// Returns whether there are identities that need a passphrase.
    pub(crate) fn has_locked(&self) -> bool {
        !self.native.is_empty()
    }

    fn natives(&self) -> impl Iterator<Item = &dyn Identity> {
        self.native.iter().map(|identity| identity as &dyn Identity)
    }

    /// Returns what to say where none of the identities opened something.
    pub(crate) fn advice(&self) -> String {
        let locked = self.native.iter().filter_map(|Native(key)| key.why_not());
        let not_used: Vec<String> = self.passed_over.iter().cloned().chain(locked).collect();
        let tried = match self.tried.as_slice() {
            [] => "no identities were found; name them as `identities` under [age]".to_owned(),
            tried => format!("tried: {}", tried.join(", ")),
        };
        iter::once(tried)
            .chain(not_used.iter().map(|why| format!("not used: {why}")))
            .collect::<Vec<_>>()
            .join("; ")
    }
}
