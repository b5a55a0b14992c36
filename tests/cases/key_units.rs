//! Key units: activating until the key is there, active while it is, and what depends on them.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{Scope, UnitOutcome};
use keys_tests::{Host, Operator, Push, Release, Report, Session, scaled, wait_for};

/// How a unit may depend on a key, and whether it is stopped when the key leaves.
const KINDS: [(&str, &str, bool); 3] = [
    ("wants", "Wants", false),
    ("requires", "Requires", true),
    ("binds", "BindsTo", true),
];
/// How long a host may take for what it does in a second or two.
const PATIENCE: Duration = Duration::from_secs(90);
/// And for a thousand units, each of which takes it a hundredth of a second.
const MUCH_PATIENCE: Duration = Duration::from_secs(240);
/// Long before a unit looks of its own accord.
const PROMPT: Duration = Duration::from_secs(40);

/// Sends all keys of the host.
fn send(host: &Host, keys: &[(&str, &[u8])]) -> Report {
    Session::push(&host.inside(), keys, |_| {}).committed()
}

fn state(host: &Host, unit: &str) -> String {
    host.property(unit, "ActiveState")
}

fn becomes(host: &Host, unit: &str, wanted: &str) {
    wait_for(&format!("{unit} to be {wanted}"), PATIENCE, || {
        (state(host, unit) == wanted).then_some(())
    });
}

/// Makes a service of each kind that depends on key `a`, started by the boot.
fn dependents(host: &Host) {
    for (name, kind, _) in KINDS {
        let lines = format!("[Unit]\n{kind}=a-key.service\nAfter=a-key.service");
        host.service(name, &lines);
        host.enable(&format!("lab-{name}.service"), "multi-user.target");
    }
    let _read = host.run("systemctl daemon-reload").succeeded();
}

/// Returns the state of each dependent and how often it was started.
fn all(host: &Host) -> Vec<(String, usize)> {
    KINDS
        .iter()
        .map(|(name, ..)| {
            let unit = format!("lab-{name}.service");
            (state(host, &unit), host.starts(name))
        })
        .collect()
}

/// Waits until all dependents are in this state and were started this often.
fn all_become(host: &Host, wanted: &str, starts: usize) {
    let each = vec![(wanted.to_owned(), starts); KINDS.len()];
    wait_for(&format!("all to be {wanted}, {starts}"), PATIENCE, || {
        (all(host) == each).then_some(())
    });
}

/// The key's unit waits, and so do the jobs of what depends on it.
fn all_wait(host: &Host) {
    becomes(host, "a-key.service", "activating");
    all_become(host, "inactive", 0);
    let jobs = host.run("systemctl list-jobs --no-legend --plain").text();
    for (name, ..) in KINDS {
        assert!(
            jobs.contains(&format!("lab-{name}.service")),
            "{name}: {jobs}"
        );
    }
}

/// The matrix: whatever happens while a key is waited for or there, its unit is what the key is, and no dependent flaps.
#[test]
fn dependents_of_every_kind_follow_the_key() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        dependents(&host);
        let _first = send(&host, &[("a", b"1"), ("b", b"1")]);
        becomes(&host, "a-key.service", "active");
        assert_eq!(
            host.inside().access("/etc/keys/host.json"),
            "root:root 0600"
        );
        host.reboot();
        all_wait(&host);
        // Whatever is done to systemd and the agent meanwhile, they go on waiting.
        for busy in [
            "systemctl daemon-reload",
            "systemctl daemon-reexec",
            "systemctl restart keys-agent.service",
            "systemctl stop keys-agent.socket keys-agent.service; systemctl start keys-agent.socket",
            "systemctl kill --signal=KILL keys-agent.service; systemctl reset-failed keys-agent.service",
        ] {
            let _done = host.run(busy).succeeded();
            all_wait(&host);
        }
        let _other = send_part(&host, &[("b", b"1")]);
        becomes(&host, "b-key.service", "active");
        all_wait(&host);
        let start = Instant::now();
        let _landed = send(&host, &[("a", b"1"), ("b", b"1")]);
        all_become(&host, "active", 1);
        println!("{release:?}: all active after {:?}", start.elapsed());
        assert_eq!(
            host.settled(),
            "running",
            "{}",
            host.run("systemctl --failed")
        );
        while_it_is_there(&host);
        when_it_leaves(&host);
    });
}

