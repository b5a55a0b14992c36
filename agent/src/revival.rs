//! Units that did not start because the unit of a key was not there or had failed: they start once the key is there.
//!
//! systemd leaves no mark on a unit whose start failed for want of another. So this asks who depends on the key, and
//! takes of those that are down the ones that something which runs wants. What an administrator stopped is left alone:
//! unless the key's own unit had failed, only what has not run in this boot is started.

use std::collections::BTreeSet;

use keys_protocol::UnitName;

use crate::journal::{Level, record};
use crate::restart::patiently;
use crate::systemd::{Fault, Manager};
use crate::unit::{Active, Unit};

/// What makes a unit fail with another.
const NEEDS: [&str; 3] = ["RequiredBy", "BoundBy", "RequisiteOf"];
/// What makes a unit be started with another.
const WANTS: [&str; 3] = ["WantedBy", "RequiredBy", "BoundBy"];

/// Why the unit of a key let others down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lapse {
    /// systemd did not know it.
    Unknown,
    /// It had failed.
    Failed,
}

/// Starts what depends on these units, which have just been started; `before` is what they were.
pub(crate) fn revive(
    manager: &mut Manager,
    landed: &[&UnitName],
    before: &[Unit],
) -> Result<(), Fault> {
    for unit in before {
        let is_landed = landed.iter().any(|landed| landed.as_str() == unit.id);
        if let Some(lapse) = lapse(unit).filter(|_| is_landed) {
            revive_after(manager, &unit.id, lapse)?;
        }
    }
    Ok(())
}

fn lapse(unit: &Unit) -> Option<Lapse> {
    match (unit.load.as_str(), unit.active) {
        (_, Active::Failed) => Some(Lapse::Failed),
        ("not-found", _) => Some(Lapse::Unknown),
        _ => None,
    }
}

fn revive_after(manager: &mut Manager, key: &str, lapse: Lapse) -> Result<(), Fault> {
    let key = patiently(|| manager.look(key))?;
    let mut names = BTreeSet::new();
    for list in NEEDS {
        names.extend(patiently(|| manager.list(&key, list))?);
    }
    for name in names {
        let unit = patiently(|| manager.look(&name))?;
        let is_down = unit.load == "loaded" && unit.active == Active::Inactive;
        if !is_down || !unit.job_type.is_empty() {
            continue;
        }
        let has_run = patiently(|| manager.has_run(&unit))?;
        if (lapse == Lapse::Failed || !has_run) && is_wanted(manager, &unit)? {
            let text = format!("{name}: started, as {} is there now", key.id);
            match patiently(|| manager.start(&name)) {
                Err(fault @ Fault::Refused(_)) => {
                    record(Level::Error, &format!("{name}: not started: {fault}"));
                }
                started => started.map(|()| record(Level::Notice, &text))?,
            }
        }
    }
    Ok(())
}

/// Whether something that is up wants it up.
fn is_wanted(manager: &mut Manager, unit: &Unit) -> Result<bool, Fault> {
    for list in WANTS {
        for name in patiently(|| manager.list(unit, list))? {
            let by = patiently(|| manager.look(&name))?.active;
            if matches!(by, Active::Running | Active::Reloading | Active::Activating) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
