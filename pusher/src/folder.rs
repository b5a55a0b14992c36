//! Keys that are folders: one key for each field of the map that their source gives.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys_protocol::{Conflict, KeyName, Secret, limits};

use crate::failure::Failure;
use crate::manifest::Key;
use crate::resolve::Resolved;
use crate::resolve::fields::{Fields, shown_field};
use crate::select::Selected;
use crate::source::Source;

/// Puts a key for each field in the place of every folder. One whose fields are not known, or cannot be keys, stays as
/// it is, with its source as failed.
pub(crate) fn unfold(selected: &mut [Selected], resolved: &mut Resolved) {
    let all = selected.iter().flat_map(|one| &one.keys);
    let folders: BTreeSet<Source> = all
        .map(|key| &key.source)
        .filter(|source| source.is_folder())
        .cloned()
        .collect();
    for source in folders {
        let Some(Ok(secret)) = resolved.get(&source) else {
            continue;
        };
        let unfolded = fields(secret).and_then(|fields| {
            let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let keys = |one: &Selected| keys(one, &source, &names);
            let keys: Vec<_> = selected.iter().map(keys).collect::<Result<_, _>>()?;
            Ok((keys, fields))
        });
        match unfolded {
            Ok((keys, fields)) => {
                for (one, keys) in selected.iter_mut().zip(keys) {
                    one.keys = keys;
                }
                let secrets = fields
                    .into_iter()
                    .map(|(name, secret)| (source.field(name), Ok(secret)));
                resolved.extend(secrets);
            }
            Err(failure) => {
                let failure = failure.at(&source);
                resolved.insert(source, Err(failure));
            }
        }
    }
}

fn fields(map: &Secret) -> Result<Vec<(String, Arc<Secret>)>, Failure> {
    let fields = Fields::parse(map.expose())?;
    let fields = fields
        .bytes()
        .map(|(name, bytes)| Ok((name.to_owned(), Arc::new(bytes?))));
    fields.collect()
}

/// Returns the keys of a host with those of `fields` in the place of the ones from `source`.
fn keys(one: &Selected, source: &Source, fields: &[&str]) -> Result<Vec<Arc<Key>>, Failure> {
    let mut keys = Vec::with_capacity(one.keys.len());
    for key in &one.keys {
        if key.source == *source {
            for field in fields {
                keys.push(Arc::new(Key {
                    name: name(&key.name, field)?,
                    source: source.field((*field).to_owned()),
                    ..Key::clone(key)
                }));
            }
        } else {
            keys.push(Arc::clone(key));
        }
    }
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(conflict) = Conflict::among(keys.iter().map(|key| &key.name)) {
        return Err(Failure::source(format!("on {}: {conflict}", one.host.name)));
    }
    if keys.len() > limits::KEYS as usize {
        return Err(Failure::source(format!(
            "more than {} keys on {}",
            limits::KEYS,
            one.host.name
        )));
    }
    Ok(keys)
}

fn name(folder: &KeyName, field: &str) -> Result<KeyName, Failure> {
    let name = format!("{folder}/{field}").parse::<KeyName>();
    name.ok().filter(|_| !field.contains('/')).ok_or_else(|| {
        Failure::source("no name that a key can have")
            .at(shown_field(field))
            .hint("1 to 128 bytes of A-Z a-z 0-9 . _ + @ -, not beginning with `.` or `-`")
    })
}
