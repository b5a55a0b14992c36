//! Units are told that their keys changed: after the commit, once each, whatever state they and systemd are in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{How, RefusalCode, UnitOutcome, WireError};
use keys_tests::{Host, LIMIT, Operator, Push, Ran, Release, Session, lab, wait_for};
use serde_json::Value;

/// The longest a push may take, whatever its units do.
const PUSH: Duration = Duration::from_secs(30);

/// An operator whose manifest has a key for each unit, called as the unit is.
struct Bench<'a> {
    host: &'a Host,
    operator: Operator,
}

/// What became of the units: outcome and detail.
type Told = BTreeMap<String, (String, String)>;

impl<'a> Bench<'a> {
    /// `units` are `web` for a key `web` that restarts lab-web.service, `reload:web` for one that reloads it.
    fn new(host: &'a Host, units: &[&str]) -> Self {
        let operator = Operator::of_host(host);
        let mut text = String::from("[hosts.pigeon]\n");
        for unit in units {
            let (how, unit) = unit.split_once(':').unwrap_or(("restart", unit));
            let name = if unit.contains('.') {
                (*unit).to_owned()
            } else {
                format!("lab-{unit}.service")
            };
            let key = unit.replace('@', "-");
            let _infallible = write!(
                text,
                "[keys.\"{key}\"]\nhosts = [\"pigeon\"]\nsource = {{ command = [\"cat\", \"value\"] }}\n\
                 {how}_units = [\"{name}\"]\n"
            );
        }
        operator.manifest(&text);
        Self { host, operator }
    }

    /// Gives every key another value, or the same again, and sends them.
    fn send(&self, value: &str) -> Ran {
        self.operator.write("value", value);
        let mut command = self
            .operator
            .command(&["send", "--json", "--include", "pigeon"]);
        command.env("RUST_BACKTRACE", "1");
        self.operator.ran(command)
    }

    /// Sends and returns the exit code and what became of the units; all keys must be in place.
    fn told(&self, value: &str) -> (i32, Told) {
        let ran = self.send(value);
        let report: Value =
            serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}\n{ran}"));
        assert!(ran.took < PUSH, "a push took longer than {PUSH:?}\n{ran}");
        let host = &report["hosts"][0];
        for key in host["keys"]
            .as_array()
            .unwrap_or_else(|| panic!("no keys were reported\n{ran}"))
        {
            let name = key["name"].as_str().expect("a name");
            assert_eq!(
                self.host.inside().read(&format!("/run/keys/{name}")),
                value.as_bytes(),
                "{name}\n{ran}"
            );
        }
        let units = host["units"].as_array().expect("units").iter().map(|unit| {
            let text = |field: &str| unit[field].as_str().unwrap_or_default().to_owned();
            (text("unit"), (text("outcome"), text("detail")))
        });
        (ran.code(), units.collect())
    }
}

/// Panics unless exactly these units were reported so.
fn reported(told: &Told, expected: &[(&str, &str, &str)]) {
    let told = told
        .iter()
        .map(|(unit, (outcome, detail))| format!("{unit}: {outcome} {detail}\n"));
    let expected = expected
        .iter()
        .map(|(unit, outcome, detail)| format!("{unit}: {outcome} {detail}\n"));
    let (told, expected) = (told.collect::<String>(), expected.collect::<String>());
    assert!(told == expected, "reported:\n{told}\nexpected:\n{expected}");
}