/// Sends some keys of the host.
fn send_part(host: &Host, keys: &[(&str, &[u8])]) -> Report {
    let part = |push: &mut Push| push.manifest.scope = Scope::Part;
    Session::push(&host.inside(), keys, part).committed()
}

fn while_it_is_there(host: &Host) {
    let invocation = || host.property("a-key.service", "InvocationID");
    let first = invocation();
    let reader = "sleep infinity </run/keys/a >/dev/null 2>&1 & echo $!";
    let reader = host.run(reader).succeeded().text();
    for busy in [
        "systemctl daemon-reload",
        "systemctl daemon-reexec",
        "systemctl restart keys-agent.service",
    ] {
        let _replaced = send(host, &[("a", busy.as_bytes()), ("b", b"1")]);
        let _done = host.run(busy).succeeded();
        becomes(host, "a-key.service", "active");
        assert_eq!(
            (invocation(), all(host)),
            (first.clone(), vec![("active".to_owned(), 1); 3])
        );
    }
    let _ended = host.run(&format!("kill {reader}")).succeeded();
    // Started when the key is there, there is nothing to wait for.
    let units = KINDS.map(|(name, ..)| format!("lab-{name}")).join(" ");
    let _again = host.run(&format!("systemctl restart {units}")).succeeded();
    all_become(host, "active", 2);
}

fn when_it_leaves(host: &Host) {
    let _removed = send(host, &[("b", b"1")]);
    becomes(host, "a-key.service", "inactive");
    for (name, kind, goes) in KINDS {
        let wanted = if goes { "inactive" } else { "active" };
        becomes(host, &format!("lab-{name}.service"), wanted);
        assert_eq!(host.starts(name), 2, "{kind}");
    }
    assert_eq!(state(host, "b-key.service"), "active");
    assert_eq!(host.property("a-key.service", "Result"), "success");
    // The unit went with the name: nothing would ever make it active.
    assert_eq!(host.property("a-key.service", "LoadState"), "not-found");
    assert_eq!(
        host.settled(),
        "running",
        "{}",
        host.run("systemctl --failed")
    );
}

/// A unit that is asked to stop while it waits has not failed; one whose program somebody else ended has, and starts nothing.
#[test]
fn only_the_key_makes_a_unit_active() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.service(
            "needs",
            "[Unit]\nRequires=a-key.service\nAfter=a-key.service",
        );
        let _known = send(&host, &[("a", b"1"), ("b", b"1")]);
        let _gone = host
            .run("systemctl stop a-key.service; rm /run/keys/a")
            .succeeded();
        for (end, wanted) in [
            ("systemctl stop a-key.service", "inactive"),
            ("systemctl kill a-key.service", "failed"),
            ("systemctl kill --signal=KILL a-key.service", "failed"),
        ] {
            let _waits = host.run("systemctl start --no-block lab-needs").succeeded();
            becomes(&host, "a-key.service", "activating");
            let _ended = host.run(end).succeeded();
            becomes(&host, "a-key.service", wanted);
            assert_eq!(
                (
                    state(&host, "lab-needs.service").as_str(),
                    host.starts("needs")
                ),
                ("inactive", 0),
                "{end}"
            );
        }
        let _back = send(&host, &[("a", b"1"), ("b", b"1")]);
        becomes(&host, "a-key.service", "active");
    }
}

