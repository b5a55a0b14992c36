//! One Vault of a manifest, and what the environment may add to it.

use std::path::PathBuf;

use keys_protocol::Secret;

use crate::failure::Failure;
use crate::resolve::{Run, Settings, Terminal};
use crate::source::shown;

use super::environment;
use super::settings::VaultSettings;

/// `[vault]`, or one of `[vaults.NAME]`.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    /// None is `[vault]`, whose gaps the environment fills. The environment is about one server: what it says is never
    /// taken for another, which would get this one's token.
    pub(super) name: Option<&'a str>,
    pub(super) vault: &'a VaultSettings,
    pub(super) settings: &'a Settings,
    pub(super) terminal: &'a Terminal,
}

impl Settings {
    /// Returns `[vault]` or `[vaults.NAME]`.
    pub(super) fn table(&self, name: Option<&str>) -> Result<&VaultSettings, Failure> {
        let Some(name) = name else {
            return Ok(&self.vault);
        };
        self.vaults.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.vaults.keys().map(String::as_str).collect();
            Failure::usage(format!("no [vaults.{}] in the manifest", shown(name)))
                .hint(format!("known there: {}", known.join(", ")))
        })
    }
}

impl<'a> Site<'a> {
    /// Finds the table of that name.
    pub(super) fn find(name: Option<&'a str>, run: &'a Run) -> Result<Self, Failure> {
        Ok(Self {
            name,
            vault: run.settings.table(name)?,
            settings: &run.settings,
            terminal: &run.terminal,
        })
    }

    /// How messages name the table.
    pub(super) fn table(&self) -> String {
        match self.name {
            None => "[vault]".into(),
            Some(name) => format!("[vaults.{name}]"),
        }
    }

    /// Returns a variable of the environment, if that is about this server.
    pub(super) fn variable(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.name {
            None => environment::variable(name),
            Some(_) => Ok(None),
        }
    }

    /// Returns the token of the environment, if that is about this server.
    pub(super) fn token(&self) -> Result<Option<Secret>, Failure> {
        match self.name {
            None => environment::token(),
            Some(_) => Ok(None),
        }
    }

    /// Returns a file that the manifest names, else one that a variable does.
    pub(super) fn file(
        &self,
        given: Option<&PathBuf>,
        variable: &str,
    ) -> Result<Option<PathBuf>, Failure> {
        match given {
            Some(file) => Ok(Some(self.settings.path(file))),
            None => Ok(self.variable(variable)?.map(PathBuf::from)),
        }
    }
}
