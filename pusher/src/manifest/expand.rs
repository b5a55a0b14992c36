//! Gives every host its keys, and refuses what cannot be together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use keys_protocol::{Conflict, How, KeyName, Mode, Principal, Tell, UnitPattern, limits};

use super::document::{Document, HostTable, KeyTable, OnChange, Place};
use super::problem::Problem;
use super::tree::Bare;
use super::{Host, Key, Sudo, refer, sealing};
use crate::host::{HostName, Tag};
use crate::spelling::nearest;

/// Returns the hosts with their keys.
pub(super) fn hosts(
    document: &Document,
    folder: &Path,
) -> Result<BTreeMap<HostName, Arc<Host>>, Problem> {
    let mut placing = Placing::new(document);
    placing.bounded(document)?;
    for (name, table) in &document.keys {
        refer::vaults(&table.source, document)
            .and_then(|()| placing.shared(name, table))
            .map_err(|problem| problem.inside(name.as_str()).inside("keys"))?;
    }
    for (host, table) in &document.hosts {
        for (name, table) in &table.keys {
            refer::vaults(&table.source, document)
                .and_then(|()| placing.own(host, name, table))
                .map_err(|problem| at_host(problem, host, name))?;
        }
    }
    for host in placing.hosts.values_mut() {
        fits(host, document)?;
        refer::keys(host).map_err(|(name, problem)| of_key(problem, host, &name, document))?;
        apart(host, document)?;
        host.sealing = sealing::of(host, document.sealing.as_ref(), folder)
            .map_err(|(name, problem)| of_key(problem, host, &name, document))?;
    }
    Ok(placing
        .hosts
        .into_iter()
        .map(|(name, host)| (name, Arc::new(host)))
        .collect())
}

/// How often keys may be put on hosts, all together: a small file that gives thousands of keys to thousands of hosts
/// must not fill the memory.
const PLACES: usize = 250_000;

struct Placing<'a> {
    hosts: BTreeMap<HostName, Host>,
    tagged: BTreeMap<&'a Tag, BTreeSet<&'a HostName>>,
}

impl<'a> Placing<'a> {
    fn new(document: &'a Document) -> Self {
        let mut hosts = BTreeMap::new();
        let mut tagged: BTreeMap<&Tag, BTreeSet<&HostName>> = BTreeMap::new();
        for (name, table) in &document.hosts {
            hosts.insert(name.clone(), host(name, table));
            for tag in &table.tags {
                tagged.entry(tag).or_default().insert(name);
            }
        }
        Self { hosts, tagged }
    }

    /// Counts before anything is copied.
    fn bounded(&self, document: &Document) -> Result<(), Problem> {
        let places = document
            .keys
            .values()
            .filter_map(|table| table.hosts.as_ref())
            .flatten();
        let shared = places.map(|place| match place {
            Place::Host(_) => 1,
            Place::Tagged(tag) => self.tagged.get(tag).map_or(0, BTreeSet::len),
        });
        let own = document.hosts.values().map(|table| table.keys.len());
        let all: usize = shared.chain(own).sum();
        if all > PLACES {
            let text = format!("{all} keys on all hosts together, at most {PLACES} allowed");
            return Err(Problem::new(text));
        }
        Ok(())
    }

    /// A key that stands by itself goes where its `hosts` say.
    fn shared(&mut self, name: &KeyName, table: &KeyTable) -> Result<(), Problem> {
        let key = key(name, table)?;
        let Some(places) = &table.hosts else {
            return Err(
                Problem::new("`hosts` is missing: which hosts have this key?")
                    .hint(Some("hosts = [\"pigeon\", \"@production\"]".to_owned())),
            );
        };
        if places.is_empty() {
            return Err(Problem::new("no host would have this key").inside("hosts"));
        }
        for (index, place) in places.iter().enumerate() {
            let inside = |problem: Problem| problem.inside(index).inside("hosts");
            for host in self.named(place).map_err(inside)? {
                self.put(&host, &key)?;
            }
        }
        Ok(())
    }

