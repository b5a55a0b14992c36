//! Keys whose source makes a new value each time it is asked: which of them are to be asked.
//!
//! A new value is made where a host lacks the key, as after a reboot, or on request. It is never made to find out
//! what sending would do, nor because another key changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys_protocol::{KeyName, KeyOutcome, Purpose};

use crate::deliver;
use crate::manifest::Manifest;
use crate::output::Doing;
use crate::select::Selected;
use crate::stream::Outcome;

/// Which values are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// None: this is only a question.
    None,
    /// Those of keys that a host lacks.
    Missing,
    /// All.
    All,
}

/// Holds back the keys that are not to be made, and asks hosts what they have where that decides it.
pub(crate) async fn hold(
    mut selected: Vec<Selected>,
    manifest: &Manifest,
    made: Made,
) -> Vec<Selected> {
    for one in &mut selected {
        one.held = match made {
            Made::All => BTreeSet::new(),
            Made::None | Made::Missing => volatile(one).collect(),
        };
    }
    if made != Made::Missing {
        return selected;
    }
    let asked = selected.iter().filter(|one| !one.held.is_empty());
    let hosts: Vec<_> = asked.map(|one| Arc::clone(&one.host)).collect();
    if hosts.is_empty() {
        return selected;
    }
    let doing = Doing::now("asking the hosts what they have");
    let answers = deliver::inventories(hosts, &Arc::new(manifest.ssh.clone())).await;
    drop(doing);
    // A host that does not answer gets nothing made for it; sending will say why it does not.
    for answer in answers {
        let Ok(inventory) = answer.result else {
            continue;
        };
        let there: BTreeSet<KeyName> = inventory.keys.into_iter().map(|have| have.name).collect();
        let same = |one: &&mut Selected| one.host.name == answer.host.name;
        if let Some(one) = selected.iter_mut().find(same) {
            one.held.retain(|name| there.contains(name));
        }
    }
    selected
}

fn volatile(one: &Selected) -> impl Iterator<Item = KeyName> {
    let keys = one.keys.iter().filter(|key| key.source.is_volatile());
    keys.map(|key| key.name.clone())
}

/// What the agent says of a key that is kept and is not there.
const LACKING: &str = "its source failed, and no version of it is here";

/// Says of the keys that were held back what they are: there as wanted, or in a plan, to be made.
pub(crate) fn judge(outcome: &mut Outcome, held: &BTreeSet<KeyName>, purpose: Purpose) {
    for key in outcome
        .keys
        .iter_mut()
        .filter(|key| held.contains(&key.name))
    {
        key.outcome = match key.outcome {
            KeyOutcome::Kept => KeyOutcome::Unchanged,
            KeyOutcome::Failed if purpose == Purpose::Plan && key.detail == LACKING => {
                key.detail.clear();
                KeyOutcome::New
            }
            other => other,
        };
    }
}
