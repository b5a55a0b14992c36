//! Has systemd restart units, or whatever they are to be told by, and looks what became of them: the part that waits.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{How, Signal, Tell, UnitOutcome, limits};

use crate::landing::{land, leave};
use crate::news::{Event, Named, Units, Wanted, Work};
use crate::systemd::{Fault, Manager};
use crate::task::{Act, Task, Untold};
use crate::unit::{Job, Unit, matched, trouble};

/// How long a unit that came up is given to fall over: with `Type=simple` it counts as started before its program
/// has run.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a last look at the units may take once the wait is over.
pub(crate) const LAST_LOOK: Duration = Duration::from_secs(2);
/// How often a manager that does not answer is asked again, and after which pause: it may be starting itself anew. That
/// takes half a second, so that a longer pause could end just before the next time, again and again (seen).
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// A unit to tell, under all the names it was named by.
struct Target {
    unit: Unit,
    names: Vec<Named>,
    act: Act,
    /// What it will have been, if all goes well.
    outcome: UnitOutcome,
}

/// Says what [`restart`] would do.
pub(crate) fn foresee(wanted: &Wanted, work: &Work) -> Result<(), Fault> {
    let mut manager = connect(work)?;
    let targets = look(&mut manager, &wanted.units, work)?;
    for target in &targets {
        work.told(&target.names, target.outcome, "");
    }
    Ok(())
}

/// Tells the units that run, and has those of the keys follow.
pub(crate) fn restart(wanted: &Wanted, work: &Work) -> Result<(), Fault> {
    let mut manager = connect(work)?;
    leave(&mut manager, &wanted.landing)?;
    let targets = look(&mut manager, &wanted.units, work)?;
    let jobs = queue(&mut manager, targets, work)?;
    land(&mut manager, &wanted.landing, work)?;
    wait(&mut manager, jobs, work)
}

fn connect(work: &Work) -> Result<Manager, Fault> {
    patiently(|| Manager::connect(work.until + LAST_LOOK))
}

/// Asks again while there is a bus and nobody answers.
pub(crate) fn patiently<T>(mut ask: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for _ in 1..TRIES {
        match ask() {
            Err(Fault::Silent(_)) => thread::sleep(PAUSE),
            answer => return answer,
        }
    }
    ask()
}

/// A unit, all its names, and all the ways it is to be told.
struct Seen {
    unit: Unit,
    names: Vec<Named>,
    ways: BTreeSet<How>,
}

/// Finds out which units there are to tell and how, and reports those that are not.
fn look(manager: &mut Manager, units: &Units, work: &Work) -> Result<Vec<Target>, Fault> {
    // Two names of one unit are one: it is told once.
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for tell in units {
        for (named, unit) in find(manager, tell, work)? {
            match unit {
                Err((outcome, detail)) => work.say(Event::Told(named, outcome, detail)),
                Ok(unit) => {
                    let fresh = |unit| Seen {
                        unit,
                        names: Vec::new(),
                        ways: BTreeSet::new(),
                    };
                    let id = unit.id.clone();
                    let seen = seen.entry(id).or_insert_with(|| fresh(unit));
                    seen.names.push(named);
                    seen.ways.insert(tell.how);
                }
            }
        }
    }
    let targets = seen.into_values();
    Ok(targets
        .filter_map(|seen| aim(manager, seen, work))
        .collect())
}

/// Decides what is done to a unit, and reports it if that is nothing.
fn aim(manager: &mut Manager, seen: Seen, work: &Work) -> Option<Target> {
    let Seen { unit, names, ways } = seen;
    match Act::on(&unit, &ways) {
        Err((outcome, detail)) => {
            work.told(&names, outcome, &detail);
            None
        }
        Ok(act) => {
            // Where it is not known, systemd decides all the same; only our word for it may be wrong.
            let reloads = act == Act::Queue(Task::Reload)
                && patiently(|| manager.can_reload(&unit)) == Ok(true);
            let outcome = if reloads {
                UnitOutcome::Reloaded
            } else {
                act.outcome()
            };
            Some(Target {
                unit,
                names,
                act,
                outcome,
            })
        }
    }
}

/// A unit by the name it is reported by, or what is to be reported of it at once.
type Found = (Named, Result<Unit, Untold>);

/// Returns the unit, or those that the pattern stands for, each under the name it is reported by.
fn find(manager: &mut Manager, tell: &Tell, work: &Work) -> Result<Vec<Found>, Fault> {
    let asked = Named::as_asked(tell);
    let failed = |fault: Fault| (UnitOutcome::Failed, fault.to_string());
    if !tell.unit.is_glob() {
        return match patiently(|| manager.look(tell.unit.as_str())) {
            Err(fault @ Fault::Refused(_)) => Ok(vec![(asked, Err(failed(fault)))]),
            unit => Ok(vec![(asked, Ok(unit?))]),
        };
    }
    let units = match patiently(|| manager.matching(tell.unit.as_str())) {
        Err(fault @ Fault::Refused(_)) => return Ok(vec![(asked, Err(failed(fault)))]),
        units => matched(units?),
    };
    match units {
        Err(untold) => Ok(vec![(asked, Err(untold))]),
        Ok(units) => {
            let found = units.keys().cloned().collect();
            work.say(Event::Matched(tell.clone(), found));
            let named = |name| Named {
                tell: tell.clone(),
                name,
            };
            let units = units.into_iter();
            Ok(units.map(|(name, unit)| (named(name), Ok(unit))).collect())
        }
    }
}

