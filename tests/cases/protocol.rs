//! The protocol at its edges: every limit to the byte, frames out of turn, versions to come, bytes as they are, lost ends.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{
    Commit, How, Key, KeyOutcome, Kind, Manifest, Message, Need, Purpose, RefusalCode, Tell,
    WireError, limits,
};
use keys_tests::{Ended, Inside, LIMIT, Operator, Push, Session, Sshd, Strace, wait_for};
use serde::{Deserialize, Serialize};

type Keys<'a> = &'a [(&'a str, &'a [u8])];

const OLD: Keys = &[("kept", b"as it was")];

/// Returns bytes of a frame, as no wire might write it.
fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_be_bytes()[..], &[kind as u8], payload].concat()
}

fn json(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("messages are JSON")
}

/// What the agent made of something: it took it and waits for more, or refuses.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused(RefusalCode),
}

use Verdict::{Refused, Taken};

const BREACH: Verdict = Refused(RefusalCode::Protocol);

/// Says something to an agent after its greeting, then nothing more, and returns what it made of that.
fn verdict(
    host: &Inside,
    keys: Keys,
    talk: impl FnOnce(&mut Session, Push) -> io::Result<()>,
) -> Verdict {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let push = Push::of(&hello.nonce, keys);
    match talk(&mut session, push) {
        // It may have refused before all was said.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => panic!("{e}"),
        _ => {}
    }
    session.hang_up();
    let verdict = loop {
        match session.wire.frame() {
            Ok(_) => {}
            Err(WireError::Closed) => break Taken,
            Err(WireError::Refused(refusal)) => break Refused(refusal.code),
            Err(e) => panic!("{e}"),
        }
    };
    assert_ne!(session.close().0, Some(0), "it was never committed");
    verdict
}

/// As many characters.
fn text(length: usize) -> String {
    "x".repeat(length)
}

/// Gives a member of a manifest a length or a number.
type Setting = fn(&mut Manifest, usize);

/// D3: texts and numbers of a manifest, each one below, at and above its limit.
#[test]
fn limits_of_a_manifest_are_exact() {
    let sshd = Sshd::start("pigeon");
    let bytes = usize::try_from(limits::PUSH_BYTES).expect("64 bits");
    let limits: [(&str, usize, Setting); 4] = [
        ("id", limits::TEXT, |manifest, value| {
            manifest.id = text(value);
        }),
        ("sender", limits::TEXT, |manifest, value| {
            manifest.sender = text(value);
        }),
        ("keys", limits::KEYS as usize, |manifest, value| {
            manifest.keys = u32::try_from(value).expect("32 bits");
        }),
        ("bytes", bytes, |manifest, value| {
            // Of a key that is not declared any more.
            (manifest.keys, manifest.bytes) = (1, value as u64);
        }),
    ];
    for (what, limit, set) in limits {
        for (value, expected) in [(limit - 1, Taken), (limit, Taken), (limit + 1, BREACH)] {
            let found = verdict(sshd.inside(), &[], |session, mut push| {
                set(&mut push.manifest, value);
                session.say(&frame(Kind::Manifest, json(&push.manifest).as_bytes()))
            });
            assert_eq!(found, expected, "{what} of {value}");
        }
    }
}

/// D3: sizes of frames, that of a control frame filled up with spaces.
#[test]
fn limits_of_frames_are_exact() {
    let sshd = Sshd::start("pigeon");
    for (more, expected) in [(-1, Taken), (0, Taken), (1, BREACH)] {
        let found = verdict(sshd.inside(), &[], |session, push| {
            let length = limits::CONTROL_FRAME.saturating_add_signed(more);
            let padded = format!("{:length$}", json(&push.manifest));
            session.say(&frame(Kind::Manifest, padded.as_bytes()))
        });
        assert_eq!(
            found, expected,
            "a Manifest frame of {more} bytes more than the limit"
        );
        let body = vec![b'x'; limits::BODY_FRAME.saturating_add_signed(more)];
        let found = verdict(sshd.inside(), &[("web", &body)], |session, push| {
            let needs = session.declare(&push).map_err(io::Error::other)?;
            assert_eq!(needs, [0]);
            session.say(&frame(Kind::Body, &body))
        });
        assert_eq!(
            found, expected,
            "a Body frame of {more} bytes more than the limit"
        );
    }
}

/// Returns a name of components of these lengths.
fn name(lengths: &[usize]) -> String {
    lengths
        .iter()
        .map(|length| text(*length))
        .collect::<Vec<_>>()
        .join("/")
}

