//! What a push would change: each key judged against what is really on the host. Writes nothing.

use std::collections::BTreeSet;

use keys_protocol::{Digest, KeyName, KeyOutcome, Purpose, Scope};

use crate::account::{Accounts, Database};
use crate::clash::Staying;
use crate::failure::{Doing as _, Failure};
use crate::file::{Held, Inode, has_acl, has_bytes};
use crate::generation::Present;
use crate::inventory::Inventory;
use crate::next::{Make, Next, Verdict};
use crate::place::PATH;
use crate::push::{Push, Wanted};
use crate::record::Record;

/// Judges every key of the push, and every key that is there and not in it.
pub(crate) fn compare<'a>(
    push: &Push,
    inventory: &'a Inventory,
    accounts: &Accounts,
    nonce: &Digest,
) -> Result<Next<'a>, Failure> {
    let names: BTreeSet<&KeyName> = push.keys.iter().map(|wanted| &wanted.key.name).collect();
    let others = || {
        let apart = |present: &&Present| !names.contains(&present.record.name);
        inventory.keys().filter(apart)
    };
    let judge = Judge {
        push,
        inventory,
        accounts,
        nonce,
        staying: Staying::new(others().filter(|other| !leaves(push, other)), inventory),
    };
    let mut next = Next::after(inventory);
    for (index, wanted) in (0..).zip(&push.keys) {
        next.add(judge.wanted(index, wanted)?);
    }
    for other in others() {
        next.add(judge.other(other));
    }
    next.check_rules(push)?;
    Ok(next)
}

/// Returns whether a key that is not in the push is removed by it.
fn leaves(push: &Push, other: &Present) -> bool {
    let manifest = &push.manifest;
    manifest.scope == Scope::Host
        && manifest.purpose != Purpose::Reseed
        && (other.record.manifest == manifest.id || manifest.take_over)
}

struct Judge<'a> {
    push: &'a Push,
    inventory: &'a Inventory,
    accounts: &'a Accounts,
    nonce: &'a Digest,
    /// The keys that are not in the push and stay.
    staying: Staying<'a>,
}