    /// The hosts that one entry of `hosts` stands for.
    fn named(&self, place: &Place) -> Result<Vec<HostName>, Problem> {
        match place {
            Place::Host(name) if self.hosts.contains_key(name) => Ok(vec![name.clone()]),
            Place::Host(name) => {
                let meant = nearest(name.as_str(), self.hosts.keys().map(HostName::as_str));
                Err(Problem::new(format!("no host `{name}` in this manifest"))
                    .hint(meant.map(|name| format!("did you mean `{name}`?"))))
            }
            Place::Tagged(tag) => {
                let names = self.tagged.get(tag).ok_or_else(|| {
                    let known = self.tagged.keys().copied().map(Tag::as_str);
                    let meant = nearest(tag.as_str(), known);
                    Problem::new(format!("no host has the tag `{tag}`"))
                        .hint(meant.map(|tag| format!("did you mean `@{tag}`?")))
                })?;
                Ok(names.iter().copied().cloned().collect())
            }
        }
    }

    /// A key that stands at its host.
    fn own(&mut self, host: &HostName, name: &KeyName, table: &KeyTable) -> Result<(), Problem> {
        if table.hosts.is_some() {
            let text = format!("this key is {host}'s alone and takes no `hosts`");
            let hint = format!(
                "a key of several hosts stands by itself: [keys.{}]",
                Bare(name.as_str())
            );
            return Err(Problem::new(text).hint(Some(hint)).inside("hosts"));
        }
        let shared = self
            .hosts
            .get(host)
            .is_some_and(|host| host.keys.contains_key(name));
        if shared {
            let other = Bare(name.as_str());
            return Err(Problem::new(format!(
                "{host} has this key already, from [keys.{other}]"
            )));
        }
        self.put(host, &key(name, table)?)
    }

    fn put(&mut self, name: &HostName, key: &Key) -> Result<(), Problem> {
        let Some(host) = self.hosts.get_mut(name) else {
            return Err(Problem::new(format!("no host `{name}` in this manifest")));
        };
        // The same one again where a host is named by itself and by a tag.
        host.keys.entry(key.name.clone()).or_insert_with(|| {
            Arc::new(Key {
                source: key.source.for_host(name.as_str()),
                ..key.clone()
            })
        });
        if host.keys.len() > limits::KEYS as usize {
            return Err(Problem::new(format!(
                "more than {} keys on {name}",
                limits::KEYS
            )));
        }
        Ok(())
    }
}

fn host(name: &HostName, table: &HostTable) -> Host {
    Host {
        name: name.clone(),
        destination: table.ssh.clone().unwrap_or_else(|| name.destination()),
        tags: table.tags.iter().cloned().collect(),
        host_key: table.host_key.clone(),
        sudo: if table.sudo == Some(true) {
            Sudo::Yes
        } else {
            Sudo::No
        },
        sealing: None,
        keys: BTreeMap::new(),
    }
}

/// One key as its table says, for any host.
fn key(name: &KeyName, table: &KeyTable) -> Result<Key, Problem> {
    let mode = table.mode.unwrap_or(Mode::DEFAULT);
    let public = table.public.unwrap_or_default();
    if mode.is_public() && !public {
        let text = format!("with mode {mode} every user of the host can read the key");
        return Err(Problem::new(text)
            .hint(Some("if that is meant: public = true".to_owned()))
            .inside("mode"));
    }
    refer::one_value(&table.source).map_err(|problem| problem.inside("source"))?;
    Ok(Key {
        name: name.clone(),
        source: table.source.clone(),
        owner: table.owner.clone().unwrap_or_else(Principal::root),
        group: table.group.clone().unwrap_or_else(Principal::root),
        mode,
        public,
        offline: table.offline.unwrap_or_default(),
        tells: tells(name, table)?,
    })
}

