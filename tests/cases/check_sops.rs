//! `keys check sops`: who can read a file and should not, or should and cannot, beside what sops itself would change.

use std::fs;
use std::path::Path;

use keys_tests::{Age, Gpg, Operator, Ran, Sops};
use serde_json::Value;

/// An operator with a manifest that uses `hosts/a.yaml`, and recipients `{a}`, `{b}`, `{c}` (age) and `{p}` (pgp).
struct Setting {
    operator: Operator,
    sops: Sops,
    others: [Age; 2],
    gpg: Gpg,
}

impl Setting {
    fn new() -> Self {
        let (gpg, mut sops) = (Gpg::with_passphrase(""), Sops::new());
        sops.env("GNUPGHOME", gpg.home());
        let operator = Operator::new();
        fs::create_dir(operator.path("hosts")).unwrap();
        operator.manifest(
            "id = \"lab\"\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { sops = \"hosts/a.yaml#k\" }\n\
             [keys.y]\nhosts = [\"pigeon\"]\nsource = { sops = \"hosts/a.yaml#l\" }\n",
        );
        Self {
            operator,
            sops,
            others: [Age::new_identity(), Age::new_identity()],
            gpg,
        }
    }

    fn filled(&self, text: &str) -> String {
        let [b, c] = &self.others;
        text.replace("{a}", self.sops.age().recipient())
            .replace("{b}", b.recipient())
            .replace("{c}", c.recipient())
            .replace("{p}", self.gpg.fingerprint())
    }

    /// Encrypts the file by `old` rules, and leaves `new` ones beside it. Rules are the items of `creation_rules`.
    fn file(&self, old: &str, new: &str) {
        let rules = |rules: &str| self.filled(&format!("creation_rules:\n{rules}\n"));
        let text = self.sops.encrypt_by(&rules(old), "a.yaml", "k: v\nl: w\n");
        self.operator.write("hosts/a.yaml", text);
        self.operator.write(".sops.yaml", rules(new));
    }

    /// Lets sops update a copy of the file, and returns whether that changed it.
    fn sops_changes_it(&self) -> bool {
        let (file, kept) = (
            self.operator.path("hosts/a.yaml"),
            self.operator.path("kept"),
        );
        fs::copy(&file, &kept).unwrap();
        let mut command = self.sops.command(&["updatekeys", "--yes", "a.yaml"]);
        command.current_dir(self.operator.path("hosts"));
        let _updated = Ran::of(command, b"").succeeded();
        let changed = fs::read(&file).unwrap() != fs::read(&kept).unwrap();
        fs::copy(&kept, &file).unwrap();
        changed
    }

    fn check(&self) -> Ran {
        self.operator.keys("check sops")
    }
}

/// Rules of then and now, and what is said of a file.
const CASES: &[(&str, &str, &[&str])] = &[
    ("- age: '{a}'", "- age: '{a}'", &[]),
    ("- age: '{a},{b}'", "- age: ' {b} , {a},'", &[]),
    ("- age: '{a},{b}'", "- age: ['{b}', '{a}']", &[]),
    (
        "- {age: '{a}', pgp: '{p}'}",
        "- key_groups: [{pgp: ['{p}'], age: ['{a}']}]",
        &[],
    ),
    (
        "- age: '{a}'",
        "- age: '{a},{b}'",
        &["{b} cannot read it, and should"],
    ),
    (
        "- age: '{a},{b}'",
        "- age: '{a}'",
        &["{b} can read it, and should not"],
    ),
    (
        "- age: '{a},{b}'",
        "- age: '{a},{c}'",
        &[
            "{b} can read it, and should not",
            "{c} cannot read it, and should",
        ],
    ),
    (
        "- {age: '{a}', pgp: '{p}'}",
        "- age: '{a}'",
        &["pgp {p} can read it, and should not"],
    ),
    (
        "- age: '{a}'",
        "- {age: '{a}', pgp: '{p}'}",
        &["pgp {p} cannot read it, and should"],
    ),
    // The path as seen from the folder of the rules, and the first rule that is for it.
    (
        "- age: '{a}'",
        "- {path_regex: '^hosts/a\\.yaml$', age: '{a}'}\n- age: '{b}'",
        &[],
    ),
    (
        "- age: '{a}'",
        "- {path_regex: '^a\\.yaml$', age: '{a}'}\n- age: '{a},{b}'",
        &["{b} cannot read it, and should"],
    ),
    (
        "- age: '{a}'",
        "- {path_regex: 'sts/', age: '{a}'}\n- {path_regex: '('}",
        &[],
    ),
    (
        "- age: '{a}'",
        "- {path_regex: '', age: '{a}'}\n- age: '{b}'",
        &[],
    ),
    // Groups.
    (
        "- key_groups: [{age: ['{a}']}, {age: ['{b}']}]",
        "- key_groups: [{age: ['{a}']}, {age: ['{b}']}]",
        &[],
    ),
    (
        "- key_groups: [{age: ['{a}']}, {merge: [{age: ['{b}']}], pgp: ['{p}']}]",
        "- key_groups: [{age: ['{a}']}, {age: ['{b}'], pgp: ['{p}']}]",
        &[],
    ),
    (
        "- key_groups: [{age: ['{a}']}, {age: ['{a}']}]",
        "- key_groups: [{age: ['{a}']}, {age: ['{b}']}]",
        &[
            "{a} can read it, and should not (group 2)",
            "{b} cannot read it, and should (group 2)",
        ],
    ),
    (
        "- {age: '{a}', shamir_threshold: 2}",
        "- age: '{a}'",
        &["2 key groups are needed to read it, where 1 should be"],
    ),
];

