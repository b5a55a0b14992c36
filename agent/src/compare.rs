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
        staying: Staying::new(
            others().filter(|other| !push.drops(&other.record.manifest)),
            inventory,
        ),
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
            return Ok(
                Verdict::placed(record, body, KeyOutcome::New, String::new()).tells_others(wanted),
            );
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
            return Verdict::foreign(there);
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
        if self.push.drops(&other.record.manifest) {
            return Verdict::removed(other);
        }
        let foreign = manifest.scope == Scope::Host && other.record.manifest != manifest.id;
        if foreign && manifest.purpose != Purpose::Reseed {
            Verdict::foreign(other)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::{fs, io::Write as _};

    use keys_protocol::{Action, How, Key, KeyedHash, Manifest, Principal, Tell};
    use nix::sys::stat::stat;
    use tempfile::TempDir;

    use super::*;
    use crate::folder::Folder;
    use crate::generation::Generation;
    use crate::record::Origin;
    use crate::visible::Visible;

    const NONCE: Digest = Digest([7; 32]);

    /// A host with keys: name, bytes, mode, manifest. Each tells a unit of its own manifest's name.
    fn host(keys: &[(&str, &str, u32, &str)]) -> (TempDir, Inventory) {
        let folder = tempfile::tempdir().unwrap();
        let present = |&(name, bytes, mode, manifest): &(&str, &str, u32, &str)| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(bytes.as_bytes()).unwrap();
            file.set_permissions(fs::Permissions::from_mode(mode))
                .unwrap();
            let meta = file.metadata().unwrap();
            let record = Record {
                name: name.parse().unwrap(),
                uid: meta.uid(),
                gid: meta.gid(),
                mode: format!("{mode:04o}").parse().unwrap(),
                manifest: manifest.into(),
                units: vec![unit(manifest)],
            };
            let file = Inode::regular(&stat(&path).unwrap());
            (record.name.clone(), Present { record, file })
        };
        let keys: BTreeMap<_, _> = keys.iter().map(present).collect();
        let generation = Generation {
            number: 1,
            folder: Folder::new(fs::File::open(folder.path()).unwrap().into()),
            origin: Origin::new("ours", "ann@desk", 0),
            strays: vec!["web/stray".into()],
            pending: BTreeSet::new(),
            intact: true,
            keys,
        };
        let visible = Visible::all(&generation.firsts());
        let inventory = Inventory {
            generation: Some(generation),
            is_lost: false,
            visible,
        };
        (folder, inventory)
    }

    fn unit(manifest: &str) -> Tell {
        Tell {
            unit: format!("{manifest}.service").parse().unwrap(),
            how: How::Restart,
        }
    }

    /// A push by the manifest «ours» for the user who runs the test: name, bytes or none, mode.
    fn push(scope: Scope, purpose: Purpose, keys: &[(&str, Option<&str>, &str)]) -> Push {
        let wanted = |&(name, bytes, mode): &(&str, Option<&str>, &str)| Wanted {
            key: Key {
                name: name.parse().unwrap(),
                action: bytes.map_or(Action::Keep, |_| Action::Send),
                owner: Principal::Id(nix::unistd::geteuid().as_raw()),
                group: Principal::Id(nix::unistd::getegid().as_raw()),
                mode: mode.parse().unwrap(),
                public: false,
                size: bytes.map_or(0, |bytes| bytes.len() as u64),
                mac: bytes.map(|bytes| KeyedHash::of(&NONCE, bytes.as_bytes())),
                units: 1,
                sealed: false,
            },
            units: vec![unit("ours")],
        };
        Push {
            manifest: Manifest {
                protocol: 1,
                requires: String::new(),
                id: "ours".into(),
                scope,
                purpose,
                strict: false,
                take_over: false,
                prune_all: false,
                sender: String::new(),
                keys: 0,
                bytes: 0,
                unsealed: false,
                bundle: None,
            },
            keys: keys.iter().map(wanted).collect(),
        }
    }

    /// Returns what becomes of the keys, which bodies are wanted, and which units are told.
    fn outcome(inventory: &Inventory, push: &Push) -> String {
        let accounts = Accounts::look_up(push.questions()).unwrap();
        let next = match compare(push, inventory, &accounts, &NONCE) {
            Err(failure) => return format!("refused: {failure}"),
            Ok(next) => next,
        };
        let results = next.results.iter().map(|result| {
            let outcome = format!("{} {:?} {}", result.name, result.outcome, result.detail);
            outcome.trim_end().to_owned()
        });
        let needs = next.needs().map(|need| format!("need {}", need.index));
        let units = next.tell.iter().map(|tell| format!("tell {}", tell.unit));
        let differs = next.differs.then(|| "differs".to_owned());
        let lines: Vec<String> = results.chain(needs).chain(units).chain(differs).collect();
        lines.join("; ")
    }

    const THERE: &[(&str, &str, u32, &str)] = &[
        ("a", "1", 0o400, "ours"),
        ("web/b", "2", 0o440, "ours"),
        ("x", "3", 0o400, "theirs"),
    ];

    #[test]
    fn a_push_of_the_whole_host_changes_what_is_other_and_removes_what_is_gone() {
        let (_folder, inventory) = host(THERE);
        let check = |keys: &[_], expected: &str| {
            let push = push(Scope::Host, Purpose::Send, keys);
            assert_eq!(outcome(&inventory, &push), expected);
        };
        let (a, b) = (("a", Some("1"), "0400"), ("web/b", Some("2"), "0440"));
        check(&[a, b], "a Unchanged; web/b Unchanged; x Foreign theirs");
        check(
            &[("a", Some("!"), "0440"), b],
            "a Changed content mode; web/b Unchanged; x Foreign theirs; need 0; tell ours.service; differs",
        );
        check(
            &[a, ("web/b", Some("2"), "0400")],
            "a Unchanged; web/b Changed mode; x Foreign theirs; tell ours.service; differs",
        );
        check(
            &[b, ("c", Some("4"), "0400")],
            "web/b Unchanged; c New; a Removed; x Foreign theirs; need 1; tell ours.service; differs",
        );
        check(
            &[("a", None, "0400"), b, ("d", None, "0400")],
            "a Kept; web/b Unchanged; d Failed its source failed, and no version of it is here; x Foreign theirs",
        );
        check(
            &[],
            "refused: no keys at all, which would remove the 2 that are here",
        );
    }

    #[test]
    fn a_key_that_is_refused_keeps_its_version_and_the_others_land() {
        let (_folder, inventory) = host(THERE);
        let check = |name: &str, mode: &str, expected: &str| {
            let keys = [(name, Some("!"), mode), ("c", Some("4"), "0400")];
            let got = outcome(&inventory, &push(Scope::Part, Purpose::Send, &keys));
            assert_eq!(
                got,
                format!("{expected}; c New; need 1; tell ours.service; differs")
            );
        };
        check(
            "x",
            "0400",
            "x FailedKept it belongs to the manifest theirs; --take-over takes it",
        );
        check(
            "a",
            "0444",
            "a FailedKept mode 0444 lets everyone read it, without `public = true`",
        );
        check(
            "a/z",
            "0400",
            "a/z Failed a is a file on this host that stays",
        );
        check(
            "web",
            "0400",
            "web Failed web is a folder on this host, with files that stay in it",
        );
        check(
            "web-b",
            "0400",
            "web-b Failed key web/b, which stays, is the unit web-b-key.service, too",
        );
        check(
            "web/stray",
            "0400",
            "web/stray Failed web/stray is a file on this host that keys did not make",
        );
    }

    #[test]
    fn strict_refuses_the_whole_push_for_one_key() {
        let (_folder, inventory) = host(THERE);
        let mut push = push(Scope::Part, Purpose::Send, &[("a/z", Some("!"), "0400")]);
        push.manifest.strict = true;
        assert_eq!(
            outcome(&inventory, &push),
            "refused: a/z: a is a file on this host that stays"
        );
    }

    #[test]
    fn a_take_over_makes_the_host_that_manifests_alone() {
        let (_folder, inventory) = host(THERE);
        let keys = [("a", Some("1"), "0400"), ("x", Some("3"), "0400")];
        let mut push = push(Scope::Host, Purpose::Send, &keys);
        push.manifest.take_over = true;
        assert_eq!(
            outcome(&inventory, &push),
            "a Unchanged; x Unchanged; web/b Removed; tell ours.service; differs"
        );
    }

    #[test]
    fn a_reseed_only_adds_what_is_missing() {
        let (folder, mut inventory) = host(THERE);
        let keys = [
            ("a", Some("!"), "0440"),
            ("web/b", Some("2"), "0440"),
            ("c", Some("4"), "0400"),
        ];
        let reseed = push(Scope::Host, Purpose::Reseed, &keys);
        let added = "c New; need 2; tell ours.service; differs";
        assert_eq!(
            outcome(&inventory, &reseed),
            format!("a Unchanged; web/b Unchanged; {added}")
        );
        fs::remove_file(folder.path().join("a")).unwrap();
        let generation = inventory.generation.as_mut().unwrap();
        generation
            .keys
            .get_mut(&reseed.keys[0].key.name)
            .unwrap()
            .file = None;
        assert_eq!(
            outcome(&inventory, &reseed),
            "a Changed mode repaired; web/b Unchanged; c New; need 0; need 2; tell ours.service; differs"
        );
    }

    #[test]
    fn what_somebody_damaged_is_repaired() {
        let (folder, mut inventory) = host(THERE);
        let same = push(Scope::Part, Purpose::Send, &[("a", Some("1"), "0400")]);
        let path = folder.path().join("a");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let generation = inventory.generation.as_mut().unwrap();
        let present = generation.keys.get_mut(&same.keys[0].key.name).unwrap();
        present.file = Inode::regular(&stat(&path).unwrap());
        let repaired = "a Changed repaired; tell ours.service; differs";
        assert_eq!(outcome(&inventory, &same), repaired);
        let (_folder, mut inventory) = host(THERE);
        inventory.visible = Visible::all(&BTreeSet::from(["web", "x"]));
        assert_eq!(outcome(&inventory, &same), repaired);
    }
}
