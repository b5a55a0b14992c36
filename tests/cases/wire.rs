//! The wire, frame by frame: what the agent takes, and what it refuses without having changed anything.

use std::io;
use std::time::{Duration, Instant};

use keys_protocol::{
    Commit, Digest, Hello, Key, KeyOutcome, Kind, Principal, RefusalCode, Tell, WireError, limits,
};
use keys_tests::{Inside, Push, Session, Sshd};

/// What a change is called, and the change.
type Changes<'a, T> = &'a [(&'a str, fn(&mut T))];

/// A host with one key on it, and how its folder of keys looked then.
struct Standing {
    sshd: Sshd,
    tree: String,
}

impl Standing {
    fn inside(&self) -> &Inside {
        self.sshd.inside()
    }

    /// Panics unless everything is as it was, to the inode, with nothing half-made lying about.
    fn is_unchanged(&self) {
        assert_eq!(self.inside().tree("/run/keys"), self.tree);
        assert_eq!(self.inside().read("/run/keys/kept"), b"as it was");
    }
}

fn host() -> Standing {
    let sshd = Sshd::start("pigeon");
    push(sshd.inside(), &[("kept", b"as it was")]);
    let tree = sshd.inside().tree("/run/keys");
    Standing { sshd, tree }
}

/// Pushes these keys as a pusher should.
fn push(host: &Inside, keys: &[(&str, &[u8])]) {
    let (mut session, hello) = greeted(host);
    let needs = session
        .declare(&Push::of(&hello.nonce, keys))
        .expect("an answer");
    let bodies: Vec<&[u8]> = needs.iter().map(|at| keys[*at].1).collect();
    let _report = session.commit(&bodies).expect("a report");
    assert_eq!(session.close().0, Some(0));
}

fn greeted(host: &Inside) -> (Session, Hello) {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    (session, hello)
}

/// Panics unless the conversation ended by a refusal with this code.
fn refused<T>(ended: Result<T, WireError>, code: RefusalCode) {
    match ended {
        Err(WireError::Refused(refusal)) => assert_eq!(refusal.code, code, "{}", refusal.message),
        Err(other) => panic!("{code:?} was expected: {other}"),
        Ok(_) => panic!("{code:?} was expected, and all went well"),
    }
}

/// Sends `change` of a push of one key `new`, and panics unless the agent refuses it and changes nothing.
fn breach(host: &Standing, what: &str, change: impl FnOnce(&mut Push)) {
    let (mut session, hello) = greeted(host.inside());
    let mut push = Push::of(&hello.nonce, &[("new", b"value")]);
    change(&mut push);
    match session.declare(&push) {
        Err(WireError::Refused(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::Protocol, "{what}");
        }
        // It may be gone before all was said: the refusal is then what is read next.
        Err(WireError::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
            refused(session.needs(), RefusalCode::Protocol);
        }
        other => panic!("{what}: a refusal was expected: {other:?}"),
    }
    assert_ne!(session.close().0, Some(0), "{what}");
    host.is_unchanged();
}

#[test]
fn a_push_is_applied_and_reported() {
    let host = host();
    let (mut session, hello) = greeted(host.inside());
    assert_eq!(hello.generation, 1);
    let keys: &[(&str, &[u8])] = &[("kept", b"as it was"), ("new", b"value"), ("empty", b"")];
    let needs = session
        .declare(&Push::of(&hello.nonce, keys))
        .expect("an answer");
    assert_eq!(needs, [1, 2], "only what is not there is asked for");
    let report = session.commit(&[b"value", b""]).expect("a report");
    let outcomes: Vec<_> = report
        .keys
        .iter()
        .map(|key| (key.name.to_string(), key.outcome))
        .collect();
    let expected = [
        ("kept", KeyOutcome::Unchanged),
        ("new", KeyOutcome::New),
        ("empty", KeyOutcome::New),
    ];
    assert_eq!(
        outcomes,
        expected.map(|(name, outcome)| (name.to_owned(), outcome))
    );
    assert_eq!(report.generation, 2);
    assert_eq!(session.close().0, Some(0));
    assert_eq!(host.inside().read("/run/keys/new"), b"value");
}

#[test]
fn a_push_at_every_limit_is_taken() {
    let host = host();
    // As far as the next frame, so that nothing of it has to be sent.
    let (mut session, hello) = greeted(host.inside());
    let mut push = Push::of(&hello.nonce, &[("new", b"value")]);
    push.manifest.id = "x".repeat(limits::TEXT);
    push.manifest.sender = "x".repeat(limits::TEXT);
    push.manifest.bytes = limits::KEY_BYTES;
    push.keys[0].0.size = limits::KEY_BYTES;
    push.keys[0].0.units = limits::UNITS_PER_KEY;
    let unit = "x.service".parse().expect("a unit");
    let tell = Tell {
        unit,
        how: keys_protocol::How::Restart,
    };
    push.keys[0].1 = vec![tell; limits::UNITS_PER_KEY as usize];
    assert_eq!(
        session.declare(&push).expect("it is within the limits"),
        [0]
    );
    drop(session.close());
    host.is_unchanged();
}

#[test]
fn a_push_one_past_a_limit_is_refused() {
    let host = host();
    let text = |length: usize| "x".repeat(length);
    breach(&host, "a long id", |push| {
        push.manifest.id = text(limits::TEXT + 1);
    });
    breach(&host, "no id", |push| push.manifest.id.clear());
    breach(&host, "a long sender", |push| {
        push.manifest.sender = text(limits::TEXT + 1);
    });
    breach(&host, "many keys", |push| {
        push.manifest.keys = limits::KEYS + 1;
    });
    breach(&host, "many bytes", |push| {
        push.manifest.bytes = limits::PUSH_BYTES + 1;
    });
    breach(&host, "a large key", |push| {
        push.manifest.bytes = limits::KEY_BYTES + 1;
        push.keys[0].0.size = limits::KEY_BYTES + 1;
    });
    breach(&host, "many units", |push| {
        push.keys[0].0.units = limits::UNITS_PER_KEY + 1;
    });
}

#[test]
fn what_a_push_announces_and_does_not_keep_is_refused() {
    let host = host();
    breach(&host, "more bytes than the keys have", |push| {
        push.manifest.bytes += 1;
    });
    breach(&host, "fewer bytes than the keys have", |push| {
        push.manifest.bytes -= 1;
    });
    breach(&host, "one key twice", |push| {
        push.keys.push(push.keys[0].clone());
        push.manifest.keys = 2;
        push.manifest.bytes *= 2;
    });
    breach(&host, "a key and a folder of one name", |push| {
        let mut below = push.keys[0].clone();
        below.0.name = "new/below".parse().expect("a name");
        push.keys.push(below);
        push.manifest.keys = 2;
        push.manifest.bytes *= 2;
    });
    breach(&host, "no digest", |push| push.keys[0].0.mac = None);
}

#[test]
fn a_frame_larger_than_its_type_allows_is_refused_at_its_header() {
    let host = host();
    for (kind, length) in [
        (
            Kind::Manifest,
            u32::try_from(limits::CONTROL_FRAME).expect("small") + 1,
        ),
        (
            Kind::Body,
            u32::try_from(limits::BODY_FRAME).expect("small") + 1,
        ),
        (Kind::Manifest, u32::MAX),
        (Kind::Hello, 2),
    ] {
        let (mut session, _) = greeted(host.inside());
        let start = Instant::now();
        let header = [&length.to_be_bytes()[..], &[kind as u8]].concat();
        session.say(&header).expect("the agent listens");
        if kind == Kind::Hello {
            session.say(b"{}").expect("the agent listens");
        }
        refused(session.needs(), RefusalCode::Protocol);
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "{kind:?} of {length} was waited for"
        );
        drop(session.close());
        host.is_unchanged();
    }
}

#[test]
fn nothing_is_kept_in_memory_for_what_is_only_announced() {
    let host = host();
    let (mut session, hello) = greeted(host.inside());
    let mut push = Push::of(&hello.nonce, &[("new", b"value")]);
    push.manifest.keys = limits::KEYS;
    push.manifest.bytes = limits::PUSH_BYTES;
    session.announce(&push).expect("the agent listens");
    let resident = agent_memory(host.inside());
    assert!(resident < 32 << 10, "{resident} KiB");
    session.hang_up();
    drop(session.close());
    host.is_unchanged();
}

/// Returns how much memory the host's agent has in use, in KiB.
fn agent_memory(host: &Inside) -> u32 {
    let ran = host
        .run("sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$(pidof keys-agent)/status")
        .succeeded();
    ran.text()
        .trim()
        .parse()
        .unwrap_or_else(|e| panic!("{e}\n{ran}"))
}

#[test]
fn a_silent_peer_is_left_after_ten_seconds_and_the_lock_is_free() {
    let host = host();
    let (mut session, hello) = greeted(host.inside());
    let needs = session
        .declare(&Push::of(&hello.nonce, &[("new", b"value")]))
        .expect("an answer");
    assert_eq!(needs, [0]);
    let start = Instant::now();
    assert!(session.report().is_err());
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(25)).contains(&took),
        "{took:?}"
    );
    drop(session.close());
    host.is_unchanged();
    push(host.inside(), &[("kept", b"as it was"), ("other", b"")]);
}

