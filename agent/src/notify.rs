//! Stand-in until the bus is merged: every unit is reported as one that does not run.

use std::collections::BTreeMap;

use keys_protocol::{How, Progress, UnitName, UnitOutcome, UnitResult};

/// What there is to say while units are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// What became of a unit. Each unit gets one.
    Unit(UnitResult),
    /// Nothing yet, and it goes on.
    #[expect(dead_code, reason = "the stand-in never waits")]
    Waiting(Progress),
}

pub(crate) fn tell(units: &BTreeMap<UnitName, How>, each: &mut dyn FnMut(Told)) {
    preview(units, each);
}

pub(crate) fn preview(units: &BTreeMap<UnitName, How>, each: &mut dyn FnMut(Told)) {
    for unit in units.keys() {
        each(Told::Unit(UnitResult {
            unit: unit.clone(),
            outcome: UnitOutcome::NotRunning,
            detail: String::new(),
        }));
    }
}
