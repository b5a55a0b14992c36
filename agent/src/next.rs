//! The generation that a push leads to: what each key in it is made of, and what is said of it.

use std::collections::BTreeSet;

use keys_protocol::{
    Digest, How, KeyName, KeyOutcome, KeyResult, Need, RefusalCode, Scope, Tell, limits, printable,
};

use crate::failure::Failure;
use crate::file::Inode;
use crate::generation::Present;
use crate::inventory::Inventory;
use crate::place::PATH;
use crate::push::{Push, Wanted};
use crate::record::Record;

/// How much of another manifest's id is said.
const MANIFEST: usize = 200;

/// What a key is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Make {
    /// Of bytes that the pusher sends.
    Body { index: u32, size: u64, mac: Digest },
    /// Of the bytes that are here, in a new inode: the old one is seen by readers, so its owner and mode stay.
    Copy { file: Inode, mac: Digest },
    /// Of the inode that is here.
    Link(Inode),
    /// Of nothing: somebody removed it, and it is not in the push.
    Absent,
}

/// One key of the generation to be.
pub(crate) struct Step {
    pub(crate) record: Record,
    pub(crate) make: Make,
}

/// What becomes of one key.
pub(crate) struct Verdict {
    step: Option<Step>,
    result: Option<KeyResult>,
    tells: Vec<Tell>,
}

impl Verdict {
    /// The key as the push wants it.
    pub(crate) fn placed(record: Record, make: Make, outcome: KeyOutcome, detail: String) -> Self {
        let name = record.name.clone();
        Self {
            step: Some(Step { record, make }),
            result: Some(KeyResult {
                name,
                outcome,
                detail,
            }),
            tells: Vec::new(),
        }
    }

    /// The key as it is.
    pub(crate) fn carried(present: &Present, outcome: KeyOutcome) -> Self {
        let make = present.file.map_or(Make::Absent, Make::Link);
        Self::placed(present.record.clone(), make, outcome, String::new())
    }

    /// The key as it is, as it is another manifest's.
    pub(crate) fn foreign(present: &Present) -> Self {
        let manifest = printable(&present.record.manifest, MANIFEST);
        Self::carried(present, KeyOutcome::Foreign).because(manifest)
    }

    /// The key as it is, and nothing is said of it.
    pub(crate) fn carried_silently(present: &Present) -> Self {
        Self {
            result: None,
            ..Self::carried(present, KeyOutcome::Unchanged)
        }
    }

    /// No key: it was dropped from the manifest. Its units are told.
    pub(crate) fn removed(present: &Present) -> Self {
        Self {
            step: None,
            tells: told(&present.record.units, How::is_for_removal),
            ..Self::carried(present, KeyOutcome::Removed)
        }
        .not_itself(&present.record.name)
    }

    /// No key: it is refused, and there was none.
    pub(crate) fn absent(name: &KeyName, why: String) -> Self {
        Self {
            step: None,
            result: Some(KeyResult {
                name: name.clone(),
                outcome: KeyOutcome::Failed,
                detail: why,
            }),
            tells: Vec::new(),
        }
    }

    /// Tells the units of the key but its own, which starts or stops with it.
    pub(crate) fn tells_others(self, wanted: &Wanted) -> Self {
        self.tells(wanted).not_itself(&wanted.key.name)
    }

    fn not_itself(mut self, key: &KeyName) -> Self {
        let own = key.unit();
        self.tells.retain(|tell| tell.unit.as_str() != own.as_str());
        self
    }

    /// Says what was found.
    pub(crate) fn because(mut self, why: String) -> Self {
        if let Some(result) = &mut self.result {
            result.detail = why;
        }
        self
    }

    /// Tells the units of the key.
    pub(crate) fn tells(mut self, wanted: &Wanted) -> Self {
        self.tells = told(&wanted.units, How::is_for_change);
        self
    }
}

/// Those of `units` whom this concerns.
fn told(units: &[Tell], concerns: fn(How) -> bool) -> Vec<Tell> {
    let units = units.iter().filter(|tell| concerns(tell.how));
    units.cloned().collect()
}

/// What needs a new generation.
pub(crate) const CHANGES: [KeyOutcome; 3] =
    [KeyOutcome::New, KeyOutcome::Changed, KeyOutcome::Removed];

