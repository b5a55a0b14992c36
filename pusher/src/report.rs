//! What became of each host, told to people and to programs, and the exit code that sums it up.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use keys_protocol::limits::TEXT;
use keys_protocol::{KeyName, KeyOutcome, KeyResult, Purpose, UnitOutcome, UnitResult, printable};
use serde_json::{Value, json};

use crate::deliver::{Delivery, Pushed};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::seal::Seal;

/// Whether the outcomes happened or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tense {
    Past,
    Conditional,
}

impl Tense {
    pub(crate) fn of(purpose: Purpose) -> Self {
        if purpose == Purpose::Plan {
            Self::Conditional
        } else {
            Self::Past
        }
    }
}

/// Prints one line per change and per failure, or one JSON document, and sums up.
pub(crate) fn print(
    deliveries: &[Delivery<Pushed>],
    tense: Tense,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let exits: Vec<Exit> = deliveries
        .iter()
        .map(|delivery| exit_of(delivery, tense))
        .collect();
    let exit = sum_up(&exits);
    write(deliveries, (tense, &exits), out)
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    Ok(exit)
}

fn write(
    deliveries: &[Delivery<Pushed>],
    (tense, exits): (Tense, &[Exit]),
    out: &mut Output,
) -> io::Result<()> {
    if out.is_json() {
        let hosts: Vec<Value> = deliveries
            .iter()
            .zip(exits)
            .map(|(delivery, exit)| as_json(delivery, *exit))
            .collect();
        out.json(&json!({ "exit": sum_up(exits) as u8, "hosts": hosts }))?;
    }
    for delivery in deliveries {
        let host = &delivery.host.name;
        match &delivery.result {
            Err(failure) => out.failure(&failure.clone().at(host)),
            Ok(pushed) => print_host(host.as_str(), pushed, tense, out)?,
        }
    }
    Ok(())
}

/// Prints what became of one host.
pub(crate) fn print_host(
    host: &str,
    pushed: &Pushed,
    tense: Tense,
    out: &mut Output,
) -> io::Result<()> {
    let mut causes = causes(pushed);
    for key in &pushed.outcome.keys {
        match describe(key, causes.remove(&key.name)) {
            Line::Silent => {}
            Line::Change(text) => out.line(format_args!("{host}: {}: {text}", key.name))?,
            Line::Failure(failure) => {
                out.failure(&failure.at(format_args!("{host}: {}", key.name)));
            }
        }
    }
    // What is left are folders: which keys they are is not known, and the host heard nothing of them.
    for (name, failure) in causes {
        out.failure(&failure.clone().at(format_args!("{host}: {name}")));
    }
    for unit in &pushed.outcome.units {
        let words = unit_words(unit, tense);
        if unit.outcome == UnitOutcome::Failed {
            out.failure(&Failure::new(Exit::Unit, words).at(format_args!("{host}: {}", unit.unit)));
        } else if !is_untouched(unit) {
            out.line(format_args!("{host}: {}: {words}", unit.unit))?;
        }
    }
    if let Seal::Made(made) = &pushed.seal {
        let until = day(made.offer.expires);
        out.line(format_args!(
            "{host}: sealed bundle: stored, good until {until}"
        ))?;
    }
    for stray in &pushed.outcome.inventory.strays {
        out.remark(format_args!(
            "{host}: {} in the folder of the keys was not made by keys and stays",
            printable(&stray.name, TEXT)
        ));
    }
    Ok(())
}

/// Returns the day of a time in seconds since 1970, in UTC.
pub(crate) fn day(seconds: u64) -> String {
    let when = Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX));
    when.map_or_else(
        |_| format!("second {seconds}"),
        |when| when.strftime("%Y-%m-%d").to_string(),
    )
}

/// Why keys have no secret.
fn causes(pushed: &Pushed) -> BTreeMap<&KeyName, &Failure> {
    let failed = pushed.failed.iter();
    failed.map(|(name, failure)| (name, failure)).collect()
}

enum Line {
    Silent,
    Change(String),
    Failure(Failure),
}

fn describe(key: &KeyResult, source: Option<&Failure>) -> Line {
    let detail = printable(&key.detail, TEXT);
    if let Some(pending) = source.filter(|failure| failure.is_pending()) {
        return Line::Change(pending.to_string());
    }
    let refused =
        |what: &str| Line::Failure(Failure::new(Exit::Refused, format!("{detail}{what}")));
    match key.outcome {
        KeyOutcome::Unchanged | KeyOutcome::Foreign => Line::Silent,
        KeyOutcome::New => Line::Change("new".into()),
        KeyOutcome::Changed => Line::Change(format!("changed ({detail})")),
        KeyOutcome::Removed => Line::Change("removed".into()),
        KeyOutcome::FailedKept => refused("; the version that was there stays"),
        KeyOutcome::Failed => {
            source.map_or_else(|| refused(""), |failure| Line::Failure(failure.clone()))
        }
        KeyOutcome::Kept => source.map_or(Line::Silent, |failure| Line::Failure(failure.clone())),
    }
}

/// Returns whether there was nothing to do about a unit, as is to be expected. That a pattern stands for none is not.
fn is_untouched(unit: &UnitResult) -> bool {
    match unit.outcome {
        UnitOutcome::Running => true,
        UnitOutcome::NotRunning => !unit.unit.is_glob(),
        _ => false,
    }
}