/// D3: names, sizes and units of a key.
#[test]
fn limits_of_a_key_are_exact() {
    let sshd = Sshd::start("pigeon");
    let is = |expected: Verdict, what: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let found = verdict(sshd.inside(), &[("web", b"")], |session, push| {
            let mut key = serde_json::to_value(&push.keys[0].0)?;
            change(&mut key);
            let mut manifest = push.manifest;
            manifest.bytes = key["size"].as_u64().expect("a number");
            session.say(&frame(Kind::Manifest, json(&manifest).as_bytes()))?;
            session.say(&frame(Kind::Key, key.to_string().as_bytes()))
        });
        assert_eq!(found, expected, "{what}");
    };
    let names = |lengths: &[usize], expected| {
        is(expected, &format!("components of {lengths:?}"), &|key| {
            key["name"] = name(lengths).into();
        });
    };
    let (part, depth, whole) = (limits::NAME_COMPONENT, limits::NAME_DEPTH, limits::NAME);
    names(&[part - 1], Taken);
    names(&[part], Taken);
    names(&[part + 1], BREACH);
    names(&vec![1; depth - 1], Taken);
    names(&vec![1; depth], Taken);
    names(&vec![1; depth + 1], BREACH);
    names(&[part, whole - part - 2], Taken);
    names(&[part, whole - part - 1], Taken);
    names(&[part, whole - part], BREACH);
    names(&[0], BREACH);
    for (member, limit) in [
        ("size", limits::KEY_BYTES),
        ("units", u64::from(limits::UNITS_PER_KEY)),
    ] {
        for (value, expected) in [(limit - 1, Taken), (limit, Taken), (limit + 1, BREACH)] {
            is(expected, &format!("{member} of {value}"), &|key| {
                key[member] = value.into();
            });
        }
    }
}

/// D3: as many keys as there can be, each of them declared.
#[test]
fn a_plan_of_20000_keys_is_answered() {
    let sshd = Sshd::start("pigeon");
    let names: Vec<String> = (0..limits::KEYS)
        .map(|number| format!("key{number}"))
        .collect();
    let keys: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let report = Session::push(sshd.inside(), &keys, |push| {
        push.manifest.purpose = Purpose::Plan;
    });
    let report = report.committed();
    assert_eq!(report.keys.len(), keys.len());
    assert!(report.keys.iter().all(|key| key.outcome == KeyOutcome::New));
}

/// D3: a lock that somebody else holds is waited for 30 s, and a moment less is enough.
#[test]
fn a_lock_is_waited_for_thirty_seconds() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let hold = |time: u32| {
        let line = format!("flock --exclusive /run/keys sleep {time} >/dev/null 2>&1 &");
        let _held = host.run(&line).succeeded();
        let is_held = || (host.run("flock --nonblock /run/keys true").code() == 1).then_some(());
        wait_for("the lock to be held", LIMIT, is_held);
        Instant::now()
    };
    let start = hold(2);
    let _report = Session::push(host, OLD, |_| {}).committed();
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let start = hold(60);
    let ended = Session::push(host, &[("kept", b"other")], |_| {});
    let took = start.elapsed();
    assert!((29..40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(ended.code, Some(7));
    assert_eq!(ended.refused().code, RefusalCode::Busy);
    assert_eq!(host.read("/run/keys/kept"), b"as it was");
}

/// Returns how much memory an agent has in use, in KiB.
fn memory(session: &Session) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", session.agent()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number of KiB")
}

/// Announces a push of one key of this size, says ten bytes of it, holds it open, and returns how long that was borne.
fn announced(host: &Inside, size: u64) -> Duration {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let mut push = Push::of(&hello.nonce, &[("web", b"")]);
    push.manifest.bytes = size;
    push.keys[0].0.size = size;
    let start = Instant::now();
    if size > limits::KEY_BYTES {
        // It may refuse before all was said.
        drop(session.announce(&push));
    } else {
        assert_eq!(
            session.declare(&push).expect("it is within the limits"),
            [0]
        );
        let body = frame(Kind::Body, &vec![b'x'; limits::BODY_FRAME]);
        session.say(&body[..15]).expect("the agent listens");
        let used = memory(&session);
        assert!(used < 32 << 10, "{used} KiB");
    }
    let refused = session.needs();
    let took = start.elapsed();
    assert!(
        matches!(&refused, Err(WireError::Refused(_))),
        "{size}: {refused:?}"
    );
    assert_ne!(session.close().0, Some(0), "{size}");
    took
}

