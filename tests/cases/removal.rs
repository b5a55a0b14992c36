//! What leaves a host and what stays: removed keys, old generations, remains of killed runs, files of others.

use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{Have, KeyOutcome, Purpose, RefusalCode, Scope, Stray};
use keys_tests::{
    Folder, Host, Inside, LIMIT, Operator, Push, Release, Report, Session, Sshd, scaled, wait_for,
};

/// How soon a replaced generation is gone.
const GONE: Duration = LIMIT;

/// Ten keys of 64 KiB.
fn ten() -> Vec<(String, Vec<u8>)> {
    (b'0'..=b'9')
        .map(|digit| (format!("key{}", char::from(digit)), vec![digit; 64 << 10]))
        .collect()
}

fn borrowed(keys: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    keys.iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect()
}

fn send(host: &Inside, keys: &[(&str, &[u8])]) -> Report {
    Session::push(host, keys, |_| {}).committed()
}

/// Returns the names of the generations there are remains of.
fn generations(host: &Inside) -> Vec<String> {
    let list = host.run("cd /run/keys && ls -d .gen.* 2>/dev/null").text();
    list.lines().map(str::to_owned).collect()
}

/// Waits until only the committed generation is there.
fn settled(host: &Inside, number: u64) {
    let only = [format!(".gen.{number}")];
    wait_for("the end of old generations", GONE, || {
        (generations(host) == only).then_some(())
    });
}

/// Returns how many bytes of /run/keys are in use.
fn used(host: &Inside) -> u64 {
    let stat = nix::sys::statvfs::statvfs(&host.path("/run/keys")).expect("it is mounted");
    (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
}

/// Asks for what is there.
fn asked(host: &Inside) -> (Vec<Have>, Vec<Stray>) {
    let mut session = Session::receive(host);
    let (_, keys, strays) = session.hello().expect("a greeting");
    drop(session.close());
    (keys, strays)
}

fn stray_names(host: &Inside) -> Vec<String> {
    asked(host).1.into_iter().map(|stray| stray.name).collect()
}

/// A13: by name at once, by memory within a second; nothing of the old generation is kept.
#[test]
fn dropped_keys_are_gone_by_name_at_the_commit_and_from_memory_a_moment_later() {
    let sshd = Sshd::with("pigeon", Release::Bookworm, Folder::Tmpfs("noswap,size=4m"));
    let host = sshd.inside();
    let ten = ten();
    let keys = borrowed(&ten);
    let _report = send(host, &keys);
    let full = used(host);
    let start = Instant::now();
    let report = send(host, &keys[3..]);
    for (name, _) in &keys[..3] {
        assert_eq!(report.of(name).0, KeyOutcome::Removed);
        assert!(
            !host.has(&format!("/run/keys/{name}")),
            "{name} has its name yet"
        );
        assert!(
            !host.has(&format!("/run/keys/.current/{name}")),
            "{name} is in the generation"
        );
    }
    settled(host, 2);
    assert!(start.elapsed() < LIMIT);
    // Three keys, give or take the pages of .meta and folders.
    let freed = full - used(host);
    assert!(
        (180 << 10..210 << 10).contains(&freed),
        "{freed} bytes were freed"
    );
    for (name, bytes) in &keys[3..] {
        assert_eq!(host.read(&format!("/run/keys/{name}")), *bytes, "{name}");
    }
}

/// A14: neither a generation, nor an inode, nor a time differs, however often it is sent.
#[test]
fn the_same_push_again_writes_nothing() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let ten = ten();
    let keys = borrowed(&ten);
    let _report = send(host, &keys);
    settled(host, 1);
    let look = || {
        host.run("find /run/keys -printf '%p %i %m %U %G %s %T@ %C@ %l\\n' | sort")
            .text()
    };
    let before = look();
    for _ in 0..scaled(5) {
        let report = send(host, &keys);
        assert_eq!(report.generation, 1);
        assert!(
            report
                .keys
                .iter()
                .all(|key| key.outcome == KeyOutcome::Unchanged),
            "{report:?}"
        );
        assert_eq!(look(), before);
    }
}

