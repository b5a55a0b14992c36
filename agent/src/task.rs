//! What is done to a unit, from how it stands and all the ways that it is to be told.

use std::collections::BTreeSet;

use keys_protocol::{How, Signal, UnitOutcome};

use crate::unit::{Active, Unit};

/// A job of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Start,
    /// Or a restart, where it cannot be reloaded.
    Reload,
    Restart,
    Stop,
}

/// What is to be done to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Queue(Task),
    Signal(Vec<Signal>),
}

/// What is to be reported of a unit that nothing is done to.
pub(crate) type Untold = (UnitOutcome, String);

impl Act {
    /// Decides. Stopping comes before all else: what must not run without its key must not be started by another's.
    pub(crate) fn on(unit: &Unit, ways: &BTreeSet<How>) -> Result<Self, Untold> {
        let wanted = |how| ways.contains(&how);
        let rests = matches!(unit.active, Active::Inactive | Active::Failed);
        if wanted(How::Stop) {
            return if rests {
                Err((UnitOutcome::NotRunning, String::new()))
            } else {
                Ok(Self::Queue(Task::Stop))
            };
        }
        match (unit.load.as_str(), unit.active) {
            ("not-found", _) => Err((UnitOutcome::Failed, "no such unit".to_owned())),
            ("loaded", Active::Deactivating) if unit.starts().is_some() => {
                Err((UnitOutcome::StillRestarting, String::new()))
            }
            ("loaded", Active::Deactivating) if !wanted(How::Start) => {
                Err((UnitOutcome::NotRunning, "stopping".to_owned()))
            }
            ("loaded", Active::Deactivating) => Ok(Self::Queue(Task::Start)),
            // About to stop: telling it would keep it up.
            ("loaded", _) if unit.job_type == "stop" && !wanted(How::Start) => {
                Err((UnitOutcome::NotRunning, "stopping".to_owned()))
            }
            ("loaded", _) if rests && wanted(How::Start) => Ok(Self::Queue(Task::Start)),
            ("loaded", Active::Inactive) => Err((UnitOutcome::NotRunning, String::new())),
            ("loaded", Active::Failed) => {
                Err((UnitOutcome::NotRunning, "failed before".to_owned()))
            }
            ("loaded", _) => Self::on_running(ways),
            (other, _) => Err((UnitOutcome::Failed, other.to_owned())),
        }
    }

    fn on_running(ways: &BTreeSet<How>) -> Result<Self, Untold> {
        match ways.last() {
            Some(How::Restart) => Ok(Self::Queue(Task::Restart)),
            Some(How::Reload) => Ok(Self::Queue(Task::Reload)),
            Some(How::Signal(_)) => Ok(Self::Signal(
                ways.iter()
                    .filter_map(|how| match how {
                        How::Signal(signal) => Some(*signal),
                        _ => None,
                    })
                    .collect(),
            )),
            Some(How::Start | How::Stop) | None => Err((UnitOutcome::Running, String::new())),
        }
    }

    /// What the unit will have been, if all goes well; a reload is one where the unit can.
    pub(crate) fn outcome(&self) -> UnitOutcome {
        match self {
            Self::Queue(Task::Start) => UnitOutcome::Started,
            Self::Queue(Task::Reload | Task::Restart) => UnitOutcome::Restarted,
            Self::Queue(Task::Stop) => UnitOutcome::Stopped,
            Self::Signal(_) => UnitOutcome::Signalled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Job;

    fn unit(load: &str, active: Active) -> Unit {
        Unit {
            load: load.to_owned(),
            active,
            sub: String::new(),
            job_type: String::new(),
            job: Job(0),
            path: "/".to_owned(),
            id: "a.service".to_owned(),
        }
    }

    /// What is done to a unit that is told by these words.
    fn done(unit: &Unit, words: &str) -> String {
        let ways = words.split(' ').map(|word| word.parse().unwrap()).collect();
        match Act::on(unit, &ways) {
            Ok(act) => format!("{act:?}"),
            Err((outcome, detail)) => format!("{outcome:?} {detail}").trim_end().to_owned(),
        }
    }

    #[test]
    fn only_units_that_run_are_told() {
        let check = |load: &str, active, expected: &str| {
            let unit = unit(load, active);
            assert_eq!(done(&unit, "restart"), expected, "{load} {active:?}");
        };
        check("loaded", Active::Running, "Queue(Restart)");
        check("loaded", Active::Activating, "Queue(Restart)");
        check("loaded", Active::Reloading, "Queue(Restart)");
        check("loaded", Active::Inactive, "NotRunning");
        check("loaded", Active::Failed, "NotRunning failed before");
        check("loaded", Active::Deactivating, "NotRunning stopping");
        check("not-found", Active::Inactive, "Failed no such unit");
        check("masked", Active::Running, "Failed masked");
        check("bad-setting", Active::Inactive, "Failed bad-setting");
    }

    #[test]
    fn one_unit_is_told_in_one_way() {
        use Active::{Deactivating, Failed, Inactive, Running};
        let check = |active, words: &str, expected: &str| {
            let unit = unit("loaded", active);
            assert_eq!(done(&unit, words), expected, "{words}, {active:?}");
        };
        check(Running, "reload restart SIGHUP", "Queue(Restart)");
        check(Running, "SIGHUP reload", "Queue(Reload)");
        check(Running, "SIGUSR1 SIGHUP start", "Signal([Hup, Usr1])");
        check(Running, "start", "Running");
        check(Inactive, "start restart", "Queue(Start)");
        check(Failed, "start", "Queue(Start)");
        check(Deactivating, "start", "Queue(Start)");
        check(Inactive, "SIGHUP", "NotRunning");
        check(Running, "stop restart start", "Queue(Stop)");
        check(Inactive, "stop start", "NotRunning");
        let masked = unit("masked", Running);
        assert_eq!(done(&masked, "stop"), "Queue(Stop)");
        assert_eq!(done(&masked, "start"), "Failed masked");
        let gone = unit("not-found", Inactive);
        assert_eq!(done(&gone, "stop"), "NotRunning");
    }

    #[test]
    fn a_unit_that_stops_to_start_again_takes_the_new_keys_by_itself() {
        let mut restarting = unit("loaded", Active::Deactivating);
        restarting.job_type = "restart".to_owned();
        assert_eq!(done(&restarting, "restart"), "StillRestarting");
    }
}
