//! `keys reboot`: nothing goes down that could not be given its keys again, and what went down gets them.

use keys_tests::{Host, LIMIT, Operator, Release, wait_for};
use serde_json::Value;

/// Starts at every boot, key or no key, and keeps what it saw of the key.
const WEB: &str =
    "ExecStart=/bin/sh -c 'cat /run/keys/token >/run/lab/web.saw; exec sleep infinity'";

/// A manifest with one key for these hosts, which restarts a unit.
fn manifest(operator: &Operator, hosts: &[&str], lines: &str) {
    operator.write("token", "canary-1");
    let tables: String = hosts
        .iter()
        .map(|host| format!("[hosts.{host}]\n"))
        .collect();
    operator.manifest(&format!(
        "id = \"lab\"\n{tables}[keys.token]\nhosts = {hosts:?}\nsource = {{ file = \"token\" }}\n{lines}\n"
    ));
}

#[test]
fn a_host_that_was_rebooted_has_its_keys_and_its_units_again() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        host.enable("lab-web.service", "multi-user.target");
        host.services(&[("web", WEB)]);
        let operator = Operator::of_host(&host);
        manifest(
            &operator,
            &["pigeon"],
            "restart_units = [\"lab-web.service\"]",
        );
        let _sent = operator.send("--include pigeon").succeeded();
        let before = host.first();

        let ran = operator.keys("reboot --include pigeon --dry-run").exited(2);
        assert_eq!(ran.text(), "pigeon: token: will be lost and sent again\n");
        assert_eq!(host.first(), before, "{ran}");

        let ran = operator.keys("reboot --include pigeon --json").succeeded();
        assert_ne!(host.first(), before, "{ran}");
        assert_eq!(host.inside().read("/run/keys/token"), b"canary-1", "{ran}");
        assert_eq!(host.property("lab-web.service", "ActiveState"), "active");
        wait_for("the service to have read its key", LIMIT, || {
            (host.inside().read("/run/lab/web.saw") == b"canary-1").then_some(())
        });
        let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let one = &said["hosts"][0];
        assert_eq!(one["lost"][0], "token", "{ran}");
        assert_eq!(one["keys"][0]["outcome"], "new", "{ran}");
        assert_eq!(one["units"]["lab-web.service"], "active", "{ran}");
        for step in ["back", "sent", "active"] {
            assert!(one["seconds"][step].is_f64(), "{step}: {ran}");
        }
        println!("{release:?}: {}", one["seconds"]);
    });
}

#[test]
fn nothing_goes_down_that_could_not_be_given_its_keys_again() {
    let host = Host::served(Release::Bookworm);
    let operator = Operator::of_host(&host);
    let before = host.first();
    manifest(&operator, &["pigeon"], "");
    let check = |words: &str, exit: i32, said: &str| {
        let ran = operator
            .keys(&format!("reboot {words}"))
            .exited(exit)
            .said(said);
        assert_eq!(host.first(), before, "{ran}");
    };
    check("", 64, "which hosts are to be rebooted?");
    check("pigeon --key token", 64, "unexpected argument '--key'");

    manifest(&operator, &["pigeon"], "owner = \"nobody-here\"");
    check("pigeon", 7, "pigeon: token: could not be sent again");

    manifest(&operator, &["pigeon"], "");
    let _sent = operator.send("--include pigeon").succeeded();
    std::fs::remove_file(operator.path("token")).unwrap();
    check("pigeon", 6, "pigeon: token: ");

    let other = Operator::of_host(&host);
    other.write("other", "canary-2");
    other.manifest("id = \"other\"\n[hosts.pigeon]\n[keys.other]\nhosts = [\"pigeon\"]\nsource = { file = \"other\" }");
    let ran = other
        .keys("reboot pigeon")
        .exited(7)
        .said("pigeon: keys of other manifests would be lost: token");
    assert_eq!(host.first(), before, "{ran}");
    let ran = other.keys("reboot pigeon --take-over --dry-run").exited(2);
    assert_eq!(ran.text(), "pigeon: token: will be lost\n");
}

#[test]
fn the_machine_that_it_runs_on_stays_up() {
    let host = Host::served(Release::Trixie);
    let operator = Operator::of_host(&host);
    let before = host.first();
    manifest(&operator, &["pigeon"], "");
    // What is the same for a machine and whoever runs on it: its ssh host keys.
    let same = format!(
        "mount --bind {} /etc/ssh",
        host.tree().path("/etc/ssh").display()
    );
    let ran = operator
        .after(&same, "reboot pigeon")
        .exited(64)
        .said("pigeon: that is the machine this runs on");
    assert_eq!(host.first(), before, "{ran}");
    let _agreed = operator
        .after(&same, "reboot pigeon --this-machine --dry-run")
        .exited(2);
}

#[test]
fn a_login_that_may_only_run_the_agent_is_told_why_it_cannot_reboot() {
    let host = Host::served(Release::Bookworm);
    let operator = Operator::of_host(&host);
    let before = host.first();
    let _restricted = host
        .run(
            "sed -i 's|^|command=\"/usr/local/bin/keys-agent relay\" |' /root/.ssh/authorized_keys",
        )
        .succeeded();
    manifest(&operator, &["pigeon"], "");
    let ran = operator
        .keys("reboot pigeon")
        .exited(7)
        .said("pigeon: it would not reboot (exit status 7): ")
        .said("hint: the login must be allowed to run `systemctl --no-block reboot`");
    assert_eq!(host.first(), before, "{ran}");
}

#[test]
fn a_host_that_does_not_come_back_keeps_the_others_up() {
    let one = Host::with_agent("heron", Release::Bookworm);
    let other = Host::with_agent("pigeon", Release::Bookworm);
    // It stops sshd and waits for this one.
    one.services(&[("slow", "ExecStop=/bin/sleep 60")]);
    let mut operator = Operator::of_host(&one);
    operator.knows_host(&other);
    manifest(&operator, &["heron", "pigeon"], "");
    let before = other.first();
    let ran = operator
        .keys("reboot * --timeout 3s")
        .exited(1)
        .said("heron: not back 3 s after it was told to reboot: ")
        .said("pigeon: not rebooted, as a host before it failed");
    assert_eq!(other.first(), before, "{ran}");
}
