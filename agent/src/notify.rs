//! Tells units that their keys changed: after the commit, once each, and only those that run.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use keys_protocol::{Progress, UnitName, UnitOutcome, UnitResult, limits};

use crate::restart::{self, Event, LAST_LOOK, Units, Work};
use crate::systemd::Fault;

/// What there is to say while units are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// What became of a unit. Each unit gets one.
    Unit(UnitResult),
    /// Nothing yet, and it goes on.
    Waiting(Progress),
}

/// Tells the units and calls `each` for every one of them, and every [`limits::PROGRESS`] in between.
///
/// Returns within [`limits::UNITS_WAIT`] and a little, whatever state the units, systemd or the bus are in. What fails
/// is reported for the unit it failed for: the keys are committed, and stay.
pub(crate) fn tell(units: &Units, each: &mut dyn FnMut(Told)) {
    run(units, restart::restart, each);
}

/// Calls `each` for every unit with what [`tell`] would do to it.
pub(crate) fn preview(units: &Units, each: &mut dyn FnMut(Told)) {
    run(units, restart::foresee, each);
}

/// Runs `work` in a thread that is left behind if it does not come back: there is no deadline for connecting to a bus.
fn run(units: &Units, work: fn(&Units, &Work) -> Result<(), Fault>, each: &mut dyn FnMut(Told)) {
    let until = Instant::now() + limits::UNITS_WAIT;
    let (events, news) = mpsc::channel();
    let work_on = Work { events, until };
    let wanted = units.clone();
    let started = thread::Builder::new().spawn(move || {
        if let Err(fault) = work(&wanted, &work_on) {
            work_on.say(Event::Lost(fault));
        }
    });
    let mut report = Report {
        each,
        left: units.keys().cloned().collect(),
        queued: BTreeSet::new(),
    };
    let why = match started {
        Ok(_left_to_itself) => report.follow(&news, until + LAST_LOOK),
        Err(e) => Some(format!("start a thread: {e}")),
    };
    let unasked = why
        .clone()
        .unwrap_or_else(|| "no answer from systemd in time".to_owned());
    for unit in report.left.clone() {
        if report.queued.contains(&unit) {
            report.told(
                &unit,
                UnitOutcome::StillRestarting,
                why.clone().unwrap_or_default(),
            );
        } else {
            report.told(&unit, UnitOutcome::Failed, unasked.clone());
        }
    }
}

/// What is reported so far.
struct Report<'a> {
    each: &'a mut dyn FnMut(Told),
    left: BTreeSet<UnitName>,
    queued: BTreeSet<UnitName>,
}

impl Report<'_> {
    /// Reports what comes until nothing more will, and returns why, where that is not the time.
    fn follow(&mut self, news: &mpsc::Receiver<Event>, until: Instant) -> Option<String> {
        let mut beat = Instant::now() + limits::PROGRESS;
        let mut why = None;
        loop {
            let now = Instant::now();
            if now >= beat {
                beat = now + limits::PROGRESS;
                let units = u32::try_from(self.left.len()).unwrap_or(u32::MAX);
                (self.each)(Told::Waiting(Progress { units }));
            }
            match news.recv_timeout(until.min(beat).saturating_duration_since(now)) {
                Ok(Event::Told(unit, outcome, detail)) => self.told(&unit, outcome, detail),
                Ok(Event::Queued(unit)) => {
                    self.queued.insert(unit);
                }
                Ok(Event::Lost(fault)) => why = Some(fault.to_string()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => return why,
            }
        }
    }

    fn told(&mut self, unit: &UnitName, outcome: UnitOutcome, detail: String) {
        if self.left.remove(unit) {
            (self.each)(Told::Unit(UnitResult {
                unit: unit.clone(),
                outcome,
                detail,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use keys_protocol::How;

    use super::*;

    fn reported(work: fn(&Units, &Work) -> Result<(), Fault>) -> Vec<String> {
        let names = ["a.service", "b.service"].map(|name| (name.parse().unwrap(), How::Restart));
        let mut lines = Vec::new();
        run(&Units::from(names), work, &mut |told| match told {
            Told::Unit(r) => lines.push(format!("{} {:?} {}", r.unit, r.outcome, r.detail)),
            Told::Waiting(_) => panic!("nothing took 5 s"),
        });
        lines
    }

    #[test]
    fn without_systemd_every_unit_has_failed() {
        let lines = reported(|_, _| Err(Fault::NoBus("connection refused".to_owned())));
        let expected = ["a", "b"].map(|unit| {
            format!("{unit}.service Failed no answer from systemd: connection refused")
        });
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_unit_whose_job_is_queued_will_restart_whatever_we_hear_of_it() {
        let lines = reported(|units, work| {
            for unit in units.keys().take(1) {
                work.say(Event::Queued(unit.clone()));
            }
            Err(Fault::Silent("reset".to_owned()))
        });
        let expected = [
            "a.service StillRestarting no answer from systemd: reset",
            "b.service Failed no answer from systemd: reset",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_unit_is_reported_once() {
        let lines = reported(|units, work| {
            for unit in units.keys().chain(units.keys()) {
                work.say(Event::Told(
                    unit.clone(),
                    UnitOutcome::Restarted,
                    String::new(),
                ));
            }
            Ok(())
        });
        assert_eq!(lines, ["a.service Restarted ", "b.service Restarted "]);
    }
}
