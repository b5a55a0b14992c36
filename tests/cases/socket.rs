//! The agent's socket: who may connect, what a connection can do, and what slow, many or lost ones can not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{Hello, How, MAGIC, RefusalCode, WireError, limits};
use keys_tests::{Host, LIMIT, Operator, Push, Release, Session, wait_for};

/// How many sessions the agent holds at once.
const SESSIONS: usize = 8;
/// How long a client that stopped talking may be there.
const PATIENCE: Duration = Duration::from_secs(15);

/// Knocks as eve: prints what the agent says, and how the connection ended.
const KNOCK: &str = r#"setpriv --reuid=1666 --regid=1666 --clear-groups perl -MIO::Socket::UNIX -e '
    my $agent = IO::Socket::UNIX->new(Peer => "/run/keys-agent.sock") or print("no connection: $!\n"), exit;
    $agent->send("s", 0x4000); print $agent->sysread($_, 100) ? "spoken to\n" : "closed\n"'"#;

fn receive(host: &Host) -> (Session, Hello) {
    let mut session = Session::receive(&host.inside());
    let (hello, ..) = session.hello().expect("a greeting");
    (session, hello)
}

fn open_sessions(host: &Host) -> String {
    host.property("keys-agent.service", "StatusText")
}

fn wait_for_sessions(host: &Host, wanted: &str) {
    wait_for(&format!("{wanted:?} in the status"), LIMIT, || {
        (open_sessions(host) == wanted).then_some(())
    });
}

fn one_key(operator: &Operator, value: &str) {
    operator.manifest("[hosts.pigeon]\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"cat\", \"value\"] }\n");
    operator.write("value", value);
}

/// I-17, B9: the socket is root's; who gets through to it all the same is asked who it is.
#[test]
fn nobody_but_root_and_the_peer_is_served() {
    for release in Release::ALL {
        let host = Host::served(release);
        assert_eq!(
            host.inside().access("/run/keys-agent.sock"),
            "root:root 0600"
        );
        let knock = || host.run(KNOCK).succeeded().text();
        let journal = || host.journal("keys-agent");
        assert_eq!(knock(), "no connection: Permission denied\n", "{release:?}");
        let _refused = host
            .run("setpriv --reuid=1666 --regid=1666 --clear-groups keys-agent status")
            .exited(7)
            .said("this user may not connect to the agent");

        drop_in(&host, "socket", "[Socket]\nSocketMode=0666\n");
        assert_eq!(knock(), "closed\n", "{release:?}");
        // A thread of its own writes the journal: the line comes after the connection has gone.
        wait_for("the refusal in the journal", LIMIT, || {
            journal()
                .contains("refused: a connection of uid 1666")
                .then_some(())
        });
        let _root = host.run("keys-agent status").succeeded();

        let peer = "ExecStart=\nExecStart=/usr/local/bin/keys-agent serve --peer daemon\n";
        drop_in(&host, "service", &format!("[Service]\n{peer}"));
        assert_eq!(
            knock(),
            "closed\n",
            "{release:?}: the peer is somebody else"
        );
        let peer = host.run(&KNOCK.replace("1666", "1")).succeeded();
        assert_eq!(peer.text(), "spoken to\n", "{release:?}");
        let _root = host.run("keys-agent status").succeeded();
    }
}

/// Adds to one of the agent's units, and starts both again.
fn drop_in(host: &Host, unit: &str, lines: &str) {
    let path = format!("/etc/systemd/system/keys-agent.{unit}.d/case.conf");
    host.tree().write(&path, lines, 0o644);
    let stop = "systemctl daemon-reload && systemctl stop keys-agent.service";
    let _restarted = host
        .run(&format!("{stop} && systemctl restart keys-agent.socket"))
        .succeeded();
}