#[test]
fn an_end_of_input_without_commit_changes_nothing_wherever_it_is() {
    let host = host();
    for sent in ["nothing", "the keys", "half a body", "the body"] {
        let (mut session, hello) = greeted(host.inside());
        if sent != "nothing" {
            session
                .declare(&Push::of(&hello.nonce, &[("new", b"value")]))
                .expect("an answer");
        }
        match sent {
            "half a body" => session.say(b"\0\0\0\x05\x30va").expect("the agent listens"),
            "the body" => session
                .wire
                .send_body(b"value")
                .and_then(|()| session.wire.flush())
                .expect("it listens"),
            _ => {}
        }
        session.hang_up();
        let (code, said) = session.close();
        assert!(
            code.is_some_and(|code| code != 0),
            "after {sent}: {code:?} {said}"
        );
        host.is_unchanged();
    }
}

#[test]
fn a_commit_that_does_not_say_what_was_sent_is_refused() {
    let host = host();
    let wrong: Changes<Commit> = &[
        ("count", |commit| commit.keys += 1),
        ("bytes", |commit| commit.bytes -= 1),
        ("transcript", |commit| commit.transcript = Digest([0; 32])),
    ];
    for (what, change) in wrong {
        let (mut session, hello) = greeted(host.inside());
        session
            .declare(&Push::of(&hello.nonce, &[("new", b"value")]))
            .expect("an answer");
        session.wire.send_body(b"value").expect("the agent listens");
        let mut commit = session.commit_of(&[b"value"]);
        change(&mut commit);
        session
            .wire
            .send(&commit)
            .and_then(|()| session.wire.flush())
            .expect("the agent listens");
        refused(session.report(), RefusalCode::Protocol);
        assert_ne!(session.close().0, Some(0), "{what}");
        host.is_unchanged();
    }
}

