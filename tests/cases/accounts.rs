//! Owners and groups: who cannot be found keeps that key back and no other, and nobody becomes root instead.

use std::time::{Duration, Instant};

use keys_protocol::{KeyOutcome, Kind, Refusal, RefusalCode, WireError};
use keys_tests::{Ended, Inside, Operator, Push, Session, Sshd};

const KEYS: &[(&str, &[u8])] = &[("theirs", b"t"), ("good", b"g")];

/// Sends two keys, the first of them for this owner and group.
fn push(host: &Inside, owner: &str, group: &str) -> Ended {
    Session::push(host, KEYS, |push| give(push, owner, group))
}

fn give(push: &mut Push, owner: &str, group: &str) {
    let key = &mut push.keys[0].0;
    key.owner = owner.parse().expect("an owner");
    key.group = group.parse().expect("a group");
    key.mode = "0440".parse().expect("a mode");
}

/// B6: each is taken as what it says.
#[test]
fn owners_and_groups_are_taken_by_name_and_by_number() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    sshd.tree().user("alice", 1001);
    sshd.tree().user("samba$", 1002);
    for (owner, group, shown) in [
        ("alice", "keys", "alice:keys 0440"),
        ("1001", "96", "alice:keys 0440"),
        ("samba$", "samba$", "samba$:samba$ 0440"),
        // Numbers need no name.
        ("4711", "2147483647", "4711:2147483647 0440"),
        ("root", "root", "root:root 0440"),
        ("0", "0", "root:root 0440"),
    ] {
        let report = push(host, owner, group).committed();
        let (outcome, why) = report.of("theirs");
        assert!(
            matches!(
                outcome,
                KeyOutcome::New | KeyOutcome::Changed | KeyOutcome::Unchanged
            ),
            "{why}"
        );
        assert_eq!(host.access("/run/keys/theirs"), shown, "{owner}:{group}");
    }
}

/// B6: a missing user or group; with an older version there, that one stays as it is.
#[test]
fn an_unknown_owner_or_group_keeps_that_key_back_alone() {
    for (owner, group, words) in [
        (
            "nobody-of-that-name",
            "root",
            "no user `nobody-of-that-name` on this host",
        ),
        (
            "root",
            "no-such-group",
            "no group `no-such-group` on this host",
        ),
        // A group's name is no user's.
        ("keys", "root", "no user `keys` on this host"),
    ] {
        let sshd = Sshd::start("pigeon");
        let host = sshd.inside();
        let ended = push(host, owner, group);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let report = ended.committed();
        assert_eq!(report.of("theirs"), (KeyOutcome::Failed, words));
        assert_eq!(report.of("good").0, KeyOutcome::New);
        assert!(!host.has("/run/keys/theirs") && !host.has("/run/keys/.current/theirs"));
        assert_eq!(host.read("/run/keys/good"), b"g");

        let _older = push(host, "root", "root").committed();
        let newer: &[(&str, &[u8])] = &[("theirs", b"newer"), ("good", b"better")];
        let ended = Session::push(host, newer, |push| give(push, owner, group));
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert_eq!(
            ended.committed().of("theirs"),
            (KeyOutcome::FailedKept, words)
        );
        assert_eq!(host.read("/run/keys/theirs"), b"t");
        assert_eq!(host.access("/run/keys/theirs"), "root:root 0440");
        assert_eq!(host.read("/run/keys/good"), b"better");
    }
}

/// B6: with `--strict` none is placed.
#[test]
fn an_unknown_owner_refuses_them_all_where_that_is_asked_for() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _older = push(host, "root", "root").committed();
    let before = host.tree("/run/keys");
    let ended = Session::push(host, &[("theirs", b"newer"), ("good", b"better")], |push| {
        give(push, "nobody-of-that-name", "root");
        push.manifest.strict = true;
    });
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let refusal = ended.refused();
    assert_eq!(refusal.code, RefusalCode::Policy);
    assert!(refusal.message.contains("theirs: no user"), "{refusal:?}");
    assert_eq!(host.tree("/run/keys"), before);
}

/// B6: the user comes later, and the next push of the same keys gives them theirs.
#[test]
fn a_user_who_is_made_later_gets_the_key_with_the_next_push() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let report = push(host, "alice", "alice").committed();
    assert_eq!(report.of("theirs").0, KeyOutcome::Failed);
    sshd.tree().user("alice", 1001);
    let report = push(host, "alice", "alice").committed();
    assert_eq!(report.of("theirs").0, KeyOutcome::New);
    assert_eq!(report.of("good").0, KeyOutcome::Unchanged);
    assert_eq!(host.access("/run/keys/theirs"), "alice:alice 0440");
}

/// B6: an account whose number changed is found by what is really there.
#[test]
fn an_account_with_another_number_now_is_given_its_key_anew() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    sshd.tree().user("alice", 1001);
    let _report = push(host, "alice", "alice").committed();
    let _renumbered = host
        .run("sed -i s/1001/1007/g /etc/passwd /etc/group")
        .succeeded();
    let report = push(host, "alice", "alice").committed();
    assert_eq!(report.of("theirs"), (KeyOutcome::Changed, "owner group"));
    assert_eq!(host.access("/run/keys/theirs"), "alice:alice 0440");
}

