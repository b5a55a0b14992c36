//! Tells units that their keys changed: after the commit, once each, and only those that run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use keys_protocol::{Progress, Tell, UnitOutcome, UnitPattern, UnitResult, limits};

use crate::news::{Event, Named, Units, Wanted, Work};
use crate::restart::{self, LAST_LOOK};
use crate::systemd::Fault;

/// What there is to say while units are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing more will be done for this, and need not be by anyone else.
    Done(Tell),
    /// What became of a unit. Each unit gets one.
    Unit(UnitResult),
    /// Nothing yet, and it goes on.
    Waiting(Progress),
}

/// Tells the units and calls `each` for every one of them, and every [`limits::PROGRESS`] in between.
///
/// Returns within [`limits::UNITS_WAIT`] and a little, whatever state the units, systemd or the bus are in. What fails
/// is reported for the unit it failed for: the keys are committed, and stay.
pub(crate) fn tell(wanted: &Wanted, each: &mut dyn FnMut(Told)) {
    run(wanted, restart::restart, each);
}

/// Calls `each` for every unit with what [`tell`] would do to it.
pub(crate) fn preview(units: &Units, each: &mut dyn FnMut(Told)) {
    let wanted = Wanted {
        units: units.clone(),
        ..Wanted::default()
    };
    run(&wanted, restart::foresee, each);
}

/// Runs `work` in a thread that is left behind if it does not come back: there is no deadline for connecting to a bus.
fn run(wanted: &Wanted, work: fn(&Wanted, &Work) -> Result<(), Fault>, each: &mut dyn FnMut(Told)) {
    let until = Instant::now() + limits::UNITS_WAIT;
    let (events, news) = mpsc::channel();
    let work_on = Work { events, until };
    let left = wanted.units.iter().map(itself).collect();
    let wanted = wanted.clone();
    let started = thread::Builder::new().spawn(move || {
        if let Err(fault) = work(&wanted, &work_on) {
            work_on.say(Event::Lost(fault));
        }
    });
    let mut report = Report {
        each,
        left,
        queued: Vec::new(),
        said: BTreeSet::new(),
    };
    let why = match started {
        Ok(_left_to_itself) => report.follow(&news, until + LAST_LOOK),
        Err(e) => Some(format!("start a thread: {e}")),
    };
    let unasked = why
        .clone()
        .unwrap_or_else(|| "no answer from systemd in time".to_owned());
    for named in report.left() {
        let (outcome, why) = if report.queued.contains(&named) {
            (UnitOutcome::StillRestarting, why.clone())
        } else {
            (UnitOutcome::Failed, Some(unasked.clone()))
        };
        report.told(&named, outcome, why.unwrap_or_default());
    }
}

/// What is to be told, and for now the one name in it.
fn itself(tell: &Tell) -> (Tell, BTreeSet<UnitPattern>) {
    (tell.clone(), BTreeSet::from([tell.unit.clone()]))
}

/// What is reported so far.
struct Report<'a> {
    each: &'a mut dyn FnMut(Told),
    /// What is not done yet, and the units in it of which nothing is known; never none.
    left: BTreeMap<Tell, BTreeSet<UnitPattern>>,
    queued: Vec<Named>,
    /// What was reported already, for whatever it was told.
    said: BTreeSet<UnitPattern>,
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
                let units = u32::try_from(self.left().len()).unwrap_or(u32::MAX);
                (self.each)(Told::Waiting(Progress { units }));
            }
            match news.recv_timeout(until.min(beat).saturating_duration_since(now)) {
                Ok(Event::Matched(tell, names)) => {
                    self.left.insert(tell, names);
                }
                Ok(Event::Refused(unit, detail)) => {
                    (self.each)(Told::Unit(UnitResult {
                        unit: unit.into(),
                        outcome: UnitOutcome::Failed,
                        detail,
                    }));
                }
                Ok(Event::Told(unit, outcome, detail)) => self.told(&unit, outcome, detail),
                Ok(Event::Queued(unit)) => self.queued.push(unit),
                Ok(Event::Lost(fault)) => why = Some(fault.to_string()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => return why,
            }
        }
    }

    fn left(&self) -> Vec<Named> {
        let all = self.left.iter();
        all.flat_map(|(tell, names)| {
            names.iter().map(move |name| Named {
                tell: tell.clone(),
                name: name.clone(),
            })
        })
        .collect()
    }

    fn told(&mut self, named: &Named, outcome: UnitOutcome, detail: String) {
        let Some(left) = self.left.get_mut(&named.tell) else {
            return;
        };
        let was_left = left.remove(&named.name);
        if left.is_empty() {
            self.left.remove(&named.tell);
            (self.each)(Told::Done(named.tell.clone()));
        }
        if was_left && self.said.insert(named.name.clone()) {
            (self.each)(Told::Unit(UnitResult {
                unit: named.name.clone(),
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

    fn reported(work: fn(&Wanted, &Work) -> Result<(), Fault>) -> Vec<String> {
        let tells = ["a.service", "b.service"].map(|name| Tell {
            unit: name.parse().unwrap(),
            how: How::Restart,
        });
        let mut lines = Vec::new();
        let wanted = Wanted {
            units: Units::from(tells),
            ..Wanted::default()
        };
        run(&wanted, work, &mut |told| match told {
            Told::Done(tell) => assert_eq!(tell.how, How::Restart),
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
        let lines = reported(|wanted, work| {
            for tell in wanted.units.iter().take(1) {
                work.say(Event::Queued(Named::as_asked(tell)));
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
        let lines = reported(|wanted, work| {
            for tell in wanted.units.iter().chain(&wanted.units) {
                let outcome = UnitOutcome::Restarted;
                work.say(Event::Told(Named::as_asked(tell), outcome, String::new()));
            }
            Ok(())
        });
        assert_eq!(lines, ["a.service Restarted ", "b.service Restarted "]);
    }

    #[test]
    fn a_pattern_is_done_with_its_last_unit_and_each_unit_is_reported_once() {
        let pattern = Tell {
            unit: "a*.service".parse().unwrap(),
            how: How::Reload,
        };
        let single = Tell {
            unit: "a1.service".parse().unwrap(),
            how: How::Restart,
        };
        let mut lines = Vec::new();
        let work: fn(&Wanted, &Work) -> Result<(), Fault> = |wanted, work| {
            let names = ["a1.service", "a2.service"].map(|name| name.parse().unwrap());
            let [pattern, single] = wanted.units.iter().collect::<Vec<_>>()[..] else {
                panic!("two are told")
            };
            work.say(Event::Matched(pattern.clone(), names.clone().into()));
            for (tell, name) in [(pattern, 0), (single, 0), (pattern, 1)] {
                let (tell, name) = (tell.clone(), names[name].clone());
                let outcome = UnitOutcome::Restarted;
                work.say(Event::Told(Named { tell, name }, outcome, String::new()));
            }
            Ok(())
        };
        let wanted = Wanted {
            units: Units::from([pattern, single]),
            ..Wanted::default()
        };
        run(&wanted, work, &mut |told| {
            lines.push(match told {
                Told::Done(tell) => format!("done: {}", tell.unit),
                Told::Unit(r) => format!("{} {:?} {}", r.unit, r.outcome, r.detail),
                Told::Waiting(_) => panic!("nothing took 5 s"),
            });
        });
        let expected = [
            "a1.service Restarted ",
            "done: a1.service",
            "done: a*.service",
            "a2.service Restarted ",
        ];
        assert_eq!(lines, expected);
    }
}