/// Writes a manifest of these keys, each of which restarts consumer.service.
fn consumed(operator: &Operator, keys: &[&str]) {
    let each = |name: &&str| {
        format!(
            "[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"secret\" }}\n\
             restart_units = [\"consumer.service\"]\n"
        )
    };
    let keys: String = keys.iter().map(each).collect();
    operator.manifest(&format!("[hosts.pigeon]\nssh = \"pigeon\"\n{keys}"));
    operator.write("secret", "value");
}

/// A13, A14: what a booted host's units are told.
#[test]
fn units_are_told_of_dropped_keys_once_and_of_unchanged_ones_never() {
    let host = Host::shared(Release::Bookworm);
    let agent = keys_tests::lab::binary("keys-agent");
    host.inside().install(&agent, "/usr/local/bin/keys-agent");
    let memory = "mountpoint -q /run/keys || { mkdir -p /run/keys; mount -t ramfs keys /run/keys; }; \
                  chmod 0751 /run/keys";
    let _made = host.run(memory).succeeded();
    host.unit(
        "consumer.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    let _started = host
        .run("systemctl daemon-reload && systemctl start consumer")
        .succeeded();
    let run = || {
        let id = host
            .run("systemctl show -P InvocationID consumer")
            .succeeded();
        id.text()
    };
    let operator = Operator::of_host(&host);
    let send = || operator.send("--include pigeon").succeeded();
    let before = run();
    consumed(&operator, &["one", "two", "three"]);
    let _new = send().printed("consumer.service");
    let first = run();
    assert_ne!(first, before, "it was not told of new keys");
    for _ in 0..scaled(3) {
        let _same = send();
        assert_eq!(run(), first, "it was told of keys that are as they were");
    }
    consumed(&operator, &["one"]);
    let _dropped = send().printed("consumer.service");
    assert_ne!(run(), first, "it was not told of dropped keys");
    let _left = host.run("systemctl stop consumer").succeeded();
}

/// What somebody does to the keys `web`, `dir/cert` and `other` of generation 1, and what is said of it before the next send:
/// the key and its damage, or nothing.
const TAMPERED: [(&str, Option<(&str, &str)>); 16] = [
    ("rm .gen.1/web", Some(("web", "missing"))),
    ("rm -r .gen.1/dir", Some(("dir/cert", "missing"))),
    ("chmod 0444 .gen.1/web", Some(("web", "mode"))),
    ("chmod 4400 .gen.1/web", Some(("web", "mode"))),
    ("chown 1:1 .gen.1/web", Some(("web", "owner group"))),
    (
        "rm .gen.1/web && mkfifo .gen.1/web",
        Some(("web", "missing")),
    ),
    (
        "rm .gen.1/web && ln -s /etc/passwd .gen.1/web",
        Some(("web", "missing")),
    ),
    ("rm web", Some(("web", "link"))),
    ("ln -sfn /etc/passwd web", Some(("web", "link"))),
    ("rm .current", Some(("web", "link"))),
    ("ln -sfn /etc .current", Some(("web", "link"))),
    ("ln -sfn .gen.7 .current", Some(("web", "link"))),
    ("chmod 0700 .gen.1", Some(("web", "link"))),
    ("chmod 0755 .gen.1/dir", Some(("web", "link"))),
    // Bytes are not judged without the pusher's digest of them.
    ("echo forged >.gen.1/web", None),
    ("rm .gen.1/.meta", None),
];

/// Panics unless the host has these keys as root's own, and a send of them finds nothing to do.
fn is_as_sent(host: &Inside, keys: &[(&str, &[u8])], what: &str) {
    for (name, bytes) in keys {
        let path = format!("/run/keys/{name}");
        assert_eq!(host.read(&path), *bytes, "{what}: {name}");
        assert_eq!(host.access(&path), "root:root 0400", "{what}: {name}");
    }
    let again = send(host, keys);
    let is_unchanged = again
        .keys
        .iter()
        .all(|key| key.outcome == KeyOutcome::Unchanged);
    assert!(is_unchanged, "{what}: {again:?}");
    assert!(
        asked(host).0.iter().all(|have| have.damage.is_empty()),
        "{what}"
    );
}

/// A15: each is found, told, and put right by the next send of the same keys.
#[test]
fn what_somebody_damaged_is_repaired_by_the_next_send() {
    let keys: &[(&str, &[u8])] = &[("web", b"value"), ("dir/cert", b"pem"), ("other", b"o")];
    for (tampering, damage) in TAMPERED {
        let sshd = Sshd::start("pigeon");
        let host = sshd.inside();
        let _report = send(host, keys);
        let _tampered = host
            .run(&format!("cd /run/keys && {tampering}"))
            .succeeded();
        if let Some((name, words)) = damage {
            let (there, _) = asked(host);
            let found = there.iter().find(|have| have.name.as_str() == name);
            let said = found.map(|have| have.damage.as_str());
            assert_eq!(said, Some(words), "{tampering}: {there:?}");
        }
        let report = send(host, keys);
        let is_repaired = |outcome| matches!(outcome, KeyOutcome::Changed | KeyOutcome::New);
        let repaired = report.keys.iter().any(|key| is_repaired(key.outcome));
        assert!(repaired, "{tampering}: {report:?}");
        settled(host, report.generation);
        is_as_sent(host, keys, tampering);
    }
}

/// Things that somebody else made, among the keys of generation 1, and what each of them holds.
const STRAYS: &str = "echo mine >mine; mkdir folder && echo in >folder/in; ln -s /etc elsewhere; mkfifo pipe; \
                      echo h >.hidden; echo inside >.gen.1/inside; echo deep >.gen.1/dir/deep; \
                      mkdir .gen.x .gen.01";
const HELD: &str = "cd /run/keys; cat mine folder/in .hidden .current/inside .current/dir/deep; readlink elsewhere";

/// A15: files, folders, links and fifos that no push made are reported, and are there after every kind of push.
#[test]
fn files_of_others_are_reported_and_never_removed() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let keys: &[(&str, &[u8])] = &[("web", b"value"), ("dir/cert", b"pem")];
    let others: &[(&str, &[u8])] = &[("web", b"another"), ("dir/cert", b"pem")];
    let _report = send(host, keys);
    let _made = host.run(&format!("cd /run/keys && {STRAYS}")).succeeded();
    let held = host.run(HELD).succeeded().text();
    // A folder that no key is in any more is itself what is reported.
    for (keys, inner) in [
        (keys, "dir/deep"),
        (others, "dir/deep"),
        (&others[..1], "dir"),
        (&[], "dir"),
    ] {
        let ended = Session::push(host, keys, |push| push.manifest.prune_all = true);
        let old = format!("/run/keys/.gen.{}", ended.committed().generation - 1);
        let gone = || (!host.has(&old)).then_some(());
        wait_for("the end of the old generation", GONE, gone);
        let mut names = stray_names(host);
        names.sort();
        let before = [".gen.01", ".gen.x", ".hidden", inner];
        let after = ["elsewhere", "folder", "inside", "mine", "pipe"];
        assert_eq!(names, [&before[..], &after].concat());
        assert_eq!(host.run(HELD).succeeded().text(), held);
    }
}