/// D4: refused at once, or after ten seconds; and no memory is taken for it.
#[test]
fn what_is_announced_and_does_not_come_costs_nothing() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let check = |size, expected: Range<u64>| {
        let took = announced(host, size);
        assert!(expected.contains(&took.as_secs()), "{size}: {took:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| check(limits::KEY_BYTES, 9..15));
        for size in [1 << 32, 1 << 63, u64::MAX] {
            check(size, 0..3);
        }
    });
    assert!(!host.has("/run/keys/.current"));
}

/// Says the first bytes of a Manifest frame, one a second, and returns how long that was listened to.
fn drag_on(host: &Inside, bytes: usize) -> Duration {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let manifest = json(&Push::of(&hello.nonce, OLD).manifest);
    let start = Instant::now();
    let slow = frame(Kind::Manifest, manifest.as_bytes())
        .into_iter()
        .take(bytes);
    for byte in slow {
        // Nobody listens any more: why is what is read next.
        if session.say(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_secs(1));
    }
    let refused = session.needs();
    let took = start.elapsed();
    assert!(matches!(refused, Err(WireError::Refused(_))), "{refused:?}");
    drop(session.close());
    took
}

/// D5: eight that say a byte a second are left 10 s after their last whole frame, one that says nothing too; an honest
/// push goes on meanwhile, and one that pauses for 7 s is none of them.
#[test]
fn a_byte_a_second_is_silence_and_a_pause_of_seven_seconds_is_none() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    thread::scope(|scope| {
        for slow in 0..9 {
            scope.spawn(move || {
                let took = drag_on(host, if slow == 8 { 0 } else { 60 });
                assert!((9..35).contains(&took.as_secs()), "{took:?}");
            });
        }
        scope.spawn(|| {
            let mut session = Session::receive(host);
            let (hello, _, _) = session.hello().expect("a greeting");
            thread::sleep(Duration::from_secs(7));
            let push = Push::of(&hello.nonce, &[("late", b"l")]);
            assert_eq!(session.declare(&push).expect("an answer"), [0]);
            drop(session.close());
        });
        let start = Instant::now();
        let _honest = Session::push(host, OLD, |_| {}).committed();
        assert!(
            start.elapsed() < Duration::from_millis(9500),
            "{:?}",
            start.elapsed()
        );
    });
    assert_eq!(host.read("/run/keys/kept"), b"as it was");
}

/// Two keys that are of one length, so that only their bytes tell them apart.
const PAIR: Keys = &[("one", b"11111"), ("two", b"22222")];

/// Something a pusher might say, in a session whose agent has greeted.
type Saying = fn(&mut Session, &Push) -> Result<(), WireError>;

/// Declares the pair, and says these frames after the agent's answer.
fn after_needs(session: &mut Session, push: &Push, frames: &[&[u8]]) -> Result<(), WireError> {
    assert_eq!(session.declare(push)?, [0, 1]);
    frames
        .iter()
        .try_for_each(|bytes| session.wire.send_body(bytes))
}

fn commit(session: &mut Session, bodies: &[&[u8]]) -> Result<(), WireError> {
    let commit = session.commit_of(bodies);
    session.wire.send(&commit)?;
    session.wire.flush()
}

/// What breaks the order or the promises of a session.
const BREACHES: [(&str, Saying); 13] = [
    ("a body before the manifest", |session, _| {
        session.wire.send_body(b"11111")?;
        session.wire.flush()
    }),
    ("a key before the manifest", |session, push| {
        session.wire.send(&push.keys[0].0)?;
        session.wire.flush()
    }),
    ("two manifests", |session, push| {
        session.wire.send(&push.manifest)?;
        session.announce(push)
    }),
    ("the last key is missing", |session, push| {
        session.wire.send(&push.manifest)?;
        session.wire.send(&push.keys[0].0)?;
        commit(session, &[])
    }),
    ("a unit that no key announced", |session, push| {
        session.wire.send(&push.manifest)?;
        session.wire.send(&push.keys[0].0)?;
        session.wire.send(&Tell {
            unit: "web.service".parse().expect("a unit"),
            how: How::Restart,
        })?;
        session.wire.flush()
    }),
    ("a frame of the agent's", |session, push| {
        session.wire.send(&push.manifest)?;
        session.wire.send(&Need { index: 0 })?;
        session.wire.flush()
    }),
    ("a key again after the answer", |session, push| {
        after_needs(session, push, &[])?;
        session.wire.send(&push.keys[0].0)?;
        session.wire.flush()
    }),
    ("a commit instead of the last body", |session, push| {
        after_needs(session, push, &[b"11111"])?;
        commit(session, &[b"11111"])
    }),
    ("bodies in another order", |session, push| {
        after_needs(session, push, &[b"22222", b"11111"])?;
        commit(session, &[b"22222", b"11111"])
    }),
    ("one frame with bytes of two keys", |session, push| {
        after_needs(session, push, &[b"1111122222"])?;
        commit(session, &[b"11111", b"22222"])
    }),
    ("a frame with no bytes", |session, push| {
        after_needs(session, push, &[b"11111"])?;
        session.wire.flush()?;
        session.say(&frame(Kind::Body, b"")).map_err(WireError::Io)
    }),
    ("a body after the last", |session, push| {
        after_needs(session, push, &[b"11111", b"22222", b"33333"])?;
        commit(session, &[b"11111", b"22222"])
    }),
    ("a commit that counts one body twice", |session, push| {
        after_needs(session, push, &[b"11111", b"22222"])?;
        let Commit {
            keys,
            bytes,
            transcript,
        } = session.commit_of(&[b"11111", b"22222"]);
        session.wire.send(&Commit {
            keys: keys + 1,
            bytes: bytes + 5,
            transcript,
        })?;
        session.wire.flush()
    }),
];

