//! An operator with a key for each unit of a booted host, and what became of the units when it sends.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::Value;

use crate::{Host, Operator, Ran};

/// The longest a push may take, whatever its units do.
const PUSH: Duration = Duration::from_secs(30);

/// Such an operator. All keys have one value, which each send sets.
pub struct Telling<'a> {
    host: &'a Host,
    /// Whose manifest it is.
    pub operator: Operator,
}

/// What became of a send.
pub struct Told {
    /// The exit code of `keys`.
    pub exit: i32,
    /// A line for each unit: `lab-web.service: failed masked`.
    pub units: String,
    /// All of it.
    ran: Ran,
}

impl<'a> Telling<'a> {
    /// Makes one. The unit of a case `web` stands for a key `web` that restarts `lab-web.service`, and `reload:web` for
    /// one that reloads it; `a.service` is the unit itself, and `a*.service` a pattern.
    #[must_use]
    pub fn of(host: &'a Host, units: &[&str]) -> Self {
        let operator = Operator::of_host(host);
        let mut text = String::from("[hosts.pigeon]\n");
        for unit in units {
            let (how, unit) = unit.split_once(':').unwrap_or(("restart", unit));
            let name = match unit {
                whole if whole.contains('.') => whole.to_owned(),
                short => format!("lab-{short}.service"),
            };
            let key = unit.replace(['*', '?', '[', ']', '!'], "_");
            let _infallible = write!(
                text,
                "[keys.\"{key}\"]\nhosts = [\"pigeon\"]\nsource = {{ command = [\"cat\", \"value\"] }}\n\
                 {how}_units = [\"{name}\"]\n"
            );
        }
        operator.manifest(&text);
        Self { host, operator }
    }

    /// Gives every key this value and sends them; all must be in place then, whatever became of the units.
    #[must_use]
    pub fn send(&self, value: &str) -> Told {
        self.operator.write("value", value);
        let ran = self.operator.keys("send --json --include pigeon");
        assert!(ran.took < PUSH, "longer than {PUSH:?}\n{ran}");
        let report: Value =
            serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}\n{ran}"));
        let host = &report["hosts"][0];
        let list = |name: &str| match &host[name] {
            Value::Array(list) => list.clone(),
            other => panic!("{name}: {other}\n{ran}"),
        };
        for key in list("keys") {
            let name = key["name"].as_str().expect("a name");
            let there = self.host.inside().read(&format!("/run/keys/{name}"));
            assert!(there == value.as_bytes(), "{name} is not in place\n{ran}");
        }
        let text = |unit: &Value, field: &str| unit[field].as_str().unwrap_or_default().to_owned();
        let units: BTreeMap<String, String> = list("units")
            .iter()
            .map(|unit| {
                let outcome = format!("{} {}", text(unit, "outcome"), text(unit, "detail"));
                (text(unit, "unit"), outcome.trim_end().to_owned())
            })
            .collect();
        let mut lines = String::new();
        for (unit, outcome) in units {
            let _infallible = writeln!(lines, "{unit}: {outcome}");
        }
        let (exit, units) = (ran.code(), lines);
        Told { exit, units, ran }
    }
}

impl Told {
    /// Panics unless `keys` ended with `exit` and said these lines of units, sorted.
    pub fn is(&self, exit: i32, units: &[&str]) {
        let expected = units
            .iter()
            .fold(String::new(), |all, line| all + line + "\n");
        assert!(
            self.exit == exit && self.units == expected,
            "exit {exit} was expected, and:\n{expected}there was exit {}, and:\n{}\n{}",
            self.exit,
            self.units,
            self.ran
        );
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}; {}", self.exit, self.units.trim_end())
    }
}
