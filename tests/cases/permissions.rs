//! Who can read what, at every instant: modes, folders, ACLs, umasks, and things that were planted where keys go.

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keys_protocol::{How, KeyOutcome, Kind, RefusalCode, Tell, WireError};
use keys_tests::{Inside, Operator, Push, Ran, Session, Sshd, Strace, lab, scaled};

/// A host with alice, who owns keys; bob, who is in the group `keys`; and eve, who is nobody.
fn host() -> Sshd {
    let sshd = Sshd::start("pigeon");
    for (user, uid) in [("alice", 1001), ("bob", 1002), ("eve", 1003)] {
        sshd.tree().user(user, uid);
    }
    sshd.tree().join("bob", "keys");
    sshd
}

/// Returns a command of a user of the host.
fn user(host: &Inside, name: &str, program: &str) -> Command {
    let mut command = host.command("setpriv");
    command.args([
        "--reuid",
        name,
        "--regid",
        name,
        "--init-groups",
        "--",
        program,
    ]);
    command
}

/// Gives the key `name` of a push an owner, a group and a mode.
fn give(push: &mut Push, name: &str, access: (&str, &str, &str)) {
    let found = push
        .keys
        .iter_mut()
        .find(|(key, _)| key.name.as_str() == name);
    let (key, _) = found.expect("a key of the push");
    key.owner = access.0.parse().expect("an owner");
    key.group = access.1.parse().expect("a group");
    key.mode = access.2.parse().expect("a mode");
    key.public = key.mode.is_public();
}

/// Returns access and path of all there is, without what differs from run to run.
fn accesses(host: &Inside) -> String {
    let line = |line: &str| line.split(" (").next().unwrap_or_default().to_owned() + "\n";
    host.tree("/run/keys").lines().map(line).collect()
}

const OLD: &[(&str, &[u8])] = &[("web", b"old"), ("dir/cert", b"old cert")];
const NEW: &[(&str, &[u8])] = &[
    ("web", b"new"),
    ("dir/cert", b"new cert"),
    ("more", b"more"),
];

/// What the probe looks for in values that its user must never see.
const MARK: &str = "canary";
/// How long the agent is held at each step where an inode has its owner, its mode or its name not yet.
const HELD: u32 = 2000;

/// A probe that runs as a user of a host.
struct Probe(Child);

impl Probe {
    fn start(host: &Inside, name: &str, keys: &[&str]) -> Self {
        let mut command = user(host, name, "/usr/local/bin/probe");
        command.args(["/run/keys", MARK]).args(keys);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("nsenter starts"))
    }

    /// Ends it and returns what it printed.
    fn end(self) -> Vec<String> {
        let output = self
            .0
            .wait_with_output()
            .expect("our own child can be waited for");
        assert!(output.status.success(), "probe: {}", output.status);
        let text = String::from_utf8(output.stdout).expect("it prints text");
        text.lines().map(str::to_owned).collect()
    }
}

/// Sends keys for several users. An inode that was open to all gets no other bytes, and no other mode either.
fn send_for_all(host: &Inside, round: u32) {
    let (falls, mode) = if round.is_multiple_of(2) {
        ("harmless", "0444")
    } else {
        (MARK, "0400")
    };
    let value = |word: &str| format!("{word} {round}").into_bytes();
    let (secret, falling, public) = (value(MARK), value(falls), value("harmless"));
    let keys: [(&str, &[u8]); 5] = [
        ("secret", &secret),
        ("alices", &secret),
        ("shared", &secret),
        ("falling", &falling),
        ("public", &public),
    ];
    let session = if round.is_multiple_of(5) {
        let slow = Strace::Delay("fchown,fchmod,linkat,mkdirat,renameat", HELD);
        Session::of(slow.command(host)).expect("the agent speaks")
    } else {
        Session::receive(host)
    };
    let ended = session.whole(&keys, |push| {
        give(push, "alices", ("alice", "alice", "0400"));
        give(push, "shared", ("root", "keys", "0440"));
        give(push, "falling", ("root", "root", mode));
        give(push, "public", ("root", "root", "0444"));
    });
    let _report = ended.committed();
}

