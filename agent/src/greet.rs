//! The agent's first turn: who it is, and what is there. No digest of a value is in it.

use std::collections::{BTreeMap, BTreeSet};

use keys_protocol::{Feature, Features, Have, Hello, Stray, VERSION, limits, printable};

use crate::account::{self, Database};
use crate::boot;
use crate::failure::Failure;
use crate::generation::Present;
use crate::host::Identity;
use crate::inventory::Inventory;
use crate::place::Place;
use crate::session::Session;
use crate::shelf::Shelf;

/// The most strays that are told; more are as bad.
const STRAYS: usize = 1000;
/// The longest name of an owner or group, in characters.
const OWNER_NAME: usize = 64;
/// The longest name of a stray, in characters.
const STRAY_NAME: usize = 255;

/// Says Hello, then one frame per key and stray.
pub(crate) fn greet(
    session: &mut Session,
    place: &Place,
    inventory: &Inventory,
) -> Result<(), Failure> {
    let mut strays = inventory.strays();
    strays.truncate(STRAYS);
    let hello = hello(session, place, inventory)?;
    session.send(&Hello {
        strays: u32::try_from(strays.len()).unwrap_or(u32::MAX),
        ..hello
    })?;
    let names = owner_names(inventory)?;
    for present in inventory.keys() {
        session.send(&have(inventory, present, &names))?;
    }
    for stray in strays {
        session.send(&Stray {
            name: printable(&stray, STRAY_NAME),
        })?;
    }
    Ok(session.flush()?)
}

fn hello(session: &Session, place: &Place, inventory: &Inventory) -> Result<Hello, Failure> {
    let identity = Identity::read()?;
    let bundle = Shelf::open()?.map_or(Ok(None), |shelf| shelf.standing())?;
    let is_stored = bundle
        .as_ref()
        .is_some_and(|(kept, _)| !kept.keys.is_empty());
    let origin = inventory.generation.as_ref().map(|found| &found.origin);
    Ok(Hello {
        protocol_min: VERSION,
        protocol_max: VERSION,
        // Whoever does not know of it would change keys here, and the bundle would bring the old ones back.
        requires: if is_stored {
            Feature::Bundle.word()
        } else {
            ""
        }
        .to_owned(),
        features: Features::all().to_string(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        host_id: identity.id,
        host_keys: identity.fingerprints.join(" "),
        boot: boot::mark(place)?.map_or_else(String::new, |mark| mark.to_string()),
        boot_id: boot::kernel_boot_id(),
        generation: inventory.number(),
        epoch: bundle.as_ref().map_or(0, |(kept, _)| kept.epoch),
        bundle: bundle.map(|(_, standing)| standing),
        sent_by: origin.map_or_else(String::new, |origin| {
            printable(&origin.sender, limits::TEXT / 8)
        }),
        sent_at: origin.map_or(0, |origin| origin.sent_at),
        nonce: *session.nonce(),
        keys: u32::try_from(inventory.keys().count()).unwrap_or(u32::MAX),
        strays: 0,
    })
}

type Names = BTreeMap<(Database, u32), String>;

fn owner_names(inventory: &Inventory) -> Result<Names, Failure> {
    let numbers: BTreeSet<_> = inventory
        .keys()
        .map(owners)
        .flat_map(|(uid, gid)| [(Database::Users, uid), (Database::Groups, gid)])
        .collect();
    account::names_of(numbers)
}

/// As they are, not as they were left.
fn owners(present: &Present) -> (u32, u32) {
    match present.file {
        Some(file) => (file.uid, file.gid),
        None => (present.record.uid, present.record.gid),
    }
}

fn have(inventory: &Inventory, present: &Present, names: &Names) -> Have {
    let (uid, gid) = owners(present);
    let name_of = |database, id: u32| {
        names
            .get(&(database, id))
            .map_or_else(|| id.to_string(), |name| printable(name, OWNER_NAME))
    };
    let mode = present
        .file
        .map_or_else(|| present.record.mode.bits(), |file| file.mode);
    let pending = inventory.generation.as_ref().map(|found| &found.pending);
    let untold = present
        .record
        .units
        .iter()
        .filter(|told| pending.is_some_and(|pending| pending.contains(*told)));
    Have {
        name: present.record.name.clone(),
        owner: name_of(Database::Users, uid),
        uid,
        group: name_of(Database::Groups, gid),
        gid,
        mode: format!("{mode:04o}"),
        manifest: present.record.manifest.clone(),
        damage: inventory.damage(present),
        pending: u32::try_from(untold.count()).unwrap_or(u32::MAX),
    }
}
