//! What a host lacks of what the manifest has for it.

use std::collections::BTreeSet;

use keys_protocol::KeyName;

use crate::manifest::Host;
use crate::stream::Inventory;

/// Returns the keys that are not there. A folder counts as there when anything is in it: only its source knows what should be.
pub(super) fn missing<'h>(host: &'h Host, inventory: &Inventory) -> Vec<&'h KeyName> {
    let there: BTreeSet<&str> = inventory
        .keys
        .iter()
        .filter(|have| have.damage != "missing")
        .map(|have| have.name.as_str())
        .collect();
    let is_there = |name: &str, is_folder| {
        if is_folder {
            there.iter().any(|key| is_below(key, name))
        } else {
            there.contains(name)
        }
    };
    host.keys
        .values()
        .filter(|key| !is_there(key.name.as_str(), key.source.is_folder()))
        .map(|key| &key.name)
        .collect()
}

fn is_below(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}
