//! L6: every exit code that docs/commands.md names, one test each.

use std::process::Stdio;
use std::time::Instant;

use keys_tests::{Folder, LIMIT, Operator, Process, Release, Sshd, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn setting() -> (Sshd, Operator) {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token("hunter2");
    (host, operator)
}

#[test]
fn exit_0_is_everything_in_place() {
    let (_host, operator) = setting();
    for words in ["send", "send", "plan", "status", "status --compare"] {
        let _done = operator.keys(words).exited(0);
    }
    let _done = operator.keys("--version").exited(0);
    let _done = operator.keys("send --help").exited(0);
}

#[test]
fn exit_1_is_hosts_that_fail_in_different_ways() {
    let (_host, mut operator) = setting();
    let raven = Sshd::start("raven");
    operator.knows(&raven).token("x");
    raven.wrap("exit 1");
    let _failed = operator.send("raven").exited(1);
    let known = std::fs::read_to_string(operator.ssh("known_hosts")).unwrap();
    let other = known.replace("pigeon", "nobody");
    std::fs::write(operator.ssh("known_hosts"), other).unwrap();
    let _failed = operator.send("pigeon").exited(5);
    let _failed = operator.send("").exited(1);
}

#[test]
fn exit_2_is_a_plan_with_changes() {
    let (host, operator) = setting();
    let _changes = operator.keys("plan").exited(2);
    let _changes = operator.send("--dry-run").exited(2);
    assert!(!host.inside().has("/run/keys/token"));
}

#[test]
fn exit_3_is_some_in_place_and_some_not() {
    let (host, mut operator) = setting();
    let raven = Sshd::start("raven");
    operator.knows(&raven).token("x");
    raven.wrap("exit 1");
    let _partial = operator.send("").exited(3);
    assert_eq!(host.inside().read("/run/keys/token"), b"x");
    // And of the keys of one host.
    let key = "hosts = [\"pigeon\"]\nsource = { file = \"token\" }\n";
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[keys.token]\n{key}[keys.b]\n{key}owner = \"nobody-here\"\n"
    ));
    let _partial = operator
        .send("")
        .exited(3)
        .said("keys: pigeon: b: no user `nobody-here` on this host");
}

#[test]
fn exit_4_is_a_host_that_cannot_be_reached() {
    let (host, operator) = setting();
    operator.ssh_lines("ProxyCommand false");
    let _lost = operator.send("").exited(4);
    drop(host);
    operator.ssh_lines("Host pigeon\nProxyCommand none\nHostName pigeon.invalid\nHost *");
    let _lost = operator
        .send("")
        .exited(4)
        .said("keys: pigeon: ssh: Could not resolve hostname pigeon.invalid");
}

#[test]
fn exit_5_is_a_host_key_that_is_not_the_right_one() {
    let (_host, operator) = setting();
    std::fs::write(operator.ssh("known_hosts"), "").unwrap();
    let _refused = operator.send("").exited(5);
}

#[test]
fn exit_6_is_a_source_that_fails() {
    let (host, operator) = setting();
    std::fs::remove_file(operator.path("token")).unwrap();
    for words in [
        "send",
        "plan",
        "status --compare",
        "get token",
        "send --keep-going",
    ] {
        let _failed = operator
            .keys(words)
            .exited(6)
            .said("No such file or directory");
    }
    assert!(!host.inside().has("/run/keys/token"));
}

#[test]
fn exit_7_is_a_host_that_refuses() {
    let host = Sshd::with("pigeon", Release::Bookworm, Folder::Plain);
    let operator = Operator::of(&host);
    operator.token("hunter2");
    let _refused = operator
        .send("")
        .exited(7)
        .said("keys: pigeon: refused by the host: ");
}

#[test]
fn exit_8_is_a_unit_that_fails_beside_keys_in_place() {
    let (host, operator) = setting();
    // No systemd runs there, so no unit can be told.
    operator.manifest("[hosts.pigeon]\n[keys.token]\nhosts = [\"pigeon\"]\nsource = { file = \"token\" }\nrestart_units = [\"web.service\"]\n");
    let _failed = operator
        .send("")
        .exited(8)
        .printed("pigeon: token: new\n")
        .said("keys: pigeon: web.service: ");
    assert_eq!(host.inside().read("/run/keys/token"), b"hunter2");
}

#[test]
fn exit_64_is_a_wrong_command_line_or_manifest() {
    let (_host, operator) = setting();
    for words in [
        "",
        "sned",
        "send --nonsense",
        "send --parallel 0",
        "get",
        "get ../x",
        "get token --host nobody",
        "-f none.toml send",
        "send --include nobody",
    ] {
        let _wrong = operator.keys(words).exited(64);
    }
    operator.manifest("nonsense = 1");
    let _wrong = operator.send("").exited(64);
}

/// Sends to a host that takes its time, and signals `keys` meanwhile.
fn signalled(signal: Signal) -> Option<i32> {
    let (host, operator) = setting();
    host.wrap("touch /root/here; sleep 60");
    let mut command = operator.command(&["send"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a session", LIMIT, || {
        host.inside().has("/root/here").then_some(())
    });
    let number = child.id();
    kill(Pid::from_raw(number.try_into().unwrap()), signal).unwrap();
    let start = Instant::now();
    let status = child.wait().unwrap();
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    // Its ssh goes with it.
    wait_for("the end of ssh", LIMIT, || {
        let config = operator.ssh("config").display().to_string();
        let mut left = Process::all().into_iter();
        (!left.any(|process| process.shows(&config))).then_some(())
    });
    status.code()
}

#[test]
fn exit_130_is_ctrl_c() {
    assert_eq!(signalled(Signal::SIGINT), Some(130));
}

#[test]
fn exit_143_is_sigterm() {
    assert_eq!(signalled(Signal::SIGTERM), Some(143));
}
