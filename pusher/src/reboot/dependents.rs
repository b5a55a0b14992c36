//! The units that keys tell: how they were before a reboot, and whether they are again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keys_protocol::limits::TEXT;
use keys_protocol::{UnitPattern, printable};
use tokio::time::{Instant, sleep};

use crate::failure::{Exit, Failure};
use crate::manifest::{Host, SshSettings};
use crate::remote;
use crate::ssh::{Asking, Verb};

/// Each unit's `ActiveState`, by the name that systemd has for it.
pub(crate) type States = BTreeMap<String, String>;

/// How long between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a unit may be down before it counts as down: what it depends on may still start it.
const GRACE: Duration = Duration::from_secs(30);

/// Asks the host's systemd.
pub(crate) async fn states(
    host: &Host,
    settings: &SshSettings,
    asking: Asking,
    units: &BTreeSet<UnitPattern>,
) -> Result<States, Failure> {
    if units.is_empty() {
        return Ok(States::new());
    }
    let names: Vec<u8> = units
        .iter()
        .flat_map(|unit| unit.as_str().bytes().chain([0]))
        .collect();
    let answer = remote::run(host, settings, (Verb::Units, asking), names).await?;
    match answer.ending.code() {
        Some(0) => Ok(parse(&answer.text)),
        None | Some(255) => Err(answer.ending.failure(host, b"")),
        Some(code) => {
            let said = answer.ending.last_line();
            let text = format!("cannot ask how its units are (exit status {code}): {said}");
            Err(Failure::new(Exit::Refused, text).hint(
                "a reboot wants a login with a shell; one that may only run keys-agent has none",
            ))
        }
    }
}

/// Reads the paragraphs of `systemctl show`.
fn parse(text: &str) -> States {
    let mut states = States::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| printable(value, TEXT))
        };
        if let (Some(unit), Some(state)) = (field("Id="), field("ActiveState=")) {
            states.insert(unit, state);
        }
    }
    states
}

/// Returns whether a unit in this state runs.
pub(crate) fn runs(state: &str) -> bool {
    matches!(state, "active" | "reloading" | "refreshing")
}

/// Returns the units that ran before and do not now.
pub(crate) fn missing<'a>(before: &'a States, now: &States) -> Vec<&'a str> {
    let ran = before.iter().filter(|(_, state)| runs(state));
    ran.map(|(unit, _)| unit.as_str())
        .filter(|unit| !now.get(*unit).is_some_and(|state| runs(state)))
        .collect()
}

/// Waits until `look` says that every unit that ran `before` runs again, or that this will not be.
pub(crate) async fn again<F: Future<Output = Result<States, Failure>>>(
    before: &States,
    until: Instant,
    mut look: impl FnMut() -> F,
) -> Result<States, Failure> {
    let grace = (Instant::now() + GRACE).min(until);
    loop {
        let seen = look().await;
        let over = match &seen {
            Ok(now) => {
                let missing = missing(before, now);
                let down = |unit: &&str| !now.get(*unit).is_some_and(|state| is_under_way(state));
                missing.is_empty() || (missing.iter().any(down) && Instant::now() >= grace)
            }
            Err(failure) => failure.exit == Exit::HostKey,
        };
        if over || Instant::now() >= until {
            return seen;
        }
        sleep(PAUSE).await;
    }
}

fn is_under_way(state: &str) -> bool {
    matches!(state, "activating" | "deactivating")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_become_states_in_whatever_order_their_lines_are() {
        let text =
            "Id=a.service\nActiveState=active\n\nActiveState=failed\nId=b\\x2d.service\n\nnoise\n";
        let states = parse(text);
        assert_eq!(states["a.service"], "active");
        assert_eq!(states["b\\x2d.service"], "failed");
        assert_eq!(states.len(), 2);
    }

    #[test]
    fn only_what_ran_before_is_missed() {
        let of = |states: &[(&str, &str)]| -> States {
            let owned = states
                .iter()
                .map(|(unit, state)| ((*unit).to_owned(), (*state).to_owned()));
            owned.collect()
        };
        let before = of(&[("a", "active"), ("b", "failed"), ("c", "reloading")]);
        assert_eq!(missing(&before, &of(&[("a", "active")])), ["c"]);
        assert_eq!(
            missing(&before, &of(&[("a", "activating"), ("c", "active")])),
            ["a"]
        );
    }
}