/// A15: a key whose name is taken fails alone, and what has the name stays.
#[test]
fn a_key_whose_name_a_file_of_others_has_fails_alone() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _made = host.run("echo mine >/run/keys/web").succeeded();
    let report = send(host, &[("web", b"value"), ("other", b"o")]);
    let (outcome, why) = report.of("web");
    assert_eq!(outcome, KeyOutcome::Failed, "{why}");
    assert!(
        why.contains("/run/keys/web is there and keys did not make it"),
        "{why}"
    );
    assert_eq!(host.read("/run/keys/web"), b"mine\n");
    assert_eq!(host.read("/run/keys/other"), b"o");
}

/// Starts a push of 18 keys of 1 MiB and kills the agent when it has all but the last.
fn killed(host: &Inside) {
    let body = vec![b'x'; 1 << 20];
    let names: Vec<String> = (10..28).map(|number| format!("large{number}")).collect();
    let keys: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), body.as_slice()))
        .collect();
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let push = Push::of(&hello.nonce, &keys);
    let needs = session.declare(&push).expect("an answer");
    for _ in &needs[1..] {
        session.wire.send_body(&body).expect("the agent listens");
    }
    session.wire.flush().expect("the agent listens");
    let staged = || {
        let found = host.run("ls /run/keys/.gen.2 | grep -c large").text();
        (found.trim() == (needs.len() - 1).to_string()).then_some(())
    };
    wait_for("all keys but one to be staged", LIMIT, staged);
    session.kill();
    assert_eq!(session.close().0, None, "a signal ended it");
}