/// I-17: a connection says one verb, a byte that is one, and is over when that is done.
#[test]
fn a_connection_is_one_verb() {
    let host = Host::served(Release::Bookworm);
    let answer = |bytes: &[u8]| {
        let mut agent =
            UnixStream::connect(host.inside().path("/run/keys-agent.sock")).expect("it listens");
        agent.set_read_timeout(Some(LIMIT)).expect("a socket");
        agent.write_all(bytes).expect("it listens");
        let mut said = Vec::new();
        // What it did not read is a reset.
        match agent.read_to_end(&mut said) {
            Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => panic!("{bytes:?}: {e}"),
            _ => said,
        }
    };
    let magics = |said: &[u8]| {
        said.windows(MAGIC.len())
            .filter(|bytes| *bytes == MAGIC)
            .count()
    };
    assert_eq!(magics(&answer(b"s")), 1);
    for more in [&b"ss"[..], b"sr", b"s\ns"] {
        assert_eq!(magics(&answer(more)), 1, "{more:?}");
    }
    for none in [&b"x"[..], b"\0", b"R", b"1", b"\n", b"keys-agent status\n"] {
        assert_eq!(answer(none), b"", "{none:?}");
    }
    let _still = host.run("keys-agent status").succeeded();
}

/// D5: eight clients that say nothing, or a byte a second, or hold the lock and say nothing, and an honest push.
#[test]
fn slow_clients_do_not_hold_up_an_honest_push() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let operator = Operator::of_host(&host);
        one_key(&operator, "honest");
        // The last one takes the lock.
        let clients: Vec<_> = (0..SESSIONS)
            .map(|number| (number, receive(&host)))
            .collect();
        wait_for_sessions(&host, "8 sessions");
        thread::scope(|scope| {
            let slow = clients
                .into_iter()
                .map(|client| scope.spawn(move || drag_on(client)));
            let slow: Vec<_> = slow.collect();
            let sent = operator.send("--include pigeon").succeeded();
            let ends: Vec<Duration> = slow
                .into_iter()
                .map(|client| client.join().expect("an end"))
                .collect();
            println!(
                "{release:?}: the honest push took {:?}, the others ended after {ends:?}",
                sent.took
            );
            assert!(sent.took < limits::LOCK_WAIT, "{:?}", sent.took);
            assert!(ends.iter().all(|end| *end < PATIENCE), "{ends:?}");
        });
        assert_eq!(host.inside().read("/run/keys/a"), b"honest");
        let tree = host.inside().tree("/run/keys");
        let is_generation = |line: &&str| line.contains("/.gen.") && line.ends_with("(folder)");
        assert_eq!(tree.lines().filter(is_generation).count(), 1, "{tree}");
    });
}

/// Talks as slowly as its number says, and returns when it was thrown out, counted from its last whole frame.
fn drag_on((number, (mut session, hello)): (usize, (Session, Hello))) -> Duration {
    let push = Push::of(&hello.nonce, &[("slow", &[0; 100])]);
    let mut start = Instant::now();
    if number == SESSIONS - 1 {
        assert_eq!(session.declare(&push).expect("the lock is free"), [0]);
        start = Instant::now();
    }
    if number % 2 == 1 {
        // A frame of a hundred bytes, but for the last.
        let bytes = [&100_u32.to_be_bytes()[..], &[0x30], &[b' '; 99]].concat();
        for byte in &bytes {
            if session.say(&[*byte]).is_err() || start.elapsed() > PATIENCE {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
    }
    match session.wire.frame().map(|frame| frame.kind) {
        Err(WireError::Refused(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::Protocol, "{}", refusal.message);
        }
        other => panic!("client {number}: a refusal was expected: {other:?}"),
    }
    let end = start.elapsed();
    drop(session.close());
    end
}

/// I-18: eight sessions that are at work are all there are; the ninth waits, and is then told so.
#[test]
fn the_ninth_session_is_busy() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let operator = Operator::of_host(&host);
        one_key(&operator, "ninth");
        let clients: Vec<_> = (0..SESSIONS).map(|_| receive(&host)).collect();
        wait_for_sessions(&host, "8 sessions");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| work_on(client, &over));
            }
            let sent = operator.send("--include pigeon");
            over.store(true, Ordering::Relaxed);
            println!("{release:?}: refused after {:?}", sent.took);
            let _busy = sent.exited(7).said("took no session");
        });
        assert!(!host.inside().has("/run/keys/a"));
        wait_for_sessions(&host, "waiting");
        let _sent = operator.send("--include pigeon").succeeded();
    });
}