/// F2: whatever state a unit is in, the keys land, the unit has a report of its own, and the push ends.
#[test]
fn a_unit_in_any_state_is_reported_and_holds_no_push_up() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let units = prepare_every_state(&host);
        let bench = Bench::new(&host, &units);
        let (exit, told) = bench.told("1");
        assert_eq!(exit, 8, "the keys are in place and units failed: {told:?}");
        reported(
            &told,
            &[
                ("keys-agent.service", "still_restarting", ""),
                ("lab-alias.service", "restarted", ""),
                ("lab-bad.service", "failed", "bad-setting"),
                ("lab-deactivating.service", "not_running", "stopping"),
                ("lab-failed.service", "not_running", "failed before"),
                ("lab-falls.service", "failed", "failed (result exit-code)"),
                ("lab-inst@1.service", "restarted", ""),
                (
                    "lab-limit.service",
                    "failed",
                    "failed (result start-limit-hit)",
                ),
                ("lab-masked.service", "failed", "masked"),
                ("lab-missing.service", "failed", "no such unit"),
                ("lab-never.service", "still_restarting", ""),
                ("lab-noreload.service", "restarted", ""),
                ("lab-other.service", "restarted", ""),
                (
                    "lab-refuses.service",
                    "failed",
                    "systemd refused: Operation refused, unit lab-refuses.service may be \
                requested by dependency only (it is configured to refuse manual start/stop)",
                ),
                ("lab-reload.service", "reloaded", ""),
                ("lab-running.service", "restarted", ""),
                ("lab-stopped.service", "not_running", ""),
                ("lab-stuck.service", "still_restarting", ""),
            ],
        );
        let counts = [
            "running", "alias", "inst", "noreload", "reload", "stopped", "failed", "stuck",
        ]
        .map(|name| (name, host.starts(name)));
        let expected = [
            ("running", 2),
            ("alias", 2),
            ("inst", 2),
            ("noreload", 2),
            ("reload", 1),
            ("stopped", 0),
            ("failed", 1),
            ("stuck", 2),
        ];
        assert_eq!(counts, expected, "how often each was started");
        assert_eq!(host.inside().read("/run/lab/reload.reloads"), b"\n");
    });
}

/// Makes a service in every state there is, and returns the units to tell.
fn prepare_every_state(host: &Host) -> [&'static str; 18] {
    let limit = "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=1\n[Service]";
    let never = "Type=notify\nNotifyAccess=all\nTimeoutStartSec=120\nExecStart=/bin/sh -c \
                 '[ $$(wc -l </run/lab/never.starts) = 2 ] || systemd-notify --ready; exec sleep infinity'";
    let falls =
        "ExecStart=/bin/sh -c '[ $$(wc -l </run/lab/falls.starts) = 1 ] && exec sleep infinity'";
    host.service("stopped", "");
    host.service("failed", "ExecStart=/bin/false");
    host.service("stuck", "Type=oneshot\nExecStart=/bin/sleep 600");
    host.service("limit", limit);
    host.service("refuses", "[Unit]\nRefuseManualStart=yes");
    host.unit("lab-bad.service", "[Service]\nType=simple\n");
    host.unit("lab-inst@.service", "[Service]\nExecStartPre=/bin/sh -c 'echo >>/run/lab/inst.starts'\nExecStart=/bin/sleep infinity\n");
    host.tree().write(
        "/usr/lib/systemd/system/lab-masked.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
        0o644,
    );
    let link = host.tree().path("/etc/systemd/system/lab-other.service");
    std::os::unix::fs::symlink("lab-alias.service", link).expect("the tree can be written");
    host.services(&[
        ("running", ""),
        ("alias", ""),
        ("never", never),
        ("falls", falls),
        (
            "reload",
            "ExecReload=/bin/sh -c 'echo >>/run/lab/reload.reloads'",
        ),
        ("noreload", ""),
        ("deactivating", "ExecStop=/bin/sleep 600"),
        ("starter", "[Unit]\nWants=lab-refuses.service"),
    ]);
    let _prepared = host.run(
        "systemctl start lab-inst@1 lab-masked && systemctl mask lab-masked && systemctl start --no-block lab-stuck \
         && systemctl start lab-limit && systemctl start lab-failed; systemctl stop --no-block lab-deactivating",
    ).succeeded();
    for (unit, state) in [
        ("stuck", "activating"),
        ("failed", "failed"),
        ("deactivating", "deactivating"),
    ] {
        wait_for(&format!("{unit} to be {state}"), LIMIT, || {
            (host.property(&format!("lab-{unit}.service"), "ActiveState") == state).then_some(())
        });
    }
    [
        "running",
        "alias",
        "other",
        "inst@1",
        "stopped",
        "failed",
        "stuck",
        "refuses",
        "bad",
        "masked",
        "limit",
        "never",
        "falls",
        "reload:reload",
        "reload:noreload",
        "deactivating",
        "missing",
        "keys-agent.service",
    ]
}

