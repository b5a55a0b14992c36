//! After the commit: the names are put right, strays move along, and the old generation is retired.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keys_protocol::KeyName;
use nix::errno::Errno;
use nix::unistd::Gid;

use crate::bell;
use crate::failure::{Doing as _, Failure};
use crate::folder::Folder;
use crate::generation::Generation;
use crate::host_manifest::HostManifest;
use crate::inventory::Inventory;
use crate::landing::Landing;
use crate::next::{Make, Next};
use crate::place::{PATH, Place};
use crate::push::Push;
use crate::stage::Committed;
use crate::sweep;

/// What failed after the commit. The keys are in place all the same, and the next run does what is left.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// Keys that have no name in `/run/keys`, by the first component of theirs.
    pub(crate) unreachable: BTreeMap<String, Failure>,
    /// What is left of the old generation, or was to come along from it; and who could not be told of the new one.
    pub(crate) untidy: Vec<Failure>,
    /// What the units of the keys are to follow.
    pub(crate) landing: Landing,
}

/// Does what follows from the commit, or from finding that there was nothing to commit.
pub(crate) fn settle(
    place: &Place,
    inventory: &Inventory,
    (push, next): (&Push, &Next),
    committed: Option<&Committed>,
) -> Aftermath {
    let keys: BTreeSet<&str> = next
        .steps
        .iter()
        .filter(|step| !matches!(step.make, Make::Absent))
        .map(|step| KeyName::first(&step.record.name))
        .collect();
    let mut aftermath = Aftermath {
        unreachable: inventory.visible.link(place, &keys),
        ..Aftermath::default()
    };
    let untidy = &mut aftermath.untidy;
    // The names first: who is woken looks for them.
    untidy.extend(bell::ring().err());
    match Landing::of_push(place, push, next) {
        Ok(landing) => aftermath.landing = landing,
        Err(failure) => untidy.push(failure),
    }
    untidy.extend(inventory.visible.unlink_others(place, &keys).err());
    if HostManifest::has_place() && push.is_whole() {
        let visible = &inventory.visible;
        let said = if next.have_all_come() {
            visible.link_done(place, &keys)
        } else {
            visible.unlink_done(place)
        };
        untidy.extend(said.err());
    }
    if let (Some(old), Some(committed)) = (&inventory.generation, committed) {
        untidy.extend(move_strays(old, &committed.folder, place.group).err());
    }
    let number = committed.map_or_else(|| inventory.number(), |new| new.number);
    untidy.extend(sweep::retire_before(place, number).err());
    aftermath
}

/// Takes files along that no push made: the folder they are in goes, and they are not ours to remove.
fn move_strays(old: &Generation, new: &Folder, group: Gid) -> Result<(), Failure> {
    for path in &old.strays {
        let doing = || format!("keep {PATH}/{}", path.display());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let (from, to) = if folder.as_os_str().is_empty() {
            (old.folder.enter("."), new.enter("."))
        } else {
            (old.folder.enter(folder), enter_or_make(new, folder, group))
        };
        let to = to.doing(doing)?;
        from.doing(doing)?.move_to(name, &to).doing(doing)?;
    }
    Ok(())
}

fn enter_or_make(folder: &Folder, path: &Path, group: Gid) -> nix::Result<Folder> {
    let mut inner = folder.enter(".")?;
    for name in path {
        inner = match inner.enter(name) {
            Err(Errno::ENOENT) => {
                let made = inner.make(name, group)?;
                made.let_pass()?;
                made
            }
            other => other?,
        };
    }
    Ok(inner)
}