/// Says a key whose frame has this text in a member, and returns the refusal.
fn refused(host: &Inside, member: &str, text: &str) -> Refusal {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let push = Push::of(&hello.nonce, &KEYS[..1]);
    let sent = session
        .wire
        .send(&push.manifest)
        .and_then(|()| session.wire.flush());
    sent.expect("the agent listens");
    let mut key = serde_json::to_value(&push.keys[0].0).expect("a frame");
    key[member] = text.into();
    let key = key.to_string().into_bytes();
    let length = u32::try_from(key.len()).expect("short");
    let said = session.say(&[&length.to_be_bytes()[..], &[Kind::Key as u8], &key].concat());
    said.expect("the agent listens");
    let answer = session.needs();
    assert_ne!(session.close().0, Some(0), "{member} {text:?}");
    match answer {
        Err(WireError::Refused(refusal)) => refusal,
        other => panic!("{member} {text:?}: {other:?}"),
    }
}

/// B6: what is neither a name nor a number that could be one is no frame at all.
#[test]
fn the_agent_refuses_owners_that_cannot_be_any() {
    let sshd = Sshd::start("pigeon");
    let wrong = [
        "4294967295",
        "4294967296",
        "2147483648",
        "-1",
        "root:root",
        "a:b",
        "root\n",
        "\n",
        "",
        " root",
        "a b",
        "a/b",
        "ä",
        "%u",
        "$",
        "-root",
        "\u{0}",
    ];
    for (member, text) in ["owner", "group"]
        .into_iter()
        .flat_map(|member| wrong.map(|text| (member, text)))
    {
        let refusal = refused(sshd.inside(), member, text);
        assert_eq!(refusal.code, RefusalCode::Protocol, "{refusal:?}");
        assert!(!refusal.message.contains(['\n', '\0']), "{refusal:?}");
        assert!(
            !sshd.inside().has("/run/keys/.current"),
            "{member} {text:?}"
        );
    }
}

/// Returns the manifest of two keys, the first of this owner.
fn manifest(owner: &str) -> String {
    format!(
        "[hosts.pigeon]\nssh = \"pigeon\"\n[keys.theirs]\nhosts = [\"pigeon\"]\nsource = {{ file = \"secret\" }}\n\
         owner = \"{owner}\"\n[keys.good]\nhosts = [\"pigeon\"]\nsource = {{ file = \"secret\" }}\n"
    )
}

/// B6: by the pusher, before any host is contacted.
#[test]
fn the_pusher_refuses_owners_that_cannot_be_any() {
    let sshd = Sshd::start("pigeon");
    let operator = Operator::of(&sshd);
    operator.write("secret", "value");
    for owner in [
        "4294967295",
        "4294967296",
        "-1",
        "root:root",
        "a:b",
        "root\\n",
        "",
        "a b",
        "a/b",
    ] {
        operator.manifest(&manifest(owner));
        let ran = operator.send("--include pigeon").said("owner");
        assert_ne!(ran.code(), 0, "{owner}\n{ran}");
        assert!(!sshd.inside().has("/run/keys/.current"), "{owner}");
    }
}

/// B6, and the row of «What a failure does» about one key on the host: exit 3, and 7 with `--strict`.
#[test]
fn one_key_that_the_host_refuses_is_exit_3_and_with_strict_exit_7() {
    let sshd = Sshd::start("pigeon");
    let operator = Operator::of(&sshd);
    operator.write("secret", "value");
    operator.manifest(&manifest("nobody-of-that-name"));
    let _refused = operator
        .send("--include pigeon --strict")
        .exited(7)
        .said("nobody-of-that-name");
    assert!(!sshd.inside().has("/run/keys/good"));
    let _part = operator
        .send("--include pigeon")
        .exited(3)
        .printed("pigeon: good: new");
    assert!(sshd.inside().has("/run/keys/good") && !sshd.inside().has("/run/keys/theirs"));
}

/// B6: accounts that do not answer (a directory server that is down). A fifo that nobody writes to stands for it: whoever
/// opens it waits for ever.
#[test]
fn accounts_that_hang_are_waited_for_ten_seconds() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _report = push(host, "root", "root").committed();
    let hang = "mv /etc/passwd /etc/passwd.real && mkfifo /etc/passwd";
    let _hanging = host.run(hang).succeeded();
    let start = Instant::now();
    let ended = Session::push(host, &[("theirs", b"newer"), ("good", b"better")], |push| {
        give(push, "alice", "root");
    });
    let took = start.elapsed();
    // Ten for the owner, and two before that for the names of those who own what is there.
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(25)).contains(&took),
        "{took:?}"
    );
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let report = ended.committed();
    let (outcome, why) = report.of("theirs");
    assert_eq!(outcome, KeyOutcome::FailedKept);
    assert!(why.contains("within 10 s who `alice` is"), "{why}");
    assert_eq!(host.read("/run/keys/theirs"), b"t");
    assert_eq!(host.read("/run/keys/good"), b"better");
}