/// F2: the manager reads its units again, starts itself anew or changes its target, over and over, during the push.
#[test]
fn units_are_told_while_systemd_is_busy_with_itself() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.unit(
            "lab.target",
            "[Unit]\nAllowIsolate=yes\nRequires=multi-user.target\nWants=lab-web.service\n",
        );
        host.services(&[("web", "")]);
        let bench = Bench::new(&host, &["web"]);
        let restarted = &[("lab-web.service", "restarted", "")];
        for (round, busy) in ["daemon-reload", "daemon-reexec", "isolate lab.target"]
            .into_iter()
            .enumerate()
        {
            let stop = format!("/run/lab/stop-{round}");
            let (exit, told) = thread::scope(|scope| {
                let line =
                    format!("while [ ! -e {stop} ]; do systemctl {busy} || exit; sleep 0.2; done");
                let inside = host.inside();
                let loops = scope.spawn(move || inside.run(&line).succeeded());
                let told = bench.told(busy);
                host.inside().write(&stop, "", 0o600);
                let _looped = loops
                    .join()
                    .unwrap_or_else(|_| panic!("{release:?}: systemctl {busy}"));
                told
            });
            println!("{release:?}, {busy}: exit {exit}, {told:?}");
            reported(&told, restarted);
            assert_eq!(
                (exit, host.starts("web")),
                (0, round + 2),
                "{release:?}, {busy}"
            );
        }
    }
}

/// F2: units that failed before are no reason for anything; a bus that is gone is one for a report.
#[test]
fn the_keys_land_on_a_degraded_host_and_on_one_without_a_bus() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.service("broken", "ExecStart=/bin/false");
        host.services(&[("web", "")]);
        let _failed = host.run("systemctl start lab-broken");
        assert_eq!(host.settled(), "degraded");
        let bench = Bench::new(&host, &["web"]);
        let (exit, told) = bench.told("1");
        reported(&told, &[("lab-web.service", "restarted", "")]);
        assert_eq!((exit, host.starts("web")), (0, 2), "{release:?}");

        let _stopped = host
            .run("systemctl stop dbus.socket dbus.service")
            .succeeded();
        let (exit, told) = bench.told("2");
        let _started = host
            .run("systemctl start dbus.socket dbus.service")
            .succeeded();
        let (outcome, detail) = &told["lab-web.service"];
        println!("{release:?}, no bus: exit {exit}, {outcome} {detail}");
        assert!(
            outcome == "failed" && detail.starts_with("no answer from systemd: "),
            "{told:?}"
        );
        assert_eq!((exit, host.starts("web")), (8, 2), "{release:?}");
    }
}

