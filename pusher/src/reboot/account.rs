//! What is told of a reboot: what will be lost, then each host as it is done, and the exit code that sums it up.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::deliver::Delivery;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::reboot::dependents::{missing, runs};
use crate::reboot::fates;
use crate::reboot::loss::Loss;
use crate::reboot::turn::Rebooted;
use crate::report::{self, Tense};

/// Everything told so far.
pub(crate) struct Account<'a> {
    out: &'a mut Output,
    /// What each host will have lost, for the document.
    lost: Map<String, Value>,
    exits: Vec<Exit>,
    hosts: Vec<Value>,
}

impl<'a> Account<'a> {
    /// Says what will be lost, before anything is.
    pub(crate) fn open(losses: &[Loss], out: &'a mut Output) -> io::Result<Self> {
        let mut lost = Map::new();
        for loss in losses {
            let host = loss.push.host.name.as_str();
            let mut names = Vec::new();
            for (name, fate) in fates(loss) {
                out.line(format_args!("{host}: {name}: {fate}"))?;
                names.push(name);
            }
            lost.insert(host.to_owned(), json!(names));
        }
        out.finish()?;
        Ok(Self {
            out,
            lost,
            exits: Vec::new(),
            hosts: Vec::new(),
        })
    }

    /// Returns whether a host is not as it should be.
    pub(crate) fn has_failure(&self) -> bool {
        self.exits.iter().any(|exit| *exit != Exit::Success)
    }

    /// Tells of hosts that had their turn.
    pub(crate) fn enter(&mut self, results: Vec<Delivery<Rebooted>>) -> io::Result<()> {
        for one in results {
            let host = one.host.name.as_str();
            let exit = match &one.result {
                Err(failure) => {
                    self.out.failure(&failure.clone().at(host));
                    failure.exit
                }
                Ok(rebooted) => self.tell(host, rebooted)?,
            };
            self.exits.push(exit);
            let lost = self.lost.remove(host);
            self.hosts.push(document(&one, exit, lost));
        }
        self.out.finish()
    }

    fn tell(&mut self, host: &str, rebooted: &Rebooted) -> io::Result<Exit> {
        self.out.line(format_args!(
            "{host}: rebooted: back after {}",
            seconds(rebooted.back)
        ))?;
        report::print_host(host, &rebooted.pushed, Tense::Past, self.out)?;
        self.out.line(format_args!(
            "{host}: {} keys sent in {}",
            rebooted.pushed.outcome.keys.len(),
            seconds(rebooted.sent)
        ))?;
        let down = missing(&rebooted.before, &rebooted.now);
        for unit in &down {
            let state = rebooted.now.get(*unit).map_or("gone", String::as_str);
            let text = format!("it was active before the reboot, and is {state}");
            let failure = Failure::new(Exit::Unit, text);
            self.out
                .failure(&failure.at(format_args!("{host}: {unit}")));
        }
        let running = rebooted.now.values().filter(|state| runs(state)).count();
        self.out.line(format_args!(
            "{host}: {running} of {} units active {} later",
            rebooted.now.len(),
            seconds(rebooted.active)
        ))?;
        Ok(exit_of(rebooted, &down))
    }

    /// Prints the document of `--json`, and sums up. Without a turn taken, that is a plan.
    pub(crate) fn close(mut self) -> Result<Exit, Failure> {
        let exit = if self.exits.is_empty() {
            Exit::Changes
        } else {
            report::sum_up(&self.exits)
        };
        for (host, lost) in std::mem::take(&mut self.lost) {
            self.hosts.push(json!({ "host": host, "lost": lost }));
        }
        if self.out.is_json() {
            let document = json!({ "exit": exit as u8, "hosts": self.hosts });
            self.out.json(&document).map_err(Failure::output)?;
        }
        self.out.finish().map_err(Failure::output)?;
        Ok(exit)
    }
}

/// The keys as a send counts them; of units, how they are in the end, not how they were on the way.
fn exit_of(rebooted: &Rebooted, down: &[&str]) -> Exit {
    match report::exit_of_pushed(&rebooted.pushed, Tense::Past) {
        Exit::Success | Exit::Unit if !down.is_empty() => Exit::Unit,
        Exit::Unit
            if report::failed_units(&rebooted.pushed).all(|unit| runs_now(rebooted, unit)) =>
        {
            Exit::Success
        }
        exit => exit,
    }
}

fn runs_now(rebooted: &Rebooted, unit: &str) -> bool {
    rebooted.now.get(unit).is_some_and(|state| runs(state))
}

fn document(one: &Delivery<Rebooted>, exit: Exit, lost: Option<Value>) -> Value {
    let host = one.host.name.as_str();
    let exit = exit as u8;
    match &one.result {
        Err(failure) => {
            json!({ "host": host, "exit": exit, "lost": lost, "error": failure.to_string(), "hint": failure.advice() })
        }
        Ok(rebooted) => json!({
            "host": host, "exit": exit, "lost": lost, "keys": rebooted.pushed.outcome.keys,
            "seconds": {
                "back": rebooted.back.as_secs_f64(), "sent": rebooted.sent.as_secs_f64(),
                "active": rebooted.active.as_secs_f64(),
            },
            "units": rebooted.now,
        }),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
