//! What the units of keys are to follow: those of keys that are there become active, those of keys that left are stopped.

use std::collections::BTreeSet;

use keys_protocol::{KeyName, UnitName};

use crate::bell;
use crate::failure::Failure;
use crate::generator::{self, Knows, LANDED};
use crate::host_manifest::{HostManifest, Keeper};
use crate::inventory::Inventory;
use crate::journal::{Level, note};
use crate::news::{Event, Work};
use crate::next::{Make, Next};
use crate::place::Place;
use crate::push::Push;
use crate::refused::{self, Complaint};
use crate::restart::patiently;
use crate::revival::revive;
use crate::systemd::{Fault, Manager};
use crate::unit::{Active, Unit};

/// How many units are started by one call for all.
const MANY: usize = 32;
/// What the names of all such units match.
const PATTERN: &str = "*-key.service";

/// The units of this host's keys.
#[derive(Debug, Default, Clone)]
pub(crate) struct Landing {
    /// Of keys that are there.
    there: BTreeSet<UnitName>,
    /// Of keys that have left.
    leaving: BTreeSet<UnitName>,
    /// Whether this host has units of keys at all.
    is_kept: bool,
    /// Whether all keys of the host are there.
    is_whole: bool,
    /// Whether systemd has yet to read that there are these units.
    is_news: bool,
    /// What is to be seen of keys that are not there because they were refused.
    complaint: Complaint,
    /// What is to be written once those that leave are stopped.
    rest: Option<HostManifest>,
}

impl Landing {
    /// What a push leads to; writes down which keys the host has now.
    pub(crate) fn of_push(place: &Place, push: &Push, next: &Next) -> Result<Self, Failure> {
        let Some((before, keeper)) = HostManifest::find()? else {
            return Ok(Self::default());
        };
        let complaint = refused::note_down(place, push, next)?;
        if complaint == Complaint::New {
            // Their units say why they wait.
            bell::ring()?;
        }
        let there = next
            .steps
            .iter()
            .filter(|step| !matches!(step.make, Make::Absent));
        let there = there.map(|step| step.record.name.unit()).collect();
        if keeper == Keeper::Administrator {
            let leaving = next.removed().map(KeyName::unit).collect();
            return Ok(Self {
                complaint,
                ..Self::among(there, &HostManifest { leaving, ..before })
            });
        }
        let after = before.after(push, next);
        if after != before {
            after.write()?;
        }
        Ok(Self {
            complaint,
            is_news: match generator::knows(&after)? {
                Knows::These => false,
                Knows::Others => true,
                Knows::Nothing => !after.keys.keys().eq(before.keys.keys()),
            },
            ..Self::among(there, &after).striking(after)
        })
    }

    /// What a killed run has left.
    pub(crate) fn of_host(place: &Place, inventory: &Inventory) -> Result<Self, Failure> {
        let Some((manifest, keeper)) = HostManifest::find()? else {
            return Ok(Self::default());
        };
        let there = inventory.keys().filter(|present| present.file.is_some());
        let there = there.map(|present| present.record.name.unit()).collect();
        let landing = Self {
            complaint: refused::standing(place)?,
            ..Self::among(there, &manifest)
        };
        if keeper == Keeper::Administrator {
            return Ok(landing);
        }
        Ok(Self {
            is_news: generator::knows(&manifest)? == Knows::Others,
            ..landing.striking(manifest)
        })
    }

    /// Only units that the host is said to have.
    fn among(mut there: BTreeSet<UnitName>, manifest: &HostManifest) -> Self {
        there.retain(|unit| manifest.keys.contains_key(unit));
        Self {
            is_kept: true,
            is_whole: there.len() == manifest.keys.len(),
            there,
            leaving: manifest.leaving.clone(),
            ..Self::default()
        }
    }

    fn striking(self, manifest: HostManifest) -> Self {
        let leaving = BTreeSet::new();
        let rest = HostManifest {
            leaving,
            ..manifest
        };
        Self {
            rest: Some(rest).filter(|_| !self.leaving.is_empty()),
            ..self
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        let is_quiet = self.complaint == Complaint::Nothing && !self.is_news;
        !self.is_kept || (is_quiet && self.there.is_empty() && self.leaving.is_empty())
    }
}

/// Stops the units of keys that have left. Before others are told: what is bound to them goes with them.
pub(crate) fn leave(manager: &mut Manager, landing: &Landing) -> Result<(), Fault> {
    if landing.leaving.is_empty() {
        return Ok(());
    }
    for unit in patiently(|| manager.matching(PATTERN))? {
        let is_up = !matches!(unit.active, Active::Inactive | Active::Failed);
        if is_up && landing.leaving.iter().any(|left| left.as_str() == unit.id) {
            patiently(|| manager.stop(&unit.id))?;
        }
    }
    if let Some(Err(failure)) = landing.rest.as_ref().map(HostManifest::write) {
        note(Level::Warning, &failure.to_string());
    }
    Ok(())
}

/// Starts the units of keys that are there. After others are told: what a key starts would be told once more.
pub(crate) fn land(manager: &mut Manager, landing: &Landing, work: &Work) -> Result<(), Fault> {
    if landing.is_idle() {
        return Ok(());
    }
    let before = patiently(|| manager.matching(PATTERN))?;
    if landing.is_news {
        patiently(|| manager.reload())?;
    }
    complain(manager, landing.complaint)?;
    let down = start(manager, landing, (&before, work))?;
    revive(manager, &down, &before)
}

/// Starts those that are down, and returns them.
fn start<'a>(
    manager: &mut Manager,
    landing: &'a Landing,
    (before, work): (&[Unit], &Work),
) -> Result<Vec<&'a UnitName>, Fault> {
    let is_up = |unit: &&Unit| matches!(unit.active, Active::Running | Active::Activating);
    let up: BTreeSet<&str> = before
        .iter()
        .filter(is_up)
        .map(|unit| unit.id.as_str())
        .collect();
    let is_down = |unit: &&UnitName| !up.contains(unit.as_str());
    let down: Vec<&UnitName> = landing.there.iter().filter(is_down).collect();
    // Where there is no such target, each is started by itself.
    if down.len() >= MANY && landing.is_whole && patiently(|| manager.start(LANDED)).is_ok() {
        return Ok(down);
    }
    for unit in &down {
        match patiently(|| manager.start(unit.as_str())) {
            Err(Fault::Refused(why)) => work.say(Event::Refused((*unit).clone(), why)),
            started => started?,
        }
    }
    Ok(down)
}

/// Has the unit that stands for refused keys fail, or be fine again. Where there is none, there is nobody to show it to.
fn complain(manager: &mut Manager, complaint: Complaint) -> Result<(), Fault> {
    let unit = patiently(|| manager.look(refused::UNIT))?;
    let has_failed = unit.active == Active::Failed;
    match complaint {
        _ if unit.load != "loaded" => Ok(()),
        Complaint::Nothing if has_failed => patiently(|| manager.forgive(refused::UNIT)),
        Complaint::Old if !has_failed => patiently(|| manager.start(refused::UNIT)),
        Complaint::New => patiently(|| manager.start(refused::UNIT)),
        Complaint::Nothing | Complaint::Old => Ok(()),
    }
}
