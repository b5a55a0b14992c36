//! A unit as systemd knows it: which a pattern means, and whether a job has done its work.

use std::collections::BTreeMap;

use keys_protocol::{UnitOutcome, UnitPattern, limits};

use crate::task::{Task, Untold};

/// A unit as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its first name; the one it was asked by may be an alias.
    pub(crate) id: String,
    /// Whether there is such a unit: `loaded`, `not-found`, `masked`, `bad-setting`.
    pub(crate) load: String,
    /// Whether it runs.
    pub(crate) active: Active,
    /// The finer state, as the type of unit has it.
    pub(crate) sub: String,
    /// What is being done to it: `restart`, `stop`, or nothing.
    pub(crate) job_type: String,
    /// By which job, if there is one.
    pub(crate) job: Job,
    /// Its place on the bus.
    pub(crate) path: String,
}

impl Unit {
    /// The job after which it runs with what it finds then, if there is one.
    pub(crate) fn starts(&self) -> Option<Job> {
        matches!(self.job_type.as_str(), "start" | "restart" | "reload").then_some(self.job)
    }

    /// The job that does this, if there is one.
    pub(crate) fn does(&self, task: Task) -> Option<Job> {
        match task {
            Task::Stop => (self.job_type == "stop").then_some(self.job),
            Task::Start | Task::Reload | Task::Restart => self.starts(),
        }
    }
}

/// Whether a unit runs, as `systemctl is-active` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Active {
    Running,
    Reloading,
    Activating,
    Deactivating,
    Inactive,
    Failed,
    /// A state of a later version.
    Other,
}

impl Active {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "active" => Self::Running,
            "reloading" | "refreshing" => Self::Reloading,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            _ => Self::Other,
        }
    }

    /// The word of `systemctl`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "active",
            Self::Reloading => "reloading",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Other => "in a state unknown to keys-agent",
        }
    }
}

/// A job of the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job(pub(crate) u32);

/// The units that a pattern stands for, by name, or what to report instead: of those that systemd knows, what is loaded
/// or runs. Others are only named by a unit that is.
pub(crate) fn matched(units: Vec<Unit>) -> Result<BTreeMap<UnitPattern, Unit>, Untold> {
    let counts = |unit: &Unit| unit.load == "loaded" || unit.active != Active::Inactive;
    let units = units.into_iter().filter(counts);
    // What matched a pattern of units is the name of one.
    let named = units.filter_map(|unit| Some((unit.id.parse().ok()?, unit)));
    let units: BTreeMap<_, _> = named.collect();
    let most = limits::UNITS_PER_GLOB;
    match units.len() {
        0 => Err((UnitOutcome::NotRunning, "no unit matches".to_owned())),
        many if many > most => {
            let text = format!("{many} units match, at most {most} are told");
            Err((UnitOutcome::Failed, text))
        }
        _ => Ok(units),
    }
}