impl Judge<'_> {
    fn wanted(&self, index: u32, wanted: &Wanted) -> Result<Verdict, Failure> {
        let present = self.inventory.key(&wanted.key.name);
        let there = present.filter(|present| present.file.is_some());
        if let Some(there) = there
            && self.push.manifest.purpose == Purpose::Reseed
        {
            return Ok(self.left_alone(there, wanted));
        }
        let record = match self.record(wanted, present) {
            Ok(record) => record,
            Err(why) => return Ok(refused(wanted, present, why)),
        };
        match (wanted.key.mac, there) {
            (None, Some(there)) => Ok(Verdict::carried(there, KeyOutcome::Kept)),
            (None, None) => {
                let why = "its source failed, and no version of it is here".to_owned();
                Ok(refused(wanted, present, why))
            }
            (Some(mac), _) => self.send((index, mac), wanted, record),
        }
    }

    /// Returns the key as it is to be recorded, or why this host refuses it.
    fn record(&self, wanted: &Wanted, present: Option<&Present>) -> Result<Record, String> {
        let key = &wanted.key;
        let manifest = &self.push.manifest;
        if let Some(other) = present.map(|present| &present.record.manifest)
            && *other != manifest.id
            && !manifest.take_over
        {
            let other = keys_protocol::printable(other, 80);
            return Err(format!(
                "it belongs to the manifest {other}; --take-over takes it"
            ));
        }
        if key.mode.is_public() && !key.public {
            let mode = key.mode;
            return Err(format!(
                "mode {mode} lets everyone read it, without `public = true`"
            ));
        }
        if self.inventory.visible.blocks(&key.name) {
            let first = key.name.first();
            return Err(format!(
                "{PATH}/{first} is there and keys did not make it; move it away"
            ));
        }
        self.staying.admits(&key.name)?;
        Ok(Record {
            name: key.name.clone(),
            uid: self.accounts.number(Database::Users, &key.owner)?,
            gid: self.accounts.number(Database::Groups, &key.group)?,
            mode: key.mode,
            manifest: manifest.id.clone(),
            units: wanted.units.clone(),
        })
    }

    /// A key whose bytes can be had.
    fn send(
        &self,
        (index, mac): (u32, Digest),
        wanted: &Wanted,
        record: Record,
    ) -> Result<Verdict, Failure> {
        let size = wanted.key.size;
        let body = Make::Body { index, size, mac };
        let Some(present) = self.inventory.key(&record.name) else {
            return Ok(Verdict::placed(record, body, KeyOutcome::New, String::new()).tells(wanted));
        };
        let mut changes = access_changes(&record, &present.record);
        let mut is_as_left = present.is_as_left() && self.inventory.reaches(&record.name);
        let make = match self.same_bytes(present, size, &mac)? {
            None => {
                if present.file.is_some() {
                    changes.insert(0, "content");
                }
                body
            }
            Some(Same { file, has_acl }) => {
                is_as_left &= !has_acl;
                if file.access() == record.access() && !has_acl {
                    Make::Link(file)
                } else {
                    Make::Copy { file, mac }
                }
            }
        };
        if !is_as_left {
            changes.push("repaired");
        }
        Ok(if changes.is_empty() {
            Verdict::placed(record, make, KeyOutcome::Unchanged, String::new())
        } else {
            Verdict::placed(record, make, KeyOutcome::Changed, changes.join(" ")).tells(wanted)
        })
    }

    /// Returns the file that is there, if its bytes are those of the digest.
    fn same_bytes(
        &self,
        present: &Present,
        size: u64,
        mac: &Digest,
    ) -> Result<Option<Same>, Failure> {
        let (Some(file), Some(generation)) = (present.file, &self.inventory.generation) else {
            return Ok(None);
        };
        if file.size != size {
            return Ok(None);
        }
        let name = &present.record.name;
        let doing = || format!("read key {name}");
        let held = Held::at(&generation.folder, name.as_str()).doing(doing)?;
        let mut open = held.read().doing(doing)?;
        let has_acl = has_acl(&open).doing(doing)?;
        let same = has_bytes(&mut open, self.nonce, mac).doing(doing)?;
        Ok(same.then_some(Same {
            file: held.inode,
            has_acl,
        }))
    }

    /// A key that is there while only missing ones are added.
    fn left_alone(&self, there: &Present, wanted: &Wanted) -> Verdict {
        let name = &there.record.name;
        if there.record.manifest != self.push.manifest.id {
            return Verdict::carried(there, KeyOutcome::Foreign);
        }
        if self.inventory.reaches(name) {
            return Verdict::carried(there, KeyOutcome::Unchanged);
        }
        let repaired = Verdict::carried(there, KeyOutcome::Changed).because("repaired".into());
        repaired.tells(wanted)
    }

    /// A key that is not in the push.
    fn other(&self, other: &Present) -> Verdict {
        let manifest = &self.push.manifest;
        if leaves(self.push, other) {
            return Verdict::removed(other);
        }
        let foreign = manifest.scope == Scope::Host && other.record.manifest != manifest.id;
        if foreign && manifest.purpose != Purpose::Reseed {
            Verdict::carried(other, KeyOutcome::Foreign)
        } else {
            Verdict::carried_silently(other)
        }
    }
}

/// A file that has the wanted bytes.
struct Same {
    file: Inode,
    has_acl: bool,
}

/// Names what is other than it was: owner, group, mode.
fn access_changes(now: &Record, before: &Record) -> Vec<&'static str> {
    let words = [
        (now.uid != before.uid, "owner"),
        (now.gid != before.gid, "group"),
        (now.mode != before.mode, "mode"),
    ];
    let changed = words.iter().filter(|(changed, _)| *changed);
    changed.map(|(_, word)| *word).collect()
}

/// A key that this host refuses: an older version stays.
fn refused(wanted: &Wanted, present: Option<&Present>, why: String) -> Verdict {
    match present {
        Some(present) if present.file.is_some() => {
            Verdict::carried(present, KeyOutcome::FailedKept).because(why)
        }
        Some(present) => Verdict::carried(present, KeyOutcome::Failed).because(why),
        None => Verdict::absent(&wanted.key.name, why),
    }
}
