//! L5 and what `get`, `plan` and `status` print: they change nothing, and show no value but the one that was asked for.

use std::fs;

use keys_tests::{Host, Operator, Ran, Release, Sops, Sshd, lab};
use serde_json::Value;

const KEYS: &str = r#"
[keys.a]
hosts = ["pigeon"]
source = { file = "a" }
[keys.b]
hosts = ["pigeon"]
source = { file = "b" }
owner = "1001"
[keys.c]
hosts = ["pigeon"]
source = { file = "c" }
"#;

/// A host with the keys a, b and c, and an operator whose manifest has a as it is, b changed, no c, and a new d.
struct Setting {
    host: Sshd,
    operator: Operator,
}

impl Setting {
    fn new() -> Self {
        let host = Sshd::start("pigeon");
        let operator = Operator::of(&host);
        for name in ["a", "b", "c", "d"] {
            operator.write(name, format!("secret-{name}"));
        }
        operator.manifest(&format!("id = \"x\"\n[hosts.pigeon]\n{KEYS}"));
        let _sent = operator.send("").succeeded();
        let changed = KEYS
            .replace("\"1001\"", "\"1002\"\nmode = \"0440\"")
            .replace("[keys.c]", "[keys.d]")
            .replace("\"c\"", "\"d\"");
        operator.manifest(&format!("id = \"x\"\n[hosts.pigeon]\n{changed}"));
        operator.write("b", "secret-changed");
        Self { host, operator }
    }
}

/// No value is in what was said, and no digest of one.
fn no_value(ran: Ran) -> Ran {
    assert!(
        !format!("{}{}", ran.text(), ran.stderr).contains("secret-"),
        "{ran}"
    );
    ran
}

const CHANGES: &str = "\
pigeon: b: changed (content owner mode)
pigeon: c: removed
pigeon: d: new
";

#[test]
fn a_plan_says_what_sending_then_does() {
    let here = Setting::new();
    for words in ["plan", "send --dry-run", "plan --dry-run", "plan pigeon"] {
        let ran = no_value(here.operator.keys(words).exited(2));
        assert_eq!(sorted(&ran.text()), CHANGES, "{ran}");
        assert_eq!(ran.stderr, "");
    }
    let plan = no_value(here.operator.keys("plan --json").exited(2));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let sent = no_value(here.operator.send("--json").succeeded());
    let sent: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(plan["exit"], 2);
    assert_eq!(sent["exit"], 0);
    assert_eq!(plan["hosts"][0]["keys"], sent["hosts"][0]["keys"]);
    let outcomes: Vec<String> = sent["hosts"][0]["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            format!(
                "{} {}",
                key["name"].as_str().unwrap(),
                key["outcome"].as_str().unwrap()
            )
        })
        .collect();
    let mut outcomes = outcomes;
    outcomes.sort();
    assert_eq!(outcomes, ["a unchanged", "b changed", "c removed", "d new"]);
    let _nothing_left = here.operator.keys("plan").exited(0);
    let again = here.operator.send("").succeeded();
    assert_eq!((again.text().as_str(), again.stderr.as_str()), ("", ""));
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// What stands in a trace where something is changed.
const CHANGING: [&str; 13] = [
    "unlink",
    "rename",
    "link(",
    "linkat(",
    "symlink",
    "mkdir",
    "mknod",
    "chmod",
    "chown",
    "truncate",
    "O_TMPFILE",
    "O_CREAT",
    "O_WRONLY",
];