fn tells(name: &KeyName, table: &KeyTable) -> Result<BTreeSet<Tell>, Problem> {
    for (index, unit) in table.reload_units.iter().enumerate() {
        if table.restart_units.contains(unit) {
            let hint = "one of them is enough: what restarts need not reload";
            let problem = Problem::new(format!("{unit} is in `restart_units` as well"));
            let problem = problem.hint(Some(hint.to_owned())).inside(index);
            return Err(problem.inside("reload_units"));
        }
    }
    let lists = [
        ("restart_units", &table.restart_units),
        ("reload_units", &table.reload_units),
    ];
    for unit in table.signal_units.keys() {
        if let Some((list, _)) = lists.iter().find(|(_, units)| units.contains(unit)) {
            let hint = "one of them is enough: what restarts or reloads needs no signal";
            let problem = Problem::new(format!("{unit} is in `{list}` as well")).of_name();
            let problem = problem.hint(Some(hint.to_owned())).inside(unit.as_str());
            return Err(problem.inside("signal_units"));
        }
    }
    let tells: BTreeSet<Tell> = all_tells(name, table).collect();
    if tells.len() > limits::UNITS_PER_KEY as usize {
        let most = limits::UNITS_PER_KEY;
        return Err(Problem::new(format!(
            "{} units to tell, at most {most} allowed",
            tells.len()
        )));
    }
    Ok(tells)
}

fn all_tells(name: &KeyName, table: &KeyTable) -> impl Iterator<Item = Tell> {
    let all = |units: &[UnitPattern], how| -> Vec<Tell> {
        let units = units.iter().cloned();
        units.map(|unit| Tell { unit, how }).collect()
    };
    let signals = table.signal_units.iter().map(|(unit, signal)| Tell {
        unit: unit.clone(),
        how: How::Signal(*signal),
    });
    let starts = table.start_units.iter().map(|unit| Tell {
        unit: unit.clone().into(),
        how: How::Start,
    });
    let restarts = all(&table.restart_units, How::Restart);
    let reloads = all(&table.reload_units, How::Reload);
    let stops = all(&table.stop_units, How::Stop);
    // systemd restarts with a unit what is bound to it.
    let own = table.on_change.map(|OnChange::RestartDependents| Tell {
        unit: name.unit().into(),
        how: How::Restart,
    });
    let lists = [restarts, reloads, stops].into_iter().flatten();
    lists.chain(signals).chain(starts).chain(own)
}

/// Refuses two keys that cannot be on one host together.
fn fits(host: &Host, document: &Document) -> Result<(), Problem> {
    let Some(conflict) = Conflict::among(host.keys.keys()) else {
        return Ok(());
    };
    let (Conflict::Twice(name)
    | Conflict::FileAndDirectory(_, name)
    | Conflict::SameUnit(_, name, _)) = &conflict;
    let problem = Problem::new(format!("on {}: {conflict}", host.name)).of_name();
    Err(of_key(problem, host, name, document))
}

/// Refuses two keys that would share a value which can be used once.
fn apart(host: &Host, document: &Document) -> Result<(), Problem> {
    let mut takers = BTreeMap::new();
    for key in host.keys.values() {
        for source in key.source.volatile() {
            let other = takers.insert(source, &key.name);
            let problem = match other.filter(|other| **other != key.name) {
                Some(other) => {
                    let host = &host.name;
                    let text =
                        format!("on {host}: {other} takes the same {source}, and it is for one");
                    Problem::new(text).of_name()
                }
                None if key.source.is_folder() => Problem::new(format!(
                    "{source} is new each time, and no part of a folder"
                )),
                None => continue,
            };
            return Err(of_key(problem, host, &key.name, document));
        }
    }
    Ok(())
}

/// Puts a problem where the key stands: at its host, or by itself.
fn of_key(problem: Problem, host: &Host, name: &KeyName, document: &Document) -> Problem {
    let own = document
        .hosts
        .get(&host.name)
        .is_some_and(|table| table.keys.contains_key(name));
    if own {
        at_host(problem, &host.name, name)
    } else {
        problem.inside(name.as_str()).inside("keys")
    }
}

fn at_host(problem: Problem, host: &HostName, name: &KeyName) -> Problem {
    problem
        .inside(name.as_str())
        .inside("keys")
        .inside(host.as_str())
        .inside("hosts")
}