/// F5: what only keys start holds nothing up.
#[test]
fn a_boot_without_keys_is_over_and_what_keys_start_starts_when_they_land() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let names: Vec<String> = (0..20).map(|number| format!("pull{number}")).collect();
        for name in &names {
            host.service(name, "[Unit]\nRequires=a-key.service\nAfter=a-key.service");
            host.enable(&format!("lab-{name}.service"), "a-key.service");
        }
        let _first = send(&host, &[("a", b"1")]);
        host.reboot();
        let start = Instant::now();
        assert_eq!(
            host.settled(),
            "running",
            "{}",
            host.run("systemctl list-jobs")
        );
        assert_eq!(state(&host, "multi-user.target"), "active");
        println!(
            "{release:?}: settled {:?} after sshd answered",
            start.elapsed()
        );
        assert_eq!(state(&host, "a-key.service"), "inactive");
        let start = Instant::now();
        let _landed = send(&host, &[("a", b"1")]);
        for name in &names {
            becomes(&host, &format!("lab-{name}.service"), "active");
        }
        println!(
            "{release:?}: 20 started {:?} after the push began",
            start.elapsed()
        );
    });
}

/// I-20: however a wait and the commit that ends it meet, the wait ends, and not because it looked of its own accord.
#[test]
fn no_wait_misses_its_key() {
    const AT_ONCE: usize = 50;
    let host = Host::served(Release::Bookworm);
    let mut longest = Duration::ZERO;
    for round in 0..scaled(20) {
        let names: Vec<String> = (0..AT_ONCE).map(|at| format!("k{round}-{at}")).collect();
        let mut line = String::new();
        for (at, name) in names.iter().enumerate() {
            // Up to 0.5 s, so that some hang on before the commit, some after, and some in the middle of it.
            let delay = (at * 37 + round as usize * 101) % 500;
            let _infallible = writeln!(
                line,
                "(sleep 0.{delay:03}; exec timeout 120 keys-agent wait {name}) & pids=\"$pids $!\""
            );
        }
        line += "for pid in $pids; do wait $pid || exit; done";
        let inside = host.inside();
        let waits = thread::spawn(move || inside.run(&line));
        let keys: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (name.as_str(), &b"1"[..]))
            .collect();
        thread::sleep(Duration::from_millis(u64::from(round) * 31 % 400));
        let landed = Instant::now();
        let _pushed = send_part(&host, &keys);
        let ran = waits.join().expect("the shell runs").succeeded();
        longest = longest.max(landed.elapsed());
        assert!(
            landed.elapsed() < PROMPT,
            "{round}: {:?}\n{ran}",
            landed.elapsed()
        );
    }
    println!("the longest from push to the end of all waits: {longest:?}");
}

/// F8: those that wait are not among the sessions, cost nothing, and all hear of one commit. K5: a thousand.
#[test]
fn a_thousand_units_wait_for_nothing_and_become_active_together() {
    const COUNT: usize = 1000;
    for release in Release::ALL {
        let mut host = Host::with_agent("pigeon", release);
        let names: Vec<String> = (0..COUNT).map(|number| format!("key{number}")).collect();
        let keys: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (name.as_str(), &b"1"[..]))
            .collect();
        let start = Instant::now();
        let report = send(&host, &keys);
        println!(
            "{release:?}: {COUNT} new keys pushed in {:?}",
            start.elapsed()
        );
        assert!(report.units.is_empty(), "{report:?}");
        all_active(&host, COUNT, "all active that nobody waited for", start);
        host.power_cut();
        host.power_on();
        let _started = host.run("systemctl start keys-landed.target").succeeded();
        let waiting = "ls /proc/$(systemctl show -P MainPID keys-agent)/fd | wc -l";
        wait_for("all to hang on", MUCH_PATIENCE, || {
            let descriptors: usize = host.run(waiting).text().trim().parse().ok()?;
            (descriptors > COUNT).then_some(())
        });
        let idle = cost(&host);
        println!("{release:?}: {COUNT} units wait at {idle} ticks in 5 s");
        assert!(idle <= 25, "{idle} ticks");
        let start = Instant::now();
        let _landed = send(&host, &keys);
        all_active(&host, COUNT, "all active that waited", start);
        assert_eq!(
            host.settled(),
            "running",
            "{}",
            host.run("systemctl --failed")
        );
    }
}

