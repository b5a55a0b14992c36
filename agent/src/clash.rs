//! Whether a key can be beside those that stay on the host: those of other manifests, and of the part that is not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keys_protocol::{KeyName, UnitName};

use crate::generation::{Present, folders_of};
use crate::inventory::Inventory;

/// What stays whatever the push holds.
pub(crate) struct Staying<'a> {
    keys: BTreeSet<&'a KeyName>,
    units: BTreeMap<UnitName, &'a KeyName>,
    /// Keys, and files in their folders that no push made.
    files: BTreeSet<&'a Path>,
    folders: BTreeSet<&'a Path>,
}

impl<'a> Staying<'a> {
    pub(crate) fn new(keys: impl Iterator<Item = &'a Present>, inventory: &'a Inventory) -> Self {
        let keys: BTreeSet<&KeyName> = keys.map(|present| &present.record.name).collect();
        let strays = inventory.generation.iter().flat_map(|found| &found.strays);
        let files: BTreeSet<&Path> = keys
            .iter()
            .map(|name| Path::new(name.as_str()))
            .chain(strays.map(AsRef::as_ref))
            .collect();
        Self {
            units: keys.iter().map(|name| (name.unit(), *name)).collect(),
            folders: files
                .iter()
                .flat_map(|path| path.ancestors().skip(1))
                .collect(),
            files,
            keys,
        }
    }

    /// Returns why the key cannot be beside them.
    pub(crate) fn admits(&self, name: &KeyName) -> Result<(), String> {
        let path = Path::new(name.as_str());
        if self.folders.contains(path) {
            return Err(format!(
                "{name} is a folder on this host, with files that stay in it"
            ));
        }
        if let Some(file) = folders_of(name).find(|path| self.files.contains(Path::new(path))) {
            return Err(format!("{file} is a file on this host that stays"));
        }
        if self.files.contains(path) && !self.keys.contains(name) {
            return Err(format!(
                "{name} is a file on this host that keys did not make"
            ));
        }
        match self.units.get(&name.unit()) {
            Some(other) if *other != name => {
                let unit = name.unit();
                Err(format!("key {other}, which stays, is the unit {unit}, too"))
            }
            _ => Ok(()),
        }
    }
}