/// Declares a key every few seconds, and so is at work.
fn work_on((mut session, hello): (Session, Hello), over: &AtomicBool) {
    let names: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    let keys: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let push = Push::of(&hello.nonce, &keys);
    session.wire.send(&push.manifest).expect("it listens");
    for (key, _) in &push.keys {
        session
            .wire
            .send(key)
            .and_then(|()| session.wire.flush())
            .expect("it listens");
        let next = Instant::now() + limits::IDLE / 2;
        while Instant::now() < next && !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(session.close());
}

/// A relay that reads the socket with splice(2) holds sshd's pipe while it waits there, and sshd can pass nothing on:
/// greeting, pause, bodies; through both sshds.
#[test]
fn bodies_after_a_pause_go_through_a_real_sshd() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        for size in [1, 100_000, 8 << 20] {
            let start = Instant::now();
            let mut session = Session::of(operator.ssh_command(&["pigeon", "keys-agent receive"]))
                .expect("an agent");
            let (hello, ..) = session.hello().expect("a greeting");
            // Until the relay waits for the agent, and the agent for us.
            thread::sleep(Duration::from_millis(300));
            let body = vec![b'x'; size];
            let push = Push::of(&hello.nonce, &[("big", &body)]);
            assert_eq!(session.declare(&push).expect("an answer"), [0]);
            thread::sleep(Duration::from_millis(300));
            let report = session.commit(&[&body]).expect("a report");
            assert_eq!(session.close().0, Some(0));
            println!(
                "{release:?}: {size} bytes in {:?}, generation {}",
                start.elapsed(),
                report.generation
            );
            assert_eq!(host.inside().read("/run/keys/big").len(), size);
        }
    }
}

/// A restart that takes its time outlives the ssh session that asked for it, and is not asked for again.
#[test]
fn a_restart_outlives_the_session_that_asked_for_it() {
    for release in Release::ALL {
        let host = Host::served(release);
        let slow = "ExecStartPre=/bin/sh -c '[ $$(wc -l </run/lab/slow.starts) = 1 ] || sleep 2'";
        host.services(&[("slow", slow)]);
        let operator = Operator::of_host(&host);
        let mut session =
            Session::of(operator.ssh_command(&["pigeon", "keys-agent receive"])).expect("an agent");
        let (hello, ..) = session.hello().expect("a greeting");
        let mut push = Push::of(&hello.nonce, &[("a", b"1")]);
        push.tell(0, "lab-slow.service", How::Restart);
        assert_eq!(session.declare(&push).expect("an answer"), [0]);
        session.send_all(&[b"1"]).expect("it listens");
        wait_for("the restart to begin", LIMIT, || {
            (host.starts("slow") == 2).then_some(())
        });
        assert_eq!(
            host.property("lab-slow.service", "ActiveState"),
            "activating",
            "{release:?}"
        );
        session.cut();
        wait_for("the unit to be up", LIMIT, || {
            (host.property("lab-slow.service", "ActiveState") == "active").then_some(())
        });
        wait_for_sessions(&host, "waiting");
        let journal = host.journal("");
        assert!(journal.contains("lab-slow.service: restarted"), "{journal}");

        // Nothing is left to be told: not to the next session, nor to the next start of the service.
        let mut again = Session::receive(&host.inside());
        let (hello, have, _) = again.hello().expect("a greeting");
        assert_eq!(have[0].pending, 0);
        let mut push = Push::of(&hello.nonce, &[("a", b"1")]);
        push.tell(0, "lab-slow.service", How::Restart);
        assert_eq!(again.declare(&push).expect("an answer"), [0; 0]);
        assert_eq!(again.commit(&[]).expect("a report").units, []);
        drop(again.close());
        let _restarted = host.run("systemctl restart keys-agent.service").succeeded();
        wait_for_sessions(&host, "waiting");
        assert_eq!(host.starts("slow"), 2, "{release:?}");
    }
}
