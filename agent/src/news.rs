//! What is said between the thread that has systemd do things and the one that reports them.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::time::Instant;

use keys_protocol::{Tell, UnitName, UnitOutcome, UnitPattern};

use crate::landing::Landing;
use crate::systemd::Fault;

/// What there is to tell. One unit may be in it in several ways and under several names.
pub(crate) type Units = BTreeSet<Tell>;

/// All there is to do to units.
#[derive(Debug, Default, Clone)]
pub(crate) struct Wanted {
    pub(crate) units: Units,
    pub(crate) landing: Landing,
}

/// A unit under the name that it is reported by, and what it is told for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) tell: Tell,
    pub(crate) name: UnitPattern,
}

impl Named {
    /// The unit, or the pattern as a whole, as it was asked for.
    pub(crate) fn as_asked(tell: &Tell) -> Self {
        Self {
            tell: tell.clone(),
            name: tell.unit.clone(),
        }
    }
}

/// What there is to say on the way.
pub(crate) enum Event {
    /// A pattern stands for these units, and not for itself any more.
    Matched(Tell, BTreeSet<UnitPattern>),
    /// A unit is done with.
    Told(Named, UnitOutcome, String),
    /// A unit's job is queued: whatever happens to us, systemd will do it.
    Queued(Named),
    /// The unit of a key could not be started, for this reason.
    Refused(UnitName, String),
    /// No more will come, for this reason.
    Lost(Fault),
}

/// Whom to say it to, and until when to wait.
pub(crate) struct Work {
    pub(crate) events: Sender<Event>,
    pub(crate) until: Instant,
}

impl Work {
    /// Nobody listens any more once the wait is over.
    pub(crate) fn say(&self, event: Event) {
        let _unheard = self.events.send(event);
    }

    /// Says the same of all names of a unit.
    pub(crate) fn told(&self, names: &[Named], outcome: UnitOutcome, detail: &str) {
        for name in names {
            self.say(Event::Told(name.clone(), outcome, detail.to_owned()));
        }
    }
}
