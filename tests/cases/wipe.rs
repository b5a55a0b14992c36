//! Keys that are taken off running hosts.

use keys_tests::{Host, Operator, Release, Sshd, lab};

/// The manifest `ours`, of two keys.
const OURS: &str = "id = \"ours\"\n[hosts.pigeon]\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"echo\", \"1\"] }\n\
    restart_units = [\"lab-web.service\"]\n\
    [keys.\"b/c\"]\nhosts = [\"pigeon\"]\nsource = { command = [\"echo\", \"2\"] }\nstop_units = [\"lab-b.service\"]\n";
/// One of another manifest.
const THEIRS: &str = "id = \"theirs\"\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { command = [\"echo\", \"3\"] }\n";

/// The names of keys on a host, but for the one that says that all have come.
fn left(host: &Host) -> String {
    let ran = host.run("ls /run/keys | grep -vx done; true");
    ran.succeeded().text()
}

fn send(operator: &Operator, ours: &str) {
    for manifest in [THEIRS, ours] {
        operator.manifest(manifest);
        let _sent = operator.send("").succeeded();
    }
}

#[test]
fn a_wipe_removes_this_manifests_keys_and_tells_their_units() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("web", ""), ("b", "")]);
        let operator = Operator::of_host(&host);
        send(&operator, OURS);
        let plan = operator.keys("wipe pigeon --dry-run").exited(2).text();
        assert!(plan.contains("pigeon: a: removed\n"), "{plan}");
        assert!(
            plan.contains("pigeon: lab-b.service: would be stopped\n"),
            "{plan}"
        );

        let ran = operator.keys("wipe --yes pigeon").succeeded();
        let ran = ran.said("pigeon: keys of other manifests that stay: 1");
        let text = ran.text();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let expected = [
            "pigeon: a: removed",
            "pigeon: b/c: removed",
            "pigeon: lab-b.service: stopped",
            "pigeon: lab-web.service: restarted",
        ];
        assert_eq!(lines, expected, "{release:?}");
        assert_eq!(
            host.starts("web"),
            3,
            "{release:?}: by the send and by the wipe"
        );
        assert_eq!(left(&host), "x\n", "{release:?}");
        let again = operator.keys("wipe --yes pigeon").succeeded();
        assert_eq!(again.text(), "", "{release:?}: nothing is left of it");

        let _all = operator
            .keys("wipe --yes --all pigeon")
            .succeeded()
            .printed("pigeon: x: removed");
        assert_eq!(left(&host), "", "{release:?}");
    }
}

#[test]
fn a_wipe_is_asked_for_by_name_and_confirmed() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    let without_units: Vec<&str> = OURS
        .split_inclusive('\n')
        .filter(|line| !line.contains("_units"))
        .collect();
    send(&operator, &without_units.concat());
    let wipe = |typed: &str| {
        let line = format!("{} wipe pigeon", lab::binary("keys").display());
        operator.typing(typed, &line)
    };
    let _unnamed = operator
        .keys("wipe --yes")
        .exited(64)
        .said("which hosts are to lose their keys?");
    let _unasked = operator
        .keys("wipe pigeon")
        .exited(64)
        .said("there is no terminal to ask on");
    for answer in ["no\n", "\n", "y\n"] {
        let refused = wipe(answer).exited(1).text();
        assert!(
            refused.contains("this removes this manifest's keys from pigeon"),
            "{refused}"
        );
        assert!(
            refused.contains("not confirmed; nothing was changed"),
            "{refused}"
        );
    }
    assert!(host.inside().has("/run/keys/a"));
    let wiped = wipe("yes\n").succeeded().text();
    assert!(wiped.contains("pigeon: b/c: removed"), "{wiped}");
    assert!(!host.inside().has("/run/keys/a"));
    assert!(host.inside().has("/run/keys/x"));
}