#[test]
fn it_says_what_sops_would_change_and_nothing_else() {
    let here = Setting::new();
    for (old, new, lines) in CASES {
        here.file(old, new);
        let expected: String = lines
            .iter()
            .map(|line| {
                let kind = if line.starts_with('{') { "age " } else { "" };
                here.filled(&format!("hosts/a.yaml: {kind}{line}\n"))
            })
            .collect();
        let ran = here.check().exited(i32::from(!lines.is_empty()));
        assert_eq!(ran.text(), expected, "{old} → {new}\n{ran}");
        assert_eq!(here.sops_changes_it(), !lines.is_empty(), "{old} → {new}");
        let advice = "keys: hint: `sops updatekeys hosts/a.yaml` is needed\n";
        assert_eq!(
            ran.stderr,
            if lines.is_empty() { "" } else { advice },
            "{ran}"
        );
    }
}

/// sops has no command that changes a threshold alone, so this is the one thing that it would not change.
#[test]
fn another_threshold_is_said_though_sops_leaves_it() {
    let here = Setting::new();
    let groups = "key_groups: [{age: ['{a}']}, {age: ['{a}']}, {age: ['{a}']}]";
    let with = |threshold: u8| format!("- {{shamir_threshold: {threshold}, {groups}}}");
    here.file(&with(2), &with(3));
    let ran = here.check().exited(1);
    assert_eq!(
        ran.text(),
        "hosts/a.yaml: 2 key groups are needed to read it, where 3 should be\n",
        "{ran}"
    );
    assert!(!here.sops_changes_it());
    here.file(&format!("- {groups}"), &with(3));
    let _agrees = here.check().succeeded();
}

/// Nobody is asked, nothing is opened: no identity, no gpg, no host, no Vault.
#[test]
fn nothing_is_decrypted_and_nobody_asked() {
    let mut here = Setting::new();
    here.file("- {age: '{a}', pgp: '{p}'}", "- {age: '{a}', pgp: '{p}'}");
    let strace = here.operator.path("trace");
    let line = format!(
        "strace -f -qq -e trace=execve,connect -o {} true",
        strace.display()
    );
    let _there = here.operator.after(&line, "--version").succeeded();
    here.operator
        .env("SOPS_GPG_EXEC", "/bin/false")
        .env("SOPS_AGE_KEY_FILE", "/none");
    let mut command = std::process::Command::new("strace");
    let keys = here.operator.command(&["check", "sops"]);
    command
        .args(["-f", "-qq", "-e", "trace=execve,connect", "-o"])
        .arg(&strace)
        .arg(keys.get_program())
        .args(keys.get_args())
        .env_clear()
        .envs(
            keys.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(here.operator.path(""));
    let _checked = here.operator.ran(command).succeeded();
    let calls = fs::read_to_string(&strace).unwrap();
    assert_eq!(calls.lines().count(), 1, "only itself is started: {calls}");
}

#[test]
fn a_file_that_cannot_be_judged_is_said_and_the_others_are_still_judged() {
    let here = Setting::new();
    here.file("- age: '{a}'", "- {path_regex: '^hosts/', age: '{b}'}");
    here.operator.write("plain.yaml", "k: v\n");
    let elsewhere = fs::read_to_string(here.operator.path("hosts/a.yaml")).unwrap();
    here.operator.write("a.yaml", &elsewhere);
    let sources: String = ["hosts/a.yaml", "plain.yaml", "a.yaml", "none.yaml"]
        .iter()
        .enumerate()
        .map(|(n, file)| {
            format!("[keys.k{n}]\nhosts = [\"pigeon\"]\nsource = {{ sops = \"{file}#k\" }}\n")
        })
        .collect();
    here.operator
        .manifest(&format!("id = \"lab\"\n[hosts.pigeon]\n{sources}"));
    let ran = here
        .check()
        .exited(1)
        .said("keys: plain.yaml: there is no sops metadata: the file is not encrypted\n")
        .said("keys: a.yaml: .sops.yaml: no rule is for this file\n")
        .said("keys: none.yaml: No such file or directory");
    assert_eq!(ran.text().lines().count(), 2, "{ran}");
    let json: Value =
        serde_json::from_slice(&here.operator.keys("check sops --json").exited(1).stdout).unwrap();
    assert_eq!(json["exit"], 1);
    let files = json["files"].as_array().unwrap();
    let agrees: Vec<&Value> = files.iter().map(|file| &file["agrees"]).collect();
    assert_eq!(agrees, [false; 4], "{json}");
    let judged = files
        .iter()
        .find(|file| file["file"] == "hosts/a.yaml")
        .unwrap();
    assert_eq!(judged["missing"][0]["recipient"], here.filled("age {b}"));
    assert_eq!(judged["surplus"][0]["recipient"], here.filled("age {a}"));
}

/// The nearest `.sops.yaml` counts, as where sops is run in the folder of the file; `SOPS_CONFIG` before all.
#[test]
fn the_rules_are_those_nearest_to_the_file() {
    let mut here = Setting::new();
    here.file("- age: '{a}'", "- age: '{b}'");
    let _wrong = here.check().exited(1);
    let near = here.filled("creation_rules:\n- {path_regex: '^a\\.yaml$', age: '{a}'}\n");
    here.operator.write("hosts/.sops.yaml", &near);
    let _agrees = here.check().succeeded();
    assert!(!here.sops_changes_it());
    here.operator.env("SOPS_CONFIG", ".sops.yaml");
    let _wrong = here.check().exited(1);
    here.operator.env("SOPS_CONFIG", "");
    for path in [".sops.yaml", "hosts/.sops.yaml"] {
        fs::remove_file(here.operator.path(path)).unwrap();
    }
    assert!(!Path::new("/.sops.yaml").exists());
    let _none = here
        .check()
        .exited(1)
        .said("keys: hosts/a.yaml: there is no .sops.yaml beside it or above\n");
}