/// D6: each is refused, and the host is as it was to the inode.
#[test]
fn frames_out_of_turn_are_refused() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let before = host.tree("/run/keys");
    for (what, say) in BREACHES {
        let found = verdict(host, PAIR, |session, push| match say(session, &push) {
            Err(WireError::Io(e)) => Err(e),
            other => other.map_err(io::Error::other),
        });
        assert_eq!(found, BREACH, "{what}");
        assert_eq!(host.tree("/run/keys"), before, "{what}");
    }
}

/// D6: one byte after the Commit frame, or a whole frame, in the same write or a moment later.
#[test]
fn anything_that_comes_with_the_commit_is_refused() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let before = host.tree("/run/keys");
    for more in [
        &b"\0"[..],
        &frame(Kind::Body, b"33333"),
        &frame(Kind::Commit, b"{}"),
    ] {
        let found = verdict(host, PAIR, |session, push| {
            after_needs(session, &push, &[b"11111", b"22222"]).map_err(io::Error::other)?;
            session.wire.flush().map_err(io::Error::other)?;
            let commit = session.commit_of(&[b"11111", b"22222"]);
            let frame = frame(Kind::Commit, json(&commit).as_bytes());
            session.say(&[&frame[..], more].concat())
        });
        assert_eq!(found, BREACH, "{more:?}");
        assert_eq!(host.tree("/run/keys"), before, "{more:?}");
    }
}

/// A message of a version to come: the one of today, and something more.
#[derive(Serialize, Deserialize)]
struct Later<M> {
    #[serde(flatten)]
    today: M,
    mood: String,
}

impl Message for Later<Manifest> {
    const KIND: Kind = Kind::Manifest;
}

impl Message for Later<Key> {
    const KIND: Kind = Kind::Key;
}

/// D7: what a later pusher may add without asking.
#[test]
fn members_that_the_agent_does_not_know_are_no_matter() {
    let sshd = Sshd::start("pigeon");
    let mut session = Session::receive(sshd.inside());
    let (hello, _, _) = session.hello().expect("a greeting");
    let Push { manifest, keys } = Push::of(&hello.nonce, OLD);
    let mood = || "merry".to_owned();
    let sent = session
        .wire
        .send(&Later {
            today: manifest,
            mood: mood(),
        })
        .and_then(|()| {
            session.wire.send(&Later {
                today: keys[0].0.clone(),
                mood: mood(),
            })
        })
        .and_then(|()| session.wire.flush());
    sent.expect("the agent listens");
    assert_eq!(session.needs().expect("an answer"), [0]);
    assert_eq!(
        session
            .commit(&[b"as it was"])
            .expect("a report")
            .generation,
        1
    );
    assert_eq!(session.close().0, Some(0));
    assert_eq!(sshd.inside().read("/run/keys/kept"), b"as it was");
}