/// A11: 51 MiB of three killed runs are there, of 64 MiB; the next run needs the room, and gets it first.
#[test]
fn remains_of_killed_runs_are_removed_before_room_is_asked_for() {
    let sshd = Sshd::with(
        "pigeon",
        Release::Bookworm,
        Folder::Tmpfs("noswap,size=64m"),
    );
    let host = sshd.inside();
    let _report = send(host, &[("web", b"value")]);
    let before = used(host);
    killed(host);
    let copies = "cd /run/keys && cp -a .gen.2 .gen.3 && cp -a .gen.2 .gen.9 && ln -s .gen.9 .link.0123456789abcdef";
    let _copied = host.run(copies).succeeded();
    assert!(
        used(host) > before + (50 << 20),
        "{}",
        host.tree("/run/keys")
    );
    assert_eq!(stray_names(host), [""; 0], "they are the agent's own");
    assert_eq!(host.read("/run/keys/web"), b"value");
    let large = vec![b'y'; 40 << 20];
    let report = send(host, &[("web", b"value"), ("huge", &large)]);
    settled(host, report.generation);
    assert!(!host.has("/run/keys/.link.0123456789abcdef"));
    assert!(
        used(host) < before + (41 << 20),
        "{}",
        host.tree("/run/keys")
    );
}

/// A11: also when the next run has nothing to write, and by the service's start.
#[test]
fn remains_of_killed_runs_are_removed_by_whoever_comes_next() {
    for (next, verb) in [
        ("the same push", ""),
        ("the start of the service", "keys-agent finish"),
    ] {
        let sshd = Sshd::with(
            "pigeon",
            Release::Bookworm,
            Folder::Tmpfs("noswap,size=64m"),
        );
        let host = sshd.inside();
        let _report = send(host, &[("web", b"value")]);
        killed(host);
        assert_eq!(generations(host), [".gen.1", ".gen.2"]);
        if verb.is_empty() {
            let _report = send(host, &[("web", b"value")]);
        } else {
            let _finished = host.run(verb).succeeded();
        }
        assert_eq!(generations(host), [".gen.1"], "{next}");
        assert_eq!(host.read("/run/keys/web"), b"value");
    }
}