/// F2: a push that ends while the host shuts down commits, says what it could not do, and holds nothing up.
#[test]
fn a_push_during_a_shutdown_ends_and_does_not_hold_it_up() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        // Holds the shutdown up, after the services have been asked to stop, for as long as a push takes.
        host.services(&[("web", ""), ("slow", "ExecStop=/bin/sleep 4")]);
        let operator = Operator::of_host(&host);
        let mut session =
            Session::of(operator.ssh_command(&["pigeon", "keys-agent receive"])).expect("an agent");
        let (hello, ..) = session.hello().expect("a greeting");
        let mut push = Push::of(&hello.nonce, &[("web", b"1")]);
        push.tell(0, "lab-web.service", How::Restart);
        assert_eq!(session.declare(&push).expect("an answer"), [0]);
        let before = host.first();
        let _asked = host.run("systemctl --no-block reboot").succeeded();
        wait_for("the shutdown to begin", LIMIT, || {
            (host.property("lab-slow.service", "ActiveState") == "deactivating").then_some(())
        });
        let start = Instant::now();
        let report = session.commit(&[b"1"]).expect("a report");
        println!(
            "{release:?}, shutdown: {:?} after {:?}",
            report.units,
            start.elapsed()
        );
        assert!(
            start.elapsed() < LIMIT,
            "the report took {:?}",
            start.elapsed()
        );
        assert_eq!(host.inside().read("/run/keys/web"), b"1");
        assert_ne!(
            report.units[0].outcome,
            UnitOutcome::Restarted,
            "it was asked to stop"
        );
        host.rebooted(before);
        println!(
            "{release:?}, shutdown: rebooted after {:?}",
            start.elapsed()
        );
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "the reboot took {:?}",
            start.elapsed()
        );
    });
}

/// F3: a name that is no service's is refused on both sides, and nothing happens to anything.
#[test]
fn only_services_can_be_told() {
    let long = format!("{}.service", "x".repeat(300));
    let names = [
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
        "",
        ".service",
        "a.socket",
        "dbus.service\n",
        "dbus.service\0",
        "lab-web",
        &long,
    ];
    let host = Host::served(Release::Bookworm);
    host.services(&[("web", "")]);
    let operator = Operator::of_host(&host);
    let state = "systemctl list-units --all --no-legend --plain --full | sort; systemctl list-jobs";
    let before = host.run(state).succeeded().text();
    for name in names {
        let unit = serde_json::to_string(name).expect("a text");
        operator.write("keys.json", format!(
            r#"{{"ssh": {{"config": "{}"}}, "hosts": {{"pigeon": {{}}}}, "keys": {{"a": {{"hosts": ["pigeon"],
            "source": {{"command": ["true"]}}, "restart_units": [{unit}]}}}}}}"#,
            operator.ssh("config").display()
        ));
        let _refused = operator
            .keys("-f keys.json send --include pigeon")
            .exited(64);

        let mut session =
            Session::of(operator.ssh_command(&["pigeon", "keys-agent receive"])).expect("an agent");
        let (hello, ..) = session.hello().expect("a greeting");
        let mut push = Push::of(&hello.nonce, &[("a", b"")]);
        push.keys[0].0.units = 1;
        session.announce(&push).expect("it listens");
        session
            .say(&frame(
                0x12,
                format!(r#"{{"unit":{unit},"how":"restart"}}"#).as_bytes(),
            ))
            .expect("it listens");
        match session.needs() {
            Err(WireError::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::Protocol, "{name:?}");
            }
            other => panic!("{name:?}: a refusal was expected: {other:?}"),
        }
        drop(session.close());
    }
    println!("{} names", names.len());
    assert_eq!(host.run(state).succeeded().text(), before);
    assert_eq!(host.starts("web"), 1);
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_be_bytes()[..], &[kind], payload].concat()
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
        for (round, value) in ["1", "2", "2"].into_iter().enumerate() {
            operator.write("value", value);
            let ran = operator.send("--include pigeon").succeeded();
            assert_eq!(ran.text().lines().count(), [31, 31, 0][round], "{ran}");
            assert_eq!(
                host.starts("web"),
                [2, 3, 3][round],
                "{release:?}, round {round}"
            );
        }
    }
}

