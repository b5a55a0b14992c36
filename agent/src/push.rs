//! What the pusher wants: its manifest and keys, every limit checked as they come.

use std::collections::BTreeSet;
use std::time::SystemTime;

use keys_protocol::{
    Action, Conflict, Features, How, Key, KeyName, Manifest, Purpose, RefusalCode, Scope, Tell,
    VERSION, limits, printable,
};

use crate::account::{Database, question};
use crate::bundle;
use crate::failure::Failure;
use crate::record::Origin;
use crate::session::Session;

/// The most units that all keys of one push may name together: 20,000 keys of 64 each would be a gigabyte of names.
const TELLS: usize = 100_000;
/// How much of an unknown feature is said.
const FEATURE: usize = 80;

/// One key as it was asked for.
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) units: Vec<Tell>,
}

/// Everything of a push but the bytes. No two of its keys exclude each other.
pub(crate) struct Push {
    pub(crate) manifest: Manifest,
    pub(crate) keys: Vec<Wanted>,
}

impl Push {
    /// Reads the Manifest frame and the Key and Tell frames after it.
    pub(crate) fn read(session: &mut Session) -> Result<Self, Failure> {
        let manifest: Manifest = session.receive()?;
        let features = check(&manifest)?;
        session.speak_with(features);
        let bundle = manifest.bundle.as_ref().map_or(0, |offer| offer.size);
        session.allow_for(manifest.bytes + bundle);
        let mut push = Self {
            manifest,
            keys: Vec::new(),
        };
        let mut bytes = 0;
        let mut tells = 0;
        for _ in 0..push.manifest.keys {
            let key: Key = session.receive()?;
            check_key(&key)?;
            bytes += key.size;
            tells += key.units as usize;
            if bytes > push.manifest.bytes || tells > TELLS {
                return Err(Failure::breach("more bytes or units than announced"));
            }
            let units = read_units(session, key.units)?;
            push.keys.push(Wanted { key, units });
        }
        if bytes != push.manifest.bytes {
            return Err(Failure::breach("fewer bytes than announced"));
        }
        match Conflict::among(push.keys.iter().map(|wanted| &wanted.key.name)) {
            Some(conflict) => Err(Failure::breach(conflict.to_string())),
            None => Ok(push),
        }
    }

    /// Returns which owners and groups must be asked for.
    pub(crate) fn questions(&self) -> BTreeSet<(Database, String)> {
        self.keys
            .iter()
            .flat_map(|Wanted { key, .. }| {
                [
                    question(Database::Users, &key.owner),
                    question(Database::Groups, &key.group),
                ]
            })
            .flatten()
            .collect()
    }

    /// Returns what is remembered of where the keys came from, and when.
    pub(crate) fn origin(&self) -> Origin {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 is no reason to refuse keys.
        let now = now.map_or(0, |since| since.as_secs());
        Origin::new(&self.manifest.id, &self.manifest.sender, now)
    }

    /// Returns whether a key of `manifest` leaves where it is not among these.
    pub(crate) fn drops(&self, manifest: &str) -> bool {
        let own = &self.manifest;
        own.scope == Scope::Host
            && own.purpose != Purpose::Reseed
            && (manifest == own.id || own.take_over)
    }

    /// Returns whether these are all keys that its manifest has for the host.
    pub(crate) fn is_whole(&self) -> bool {
        self.manifest.scope == Scope::Host && self.manifest.purpose == Purpose::Send
    }

    /// Returns the keys that are in the bundle it brings.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &KeyName> {
        let sealed = self.keys.iter().filter(|wanted| wanted.key.sealed);
        sealed.map(|wanted| &wanted.key.name)
    }

    /// Returns whether the session is only to say what would be done.
    pub(crate) fn is_plan(&self) -> bool {
        self.manifest.purpose == Purpose::Plan
    }
}

fn read_units(session: &mut Session, count: u32) -> Result<Vec<Tell>, Failure> {
    let mut units = Vec::new();
    for _ in 0..count {
        let tell: Tell = session.receive()?;
        if tell.how == How::Start && tell.unit.is_glob() {
            let text = format!("{}: only a name can be started", tell.unit);
            return Err(Failure::breach(text));
        }
        units.push(tell);
    }
    // Sorted, so that the same units in another order are no change.
    units.sort();
    units.dedup();
    Ok(units)
}

/// Returns the features that the pusher knows.
fn check(manifest: &Manifest) -> Result<Features, Failure> {
    let version = manifest.protocol;
    if version != VERSION {
        let text = format!("the pusher wants protocol {version}, this agent speaks {VERSION}");
        return Err(Failure::new(RefusalCode::Version, text).hint("upgrade the older of the two"));
    }
    let features = Features::required(&manifest.requires).map_err(|word| {
        let word = printable(word, FEATURE);
        let agent = env!("CARGO_PKG_VERSION");
        let text = format!("the pusher requires `{word}`, unknown to this agent {agent}");
        Failure::new(RefusalCode::Version, text).hint("upgrade the agent")
    })?;
    // It comes back in every Have frame, where a control character would take six bytes.
    let is_odd = manifest.id.contains(char::is_control);
    if manifest.id.is_empty() || manifest.id.len() > limits::TEXT || is_odd {
        let text = "a manifest id has 1 to 1024 bytes and no control characters";
        return Err(Failure::breach(text));
    }
    if manifest.sender.len() > limits::TEXT {
        return Err(Failure::breach("a sender has at most 1024 bytes"));
    }
    manifest.bundle.as_ref().map_or(Ok(()), bundle::check)?;
    if manifest.keys > limits::KEYS {
        let most = limits::KEYS;
        return Err(Failure::breach(format!(
            "{} keys: at most {most} are allowed",
            manifest.keys
        )));
    }
    if manifest.bytes > limits::PUSH_BYTES {
        let most = limits::PUSH_BYTES;
        return Err(Failure::breach(format!(
            "{} bytes: at most {most} are allowed",
            manifest.bytes
        )));
    }
    Ok(features)
}

fn check_key(key: &Key) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::breach(format!("key {}: {what}", key.name)));
    if key.size > limits::KEY_BYTES {
        let most = limits::KEY_BYTES;
        return refuse(format!("{} bytes: at most {most} are allowed", key.size));
    }
    if key.units > limits::UNITS_PER_KEY {
        let most = limits::UNITS_PER_KEY;
        return refuse(format!("{} units: at most {most} are allowed", key.units));
    }
    match (key.action, key.mac) {
        (Action::Send, None) => refuse("it is to be sent and has no digest".into()),
        (Action::Keep, Some(_)) => refuse("it is to be kept and has a digest".into()),
        (Action::Keep, None) if key.size > 0 => refuse("it is to be kept and has a size".into()),
        _ => Ok(()),
    }
}