/// A11: what a live run has staged is not touched by a run that waits, by one that asks, nor by what sweeps up.
#[test]
fn the_staging_of_a_live_run_is_not_touched() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let _report = send(host, &[("web", b"old"), ("kept", b"k")]);
    let keys: &[(&str, &[u8])] = &[("web", b"new"), ("kept", b"k"), ("last", b"l")];
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let push = Push::of(&hello.nonce, keys);
    assert_eq!(session.declare(&push).expect("an answer"), [0, 2]);
    let sent = session
        .wire
        .send_body(b"new")
        .and_then(|()| session.wire.flush());
    sent.expect("the agent listens");
    let is_staged = || host.has("/run/keys/.gen.2/web").then_some(());
    wait_for("a staged key", LIMIT, is_staged);
    let staged = host.tree("/run/keys/.gen.2");
    let _asked = asked(host);
    let _retired = host.run("keys-agent retire 1000").succeeded();
    thread::scope(|scope| {
        let waits = scope.spawn(|| send(host, &[("web", b"newest")]));
        let finish = scope.spawn(|| host.run("keys-agent finish").succeeded());
        wait_for("three runs", LIMIT, || (agents(host) == 3).then_some(()));
        assert_eq!(host.tree("/run/keys/.gen.2"), staged);
        session.wire.send_body(b"l").expect("the agent listens");
        let commit = session.commit_of(&[b"new", b"l"]);
        let sent = session
            .wire
            .send(&commit)
            .and_then(|()| session.wire.flush());
        sent.expect("the agent listens");
        assert_eq!(session.report().expect("a report").generation, 2);
        drop(session.close());
        assert_eq!(waits.join().expect("no panic").generation, 3);
        let _finished = finish.join().expect("no panic");
    });
    assert_eq!(host.read("/run/keys/web"), b"newest");
}

/// Returns how many agents run on a host.
fn agents(host: &Inside) -> u32 {
    let count = host.run("pgrep -c keys-agent").text();
    count.trim().parse().expect("a number")
}

/// A push of the manifest `other`, or what is wanted of one of `lab`.
fn of_other(push: &mut Push) {
    "other".clone_into(&mut push.manifest.id);
}

const TWO: &[(&str, &[u8])] = &[("web", b"value"), ("db", b"pass")];

fn with_two() -> Sshd {
    let sshd = Sshd::start("pigeon");
    let _report = send(sshd.inside(), TWO);
    sshd
}

#[test]
fn a_part_of_the_host_removes_nothing() {
    let sshd = with_two();
    let part = |push: &mut Push| push.manifest.scope = Scope::Part;
    let report = Session::push(sshd.inside(), &[("new", b"n")], part).committed();
    assert_eq!(
        report.keys.len(),
        1,
        "nothing is said of others: {report:?}"
    );
    for (name, bytes) in [("web", &b"value"[..]), ("db", b"pass"), ("new", b"n")] {
        assert_eq!(sshd.inside().read(&format!("/run/keys/{name}")), bytes);
    }
}

#[test]
fn keys_of_another_manifest_are_neither_replaced_nor_removed() {
    let sshd = with_two();
    let host = sshd.inside();
    let report = Session::push(host, &[("web", b"theirs"), ("new", b"n")], of_other).committed();
    let (outcome, why) = report.of("web");
    assert_eq!(outcome, KeyOutcome::FailedKept, "{why}");
    assert!(
        why.contains("manifest lab") && why.contains("--take-over"),
        "{why}"
    );
    assert_eq!(report.of("db").0, KeyOutcome::Foreign);
    assert_eq!(report.of("new").0, KeyOutcome::New);
    assert_eq!(host.read("/run/keys/web"), b"value");
    assert_eq!(host.read("/run/keys/db"), b"pass");
}

#[test]
fn keys_of_another_manifest_are_taken_over_when_that_is_asked_for() {
    let sshd = with_two();
    let host = sshd.inside();
    let report = Session::push(host, &[("web", b"ours")], |push| {
        of_other(push);
        push.manifest.take_over = true;
    });
    let report = report.committed();
    assert_eq!(report.of("web").0, KeyOutcome::Changed);
    assert_eq!(report.of("db").0, KeyOutcome::Removed);
    assert_eq!(host.read("/run/keys/web"), b"ours");
    assert!(!host.has("/run/keys/db"));
    // They are the other's now: the first manifest may not touch them any more.
    assert_eq!(send(host, TWO).of("web").0, KeyOutcome::FailedKept);
}

