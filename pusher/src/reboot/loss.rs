//! What a reboot takes from a host, and whether that may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use keys_protocol::limits::TEXT;
use keys_protocol::{KeyName, KeyOutcome, KeyResult, Purpose, UnitPattern, printable};

use crate::cli::RebootArgs;
use crate::deliver::{self, Delivery, Pushed};
use crate::failure::{Exit, Failure};
use crate::manifest::SshSettings;
use crate::plan::Push;
use crate::reboot::dependents::{self, States};
use crate::ssh::Asking;
use crate::this_machine;

/// A host before its reboot, and what it is to have after it.
pub(crate) struct Loss {
    pub(crate) push: Arc<Push>,
    pub(crate) asking: Asking,
    /// What sending would do now.
    pub(crate) plan: Pushed,
    /// The units that its keys tell, as they are now.
    pub(crate) units: States,
}

impl Loss {
    /// Returns the keys that are there, whosever they are.
    pub(crate) fn there(&self) -> impl Iterator<Item = &KeyName> {
        let keys = &self.plan.outcome.inventory.keys;
        keys.iter().map(|have| &have.name)
    }

    /// Returns the files there that no push made.
    pub(crate) fn strays(&self) -> impl Iterator<Item = String> {
        let strays = &self.plan.outcome.inventory.strays;
        strays.iter().map(|stray| printable(&stray.name, TEXT))
    }

    /// Returns whether this run brings a key.
    pub(crate) fn is_sent(&self, name: &KeyName) -> bool {
        self.push.keys.iter().any(|item| item.key.name == *name)
    }
}

/// Asks every host what it has, and how the units of its keys are.
pub(crate) async fn ask(pushes: Vec<Push>, settings: &Arc<SshSettings>) -> Vec<Delivery<Loss>> {
    let asking = Asking::among(pushes.len());
    let tasks = pushes.into_iter().map(|push| {
        let (push, settings) = (Arc::new(push), Arc::clone(settings));
        (Arc::clone(&push.host), async move {
            let plan = deliver::deliver(&push, &settings, asking, Purpose::Plan).await?;
            let units = told(&push);
            let units = dependents::states(&push.host, &settings, asking, &units).await?;
            Ok(Loss {
                push,
                asking,
                plan,
                units,
            })
        })
    });
    deliver::side_by_side(tasks, settings.parallel).await
}

/// The units that are to run when they have the keys of a push.
pub(crate) fn told(push: &Push) -> BTreeSet<UnitPattern> {
    let tells = push.keys.iter().flat_map(|item| &item.key.tells);
    tells
        .filter(|tell| tell.how.is_for_change())
        .map(|tell| tell.unit.clone())
        .collect()
}

/// Returns what will be lost, if every host may lose it; else every reason why one may not.
pub(crate) fn agreed(
    losses: Vec<Delivery<Loss>>,
    args: &RebootArgs,
) -> Result<Vec<Loss>, Vec<Failure>> {
    let (mut agreed, mut refused) = (Vec::new(), Vec::new());
    for Delivery { host, result } in losses {
        let reasons = match &result {
            Ok(loss) => reasons(loss, args),
            Err(failure) => vec![failure.clone()],
        };
        refused.extend(reasons.into_iter().map(|reason| reason.at(&host.name)));
        agreed.extend(result.ok());
    }
    if refused.is_empty() {
        Ok(agreed)
    } else {
        Err(refused)
    }
}

fn reasons(loss: &Loss, args: &RebootArgs) -> Vec<Failure> {
    let outcome = &loss.plan.outcome;
    let mut reasons = Vec::new();
    if !args.this_machine && this_machine::is_this(&outcome.inventory.hello) {
        let failure = Failure::usage("that is the machine this runs on");
        reasons.push(failure.hint(
            "run it from another one; with --this-machine nobody is left to send the keys but `keys watch` elsewhere",
        ));
    }
    let foreign: Vec<&str> = outcome
        .keys
        .iter()
        .filter(|key| key.outcome == KeyOutcome::Foreign)
        .map(|key| key.name.as_str())
        .collect();
    if !foreign.is_empty() {
        let text = format!(
            "keys of other manifests would be lost: {}",
            foreign.join(", ")
        );
        reasons.push(Failure::new(Exit::Refused, text).hint("--take-over reboots all the same"));
    }
    reasons.extend(outcome.keys.iter().filter_map(unsendable));
    reasons
}

/// A key that the host would not take is not lost to a reboot without a word.
fn unsendable(key: &KeyResult) -> Option<Failure> {
    let refused = matches!(key.outcome, KeyOutcome::Failed | KeyOutcome::FailedKept);
    let text = || {
        let why = printable(&key.detail, TEXT);
        format!("{}: could not be sent again: {why}", key.name)
    };
    refused.then(|| Failure::new(Exit::Refused, text()))
}
