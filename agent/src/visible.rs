//! The names in `/run/keys` itself: one link per first component of a key, and what else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use keys_protocol::{KeyName, RefusalCode};
use nix::errno::Errno;

use crate::boot;
use crate::failure::{Doing as _, Failure};
use crate::generation::{self, CURRENT};
use crate::place::{PATH, Place};
use crate::refused;
use crate::session::fill_with_random;

/// What NixOps leaves once all keys have come, and units of its users wait for. It leads to something that is always there.
const DONE: &str = "done";

/// What is at one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The link that leads to the key.
    Ours,
    /// The link that says that all keys have come.
    Done,
    /// Another link. Where a key is to be, it is replaced: a link holds nothing that could be lost.
    OtherLink,
    /// A file, folder, fifo or device: never removed, never followed.
    Real,
}

/// The names in the folder but the agent's own, which start with a dot.
pub(crate) struct Visible(BTreeMap<OsString, Shape>);

impl Visible {
    /// Looks at every name.
    pub(crate) fn read(place: &Place) -> Result<Self, Failure> {
        let names = place.folder.names().doing(|| format!("list {PATH}"))?;
        let mut shapes = BTreeMap::new();
        for name in names {
            let target = place.folder.target(name.as_os_str());
            let target = target.doing(|| format!("readlink {PATH}"))?;
            if is_own(&name, target.is_some()) {
                continue;
            }
            let shape = match target {
                Some(target) if target == link_to(&name) => Shape::Ours,
                Some(target) if name == DONE && target == boot::NAME => Shape::Done,
                Some(_) => Shape::OtherLink,
                None => Shape::Real,
            };
            shapes.insert(name, shape);
        }
        Ok(Self(shapes))
    }

    /// The names as they are when every key has its link.
    #[cfg(test)]
    pub(crate) fn all(keys: &BTreeSet<&str>) -> Self {
        let link = |key: &&str| (OsString::from(*key), Shape::Ours);
        Self(keys.iter().map(link).collect())
    }

    /// Returns whether the key can be reached by its name.
    pub(crate) fn leads_to(&self, key: &KeyName) -> bool {
        self.has_link(key.first())
    }

    /// Returns whether the link of this name is as the agent makes it.
    pub(crate) fn has_link(&self, first: &str) -> bool {
        self.0.get(OsStr::new(first)) == Some(&Shape::Ours)
    }

    /// Returns whether something is where the link to the key would be that must not be removed.
    pub(crate) fn blocks(&self, key: &KeyName) -> bool {
        self.0.get(OsStr::new(key.first())) == Some(&Shape::Real)
    }

    /// Returns what no push made: files and folders, and links at names that no key has.
    pub(crate) fn strays(&self, keys: &BTreeSet<&str>) -> Vec<OsString> {
        let is_key = |name: &OsStr| name.to_str().is_some_and(|name| keys.contains(name));
        self.0
            .iter()
            .filter(|(name, shape)| match shape {
                Shape::Ours | Shape::Done => false,
                Shape::OtherLink => !is_key(name),
                Shape::Real => true,
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Makes a link for each of `keys` that has none, and turns those that lead elsewhere. After the commit: no link is
    /// ever seen before what it leads to. Returns the keys that cannot be reached, with the reason.
    pub(crate) fn link(&self, place: &Place, keys: &BTreeSet<&str>) -> BTreeMap<String, Failure> {
        let mut failed = BTreeMap::new();
        for key in keys {
            let target = format!("{CURRENT}/{key}");
            let made = match self.0.get(OsStr::new(key)) {
                // Something real is reported with the key, by whoever judged it.
                Some(Shape::Ours | Shape::Real) => Ok(()),
                Some(Shape::OtherLink | Shape::Done) => turn(place, key, &target),
                None => {
                    let made = place.folder.make_link(key, &target);
                    made.doing(|| format!("make the link {PATH}/{key}"))
                }
            };
            if let Err(e) = made {
                failed.insert((*key).to_owned(), e);
            }
        }
        failed
    }

    /// Makes the name that says that all keys have come, unless there is something of that name.
    pub(crate) fn link_done(&self, place: &Place, keys: &BTreeSet<&str>) -> Result<(), Failure> {
        if keys.contains(DONE) || self.0.contains_key(OsStr::new(DONE)) {
            return Ok(());
        }
        let made = place.folder.make_link(DONE, boot::NAME);
        made.doing(|| format!("make the link {PATH}/{DONE}"))
    }

    /// Removes that name.
    pub(crate) fn unlink_done(&self, place: &Place) -> Result<(), Failure> {
        if self.0.get(OsStr::new(DONE)) != Some(&Shape::Done) {
            return Ok(());
        }
        let done = place.folder.unlink(DONE);
        done.doing(|| format!("unlink {PATH}/{DONE}"))
    }

    /// Removes the links that led to keys which are gone.
    pub(crate) fn unlink_others(
        &self,
        place: &Place,
        keys: &BTreeSet<&str>,
    ) -> Result<(), Failure> {
        for (name, shape) in &self.0 {
            let is_wanted = name.to_str().is_some_and(|name| keys.contains(name));
            if *shape == Shape::Ours && !is_wanted {
                let done = place.folder.unlink(name.as_os_str());
                done.doing(|| format!("unlink {PATH}/{}", name.display()))?;
            }
        }
        Ok(())
    }
}

/// Returns whether the name of the key leads to it, at this moment.
pub(crate) fn leads_to(place: &Place, key: &KeyName) -> Result<bool, Failure> {
    let first = OsStr::new(key.first());
    let target = place.folder.target(first);
    let target = target.doing(|| format!("readlink {PATH}/{}", key.first()))?;
    Ok(target.is_some_and(|target| target == link_to(first)))
}

/// How the names start that a link has before it is turned.
pub(crate) const DRAFT: &str = ".link.";

/// Turns the link `name` in one step, by a draft whose name nobody can guess.
pub(crate) fn turn(place: &Place, name: &str, target: &str) -> Result<(), Failure> {
    let mut random = [0; 8];
    fill_with_random(&mut random)?;
    let draft = format!("{DRAFT}{:016x}", u64::from_ne_bytes(random));
    match place.folder.turn_link(name, target, &draft) {
        Err(e @ (Errno::EISDIR | Errno::EEXIST | Errno::ENOTEMPTY)) => {
            let text = format!("{PATH}/{name} is in the way: {}", e.desc());
            Err(Failure::new(RefusalCode::Filesystem, text).hint("move it away"))
        }
        other => other.doing(|| format!("turn the link {PATH}/{name}")),
    }
}

fn link_to(name: &OsStr) -> OsString {
    let mut target = OsString::from(CURRENT);
    target.push("/");
    target.push(name);
    target
}

/// Returns whether a name is one of the agent's own. Key names cannot start with a dot; other names that do are strays.
fn is_own(name: &OsStr, is_link: bool) -> bool {
    let is_draft = is_link && name.as_encoded_bytes().starts_with(DRAFT.as_bytes());
    name == CURRENT
        || name == boot::NAME
        || name == refused::NAME
        || generation::number_of(name).is_some()
        || is_draft
}
