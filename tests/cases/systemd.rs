//! Pushes while systemd itself is busy, without a bus or going down, and from a unit that it restarts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{How, UnitOutcome};
use keys_tests::{Host, LIMIT, Operator, Push, Release, Session, Telling, lab, wait_for};

/// F2: the manager reads its units again, starts itself anew or changes its target, over and over, during the push.
#[test]
fn units_are_told_while_systemd_is_busy_with_itself() {
    for release in Release::ALL {
        let host = Host::served(release);
        let target =
            "[Unit]\nAllowIsolate=yes\nRequires=multi-user.target\nWants=lab-web.service\n";
        host.unit("lab.target", target);
        host.services(&[("web", "")]);
        let telling = Telling::of(&host, &["web"]);
        for (starts, busy) in [
            (2, "daemon-reload"),
            (3, "daemon-reexec"),
            (4, "isolate lab.target"),
        ] {
            let stop = format!("/run/lab/stop-{starts}");
            let line = format!("while [ ! -e {stop} ]; do systemctl {busy} || exit; sleep 1; done");
            let inside = host.inside();
            let loops = thread::spawn(move || inside.run(&line).succeeded());
            let told = telling.send(busy);
            host.inside().write(&stop, "", 0o600);
            let _looped = loops.join().expect("systemctl does its work");
            println!("{release:?}, {busy}: {told}");
            told.is(0, &["lab-web.service: restarted"]);
            assert_eq!(host.starts("web"), starts, "{release:?}, {busy}");
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
        let _started = host.run("systemctl start lab-broken");
        wait_for("a failed unit", LIMIT, || {
            (host.property("lab-broken.service", "ActiveState") == "failed").then_some(())
        });
        assert_eq!(host.settled(), "degraded");
        let telling = Telling::of(&host, &["web"]);
        telling.send("1").is(0, &["lab-web.service: restarted"]);
        assert_eq!(host.starts("web"), 2, "{release:?}");

        let _stopped = host
            .run("systemctl stop dbus.socket dbus.service")
            .succeeded();
        let told = telling.send("2");
        let _started = host
            .run("systemctl start dbus.socket dbus.service")
            .succeeded();
        println!("{release:?}, no bus: {told}");
        assert_eq!(told.exit, 8, "{told}");
        assert!(
            told.units
                .starts_with("lab-web.service: failed no answer from systemd: "),
            "{told}"
        );
        assert_eq!(host.starts("web"), 2, "{release:?}");
    }
}

/// F2: a push that ends while the host shuts down commits, says what it could not do, and does not hold the host up.
#[test]
fn a_push_during_a_shutdown_ends_and_does_not_hold_it_up() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        // Holds the shutdown up, after the services have been asked to stop, for as long as a push takes.
        host.services(&[("web", ""), ("slow", "ExecStop=/bin/sleep 4")]);
        let operator = Operator::of_host(&host);
        let command = operator.ssh_command(&["pigeon", "keys-agent receive"]);
        let mut session = Session::of(command).expect("an agent");
        let (hello, ..) = session.hello().expect("a greeting");
        let mut push = Push::of(&hello.nonce, &[("web", b"1")]);
        push.tell(0, "lab-web.service", How::Restart);
        assert_eq!(session.declare(&push).expect("an answer"), [0]);
        let before = host.first();
        let start = Instant::now();
        let _asked = host.run("systemctl --no-block reboot").succeeded();
        wait_for("the shutdown to begin", LIMIT, || {
            (host.property("lab-slow.service", "ActiveState") == "deactivating").then_some(())
        });
        let report = session.commit(&[b"1"]).expect("a report");
        println!(
            "{release:?}, shutdown: {:?} after {:?}",
            report.units,
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
            "{release:?}, shutdown: up again after {:?}",
            start.elapsed()
        );
        assert!(
            start.elapsed() < Duration::from_secs(45),
            "{:?}",
            start.elapsed()
        );
    });
}

/// F11: `keys` run by a unit that the push itself restarts: neither waits for the other for ever. With `oneshot` the
/// restart is over when the second run is, and that waits until the first has waited enough for it.
#[test]
fn a_push_from_inside_a_unit_that_it_restarts_ends() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        make_sender(&host);
        for kind in ["exec", "oneshot"] {
            let start = Instant::now();
            let _emptied = host
                .run("rm -rf /run/keys/* /run/keys/.[!.]* /run/lab")
                .succeeded();
            let send = "/usr/local/bin/keys -f /root/work/keys.toml send --include pigeon";
            host.service(
                "sender",
                &format!("Environment=HOME=/root\nType={kind}\nExecStart={send}"),
            );
            let _started = host
                .run("systemctl daemon-reload && systemctl start --no-block lab-sender")
                .succeeded();
            wait_for("the second run to end", Duration::from_secs(60), || {
                let state = host.property("lab-sender.service", "ActiveState");
                (host.starts("sender") == 2 && state == "inactive").then_some(())
            });
            let result = host.property("lab-sender.service", "Result");
            assert_eq!(result, "success", "{}", host.journal("lab-sender"));
            assert_eq!(host.inside().read("/run/keys/a"), b"1\n");
            wait_for("the first session to end", Duration::from_secs(30), || {
                (host.property("keys-agent.service", "StatusText") == "waiting").then_some(())
            });
            println!("{release:?}, {kind}: over after {:?}", start.elapsed());
        }
    });
}

/// Makes the host its own operator, with a key that restarts `lab-sender.service`.
fn make_sender(host: &Host) {
    let inside = host.inside();
    inside.install(&lab::binary("keys"), "/usr/local/bin/keys");
    inside.write(
        "/root/work/id",
        fs::read(lab::ssh_key()).expect("the lab's key"),
        0o600,
    );
    inside.write("/root/work/config", "IdentityFile /root/work/id\n", 0o600);
    let manifest = format!(
        "[ssh]\nconfig = \"config\"\n[hosts.pigeon]\nssh = \"root@127.0.0.1\"\nhost_key = \"{}\"\n[keys.a]\nhosts = [\"pigeon\"]\n\
         source = {{ command = [\"echo\", \"1\"] }}\nrestart_units = [\"lab-sender.service\"]\n",
        host.tree().host_key()
    );
    inside.write("/root/work/keys.toml", manifest, 0o600);
}
