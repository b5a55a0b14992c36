//! Units are told that their keys changed: after the commit, once each, whatever state they are in.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;

use keys_protocol::{RefusalCode, WireError};
use keys_tests::{Host, LIMIT, Operator, Push, Release, Session, Telling, wait_for};

/// Runs the first time, and ends at once when it is restarted.
const FALLS: &str =
    "ExecStart=/bin/sh -c '[ $$(wc -l </run/lab/falls.starts) = 1 ] && exec sleep infinity'";
/// Is ready the first time, and never again.
const NEVER: &str = "Type=notify\nNotifyAccess=all\nTimeoutStartSec=120\n\
    ExecStart=/bin/sh -c '[ $$(wc -l </run/lab/never.starts) = 2 ] || systemd-notify --ready; exec sleep infinity'";
/// May start once.
const LIMIT_OF_ONE: &str = "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=1\n[Service]";
/// Counts reloads.
const RELOADS: &str = "ExecReload=/bin/sh -c 'echo >>/run/lab/reload.reloads'";

/// What nobody may tell.
const HOSTILE: [&str; 22] = [
    "reboot.target",
    "poweroff.target",
    "-.mount",
    "init.scope",
    "-H evil",
    "--root=/x",
    "a;b",
    "a;b.service",
    "../x.service",
    "/x.service",
    "$(x).service",
    "a b.service",
    "-x.service",
    "*.service",
    "a[.service",
    "a*.target",
    "",
    ".service",
    "a.socket",
    "dbus.service\n",
    "dbus.service\0",
    "lab-web",
];

/// What is told, in the order of the names of the units, and what is said of each.
const STATES: [(&str, &str); 18] = [
    ("keys-agent.service", "keys-agent.service: still_restarting"),
    ("alias", "lab-alias.service: restarted"),
    ("bad", "lab-bad.service: failed bad-setting"),
    (
        "deactivating",
        "lab-deactivating.service: not_running stopping",
    ),
    ("failed", "lab-failed.service: not_running failed before"),
    (
        "falls",
        "lab-falls.service: failed failed (result exit-code)",
    ),
    ("inst@1", "lab-inst@1.service: restarted"),
    (
        "limit",
        "lab-limit.service: failed failed (result start-limit-hit)",
    ),
    ("masked", "lab-masked.service: failed masked"),
    ("missing", "lab-missing.service: failed no such unit"),
    ("never", "lab-never.service: still_restarting"),
    ("reload:noreload", "lab-noreload.service: restarted"),
    ("other", "lab-other.service: restarted"),
    (
        "refuses",
        "lab-refuses.service: failed systemd refused: Operation refused, unit lab-refuses.service may be requested by \
         dependency only (it is configured to refuse manual start/stop)",
    ),
    ("reload:reload", "lab-reload.service: reloaded"),
    ("running", "lab-running.service: restarted"),
    ("stopped", "lab-stopped.service: not_running"),
    ("stuck", "lab-stuck.service: still_restarting"),
];

/// How often each was started in all.
const STARTS: [(&str, usize); 8] = [
    ("running", 2),
    ("alias", 2),
    ("inst", 2),
    ("noreload", 2),
    ("reload", 1),
    ("stopped", 0),
    ("failed", 1),
    ("stuck", 2),
];

/// F2: whatever state a unit is in, the keys land, the unit has a report of its own, and the push ends. The agent's own
/// service (F11) is in a state of its own: it cannot restart before the push ends.
#[test]
fn a_unit_in_any_state_is_reported_and_holds_no_push_up() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let telling = Telling::of(&host, &STATES.map(|(unit, _)| unit));
        // Keys that systemd has yet to hear of have it read everything again, which forgets what was started.
        let _heard_of = telling.send("0");
        prepare_every_state(&host);
        telling.send("1").is(8, &STATES.map(|(_, said)| said));
        let starts = STARTS.map(|(name, _)| (name, host.starts(name)));
        assert_eq!(starts, STARTS, "{release:?}: how often each was started");
        assert_eq!(host.inside().read("/run/lab/reload.reloads"), b"\n");
        wait_for("the agent to be restarted", LIMIT, || {
            (host.property("keys-agent.service", "StatusText") == "waiting").then_some(())
        });
        let _status = telling.operator.keys("status --include pigeon").succeeded();
    });
}

/// Makes a service in every state there is.
fn prepare_every_state(host: &Host) {
    host.service("stopped", "");
    host.service("failed", "ExecStart=/bin/false");
    host.service("stuck", "Type=oneshot\nExecStart=/bin/sleep 600");
    host.service("limit", LIMIT_OF_ONE);
    host.service("refuses", "[Unit]\nRefuseManualStart=yes");
    host.unit("lab-bad.service", "[Service]\nType=simple\n");
    let count =
        "ExecStartPre=/bin/sh -c 'echo >>/run/lab/inst.starts'\nExecStart=/bin/sleep infinity\n";
    host.unit("lab-inst@.service", &format!("[Service]\n{count}"));
    // Not in /etc, where masking puts its link.
    let masked = "/usr/lib/systemd/system/lab-masked.service";
    host.tree()
        .write(masked, "[Service]\nExecStart=/bin/sleep infinity\n", 0o644);
    let link = host.tree().path("/etc/systemd/system/lab-other.service");
    symlink("lab-alias.service", link).expect("the tree can be written");
    host.services(&[
        ("running", ""),
        ("alias", ""),
        ("never", NEVER),
        ("falls", FALLS),
        ("reload", RELOADS),
        ("noreload", ""),
        ("deactivating", "ExecStop=/bin/sleep 600"),
        ("starter", "[Unit]\nWants=lab-refuses.service"),
    ]);
    // The one with a limit last: masking has systemd read everything again, which forgets what was started.
    let rest = "systemctl start lab-inst@1 lab-masked && systemctl mask lab-masked && systemctl start --no-block lab-stuck \
                && systemctl start lab-limit && systemctl start lab-failed; systemctl stop --no-block lab-deactivating";
    let _prepared = host.run(rest).succeeded();
    for (unit, state) in [
        ("stuck", "activating"),
        ("failed", "failed"),
        ("deactivating", "deactivating"),
    ] {
        wait_for(&format!("{unit} to be {state}"), LIMIT, || {
            let now = host.property(&format!("lab-{unit}.service"), "ActiveState");
            (now == state).then_some(())
        });
    }
}

