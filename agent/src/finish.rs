//! The verb `finish`, at the start of the service: what a killed run has left is finished.

use std::thread::sleep;

use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::lock::Lock;
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
    if let Some(generation) = &inventory.generation {
        tell(&generation.pending, Some(&generation.folder), &mut |_| {});
    }
    Ok(())
}