/// Sends the signals and queues the jobs, all before the first is waited for, so that one that restarts others finds theirs.
fn queue(
    manager: &mut Manager,
    targets: Vec<Target>,
    work: &Work,
) -> Result<BTreeMap<Job, Queued>, Fault> {
    let mut jobs = BTreeMap::new();
    for target in targets {
        let queued = match &target.act {
            Act::Signal(signals) => signal(manager, &target, signals, work).map(|()| None),
            Act::Queue(task) => {
                queue_one(manager, &target.unit, *task).map(|job| Some((job, *task)))
            }
        };
        match queued {
            Err(fault @ Fault::Refused(_)) => {
                work.told(&target.names, UnitOutcome::Failed, &fault.to_string());
            }
            queued => {
                if let Some((job, task)) = queued? {
                    for name in &target.names {
                        work.say(Event::Queued(name.clone()));
                    }
                    jobs.insert(job, Queued { target, task });
                }
            }
        }
    }
    Ok(jobs)
}

/// A unit whose job is queued.
struct Queued {
    target: Target,
    task: Task,
}

fn queue_one(manager: &mut Manager, unit: &Unit, task: Task) -> Result<Job, Fault> {
    let mut asked = false;
    patiently(|| {
        // Where only the answer was lost, the job is there.
        if asked && let Some(job) = manager.look(&unit.id)?.does(task) {
            return Ok(job);
        }
        asked = true;
        manager.queue(unit, task)
    })
}

/// There is nothing to wait for: when systemd has answered, the signal is sent.
fn signal(
    manager: &mut Manager,
    target: &Target,
    signals: &[Signal],
    work: &Work,
) -> Result<(), Fault> {
    for signal in signals {
        patiently(|| manager.signal(&target.unit, *signal))?;
    }
    work.told(&target.names, target.outcome, "");
    Ok(())
}

/// A job that ended, with its result, and when its unit can be looked at.
struct Ended {
    due: Instant,
    result: String,
    queued: Queued,
}

/// Waits until each job has ended and its unit has stood for a moment, or the time is over.
fn wait(manager: &mut Manager, mut jobs: BTreeMap<Job, Queued>, work: &Work) -> Result<(), Fault> {
    let mut ended: Vec<Ended> = Vec::new();
    let mut check = Instant::now() + limits::PROGRESS;
    while !(jobs.is_empty() && ended.is_empty()) && Instant::now() < work.until {
        let next = ended.iter().map(|ended| ended.due).min().unwrap_or(check);
        if let Some((job, result)) = manager.ended(next.min(check).min(work.until))?
            && let Some(queued) = jobs.remove(&job)
        {
            ended.push(Ended {
                due: Instant::now() + SETTLE,
                result,
                queued,
            });
        }
        let now = Instant::now();
        if now >= check {
            check = now + limits::PROGRESS;
            ended.extend(unheard(manager, &mut jobs)?);
        }
        for settled in ended.extract_if(.., |ended| ended.due <= now) {
            conclude(manager, &settled, work);
        }
    }
    for settled in &ended {
        conclude(manager, settled, work);
    }
    Ok(())
}

/// The jobs that ended without our hearing of it, as systemd's own restart can make us miss it.
fn unheard(manager: &mut Manager, jobs: &mut BTreeMap<Job, Queued>) -> Result<Vec<Ended>, Fault> {
    let mut over = Vec::new();
    for (job, queued) in &*jobs {
        let now = patiently(|| manager.look(&queued.target.unit.id))?;
        if now.job_type.is_empty() {
            over.push(*job);
        }
    }
    let (due, result) = (Instant::now(), "done".to_owned());
    let ended = over.iter().filter_map(|job| jobs.remove(job));
    let ended = ended.map(|queued| Ended {
        due,
        result: result.clone(),
        queued,
    });
    Ok(ended.collect())
}

/// Looks at a unit whose job has ended, and reports it.
fn conclude(manager: &mut Manager, ended: &Ended, work: &Work) {
    let Queued { target, task } = &ended.queued;
    let before = &target.unit;
    let now = patiently(|| Ok((manager.look(&before.id)?, manager.result(before)?)));
    let trouble = match now {
        Ok((now, result)) => trouble((before, *task), &ended.result, &now, &result),
        Err(fault) => Some(fault.to_string()),
    };
    match trouble {
        None => work.told(&target.names, target.outcome, ""),
        Some(trouble) => work.told(&target.names, UnitOutcome::Failed, &trouble),
    }
}