/// F3: a name that is no service's is refused on both sides, and nothing happens to anything.
#[test]
fn only_services_can_be_told() {
    let host = Host::served(Release::Bookworm);
    host.services(&[("web", "")]);
    let operator = Operator::of_host(&host);
    let state = "systemctl list-units --all --no-legend --plain --full | sort; systemctl list-jobs";
    let before = host.run(state).succeeded().text();
    let long = format!("{}.service", "x".repeat(300));
    for name in HOSTILE.into_iter().chain([long.as_str()]) {
        let unit = serde_json::to_string(name).expect("a text");
        let manifest = format!(
            r#"{{"ssh": {{"config": "{}"}}, "hosts": {{"pigeon": {{}}}}, "keys": {{"a": {{"hosts": ["pigeon"],
            "source": {{"command": ["true"]}}, "restart_units": [{unit}]}}}}}}"#,
            operator.ssh("config").display()
        );
        operator.write("keys.json", manifest);
        let _refused = operator
            .keys("-f keys.json send --include pigeon")
            .exited(64);
        agent_refuses(&operator, &unit);
    }
    println!("{} names", HOSTILE.len() + 1);
    assert_eq!(host.run(state).succeeded().text(), before);
    assert_eq!(host.starts("web"), 1);
}

/// Tells the agent itself of a unit that no pusher would name, in JSON.
fn agent_refuses(operator: &Operator, unit: &str) {
    let command = operator.ssh_command(&["pigeon", "keys-agent receive"]);
    let mut session = Session::of(command).expect("an agent");
    let (hello, ..) = session.hello().expect("a greeting");
    let mut push = Push::of(&hello.nonce, &[("a", b"")]);
    push.keys[0].0.units = 1;
    session.announce(&push).expect("it listens");
    let payload = format!(r#"{{"unit":{unit},"how":"restart"}}"#);
    let length = u32::try_from(payload.len()).expect("short");
    let frame = [&length.to_be_bytes()[..], &[0x12], payload.as_bytes()].concat();
    session.say(&frame).expect("it listens");
    match session.needs() {
        Err(WireError::Refused(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::Protocol, "{unit}");
        }
        other => panic!("{unit}: a refusal was expected: {other:?}"),
    }
    let _ended = session.close();
}

/// F6: thirty keys, one unit, one restart.
#[test]
fn a_unit_of_many_keys_is_restarted_once() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("web", "")]);
        let operator = Operator::of_host(&host);
        let mut text = String::from("[hosts.pigeon]\n");
        for number in 0..30 {
            let _infallible = write!(
                text,
                "[keys.k{number}]\nhosts = [\"pigeon\"]\nsource = {{ command = [\"cat\", \"value\"] }}\n\
                 restart_units = [\"lab-web.service\"]\n"
            );
        }
        operator.manifest(&text);
        for (value, lines, starts) in [("1", 31, 2), ("2", 31, 3), ("2", 0, 3)] {
            operator.write("value", value);
            let ran = operator.send("--include pigeon").succeeded();
            assert_eq!(ran.text().lines().count(), lines, "{ran}");
            assert_eq!(host.starts("web"), starts, "{release:?}, {value}\n{ran}");
        }
    }
}

/// F10: a restart that fails is reported once; the keys stay, and the same keys again tell nobody.
#[test]
fn a_unit_that_does_not_come_up_again_leaves_the_keys_in_place() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("falls", FALLS)]);
        let telling = Telling::of(&host, &["falls"]);
        telling
            .send("1")
            .is(8, &["lab-falls.service: failed failed (result exit-code)"]);
        assert_eq!(host.starts("falls"), 2, "{release:?}");
        telling.send("1").is(0, &[]);
        assert_eq!(host.starts("falls"), 2, "{release:?}");
    }
}

/// F12: pushes faster than a unit may be started: whoever keeps it down says so.
#[test]
fn a_unit_that_is_told_too_often_is_reported() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("web", "")]);
        let telling = Telling::of(&host, &["web"]);
        let mut pushes = 0;
        let last = loop {
            pushes += 1;
            let told = telling.send(&pushes.to_string());
            if pushes == 30 || told.exit != 0 {
                break told;
            }
            told.is(0, &["lab-web.service: restarted"]);
        };
        println!("{release:?}: {pushes} pushes, the last: {last}");
        if host.property("lab-web.service", "ActiveState") != "active" {
            last.is(
                8,
                &["lab-web.service: failed failed (result start-limit-hit)"],
            );
        }
    }
}
