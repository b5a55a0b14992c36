//! Follows the names in sources: of other keys of their host, whose sources are put there, and of Vaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use keys_protocol::KeyName;

use super::document::Document;
use super::problem::Problem;
use super::tree::Bare;
use super::{Host, Key};
use crate::source::Source;
use crate::spelling::nearest;

/// How many sources one may be made of, when all names are followed: names of names of names must not fill the memory.
const PARTS: usize = 1000;

type Keys = BTreeMap<KeyName, Arc<Key>>;

/// Follows every name of a key in the sources of `host`. An error comes with the key whose source holds the name.
pub(super) fn keys(host: &mut Host) -> Result<(), (KeyName, Problem)> {
    let named: Vec<KeyName> = host
        .keys
        .values()
        .filter(|key| names_keys(&key.source))
        .map(|key| key.name.clone())
        .collect();
    let mut followed = Vec::with_capacity(named.len());
    for name in named {
        let mut way = Way {
            host,
            names: vec![name.clone()],
            parts: 0,
        };
        let mut source = host.keys[&name].source.clone();
        way.follow(&mut source)
            .and_then(|()| one_value(&source))
            .map_err(|problem| (name.clone(), problem.inside("source")))?;
        followed.push((name, source));
    }
    for (name, source) in followed {
        let key = host.keys.get_mut(&name).map(Arc::make_mut);
        if let Some(key) = key {
            key.source = source;
        }
    }
    Ok(())
}

/// Refuses a key from a Vault that the manifest does not name.
pub(super) fn vaults(source: &Source, document: &Document) -> Result<(), Problem> {
    let named = source.vaults();
    let unknown = |name: &&str| !document.vaults.contains_key(*name);
    let Some(name) = named.into_iter().find(unknown) else {
        return Ok(());
    };
    let meant = nearest(name, document.vaults.keys().map(String::as_str));
    Err(
        Problem::new(format!("no [vaults.{}] in this manifest", Bare(name)))
            .hint(meant.map(|name| format!("did you mean `{name}`?")))
            .inside("source"),
    )
}

/// Refuses a folder where one value is wanted.
pub(super) fn one_value(source: &Source) -> Result<(), Problem> {
    for part in source.parts() {
        if part.is_folder() {
            let text =
                "with `as = \"dir\"` it is keys, and no value that another source could take";
            return Err(Problem::new(text));
        }
        one_value(part)?;
    }
    Ok(())
}

fn names_keys(source: &Source) -> bool {
    matches!(source, Source::Key(_)) || source.parts().into_iter().any(names_keys)
}

/// The way from a key to one that it names, to one that that one names, …
struct Way<'a> {
    host: &'a Host,
    names: Vec<KeyName>,
    parts: usize,
}

impl Way<'_> {
    fn follow(&mut self, source: &mut Source) -> Result<(), Problem> {
        self.parts += 1;
        if self.parts > PARTS {
            return Err(Problem::new(format!(
                "made of more than {PARTS} sources, those of the keys that it names included"
            )));
        }
        let Source::Key(named) = source else {
            return source
                .parts_mut()
                .into_iter()
                .try_for_each(|part| self.follow(part));
        };
        let name = named.0.clone();
        if let Some(start) = self.names.iter().position(|known| *known == name) {
            let circle: Vec<&str> = self.names[start..].iter().map(KeyName::as_str).collect();
            return Err(Problem::new(format!(
                "a circle: {} takes from {name}",
                circle.join(" takes from ")
            )));
        }
        let keys: &Keys = &self.host.keys;
        let mut found = match keys.get(&name) {
            Some(key) => key.source.clone(),
            None => return Err(self.no_key(&name)),
        };
        self.names.push(name);
        self.follow(&mut found)?;
        self.names.pop();
        *source = found;
        Ok(())
    }

    fn no_key(&self, name: &KeyName) -> Problem {
        let host = &self.host.name;
        let meant = nearest(name.as_str(), self.host.keys.keys().map(KeyName::as_str));
        Problem::new(format!("no key `{name}` on {host}"))
            .hint(meant.map(|name| format!("did you mean `{name}`?")))
    }
}
