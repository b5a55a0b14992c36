//! The age and ssh identities that open files, from the places where a user expects them.
//!
//! They are asked in rounds, so that nothing is run and no passphrase is asked for unless nothing else opens a file: first
//! what needs nothing more, then what programs of SOPS' variables print, then locked ssh keys that a file names, plugins,
//! locked identity files, and last locked ed25519 keys as X25519 identities, whose recipients age does not name.

mod found;
mod keyfile;
mod locked_file;
mod passphrase;
mod place;
mod plugin;
mod postquantum;
mod printed;
mod question;
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

use found::Found;
pub(crate) use passphrase::Passphrase;
use place::Place;
pub(crate) use place::read_private;
use plugin::PluginName;
use printed::Printed;

/// The `[age]` table.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgeSettings {
    /// Identity files, age or ssh, tried before those of the user.
    pub(crate) identities: Vec<PathBuf>,
    /// The age plugins that may be run: `yubikey` for age-plugin-yubikey.
    plugins: Vec<PluginName>,
}

/// What identities may lead to: questions on the terminal, and plugins that the manifest names.
#[derive(Clone, Default)]
struct Means {
    terminal: Terminal,
    plugins: Vec<PluginName>,
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
            let means = Means {
                terminal: self.terminal.clone(),
                plugins: settings.age.plugins.clone(),
            };
            let named = |file: &PathBuf| Place::Named(settings.path(file));
            let keyring = match files {
                [] => Keyring::usual(settings, &means),
                files => Keyring::of(files.iter().map(named), &means),
            };
            keyring.map(Arc::new)
        });
        keyring.clone()
    }
}

type Outcome = Result<Arc<Keyring>, Failure>;

/// Identities in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Keyring {
    found: Found,
    printed: Vec<Printed>,
    /// Where identities were found.
    tried: Vec<String>,
}

impl Keyring {
    /// Reads the places of the manifest and of the user.
    fn usual(settings: &Settings, means: &Means) -> Result<Self, Failure> {
        let mut keyring = Self::of(place::usual(settings), means)?;
        for (variable, text) in place::programs() {
            let printed = Printed::new(variable, text, means);
            keyring
                .printed
                .push(printed.map_err(|failure| failure.at(variable))?);
            keyring.tried.push(variable.to_owned());
        }
        Ok(keyring)
    }

    fn of(places: impl IntoIterator<Item = Place>, means: &Means) -> Result<Self, Failure> {
        let mut keyring = Self::default();
        for place in places {
            keyring.add(place, means)?;
        }
        Ok(keyring)
    }

    /// Adds what is at `place`. Something wrong there fails only where the user named the place.
    fn add(&mut self, place: Place, means: &Means) -> Result<(), Failure> {
        let name = place.name();
        let required = place.is_named();
        let text = match place.read() {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(failure) => return self.pass_over(&name, failure, required),
        };
        match keyfile::parse(&name, text, means) {
            Ok(found) => {
                if !found.is_empty() {
                    self.tried.push(name.clone());
                }
                self.found.add(&name, found);
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
        let why = format!("{name}: {failure}{advice}");
        self.found.passed_over.push(why);
        Ok(())
    }

    /// Returns the identities that need nothing more.
    pub(crate) fn open(&self) -> impl Iterator<Item = &dyn Identity> {
        self.found.open()
    }

    /// Returns all identities, for a file that does not name its recipients.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &dyn Identity> {
        self.all(None)
    }

    /// Returns all identities that may be `recipient`.
    pub(crate) fn for_recipient(&self, recipient: &str) -> impl Iterator<Item = &dyn Identity> {
        self.all(Some(recipient))
    }

    /// Programs are run when the iterator comes to what they print.
    fn all(&self, recipient: Option<&str>) -> impl Iterator<Item = &dyn Identity> {
        let printed = self.printed.iter();
        let printed = printed.flat_map(move |printed| printed.identities(recipient));
        self.open()
            .chain(printed)
            .chain(self.found.locked(recipient))
    }

    /// Returns whether there are identities that need something first: a program, a passphrase.
    pub(crate) fn has_locked(&self) -> bool {
        self.found.has_locked() || !self.printed.is_empty()
    }

    /// Returns what to say where none of the identities opened something.
    pub(crate) fn advice(&self) -> String {
        let printed = self.printed.iter().flat_map(Printed::not_used);
        let tried = match self.tried.as_slice() {
            [] => "no identities were found; name them as `identities` under [age]".to_owned(),
            tried => format!("tried: {}", tried.join(", ")),
        };
        let not_used = self.found.not_used().into_iter().chain(printed);
        iter::once(tried)
            .chain(not_used.map(|why| format!("not used: {why}")))
            .collect::<Vec<_>>()
            .join("; ")
    }
}
