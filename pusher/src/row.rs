//! One line of `keys status`: how a key stands.

use keys_protocol::limits::TEXT;
use keys_protocol::{Have, KeyName, Principal, printable};
use serde::Serialize;

use crate::manifest::Key;

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// As the manifest wants it, as far as can be known without its source.
    Present,
    /// In place, and units are still to be told of it.
    Pending,
    /// Its bytes are not those of its source.
    Stale,
    /// Owner, group, mode or link are others than they should be.
    Wrong,
    /// Not there.
    Missing,
    /// There, and not in the manifest's keys of this host.
    Extra,
}

/// Whether a source gave other bytes than the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    Yes,
    No,
}

/// One line of the status of a host.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) name: KeyName,
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

impl Row {
    pub(crate) fn missing(key: &Key) -> Self {
        let (state, detail) = (State::Missing, String::new());
        Self {
            name: key.name.clone(),
            state,
            owner: None,
            group: None,
            mode: None,
            detail,
        }
    }

    pub(crate) fn of(key: &Key, have: &Have, source: Stale) -> Self {
        let mut wrong = Vec::new();
        if !is(&key.owner, &have.owner, have.uid) {
            wrong.push(format!("owner should be {}", key.owner));
        }
        if !is(&key.group, &have.group, have.gid) {
            wrong.push(format!("group should be {}", key.group));
        }
        if key.mode.to_string() != have.mode {
            wrong.push(format!("mode should be {}", key.mode));
        }
        if !have.damage.is_empty() {
            wrong.push(printable(&have.damage, TEXT));
        }
        let state = match (wrong.is_empty(), source, have.pending) {
            (false, ..) => State::Wrong,
            (true, Stale::Yes, _) => State::Stale,
            (true, Stale::No, 1..) => State::Pending,
            (true, Stale::No, 0) => State::Present,
        };
        Self {
            state,
            detail: wrong.join(", "),
            ..Self::extra(have)
        }
    }

    pub(crate) fn extra(have: &Have) -> Self {
        Self {
            name: have.name.clone(),
            state: State::Extra,
            owner: Some(printable(&have.owner, TEXT)),
            group: Some(printable(&have.group, TEXT)),
            mode: Some(printable(&have.mode, TEXT)),
            detail: format!("from manifest {}", printable(&have.manifest, TEXT)),
        }
    }

    /// Returns state, access and what is wrong, as a line shows them.
    pub(crate) fn words(&self) -> String {
        let state = format!("{:?}", self.state).to_lowercase();
        let access = match (&self.owner, &self.group, &self.mode) {
            (Some(owner), Some(group), Some(mode)) => format!("  {owner}:{group} {mode}"),
            _ => String::new(),
        };
        match self.detail.as_str() {
            "" => format!("{state:8}{access}"),
            detail => format!("{state:8}{access}  ({detail})"),
        }
    }

    /// Returns whether the key is where and as it should be; units still to be told do not change that.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.state, State::Present | State::Pending | State::Extra)
    }
}

fn is(wanted: &Principal, name: &str, number: u32) -> bool {
    match wanted {
        Principal::Name(wanted) => wanted == name,
        Principal::Id(wanted) => *wanted == number,
    }
}