/// L5: not a file, a link or a time is another afterwards, and the agent makes no call that would change one.
#[test]
fn plan_and_status_change_nothing() {
    let here = Setting::new();
    let inside = here.host.inside();
    here.host.wrap("exec strace -f -o /root/trace.$$ -e trace=%file,%desc,fchown,fchmod,ftruncate keys-agent.real \"$@\"");
    let listing = || {
        inside
            .run("find /run/keys -printf '%p %s %i %m %U %G %n %l %T@ %C@\\n'")
            .succeeded()
            .text()
    };
    let changes = || {
        let trace = inside.run("cat /root/trace.*").succeeded().text();
        let lines = trace
            .lines()
            .filter(|line| CHANGING.iter().any(|word| line.contains(word)));
        let lines = lines.filter(|line| {
            !["/dev/null", "readlink", "ENOENT"]
                .iter()
                .any(|word| line.contains(word))
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = listing();
    for (words, code) in [
        ("plan", 2),
        ("send --dry-run", 2),
        ("status", 3),
        ("status --compare", 3),
    ] {
        let _done = no_value(here.operator.keys(words).exited(code));
        assert_eq!(listing(), before, "{words}");
    }
    assert_eq!(changes(), Vec::<String>::new());
    // The look itself sees changes.
    let _sent = here.operator.send("").succeeded();
    assert_ne!(changes(), Vec::<String>::new());
}

#[test]
fn a_status_says_how_each_key_stands() {
    let here = Setting::new();
    let rows = |words: &str, code: i32| {
        let ran = no_value(here.operator.keys(words).exited(code));
        let text = ran.text();
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(
            first.starts_with("pigeon: generation 1, sent 20")
                && first.contains("; boot ")
                && first.contains(", keys-agent "),
            "{ran}"
        );
        rest.to_owned()
    };
    let present = "  a  present   root:root 0400\n";
    assert_eq!(
        rows("status", 3),
        format!(
            "{present}  b  wrong     1001:root 0400  (owner should be 1002, mode should be 0440)\n  d  missing \n  c  extra     root:root 0400  (from manifest x)\n"
        )
    );
    assert_eq!(rows("status --key a", 0), present);
    here.operator
        .manifest(&format!("id = \"x\"\n[hosts.pigeon]\n{KEYS}"));
    assert_eq!(
        rows("status", 0)
            .lines()
            .filter(|line| line.contains("present"))
            .count(),
        3
    );
    assert!(rows("status --compare", 3).contains("  b  stale     1001:root 0400\n"));
    here.host
        .inside()
        .write("/run/keys/found", "secret-found", 0o644);
    assert!(rows("status", 0).ends_with("  found  not made by keys\n"));
}

#[test]
fn a_status_is_one_document() {
    let here = Setting::new();
    here.host
        .inside()
        .write("/run/keys/found", "secret-found", 0o644);
    let ran = no_value(here.operator.keys("status --key a --json").succeeded());
    let status: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let host = &status["hosts"][0];
    assert_eq!(
        (&host["host"], &host["exit"], &host["generation"]),
        (&"pigeon".into(), &0.into(), &1.into()),
        "{ran}"
    );
    assert_eq!(
        (
            &host["keys"][0]["name"],
            &host["keys"][0]["state"],
            &host["keys"][0]["mode"]
        ),
        (&"a".into(), &"present".into(), &"0400".into()),
        "{ran}"
    );
    assert_eq!(host["strays"][0]["name"], "found", "{ran}");
}

/// A status asks no source.
#[test]
fn a_status_asks_no_source() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.manifest("[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { command = [\"sh\", \"-c\", \"touch asked; echo x\"] }\n");
    let _missing = operator
        .keys("status")
        .exited(1)
        .printed("pigeon: nothing was sent since it booted; boot ")
        .printed("  x  missing");
    assert!(!operator.path("asked").exists());
    let _missing = operator.keys("status --compare").exited(1);
    assert!(operator.path("asked").exists());
}

/// Units that a plan would tell are those that sending tells.
#[test]
fn a_plan_says_which_units_would_be_told() {
    let host = Host::shared(Release::Bookworm);
    host.inside()
        .install(&lab::binary("keys-agent"), "/usr/local/bin/keys-agent");
    let _installed = host.run("keys-agent install").succeeded();
    for name in ["plan-runs", "plan-reloads", "plan-rests"] {
        host.unit(
            &format!("{name}.service"),
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecReload=true\n",
        );
    }
    let _started = host
        .run("systemctl daemon-reload; systemctl start plan-runs plan-reloads")
        .succeeded();
    let operator = Operator::of_host(&host);
    operator.write("a", "secret-a");
    let key = "hosts = [\"pigeon\"]\nsource = { file = \"a\" }\n";
    operator.manifest(&format!(
        "id = \"x\"\n[hosts.pigeon]\n[keys.a]\n{key}restart_units = [\"plan-runs.service\", \"plan-rests.service\"]\n[keys.b]\n{key}reload_units = [\"plan-reloads.service\"]\n"
    ));
    let lines = "pigeon: a: new\npigeon: b: new\n";
    let plan = no_value(operator.keys("plan").exited(2));
    assert_eq!(
        sorted(&plan.text()),
        format!(
            "{lines}pigeon: plan-reloads.service: would be reloaded\npigeon: plan-runs.service: would be restarted\n"
        )
    );
    let sent = no_value(operator.send("").succeeded());
    assert_eq!(
        sorted(&sent.text()),
        format!(
            "{lines}pigeon: plan-reloads.service: reloaded\npigeon: plan-runs.service: restarted\n"
        )
    );
    operator.write("a", "secret-b");
    let plan = operator.keys("plan --key b").exited(2);
    assert_eq!(
        plan.text(),
        "pigeon: b: changed (content)\npigeon: plan-reloads.service: would be reloaded\n"
    );
}

/// Byte for byte, to a pipe and a file, and not to a terminal unless that is what is wanted.
#[test]
fn get_prints_the_bytes_and_nothing_on_a_terminal() {
    let operator = Operator::new();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    operator.write("value", &value);
    operator.manifest("[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { file = \"value\" }\n[keys.y]\nhosts = [\"pigeon\"]\nsource = { command = [\"printf\", \"secret-y\"] }\n");
    assert_eq!(operator.keys("get x").succeeded().stdout, value);
    let binary = lab::binary("keys");
    let mut shell =
        operator.command_after(&format!("{} get x >file", binary.display()), "--version");
    shell.current_dir(operator.path(""));
    let _written = operator.ran(shell).succeeded();
    assert_eq!(fs::read(operator.path("file")).unwrap(), value);
    let ran = operator
        .on_terminal(&format!("exec {} get y", binary.display()))
        .exited(64);
    assert_eq!(
        ran.text(),
        "keys: stdout is a terminal\r\nkeys: hint: --reveal shows the secret there\r\n"
    );
    let ran = operator
        .on_terminal(&format!("exec {} get y --reveal", binary.display()))
        .succeeded();
    assert_eq!(ran.text(), "secret-y");
}

/// Keys of one name may differ from host to host.
#[test]
fn get_takes_the_key_of_one_host() {
    let mut operator = Operator::new();
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    operator.write("a.yaml", sops.encrypt("a.yaml", "pigeon: p\nraven: r\n"));
    operator.manifest("[hosts.pigeon]\n[hosts.raven]\n[hosts.dove]\n[keys.x]\nhosts = [\"pigeon\", \"raven\"]\nsource = { sops = \"a.yaml#{host}\" }\n");
    let _which = operator
        .keys("get x")
        .exited(64)
        .said("keys: x differs from host to host\nkeys: hint: --host one of: pigeon, raven\n");
    assert_eq!(operator.keys("get x --host raven").succeeded().stdout, b"r");
    let _none = operator
        .keys("get x --host dove")
        .exited(64)
        .said("dove has no key x\n");
    let _none = operator
        .keys("get y")
        .exited(64)
        .said("any host has no key y\n");
}