/// D7: what it must know and does not: refused by name, with both versions.
#[test]
fn a_pusher_of_a_version_to_come_is_refused_with_both_versions() {
    let sshd = Sshd::start("pigeon");
    let refused = |change: fn(&mut Manifest)| {
        let refusal =
            Session::push(sshd.inside(), OLD, |push| change(&mut push.manifest)).refused();
        assert_eq!(refusal.code, RefusalCode::Version, "{refusal:?}");
        assert!(refusal.hint.contains("upgrade"), "{refusal:?}");
        refusal.message
    };
    let words = refused(|manifest| manifest.protocol = 2);
    assert_eq!(words, "the pusher wants protocol 2, this agent speaks 1");
    let words = refused(|manifest| manifest.requires = "telepathy".to_owned());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        words,
        format!("the pusher requires `telepathy`, unknown to this agent {version}")
    );
    assert!(!sshd.inside().has("/run/keys/.current"));
}

/// Values that some tool on some way somewhere changes.
fn values() -> [(&'static str, Vec<u8>); 11] {
    let mut random = vec![0; 1 << 20];
    let source = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    source.expect("the kernel gives random bytes");
    let utf16 = "\u{feff}pass\u{1f512}\r\n".encode_utf16();
    [
        ("none", Vec::new()),
        ("one", b"\0".to_vec()),
        ("all", (0..=255).collect()),
        ("random", random),
        ("no-newline", b"hunter2".to_vec()),
        ("newlines", b"\n\nhunter2\n\n".to_vec()),
        ("crlf", b"a\r\nb\r\n".to_vec()),
        ("utf-16", utf16.flat_map(u16::to_le_bytes).collect()),
        ("nul", b"hunter2\0".to_vec()),
        ("bom", b"\xef\xbb\xbfhunter2".to_vec()),
        ("frame", vec![b'x'; limits::BODY_FRAME]),
    ]
}

/// D9: from a file of the operator's to one of the host's.
#[test]
fn values_arrive_byte_by_byte() {
    let values = values();
    let sshd = Sshd::start("pigeon");
    let operator = Operator::of(&sshd);
    let key =
        |name| format!("[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"{name}\" }}\n");
    let keys: String = values.iter().map(|(name, _)| key(*name)).collect();
    operator.manifest(&format!("[hosts.pigeon]\nssh = \"pigeon\"\n{keys}"));
    for (name, value) in &values {
        operator.write(name, value);
    }
    let _sent = operator.send("--include pigeon").succeeded();
    for (name, value) in &values {
        let found = sshd.inside().read(&format!("/run/keys/{name}"));
        assert!(
            found == *value,
            "{name}: {} bytes came as {}",
            value.len(),
            found.len()
        );
    }
    let again = operator.send("--include pigeon --json").succeeded();
    let unchanged = again.text().matches("\"unchanged\"").count();
    assert_eq!(unchanged, values.len(), "{again}");
}

/// Says a push up to its Commit to an agent that is slow to commit, then lets `leave` end our side of it.
fn left_while_applying(host: &Inside, leave: impl FnOnce(Session) -> Ended) -> Ended {
    let slow = Strace::Delay("renameat", 300_000);
    let mut session = Session::of(slow.command(host)).expect("the agent speaks");
    let (hello, _, _) = session.hello().expect("a greeting");
    let keys: Keys = &[("kept", b"another")];
    session
        .declare(&Push::of(&hello.nonce, keys))
        .expect("an answer");
    session
        .wire
        .send_body(b"another")
        .expect("the agent listens");
    commit(&mut session, &[b"another"]).expect("the agent listens");
    leave(session)
}

/// D10: who closes its input after the Commit has said all there is to say.
#[test]
fn an_input_closed_after_the_commit_is_no_matter() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let ended = left_while_applying(host, |mut session| {
        session.hang_up();
        let report = session.report();
        let (code, said) = session.close();
        Ended { report, code, said }
    });
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.committed().generation, 2);
    assert_eq!(host.read("/run/keys/kept"), b"another");
}

/// D10: nobody listens any more while the agent applies: what was committed is committed, and said where it can be.
#[test]
fn an_output_closed_while_applying_changes_nothing_of_what_is_applied() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let ended = left_while_applying(host, |session| {
        let (code, said) = session.close();
        Ended {
            report: Err(WireError::Closed),
            code,
            said,
        }
    });
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .said
            .contains("the keys are in place, the report is lost"),
        "{ended:?}"
    );
    assert_eq!(host.read("/run/keys/kept"), b"another");
}

/// D10: the input is closed at once, before anything was said.
#[test]
fn an_input_closed_at_once_changes_nothing() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let before = host.tree("/run/keys");
    assert_eq!(verdict(host, OLD, |_, _| Ok(())), Taken);
    let ran = host
        .run("keys-agent receive </dev/null >/dev/full")
        .exited(1);
    assert!(!ran.stderr.is_empty(), "{ran}");
    assert_eq!(host.tree("/run/keys"), before);
}