/// F10: a restart that fails is reported once; the keys stay, and the same keys again tell nobody.
#[test]
fn a_unit_that_does_not_come_up_again_leaves_the_keys_in_place() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[(
            "web",
            "ExecStart=/bin/sh -c '[ $$(wc -l </run/lab/web.starts) = 1 ] && exec sleep infinity'",
        )]);
        let bench = Bench::new(&host, &["web"]);
        let (exit, told) = bench.told("1");
        reported(
            &told,
            &[("lab-web.service", "failed", "failed (result exit-code)")],
        );
        assert_eq!((exit, host.starts("web")), (8, 2), "{release:?}");
        let (exit, told) = bench.told("1");
        reported(&told, &[]);
        assert_eq!((exit, host.starts("web")), (0, 2), "{release:?}");
    }
}

/// F12: pushes faster than a unit may be started: whoever keeps it down says so.
#[test]
fn a_unit_that_is_told_too_often_is_reported() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("web", "")]);
        let bench = Bench::new(&host, &["web"]);
        let mut outcomes = String::new();
        for push in 0..30 {
            let (exit, told) = bench.told(&push.to_string());
            let (outcome, detail) = &told["lab-web.service"];
            let _infallible = writeln!(outcomes, "{push}: exit {exit}, {outcome} {detail}");
            match (exit, outcome.as_str(), detail.as_str()) {
                (0, "restarted", "") => {}
                (8, "failed", "failed (result start-limit-hit)") => break,
                _ => panic!("{release:?}:\n{outcomes}"),
            }
        }
        println!("{release:?}:\n{outcomes}");
        let state = host.property("lab-web.service", "ActiveState");
        let reported = outcomes.contains("start-limit-hit");
        assert!(
            state == "active" || reported,
            "{release:?}: {state}, and it was not reported:\n{outcomes}"
        );
    }
}

/// F11: `keys` run by a unit that the push itself restarts: neither waits for the other for ever.
#[test]
fn a_push_from_inside_a_unit_that_it_restarts_ends() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let place = |name: &str| format!("/root/work/{name}");
        host.inside()
            .install(&lab::binary("keys"), "/usr/local/bin/keys");
        host.inside().write(
            &place("id"),
            fs::read(lab::ssh_key()).expect("the lab's key"),
            0o600,
        );
        host.inside()
            .write(&place("config"), "IdentityFile /root/work/id\n", 0o600);
        host.inside().write(&place("keys.toml"), format!(
            "[ssh]\nconfig = \"config\"\n[hosts.pigeon]\nssh = \"root@127.0.0.1\"\nhost_key = \"{}\"\n[keys.a]\n\
             hosts = [\"pigeon\"]\nsource = {{ command = [\"echo\", \"1\"] }}\nrestart_units = [\"lab-sender.service\"]\n",
            host.tree().host_key()
        ), 0o600);
        let send = "ExecStart=/usr/local/bin/keys -f /root/work/keys.toml send --include pigeon";
        for kind in ["exec", "oneshot"] {
            let start = Instant::now();
            let _emptied = host
                .run("rm -rf /run/keys/* /run/keys/.[!.]* /run/lab")
                .succeeded();
            host.service(
                "sender",
                &format!("Environment=HOME=/root\nType={kind}\n{send}"),
            );
            let _started = host
                .run("systemctl daemon-reload && systemctl start --no-block lab-sender")
                .succeeded();
            wait_for("the unit to end", Duration::from_secs(60), || {
                let over = host.starts("sender") == 2
                    && host.property("lab-sender.service", "ActiveState") == "inactive";
                over.then_some(())
            });
            println!("{release:?}, {kind}: over after {:?}", start.elapsed());
            assert_eq!(
                host.property("lab-sender.service", "Result"),
                "success",
                "{}",
                host.journal("lab-sender")
            );
            assert_eq!(host.inside().read("/run/keys/a"), b"1\n");
            wait_for("the sessions to end", PUSH, || {
                (host.property("keys-agent.service", "StatusText") == "waiting").then_some(())
            });
            println!(
                "{release:?}, {kind}: no session left after {:?}",
                start.elapsed()
            );
        }
    });
}
