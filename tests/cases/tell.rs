//! Whom keys tell, and how: patterns of units; starting, stopping, signals.

use keys_protocol::{How, UnitOutcome};
use keys_tests::{Host, LIMIT, Release, Session, Telling, wait_for};

/// A pattern stands for the services that systemctl itself would restart by it, each restarted once whatever else names
/// it; one that stands for none is said to, and is no failure.
#[test]
fn a_pattern_tells_the_loaded_services_that_match_it() {
    const PATTERN: &str = "lab-run-[0-9].service";
    for release in Release::ALL {
        let host = Host::served(release);
        host.service("run-3", "");
        host.services(&[("run-1", ""), ("run-2", ""), ("run-x", ""), ("other", "")]);
        let list = format!("systemctl list-units --plain --no-legend '{PATTERN}' | cut -d' ' -f1");
        let loaded = host.run(&list).succeeded().text();
        assert_eq!(
            loaded, "lab-run-1.service\nlab-run-2.service\n",
            "{release:?}"
        );

        let telling = Telling::of(&host, &[PATTERN, "run-1", "reload:lab-none-*.service"]);
        let plan = telling
            .operator
            .keys("plan --include pigeon")
            .exited(2)
            .text();
        assert!(
            plan.contains("lab-none-*.service: no unit matches\n"),
            "{plan}"
        );
        assert!(
            plan.contains("lab-run-2.service: would be restarted\n"),
            "{plan}"
        );
        telling.send("1").is(
            0,
            &[
                "lab-none-*.service: not_running no unit matches",
                "lab-run-1.service: restarted",
                "lab-run-2.service: restarted",
            ],
        );
        let starts = ["run-1", "run-2", "run-3", "run-x", "other"].map(|name| host.starts(name));
        assert_eq!(starts, [2, 2, 0, 1, 1], "{release:?}");
        let left = host.run("ls -A /run/keys/.current/.pending").succeeded();
        assert_eq!(left.text(), "", "{release:?}: all is struck off");
    }
}

/// What a pusher of the first version cannot read, it is not sent: its push ends as it would have then.
#[test]
fn a_pusher_that_knows_no_patterns_hears_of_units_alone() {
    let host = Host::served(Release::Trixie);
    host.services(&[("run-1", "")]);
    let ended = Session::push(&host.inside(), &[("a", b"1"), ("b", b"1")], |push| {
        push.tell(0, "lab-run-*.service", How::Restart);
        push.tell(1, "lab-none-*.service", How::Restart);
    });
    let units = ended.committed().units;
    let units: Vec<_> = units
        .iter()
        .map(|unit| (unit.unit.as_str(), unit.outcome))
        .collect();
    assert_eq!(units, [("lab-run-1.service", UnitOutcome::Restarted)]);
}

/// Counts each SIGHUP.
const HANGS_UP: &str =
    "ExecStart=/bin/sh -c 'trap \"echo >>/run/lab/hangs.hups\" HUP; while :; do sleep 0.1; done'";
/// May start once.
const LIMIT_OF_ONE: &str = "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=1\n[Service]";

/// Keeps systemd from forgetting a unit that is stopped, and how often it was started.
const KEEPS_LIMIT: &str = "[Unit]\nAfter=lab-limit.service";

const KEYS: &str = r#"
[hosts.pigeon]
[keys.stays]
hosts = ["pigeon"]
source = { command = ["cat", "value"] }
[keys.goes]
hosts = ["pigeon"]
source = { command = ["cat", "value"] }
signal_units = { "lab-hangs.service" = "SIGHUP", "lab-down.service" = "SIGWINCH", "lab-once.service" = "SIGTERM" }
start_units = ["lab-down.service", "lab-once.service", "lab-masked.service", "lab-none.service", "lab-limit.service", "lab-up.service"]
stop_units = ["lab-down.service", "lab-u[p].service"]
"#;

/// What becomes of units that are started, stopped and sent signals, whatever state they are in: when the key comes, when it
/// changes, and when it goes.
#[test]
fn a_service_can_run_while_its_key_is_there() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.service("down", "");
        host.service("once", "Type=oneshot\nExecStart=/bin/true");
        host.service("limit", LIMIT_OF_ONE);
        host.services(&[("hangs", HANGS_UP), ("up", KEEPS_LIMIT)]);
        let _prepared = host
            .run("systemctl mask lab-masked; systemctl start lab-limit && systemctl stop lab-limit")
            .succeeded();
        let telling = Telling::of(&host, &[]);
        telling.operator.manifest(KEYS);
        let same = [
            "lab-hangs.service: signalled",
            "lab-limit.service: failed failed (result start-limit-hit)",
            "lab-masked.service: failed masked",
            "lab-none.service: failed no such unit",
            "lab-once.service: started",
            "lab-up.service: running",
        ];
        let first = [&["lab-down.service: started"], &same[..]].concat();
        telling.send("1").is(8, &first);
        // Whether systemd remembers the limit after it has read its units anew is its own affair.
        let manifest = KEYS.replace("\"lab-limit.service\", ", "");
        telling.operator.manifest(&manifest);
        let again = same.iter().filter(|said| !said.contains("lab-limit"));
        let again: Vec<&str> = ["lab-down.service: signalled"]
            .iter()
            .chain(again)
            .copied()
            .collect();
        telling.send("2").is(8, &again);
        telling.send("2").is(0, &[]);
        wait_for("two signals", LIMIT, || {
            let path = "/run/lab/hangs.hups";
            let inside = host.inside();
            (inside.has(path) && inside.read(path).len() == 2).then_some(())
        });
        assert_eq!(host.starts("hangs"), 1, "{release:?}");

        let without: Vec<&str> = KEYS.split("[keys.goes]").collect();
        telling.operator.manifest(without[0]);
        let ran = telling.operator.send("--include pigeon").succeeded();
        let mut lines: Vec<String> = ran.text().lines().map(str::to_owned).collect();
        lines.sort();
        let expected = [
            "pigeon: goes: removed",
            "pigeon: lab-down.service: stopped",
            "pigeon: lab-hangs.service: signalled",
            "pigeon: lab-up.service: stopped",
        ];
        assert_eq!(lines, expected, "{release:?}");
        for unit in ["lab-down.service", "lab-up.service"] {
            assert_eq!(
                host.property(unit, "ActiveState"),
                "inactive",
                "{release:?}: {unit}"
            );
        }
    }
}

/// What an agent refuses though no pusher would say it.
#[test]
fn the_agent_starts_no_patterns() {
    let host = Host::served(Release::Trixie);
    let ended = Session::push(&host.inside(), &[("a", b"1")], |push| {
        push.tell(0, "lab-run-*.service", How::Start);
    });
    let refused = ended.refused().message;
    assert_eq!(refused, "lab-run-*.service: only a name can be started");
}