/// B2: two users, one of whom may watch the folder, open all they can name as soon as it is there, and keep it open.
#[test]
fn a_key_is_never_readable_before_it_is_what_it_will_be() {
    let sshd = host();
    let host = sshd.inside();
    host.install(&lab::binary("probe"), "/usr/local/bin/probe");
    let names = ["secret", "alices", "shared", "falling", "public", ".meta"];
    let eve = Probe::start(host, "eve", &names);
    let bob = Probe::start(host, "bob", &names);
    (0..scaled(50)).for_each(|round| send_for_all(host, round));
    let users = [
        ("eve", eve, &["public", "falling"][..]),
        ("bob", bob, &["public", "falling", "shared"]),
    ];
    for (name, probe, allowed) in users {
        let lines = probe.end();
        assert_eq!(lines[0], format!("watches {}", name == "bob"));
        for line in &lines[1..] {
            let is_allowed = allowed.iter().any(|key| line.ends_with(&format!("/{key}")));
            assert!(is_allowed, "{name}: {line}");
            let is_read = line.starts_with("read");
            assert!(!is_read || line.ends_with("shared"), "{name}: {line}");
        }
        // What may be seen was seen: it looked in time.
        for key in allowed {
            let path = format!(".current/{key}");
            assert!(
                lines.iter().any(|line| line.ends_with(&path)),
                "{name}: {lines:?}"
            );
        }
    }
}

/// What is put where the agent will write, and how; the victims are in /run/victims and must stay as they are.
const PLANTED: [(&str, &str); 7] = [
    ("a link to a file", "ln -s /run/victims/file PLACE"),
    ("a link to a folder", "ln -s /run/victims PLACE"),
    ("a link to nothing", "ln -s /run/victims/nothing PLACE"),
    ("a hard link", "ln /run/keys/victim PLACE"),
    ("a fifo", "mkfifo PLACE"),
    ("a device", "mknod PLACE c 1 5"),
    ("a folder", "mkdir PLACE && touch PLACE/inner"),
];

/// Where it is put: every name that the agent uses.
const PLACES: [&str; 10] = [
    ".current",
    ".boot",
    ".gen.2",
    ".link.0123456789abcdef",
    "web",
    "more",
    ".gen.1/web",
    ".gen.1/.meta",
    ".gen.1/.pending",
    ".gen.1/dir",
];

/// B3: whatever is there is refused or replaced, never followed, never written to, and no fifo holds the agent up.
#[test]
fn what_was_planted_where_keys_go_is_not_followed() {
    let sshd = host();
    let host = sshd.inside();
    for (place, (what, plant)) in PLACES
        .iter()
        .flat_map(|at| PLANTED.map(|planted| (at, planted)))
    {
        let _emptied = host
            .run("rm -rf /run/keys/* /run/keys/.[!.]* /run/victims")
            .succeeded();
        let _old = Session::push(host, OLD, |_| {}).committed();
        let path = format!("/run/keys/{place}");
        let victims = "mkdir -m 0755 /run/victims; echo victim >/run/victims/file; echo victim >/run/keys/victim";
        let plant = plant.replace("PLACE", &path);
        let _planted = host
            .run(&format!("{victims}; rm -rf {path}; {plant}"))
            .succeeded();
        let looks = || {
            let look = "find /run/victims /run/keys/victim -printf '%p %i %m %u %s %T@ %l\n' | sort; cat /run/victims/file /run/keys/victim";
            host.run(look).succeeded().text()
        };
        let before = looks();
        let start = Instant::now();
        let ended = Session::push(host, NEW, |_| {});
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} at {place} held it up"
        );
        assert_eq!(looks(), before, "{what} at {place}");
        let seen = |name: &str| host.run(&format!("timeout 5 cat /run/keys/{name}")).text();
        match ended.report {
            Ok(report) => {
                for (name, value) in NEW {
                    let (outcome, why) = report.of(name);
                    let refused = matches!(outcome, KeyOutcome::Failed | KeyOutcome::FailedKept);
                    let is_there = seen(name).as_bytes() == *value;
                    assert!(
                        is_there != refused,
                        "{what} at {place}: {name}: {outcome:?} {why}"
                    );
                }
            }
            Err(WireError::Refused(refusal)) => {
                assert!(!refusal.message.is_empty(), "{what} at {place}");
                assert_ne!(seen("web"), "new", "{what} at {place}: {refusal:?}");
            }
            Err(e) => panic!("{what} at {place}: {e}: {}", ended.said),
        }
    }
}