#[test]
fn bodies_that_are_not_what_was_declared_are_refused() {
    let host = host();
    for bodies in [
        &[&b"VALUE"[..]][..],
        &[b"valu"],
        &[b"values"],
        &[],
        &[b"value", b"value"],
    ] {
        let (mut session, hello) = greeted(host.inside());
        session
            .declare(&Push::of(&hello.nonce, &[("new", b"value")]))
            .expect("an answer");
        refused(session.commit(bodies), RefusalCode::Protocol);
        assert_ne!(session.close().0, Some(0), "{bodies:?}");
        host.is_unchanged();
    }
}

#[test]
fn a_commit_before_the_keys_is_refused_and_a_second_one_too() {
    let host = host();
    let (mut session, _) = greeted(host.inside());
    let first = session.commit_of(&[]);
    session
        .wire
        .send(&first)
        .and_then(|()| session.wire.flush())
        .expect("the agent listens");
    refused(session.needs(), RefusalCode::Protocol);
    drop(session.close());
    host.is_unchanged();
    let (mut session, hello) = greeted(host.inside());
    session
        .declare(&Push::of(&hello.nonce, &[("new", b"value")]))
        .expect("an answer");
    session.wire.send_body(b"value").expect("the agent listens");
    let commit = session.commit_of(&[b"value"]);
    session.wire.send(&commit).expect("the agent listens");
    session
        .wire
        .send(&commit)
        .and_then(|()| session.wire.flush())
        .expect("the agent listens");
    refused(session.report(), RefusalCode::Protocol);
    drop(session.close());
    host.is_unchanged();
}

#[test]
fn a_version_or_a_feature_that_the_agent_does_not_know_is_refused_by_name() {
    let host = host();
    let wrong: Changes<Push> = &[
        ("2", |push| push.manifest.protocol = 2),
        ("telepathy", |push| {
            push.manifest.requires = "telepathy".to_owned();
        }),
    ];
    for (named, change) in wrong {
        let (mut session, hello) = greeted(host.inside());
        let mut push = Push::of(&hello.nonce, &[("new", b"value")]);
        change(&mut push);
        match session.declare(&push) {
            Err(WireError::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::Version);
                assert!(refusal.message.contains(named), "{}", refusal.message);
            }
            other => panic!("{named}: {other:?}"),
        }
        drop(session.close());
        host.is_unchanged();
    }
}

#[test]
fn a_key_that_the_host_refuses_fails_alone() {
    let wrong: Changes<Key> = &[
        ("nobody-of-that-name", |key| {
            key.owner = Principal::Name("nobody-of-that-name".to_owned());
        }),
        ("no-such-group", |key| {
            key.group = Principal::Name("no-such-group".to_owned());
        }),
        ("0444", |key| key.mode = "0444".parse().expect("a mode")),
    ];
    for (named, change) in wrong {
        let host = host();
        let (mut session, hello) = greeted(host.inside());
        let keys: &[(&str, &[u8])] = &[("kept", b"as it was"), ("bad", b"x"), ("good", b"y")];
        let mut push = Push::of(&hello.nonce, keys);
        change(&mut push.keys[1].0);
        assert_eq!(session.declare(&push).expect("an answer"), [2]);
        let report = session.commit(&[b"y"]).expect("a report");
        assert_eq!(report.keys[1].outcome, KeyOutcome::Failed);
        assert!(
            report.keys[1].detail.contains(named),
            "{}",
            report.keys[1].detail
        );
        let _ended = session.close();
        assert!(!host.inside().has("/run/keys/bad"));
        assert_eq!(host.inside().read("/run/keys/good"), b"y");
    }
}