fn unit_words(unit: &UnitResult, tense: Tense) -> String {
    let done = match unit.outcome {
        UnitOutcome::Restarted => "restarted",
        UnitOutcome::Reloaded => "reloaded",
        UnitOutcome::Started => "started",
        UnitOutcome::Stopped => "stopped",
        UnitOutcome::Signalled => "signalled",
        UnitOutcome::Running => "running",
        // A pattern: that no unit matches.
        UnitOutcome::NotRunning if unit.unit.is_glob() => return printable(&unit.detail, TEXT),
        UnitOutcome::NotRunning => "not running",
        UnitOutcome::StillRestarting => "still restarting",
        UnitOutcome::Failed => return printable(&unit.detail, TEXT),
    };
    match tense {
        Tense::Past => done.to_owned(),
        Tense::Conditional => format!("would be {done}"),
    }
}

fn exit_of(delivery: &Delivery<Pushed>, tense: Tense) -> Exit {
    match &delivery.result {
        Err(failure) => failure.exit,
        Ok(pushed) => exit_of_pushed(pushed, tense),
    }
}

/// How a host that was reached ends.
pub(crate) fn exit_of_pushed(pushed: &Pushed, tense: Tense) -> Exit {
    let mut causes = causes(pushed);
    let (mut wanted, mut bad, mut pending) = (0, 0, 0);
    for key in &pushed.outcome.keys {
        let is_pending = causes.remove(&key.name).is_some_and(Failure::is_pending);
        pending += usize::from(is_pending);
        bad += usize::from(!is_pending && is_refused(key.outcome));
        wanted += usize::from(is_wanted(key.outcome));
    }
    // Folders that the host heard nothing of.
    wanted += causes.len();
    bad += causes.len();
    match (bad, tense) {
        (0, Tense::Conditional) if pending > 0 || !pushed.outcome.is_in_place() => Exit::Changes,
        (0, Tense::Past) if has_failed_unit(pushed) => Exit::Unit,
        (0, _) => Exit::Success,
        (bad, _) if bad < wanted => Exit::Partial,
        _ if pushed.failed.len() == bad + pending => Exit::Source,
        _ => Exit::Refused,
    }
}

fn is_wanted(outcome: KeyOutcome) -> bool {
    !matches!(outcome, KeyOutcome::Foreign | KeyOutcome::Removed)
}

fn is_refused(outcome: KeyOutcome) -> bool {
    matches!(
        outcome,
        KeyOutcome::Failed | KeyOutcome::FailedKept | KeyOutcome::Kept
    )
}

fn has_failed_unit(pushed: &Pushed) -> bool {
    failed_units(pushed).next().is_some()
}

/// Returns the units that could not be told, or did not come up again.
pub(crate) fn failed_units(pushed: &Pushed) -> impl Iterator<Item = &str> {
    let failed = |unit: &&UnitResult| unit.outcome == UnitOutcome::Failed;
    let units = pushed.outcome.units.iter().filter(failed);
    units.map(|unit| unit.unit.as_str())
}

/// One host: its cause. Several: 3 if any is in place, else the common cause, or 1.
pub(crate) fn sum_up(exits: &[Exit]) -> Exit {
    let failed: Vec<Exit> = exits
        .iter()
        .copied()
        .filter(|exit| !is_in_place(*exit))
        .collect();
    match failed.split_first() {
        None => exits.iter().copied().max().unwrap_or(Exit::Success),
        Some((first, rest))
            if failed.len() == exits.len() && rest.iter().all(|exit| exit == first) =>
        {
            *first
        }
        Some(_) if failed.len() == exits.len() && !failed.contains(&Exit::Partial) => Exit::Failed,
        Some(_) => Exit::Partial,
    }
}

fn is_in_place(exit: Exit) -> bool {
    matches!(exit, Exit::Success | Exit::Changes | Exit::Unit)
}

fn as_json(delivery: &Delivery<Pushed>, exit: Exit) -> Value {
    let host = delivery.host.name.as_str();
    match &delivery.result {
        Err(failure) => {
            json!({ "host": host, "exit": exit as u8, "error": failure.to_string(), "hint": failure.advice() })
        }
        Ok(pushed) => {
            let outcome = &pushed.outcome;
            let sources: Vec<Value> = pushed
                .failed
                .iter()
                .map(|(name, failure)| {
                    let what = if failure.is_pending() {
                        "pending"
                    } else {
                        "error"
                    };
                    json!({ "key": name, what: failure.to_string() })
                })
                .collect();
            let bundle = match &pushed.seal {
                Seal::Made(made) => {
                    json!({ "epoch": made.offer.epoch, "expires": made.offer.expires })
                }
                Seal::Dropped | Seal::Untouched => Value::Null,
            };
            json!({
                "host": host, "exit": exit as u8, "generation": outcome.generation, "bundle": bundle, "boot": outcome.inventory.hello.boot,
                "keys": outcome.keys, "units": outcome.units, "sources": sources, "strays": outcome.inventory.strays,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_end_with_their_common_cause_or_with_partial() {
        let check =
            |exits: &[Exit], expected: Exit| assert_eq!(sum_up(exits), expected, "{exits:?}");
        check(&[], Exit::Success);
        check(&[Exit::Success, Exit::Success], Exit::Success);
        check(&[Exit::Success, Exit::Unit], Exit::Unit);
        check(&[Exit::Success, Exit::Changes], Exit::Changes);
        check(&[Exit::HostKey], Exit::HostKey);
        check(&[Exit::Partial], Exit::Partial);
        check(&[Exit::Unreachable, Exit::Unreachable], Exit::Unreachable);
        check(&[Exit::Unreachable, Exit::HostKey], Exit::Failed);
        check(&[Exit::Success, Exit::HostKey], Exit::Partial);
        check(&[Exit::Unit, Exit::Unreachable], Exit::Partial);
        check(&[Exit::Partial, Exit::Unreachable], Exit::Partial);
    }
}