/// Returns whether a name that the agent gives to the kernel is one of the places above, or below such a one.
fn is_known(name: &str) -> bool {
    let own = [
        ".",
        "web",
        "more",
        "dir",
        "dir/cert",
        "cert",
        "/run/keys",
        "web.service",
    ];
    let inner = [".meta", ".pending"];
    let generation = name
        .strip_prefix(".gen.")
        .and_then(|rest| rest.split('/').next());
    own.contains(&name)
        || inner.contains(&name)
        || PLACES.contains(&name)
        || generation.is_some_and(|number| ["1", "2"].contains(&number))
        || [".link.", ".current/", "/proc/self/fd/"]
            .iter()
            .any(|known| name.starts_with(known))
}

/// B3: the table above is all: these are the names that a traced agent gave to the kernel.
#[test]
fn the_names_that_the_agent_uses_are_known() {
    let sshd = host();
    let host = sshd.inside();
    let _old = Session::push(host, OLD, |_| {}).committed();
    let calls = Strace::calls(host, |session| {
        let tell = |push: &mut Push| {
            push.keys[0].0.units = 1;
            let unit = "web.service".parse().expect("a unit");
            push.keys[0].1 = vec![Tell {
                unit,
                how: How::Restart,
            }];
        };
        let _report = session.whole(NEW, tell).committed();
    });
    let making = [
        "mkdirat",
        "symlinkat",
        "renameat",
        "renameat2",
        "linkat",
        "unlinkat",
        "openat2",
        "mknodat",
    ];
    let mut met = 0;
    for call in calls
        .iter()
        .filter(|call| making.contains(&call.name.as_str()))
    {
        for name in call.line.split('"').skip(1).step_by(2) {
            assert!(is_known(name), "{call}");
            met += 1;
        }
    }
    assert!(met > 20, "{met} names were met");
}

/// B5: by the agent, past any check of the pusher's.
#[test]
fn the_agent_refuses_modes_that_are_not_documented() {
    let sshd = host();
    let host = sshd.inside();
    let wrong = [
        "0", "0777", "4755", "2755", "1777", "0666", "u+rwx", "-1", "99999", "0o400", "", "0402",
        "+400", " 400", "04000", "8",
    ];
    for mode in wrong {
        let mut session = Session::receive(host);
        let (hello, _, _) = session.hello().expect("a greeting");
        let push = Push::of(&hello.nonce, &[("web", b"value")]);
        let sent = session
            .wire
            .send(&push.manifest)
            .and_then(|()| session.wire.flush());
        sent.expect("the agent listens");
        let mut key = serde_json::to_value(&push.keys[0].0).expect("a frame");
        key["mode"] = mode.into();
        let said = session.say(&frame(Kind::Key, key.to_string().as_bytes()));
        said.expect("the agent listens");
        match session.needs() {
            Err(WireError::Refused(refusal)) if refusal.code == RefusalCode::Protocol => {}
            other => panic!("mode {mode:?}: {other:?}"),
        }
        assert_ne!(session.close().0, Some(0), "mode {mode:?}");
        assert!(!host.has("/run/keys/.current"), "mode {mode:?}");
    }
}

