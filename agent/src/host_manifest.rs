//! `/etc/keys/host.json`: what the host knows of its keys while it has none, as after a boot. Nothing in it is secret.
//!
//! On the root file system, as generators run before others are mounted. The agent keeps it; where it is a link, as on
//! NixOS, it is the administrator's, and the agent only reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use keys_protocol::{Digest, KeyName, RefusalCode, Tell, UnitName};
use serde::{Deserialize, Serialize};

use crate::etc;
use crate::failure::{Doing as _, Failure};
use crate::next::Next;
use crate::push::Push;

/// Where it is.
pub(crate) const PATH: &str = "/etc/keys/host.json";
/// Its folder, which systemd makes for the agent's service. A host without it has no key units.
const FOLDER: &str = "/etc/keys";
/// Whom to tell of which key is nobody else's business.
const MODE: u32 = 0o600;
/// The format that this agent writes.
const FORMAT: u32 = 1;

/// One key of the host, there or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: KeyName,
    /// The manifest it is declared in.
    #[serde(default)]
    pub(crate) manifest: String,
    /// Whom to tell of it.
    #[serde(default)]
    pub(crate) units: Vec<Tell>,
}

/// The file as it is written. Members that are not known are ignored.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    keys: Vec<Entry>,
    /// Units of keys that have left, until they are stopped.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    leaving: BTreeSet<UnitName>,
}

/// All keys of the host, by the unit of each: no two have the same.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HostManifest {
    pub(crate) keys: BTreeMap<UnitName, Entry>,
    pub(crate) leaving: BTreeSet<UnitName>,
}

/// Who keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    Agent,
    Administrator,
}

impl HostManifest {
    /// Returns whether the agent is installed here, or an administrator's module keeps the file.
    pub(crate) fn has_place() -> bool {
        Path::new(FOLDER).is_dir()
    }

    /// Reads what is there; `None` on a host that has no place for it.
    pub(crate) fn find() -> Result<Option<(Self, Keeper)>, Failure> {
        let path = Path::new(PATH);
        let doing = || format!("read {PATH}");
        if !Self::has_place() {
            return Ok(None);
        }
        let is_link = match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Some((Self::default(), Keeper::Agent)));
            }
            found => found.doing(doing)?.is_symlink(),
        };
        let manifest = Self::parse(&fs::read(path).doing(doing)?)?;
        let keeper = if is_link {
            Keeper::Administrator
        } else {
            Keeper::Agent
        };
        Ok(Some((manifest, keeper)))
    }

    fn parse(text: &[u8]) -> Result<Self, Failure> {
        let refuse = |what: String| {
            let text = format!("{PATH} is not as keys-agent writes it: {what}");
            Failure::new(RefusalCode::Io, text).hint("remove it and send all keys of this host")
        };
        let document: Document = serde_json::from_slice(text).map_err(|e| refuse(e.to_string()))?;
        if document.format != FORMAT {
            return Err(refuse(format!("format {}", document.format)));
        }
        let by_unit = |entry: Entry| (entry.name.unit(), entry);
        Ok(Self {
            keys: document.keys.into_iter().map(by_unit).collect(),
            leaving: document.leaving,
        })
    }

    /// Returns what it is after a push.
    pub(crate) fn after(&self, push: &Push, next: &Next) -> Self {
        let declared: BTreeSet<&KeyName> =
            push.keys.iter().map(|wanted| &wanted.key.name).collect();
        let stays = |entry: &Entry| declared.contains(&entry.name) || !push.drops(&entry.manifest);
        let mut keys = self.keys.clone();
        keys.retain(|_, entry| stays(entry));
        // Refused ones, too: their units wait.
        for wanted in &push.keys {
            let entry = || Entry {
                name: wanted.key.name.clone(),
                manifest: push.manifest.id.clone(),
                units: wanted.units.clone(),
            };
            keys.entry(wanted.key.name.unit()).or_insert_with(entry);
        }
        for step in &next.steps {
            let record = &step.record;
            let entry = Entry {
                name: record.name.clone(),
                manifest: record.manifest.clone(),
                units: record.units.clone(),
            };
            keys.insert(record.name.unit(), entry);
        }
        let left = self.leaving.iter().chain(self.keys.keys());
        let leaving = left.filter(|unit| !keys.contains_key(*unit)).cloned();
        Self {
            leaving: leaving.collect(),
            keys,
        }
    }

    /// Writes it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let document = Document {
            format: FORMAT,
            keys: self.keys.values().cloned().collect(),
            leaving: self.leaving.clone(),
        };
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|e| Failure::new(RefusalCode::Io, format!("write {PATH}: {e}")))?;
        etc::write(Path::new(PATH), &text, MODE).doing(|| format!("write {PATH}"))
    }

    /// Returns what tells its names from others.
    pub(crate) fn names(&self) -> Digest {
        let names: Vec<&str> = self
            .keys
            .values()
            .map(|entry| entry.name.as_str())
            .collect();
        Digest::of(names.join("\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_later_versions_are_ignored_and_later_formats_are_not_read() {
        let text = r#"{"format": 1, "later": 1, "keys": [{"name": "web/a", "later": []}]}"#;
        let read = HostManifest::parse(text.as_bytes()).unwrap();
        let units: Vec<&str> = read.keys.keys().map(UnitName::as_str).collect();
        assert_eq!(units, ["web-a-key.service"]);
        let text = text.replace("\"format\": 1", "\"format\": 2");
        let refused = HostManifest::parse(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(refused.ends_with("format 2"), "{refused}");
    }
}