/// Waits until this many units of keys are active.
fn all_active(host: &Host, count: usize, what: &str, since: Instant) {
    let active =
        "systemctl list-units --no-legend --plain --state=active 'key*-key.service' | wc -l";
    wait_for(what, MUCH_PATIENCE, || {
        (host.run(active).text().trim() == count.to_string()).then_some(())
    });
    println!("{}: {what} after {:?}", host.name(), since.elapsed());
}

/// Returns how many ticks of a processor all `keys-agent` of a host use in 5 s.
fn cost(host: &Host) -> u64 {
    let sum = "for pid in $(pgrep -x keys-agent); do cat /proc/$pid/stat; done | awk '{ sum += $14 + $15 } END { print sum }'";
    let used = || -> u64 { host.run(sum).text().trim().parse().expect("a number") };
    let before = used();
    thread::sleep(Duration::from_secs(5));
    used() - before
}

/// What is bound to a key restarts when the key is replaced, if the manifest says so, and not when nothing changed.
#[test]
fn what_is_bound_to_a_key_restarts_when_it_is_replaced() {
    for release in Release::ALL {
        let host = Host::served(release);
        for (name, kind, _) in KINDS {
            let lines = format!("[Unit]\n{kind}=a-key.service\nAfter=a-key.service");
            host.service(name, &lines);
        }
        let operator = Operator::of_host(&host);
        operator.manifest(
            "[hosts.pigeon]\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"cat\", \"value\"] }\n\
             on_change = \"restart-dependents\"\n",
        );
        operator.write("value", "1");
        let first = operator.send("--include pigeon").succeeded().text();
        assert_eq!(first, "pigeon: a: new\n");
        let units = KINDS.map(|(name, ..)| format!("lab-{name}")).join(" ");
        let _started = host.run(&format!("systemctl start {units}")).succeeded();
        operator.write("value", "2");
        let second = operator.send("--include pigeon").succeeded().text();
        assert!(
            second.contains("pigeon: a-key.service: restarted\n"),
            "{second}"
        );
        for (name, kind, goes) in KINDS {
            let starts = if goes { 2 } else { 1 };
            wait_for(&format!("{kind}: {starts} starts"), PATIENCE, || {
                (host.starts(name) == starts).then_some(())
            });
            becomes(&host, &format!("lab-{name}.service"), "active");
        }
        assert_eq!(operator.send("--include pigeon").succeeded().text(), "");
        assert_eq!(KINDS.map(|(name, ..)| host.starts(name)), [1, 2, 2]);
    }
}

/// A unit of a key that cannot be started is reported, as it would be for any other unit.
#[test]
fn a_masked_key_unit_is_reported() {
    let host = Host::served(Release::Trixie);
    let _masked = host
        .run("ln -s /dev/null /etc/systemd/system/a-key.service")
        .succeeded();
    let report = send(&host, &[("a", b"1"), ("b", b"1")]);
    let _unmasked = host
        .run("rm /etc/systemd/system/a-key.service; systemctl daemon-reload")
        .succeeded();
    let units: Vec<_> = report
        .units
        .iter()
        .map(|unit| (unit.unit.as_str(), unit.outcome))
        .collect();
    assert_eq!(
        units,
        [("a-key.service", UnitOutcome::Failed)],
        "{report:?}"
    );
    becomes(&host, "b-key.service", "active");
    let again = send(&host, &[("a", b"1"), ("b", b"1")]);
    assert!(again.units.is_empty(), "{again:?}");
    becomes(&host, "a-key.service", "active");
}