/// B5: the others are set as they are.
#[test]
fn the_agent_takes_modes_that_are_documented() {
    let sshd = host();
    let host = sshd.inside();
    for (mode, public, shown) in [
        ("0400", false, "0400"),
        ("440", false, "0440"),
        ("0640", false, "0640"),
        ("000", false, "0000"),
        ("0770", false, "0770"),
        ("0444", true, "0444"),
    ] {
        let ended = Session::push(host, &[("web", mode.as_bytes())], |push| {
            push.keys[0].0.mode = mode.parse().expect("a mode");
            push.keys[0].0.public = public;
        });
        let _committed = ended.committed();
        assert_eq!(host.access("/run/keys/web"), format!("root:root {shown}"));
    }
}

/// Returns a frame as no wire would write it.
fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_be_bytes()[..], &[kind as u8], payload].concat()
}

/// B5: by the pusher, before any host is contacted.
#[test]
fn the_pusher_takes_only_modes_that_are_documented() {
    let sshd = host();
    let operator = Operator::of(&sshd);
    operator.write("secret", "value");
    let send = |mode: &str, more: &str| {
        let key = format!(
            "[hosts.pigeon]\nssh = \"pigeon\"\n[keys.web]\nhosts = [\"pigeon\"]\nsource = {{ file = \"secret\" }}\n\
             mode = \"{mode}\"\n{more}"
        );
        operator.manifest(&key);
        operator.send("--include pigeon")
    };
    for mode in [
        "0", "0777", "4755", "2755", "1777", "0666", "u+rwx", "-1", "99999", "0o400", "", "0444",
    ] {
        let ran = send(mode, "");
        assert_ne!(ran.code(), 0, "mode {mode:?}\n{ran}");
        let _named = ran.said(if mode == "0444" {
            "public = true"
        } else {
            "mode"
        });
        assert!(!sshd.inside().has("/run/keys/.current"), "mode {mode:?}");
    }
    let _sent = send("0444", "public = true\n").succeeded();
    assert_eq!(sshd.inside().access("/run/keys/web"), "root:root 0444");
}

/// What only the group `keys` may do.
const LISTING: [&str; 4] = [
    "ls /run/keys",
    "find /run/keys -mindepth 1 | grep .",
    "ls /run/keys/.current",
    "ls /run/keys/app",
];

/// What only root may do.
const ROOTS: [&str; 9] = [
    "cat /run/keys/.current/.meta",
    "cat /run/keys/.boot",
    "touch /run/keys/x",
    "mv /run/keys/secret /tmp",
    "rm -f /run/keys/secret",
    "ln -s /etc /run/keys/.gen.1/x",
    "echo x >>/run/keys/alices; test -w /run/keys/secret",
    "ln /run/keys/.gen.1/secret /tmp/secret && cat /tmp/secret",
    "setpriv --clear-groups cat /run/keys/secret",
];

/// B9, the part about files.
#[test]
fn each_user_reads_only_what_is_theirs() {
    let sshd = host();
    let host = sshd.inside();
    let keys: &[(&str, &[u8])] = &[
        ("alices", b"a"),
        ("shared", b"s"),
        ("secret", b"r"),
        ("app/token", b"t"),
    ];
    let ended = Session::push(host, keys, |push| {
        give(push, "alices", ("alice", "alice", "0400"));
        give(push, "shared", ("root", "keys", "0440"));
        give(push, "app/token", ("alice", "keys", "0640"));
    });
    let _report = ended.committed();
    for (name, lists, reads) in [
        ("eve", false, &[][..]),
        ("bob", true, &["shared", "app/token"]),
        ("alice", false, &["alices", "app/token"]),
    ] {
        let check = |line: &str, allowed: bool| {
            let mut command = user(host, name, "sh");
            command.args(["-c", line]);
            let ran = Ran::of(command, b"");
            assert_eq!(ran.code() == 0, allowed, "{name}\n{ran}");
        };
        for line in LISTING {
            check(line, lists);
        }
        for line in ROOTS {
            check(line, false);
        }
        for (key, _) in keys {
            for path in ["", ".current/", ".gen.1/"] {
                check(&format!("cat /run/keys/{path}{key}"), reads.contains(key));
            }
        }
    }
}