/// What is wrong with a unit after its job, if anything: `job` is the job's result, `result` the service's.
pub(crate) fn trouble(
    (before, task): (&Unit, Task),
    job: &str,
    now: &Unit,
    result: &str,
) -> Option<String> {
    let stands = match now.active {
        Active::Running | Active::Reloading => task != Task::Stop,
        Active::Activating => task != Task::Stop && !now.sub.starts_with("auto-restart"),
        // However it came to that, it was to be stopped.
        Active::Inactive | Active::Failed if task == Task::Stop => true,
        // A oneshot that has done what it does, or was at work and has done it again.
        Active::Inactive => {
            (task == Task::Start || before.active == Active::Activating) && result == "success"
        }
        Active::Deactivating | Active::Failed | Active::Other => false,
    };
    let state = now.active.word();
    match (job, stands) {
        ("done", true) => None,
        ("done", false) => Some(format!("{state} (result {result})")),
        (_, false) if now.active == Active::Failed => Some(format!("failed (result {result})")),
        (_, _) => Some(format!("the job ended as `{job}`, the unit is {state}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(load: &str, active: Active, sub: &str) -> Unit {
        Unit {
            load: load.to_owned(),
            active,
            sub: sub.to_owned(),
            job_type: String::new(),
            job: Job(0),
            path: "/".to_owned(),
            id: "a.service".to_owned(),
        }
    }

    #[test]
    fn a_pattern_stands_for_what_is_loaded_or_runs_and_for_not_too_many() {
        let unit = |number: usize, load: &str, active| Unit {
            id: format!("a{number}.service"),
            ..unit(load, active, "")
        };
        let check = |units: Vec<Unit>, expected: &[&str]| {
            let names: Vec<String> = match matched(units) {
                Ok(units) => units.keys().map(ToString::to_string).collect(),
                Err((outcome, detail)) => vec![format!("{outcome:?} {detail}")],
            };
            assert_eq!(names, expected);
        };
        check(
            vec![
                unit(1, "loaded", Active::Running),
                unit(2, "loaded", Active::Inactive),
                unit(3, "not-found", Active::Inactive),
                unit(4, "masked", Active::Inactive),
                unit(5, "masked", Active::Running),
            ],
            &["a1.service", "a2.service", "a5.service"],
        );
        let nothing = ["NotRunning no unit matches"];
        check(vec![unit(1, "not-found", Active::Inactive)], &nothing);
        check(vec![], &nothing);
        let many = (0..257).map(|number| unit(number, "loaded", Active::Running));
        let too_many = ["Failed 257 units match, at most 256 are told"];
        check(many.collect(), &too_many);
    }

    #[test]
    fn a_job_that_is_done_is_not_yet_a_unit_that_runs() {
        use Active::{Activating, Failed, Inactive};
        let check = |(before, job, now, sub, result), expected: Option<&str>| {
            let (before, now) = (unit("loaded", before, ""), unit("loaded", now, sub));
            assert_eq!(
                trouble((&before, Task::Restart), job, &now, result).as_deref(),
                expected,
                "{now:?}"
            );
        };
        let ran = Active::Running;
        check((ran, "done", ran, "running", "success"), None);
        check((ran, "done", Activating, "start", "success"), None);
        check((Activating, "done", Inactive, "dead", "success"), None);
        check(
            (ran, "done", Failed, "failed", "exit-code"),
            Some("failed (result exit-code)"),
        );
        check(
            (ran, "failed", Failed, "failed", "start-limit-hit"),
            Some("failed (result start-limit-hit)"),
        );
        check(
            (ran, "done", Activating, "auto-restart", "exit-code"),
            Some("activating (result exit-code)"),
        );
        check(
            (ran, "done", Inactive, "dead", "success"),
            Some("inactive (result success)"),
        );
        check(
            (ran, "failed", ran, "running", "success"),
            Some("the job ended as `failed`, the unit is active"),
        );
        check(
            (ran, "dependency", Inactive, "dead", "success"),
            Some("the job ended as `dependency`, the unit is inactive"),
        );
    }
    #[test]
    fn a_job_has_done_what_it_was_to_do() {
        use Active::{Activating, Failed, Inactive, Running};
        let check = |task, (before, now, result), expected: Option<&str>| {
            let (before, now) = (unit("loaded", before, ""), unit("loaded", now, ""));
            let got = trouble((&before, task), "done", &now, result);
            assert_eq!(got.as_deref(), expected, "{task:?}, {now:?}");
        };
        check(Task::Start, (Inactive, Running, "success"), None);
        check(Task::Start, (Inactive, Activating, "success"), None);
        check(Task::Start, (Inactive, Inactive, "success"), None);
        let failed = Some("failed (result exit-code)");
        check(Task::Start, (Inactive, Failed, "exit-code"), failed);
        check(Task::Stop, (Running, Inactive, "success"), None);
        check(Task::Stop, (Running, Failed, "timeout"), None);
        let runs = Some("active (result success)");
        check(Task::Stop, (Running, Running, "success"), runs);
    }
}