#[test]
fn no_keys_at_all_are_refused_unless_that_is_meant() {
    let sshd = with_two();
    let host = sshd.inside();
    let before = host.tree("/run/keys");
    let refusal = Session::push(host, &[], |_| {}).refused();
    assert_eq!(refusal.code, RefusalCode::Policy, "{refusal:?}");
    assert!(refusal.hint.contains("--prune-all"), "{refusal:?}");
    assert_eq!(host.tree("/run/keys"), before);
    // One that has none there, or a part, has nothing to prune.
    let _nothing = Session::push(host, &[], of_other).committed();
    let _part = Session::push(host, &[], |push| push.manifest.scope = Scope::Part).committed();
    assert_eq!(host.tree("/run/keys"), before);
    let report = Session::push(host, &[], |push| push.manifest.prune_all = true).committed();
    assert_eq!(report.of("web").0, KeyOutcome::Removed);
    settled(host, 2);
    assert!(!host.has("/run/keys/web") && !host.has("/run/keys/db"));
}

#[test]
fn a_reseed_only_adds_what_is_missing() {
    let sshd = with_two();
    let host = sshd.inside();
    let inode = || {
        host.path("/run/keys/.current/web")
            .metadata()
            .expect("it is there")
            .ino()
    };
    let before = inode();
    let reseed = |push: &mut Push| push.manifest.purpose = Purpose::Reseed;
    let report = Session::push(host, &[("web", b"newer"), ("new", b"n")], reseed).committed();
    assert_eq!(report.of("web").0, KeyOutcome::Unchanged);
    assert_eq!(report.of("new").0, KeyOutcome::New);
    assert_eq!(
        report.keys.len(),
        2,
        "nothing is said of others: {report:?}"
    );
    assert_eq!(inode(), before);
    for (name, bytes) in [("web", &b"value"[..]), ("db", b"pass"), ("new", b"n")] {
        assert_eq!(host.read(&format!("/run/keys/{name}")), bytes);
    }
    let _removed = host.run("rm /run/keys/.current/db").succeeded();
    let report = Session::push(host, TWO, reseed).committed();
    assert_eq!(host.read("/run/keys/db"), b"pass", "{report:?}");
}

#[test]
fn a_plan_changes_nothing_and_says_what_would_be() {
    let sshd = with_two();
    let host = sshd.inside();
    let before = host.tree("/run/keys");
    let plan = |push: &mut Push| push.manifest.purpose = Purpose::Plan;
    let report = Session::push(host, &[("web", b"newer"), ("new", b"n")], plan).committed();
    let outcomes = [
        ("web", KeyOutcome::Changed),
        ("new", KeyOutcome::New),
        ("db", KeyOutcome::Removed),
    ];
    for (name, outcome) in outcomes {
        assert_eq!(report.of(name).0, outcome, "{name}");
    }
    assert_eq!(report.generation, 1);
    assert_eq!(host.tree("/run/keys"), before);
}

/// What was once known to somebody must not come back: a damaged record is never answered with an older generation.
#[test]
fn a_lost_record_removes_nothing_by_a_part_and_is_made_anew_by_all() {
    let sshd = with_two();
    let host = sshd.inside();
    let _damaged = host.run("echo '{' >/run/keys/.gen.1/.meta").succeeded();
    let before = host.tree("/run/keys");
    let part = |push: &mut Push| push.manifest.scope = Scope::Part;
    let refusal = Session::push(host, &[("new", b"n")], part).refused();
    assert_eq!(refusal.code, RefusalCode::Policy, "{refusal:?}");
    assert!(refusal.hint.contains("send all keys"), "{refusal:?}");
    assert_eq!(host.tree("/run/keys"), before);
    let report = send(host, &TWO[..1]);
    settled(host, report.generation);
    assert_eq!(host.read("/run/keys/web"), b"value");
    assert!(!host.has("/run/keys/db"));
}