/// The generation to be.
pub(crate) struct Next<'a> {
    inventory: &'a Inventory,
    pub(crate) steps: Vec<Step>,
    pub(crate) results: Vec<KeyResult>,
    /// The units to tell, those included that an earlier push did not come to.
    pub(crate) tell: BTreeSet<Tell>,
    /// Whether it differs from the committed one; if not, none is made.
    pub(crate) differs: bool,
}

impl<'a> Next<'a> {
    /// Starts from what is committed.
    pub(crate) fn after(inventory: &'a Inventory) -> Self {
        let generation = inventory.generation.as_ref();
        Self {
            inventory,
            steps: Vec::new(),
            results: Vec::new(),
            tell: generation.map_or_else(BTreeSet::new, |found| found.pending.clone()),
            differs: generation.is_some_and(|found| !found.intact),
        }
    }

    pub(crate) fn add(&mut self, verdict: Verdict) {
        self.tell.extend(verdict.tells);
        let outcome = verdict.result.as_ref().map(|result| result.outcome);
        let is_changed = outcome.is_some_and(|outcome| CHANGES.contains(&outcome));
        // The manifest a key belongs to and its units are written down, too.
        let is_noted = verdict.step.as_ref().is_none_or(|step| {
            let before = self.inventory.key(&step.record.name);
            before.is_some_and(|before| before.record == step.record)
        });
        self.differs |= is_changed || !is_noted;
        self.steps.extend(verdict.step);
        self.results.extend(verdict.result);
    }

    /// Refuses the whole push where a rule of it or of the host says so.
    pub(crate) fn check_rules(&self, push: &Push) -> Result<(), Failure> {
        let refuse = |text: String| Failure::new(RefusalCode::Policy, text);
        let removed = self.outcomes(&[KeyOutcome::Removed]).count();
        if push.keys.is_empty() && removed > 0 && !push.manifest.prune_all {
            let text = format!("no keys at all, which would remove the {removed} that are here");
            return Err(refuse(text).hint("--prune-all says that this is meant"));
        }
        if self.inventory.is_lost && push.manifest.scope == Scope::Part {
            let text = format!("{PATH} was damaged: which keys were here cannot be known any more");
            return Err(refuse(text).hint("send all keys of this host"));
        }
        if self.steps.len() > limits::KEYS as usize {
            let most = limits::KEYS;
            let text = format!("{} keys: a host has at most {most}", self.steps.len());
            return Err(refuse(text));
        }
        let failed = [KeyOutcome::Failed, KeyOutcome::FailedKept];
        if push.manifest.strict && !push.is_plan() && self.outcomes(&failed).count() > 0 {
            let each: Vec<String> = self
                .outcomes(&failed)
                .map(|result| format!("{}: {}", result.name, result.detail))
                .collect();
            return Err(refuse(each.join("; ")).hint("without --strict the other keys are placed"));
        }
        Ok(())
    }

    /// Returns what is said of keys with these outcomes.
    pub(crate) fn outcomes<'b>(
        &'b self,
        wanted: &'b [KeyOutcome],
    ) -> impl Iterator<Item = &'b KeyResult> {
        self.results
            .iter()
            .filter(|result| wanted.contains(&result.outcome))
    }

    /// Returns whether there are keys, and none that failed.
    pub(crate) fn have_all_come(&self) -> bool {
        let failed = [KeyOutcome::Failed, KeyOutcome::FailedKept];
        let apart = [KeyOutcome::Removed, KeyOutcome::Foreign];
        let is_of_push = |result: &KeyResult| !apart.contains(&result.outcome);
        self.results.iter().any(is_of_push) && self.outcomes(&failed).next().is_none()
    }

    /// Returns the keys that leave.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &KeyName> {
        let removed = self.outcomes(&[KeyOutcome::Removed]);
        removed.map(|result| &result.name)
    }

    /// Returns whether there is a link of this name already.
    pub(crate) fn is_linked(&self, first: &str) -> bool {
        self.inventory.visible.has_link(first)
    }

    /// Returns the keys whose bytes the pusher has to send, in rising order.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Need> {
        self.steps.iter().filter_map(|step| match step.make {
            Make::Body { index, .. } => Some(Need { index }),
            Make::Copy { .. } | Make::Link(_) | Make::Absent => None,
        })
    }
}