/// B10: whatever umask sshd hands down.
#[test]
fn a_umask_changes_no_mode() {
    let push = |umask: &str| {
        let sshd = host();
        let mut command = sshd.inside().command("sh");
        command.args(["-c", &format!("umask {umask} && exec keys-agent receive")]);
        let session = Session::of(command).expect("the agent speaks");
        let _report = session
            .whole(NEW, |push| give(push, "web", ("alice", "keys", "0640")))
            .committed();
        assert_eq!(sshd.inside().access("/run/keys/web"), "alice:keys 0640");
        accesses(sshd.inside())
    };
    let usual = push("0022");
    for umask in ["0000", "0777", "0077"] {
        assert_eq!(push(umask), usual, "umask {umask}");
    }
}

/// An access control list as the kernel keeps it: what owner, eve, group, mask and others may.
fn acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 7, NOBODY),
        (0x02, 7, 1003),
        (0x04, 5, NOBODY),
        (0x10, 7, NOBODY),
        (0x20, 4, NOBODY),
    ];
    let entry = |(tag, may, id): (u16, u16, u32)| {
        [
            &tag.to_le_bytes()[..],
            &may.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    [2_u32.to_le_bytes().to_vec(), entries.map(entry).concat()].concat()
}

fn set_acl(host: &Inside, path: &str, kind: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(
        host.path(path),
        format!("system.posix_acl_{kind}"),
        &acl(),
        flags,
    )
    .unwrap_or_else(|e| panic!("{path}: {e}"));
}

/// Panics if anything below the folder of the keys has an access control list.
fn has_no_acl(host: &Inside, folder: &str) {
    let paths = host
        .run(&format!("find {folder} -mindepth 1 ! -type l"))
        .succeeded()
        .text();
    assert!(paths.lines().count() > 3, "{paths}");
    for path in paths.lines() {
        for kind in ["access", "default"] {
            let found = rustix::fs::getxattr(
                host.path(path),
                format!("system.posix_acl_{kind}"),
                &mut [0_u8; 128][..],
            );
            assert_eq!(found, Err(rustix::io::Errno::NODATA), "{path}: {kind}");
        }
    }
}

/// B11: eve is given everything by the folder's list; what is made in it takes nothing over.
#[test]
fn a_default_acl_of_the_folder_is_not_inherited() {
    let sshd = host();
    let host = sshd.inside();
    set_acl(host, "/run/keys", "default");
    for keys in [OLD, NEW] {
        let _report = Session::push(host, keys, |_| {}).committed();
        has_no_acl(host, "/run/keys");
        let mut command = user(host, "eve", "cat");
        command.arg("/run/keys/dir/cert");
        assert_ne!(Ran::of(command, b"").code(), 0);
    }
}

/// B11: a list that somebody gave to a key is gone after the next send, and so is the inode that had it.
#[test]
fn a_key_with_an_acl_is_made_anew() {
    let sshd = host();
    let host = sshd.inside();
    let _report = Session::push(host, OLD, |_| {}).committed();
    let inode = || {
        host.path("/run/keys/.current/web")
            .metadata()
            .expect("it is there")
            .ino()
    };
    let before = inode();
    set_acl(host, "/run/keys/.gen.1/web", "access");
    let report = Session::push(host, OLD, |_| {}).committed();
    assert_eq!(report.of("web").0, KeyOutcome::Changed, "{report:?}");
    assert_ne!(inode(), before);
    has_no_acl(host, "/run/keys/.gen.2");
}
