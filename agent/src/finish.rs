//! The verb `finish`, at the start of the service: what a killed run has left is finished.

use std::thread::sleep;

use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::journal::{Level, note};
use crate::landing::Landing;
use crate::lock::Lock;
use crate::news::{Units, Wanted};
use crate::place::Place;
use crate::report::tell;
use crate::sweep::sweep_all;

/// Removes what was staged and not committed, and tells the units that were not told.
pub(crate) fn finish() -> Result<(), Failure> {
    let place = Place::open()?;
    let _lock = Lock::take(&place, |time| {
        sleep(time);
        Ok(())
    })?;
    let inventory = Inventory::read(&place)?;
    sweep_all(&place, &inventory)?;
    let generation = inventory.generation.as_ref();
    let wanted = Wanted {
        units: generation.map_or_else(Units::new, |found| found.pending.clone()),
        landing: Landing::of_host(&place, &inventory).unwrap_or_else(|failure| {
            note(Level::Warning, &failure.to_string());
            Landing::default()
        }),
    };
    tell(&wanted, generation.map(|found| &found.folder), &mut |_| {});
    Ok(())
}