/// A key that the host refuses leaves what needs it waiting, says why in three places, and is forgotten when it is fine.
#[test]
fn a_refused_key_says_why_and_starts_nothing() {
    let nobody = |push: &mut Push| {
        push.keys[0].0.owner = "mallory".parse().expect("a name");
    };
    for release in Release::ALL {
        let host = Host::served(release);
        for (name, kind, _) in KINDS {
            let lines = format!("[Unit]\n{kind}=a-key.service\nAfter=a-key.service");
            host.service(name, &lines);
        }
        let keys: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"1")];
        let _refused = Session::push(&host.inside(), &keys, nobody).committed();
        becomes(&host, "keys-refused.service", "failed");
        let why = "key a was refused: no user `mallory`";
        let journal = host.journal("keys-refused");
        assert!(journal.contains(why), "{release:?}: {journal}");
        let units = KINDS.map(|(name, ..)| format!("lab-{name}")).join(" ");
        let _waits = host
            .run(&format!("systemctl start --no-block {units}"))
            .succeeded();
        becomes(&host, "a-key.service", "activating");
        wait_for("the reason in the status", PATIENCE, || {
            let text = host.property("a-key.service", "StatusText");
            text.starts_with(why).then_some(())
        });
        all_become(&host, "inactive", 0);
        let mut session = Session::receive(&host.inside());
        let (_, _, strays) = session.hello().expect("a greeting");
        assert!(strays.is_empty(), "{strays:?}");
        let _closed = session.close();

        let _fine = send(&host, &keys);
        all_become(&host, "active", 1);
        becomes(&host, "keys-refused.service", "inactive");
        // Refused while there is a version: that one stays, and so does what runs with it.
        let _kept = Session::push(&host.inside(), &keys, nobody).committed();
        becomes(&host, "a-key.service", "active");
        becomes(&host, "keys-refused.service", "inactive");
        all_become(&host, "active", 1);
    }
}

/// What did not start for want of a key starts when the key is there; what an administrator stopped stays down.
#[test]
fn what_a_key_has_let_down_starts_when_it_lands() {
    for release in Release::ALL {
        let host = Host::with_agent("pigeon", release);
        for (name, kind, _) in KINDS {
            let lines = format!("[Unit]\n{kind}=a-key.service\nAfter=a-key.service");
            host.service(name, &lines);
        }
        for name in ["requires", "binds"] {
            host.enable(&format!("lab-{name}.service"), "multi-user.target");
        }
        let keys: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"1")];
        let _known = send(&host, &keys);
        host.reboot();
        becomes(&host, "a-key.service", "activating");
        let _failed = host
            .run("systemctl kill --signal=KILL a-key.service")
            .succeeded();
        becomes(&host, "a-key.service", "failed");
        becomes(&host, "multi-user.target", "active");
        let stays = "lab-stays.service";
        host.service("stays", "[Unit]\nRequires=b-key.service");
        let _stopped = host
            .run("systemctl daemon-reload; systemctl start lab-stays; systemctl stop lab-stays");
        let _landed = send(&host, &keys);
        for name in ["requires", "binds"] {
            becomes(&host, &format!("lab-{name}.service"), "active");
            assert_eq!(host.starts(name), 1, "{release:?}");
        }
        // Nobody wants it, and its key had not failed.
        assert_eq!(state(&host, stays), "inactive");
        assert_eq!(
            state(&host, "lab-wants.service"),
            "inactive",
            "nobody started it"
        );
    }
}

/// What NixOps leaves once all keys have come: what waits for it there goes on working, and nobody takes it for a stray.
#[test]
fn the_file_of_nixops_is_there_once_all_keys_have_come() {
    let host = Host::served(Release::Bookworm);
    let has = || host.inside().path("/run/keys/done").exists();
    let nobody = |push: &mut Push| {
        push.keys[0].0.owner = "mallory".parse().expect("a name");
    };
    let keys: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"1")];
    let _part = send_part(&host, &keys[1..]);
    let _refused = Session::push(&host.inside(), &keys, nobody).committed();
    assert!(!has(), "not all have come");
    let _all = send(&host, &keys);
    assert!(has());
    let mut session = Session::receive(&host.inside());
    let (_, _, strays) = session.hello().expect("a greeting");
    assert!(strays.is_empty(), "{strays:?}");
    let _closed = session.close();
    let _refused = Session::push(&host.inside(), &keys, nobody).committed();
    assert!(!has(), "one was refused");
    let _all = send(&host, &keys);
    assert!(has());
    // A key of that name is a key.
    let _key = send(&host, &[("done", b"mine")]);
    assert_eq!(host.inside().read("/run/keys/done"), b"mine");
}
