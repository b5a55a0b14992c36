//! L2: what a command is about. A selection that matches nothing asks no source and contacts no host.

use keys_tests::{Operator, Ran, Sshd, Tap};

const MANIFEST: &str = r#"
[hosts.pigeon]
tags = ["mail"]
[hosts.raven]
tags = ["mail", "old"]
[hosts.dove]
[keys.a]
hosts = ["pigeon", "raven"]
source = { command = ["sh", "-c", "echo a >>asked; echo a"] }
[keys."b/c"]
hosts = ["@mail"]
source = { command = ["sh", "-c", "echo b >>asked; echo b"] }
"#;

/// An operator of three hosts that ssh does not reach.
struct Setting {
    operator: Operator,
    tap: Tap,
}

impl Setting {
    fn new() -> Self {
        let mut operator = Operator::new();
        operator.manifest(MANIFEST);
        let tap = Tap::dead(&mut operator);
        Self { operator, tap }
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.operator.ran(self.operator.command(words))
    }

    /// Sees that nothing is asked and nobody is contacted, and that this is said.
    fn nothing(&self, words: &[&str], said: &str) {
        for verb in ["send", "plan", "status"] {
            let words: Vec<&str> = [verb].iter().chain(words).copied().collect();
            let ran = self.run(&words).exited(64).said(said);
            assert_eq!(self.tap.calls().len(), 0, "{ran}");
            assert!(!self.operator.path("asked").exists(), "{ran}");
        }
    }

    /// Returns the hosts that these words contact, in the order of their names.
    fn hosts(&self, words: &[&str]) -> Vec<String> {
        let before = self.tap.calls().len();
        let ran = self.run(words);
        assert_ne!(ran.code(), 64, "{ran}");
        let calls = self.tap.calls().split_off(before);
        let mut hosts: Vec<String> = calls
            .into_iter()
            .map(|words| words[words.len() - 2].clone())
            .collect();
        hosts.sort();
        hosts
    }
}

/// L2
#[test]
fn what_matches_nothing_contacts_no_host() {
    let here = Setting::new();
    here.nothing(&["--include", ""], "invalid value '' for '--include");
    here.nothing(&[""], "invalid value '' for '[HOST]");
    here.nothing(
        &["--include", "pige0n"],
        "keys: no host matches `pige0n`\nkeys: hint: did you mean `pigeon`?\n",
    );
    here.nothing(&["pigeon", "nobody"], "keys: no host matches `nobody`\n");
    here.nothing(&["--include", "x*"], "keys: no host matches `x*`\n");
    here.nothing(
        &["@mial"],
        "keys: no tag matches `mial`\nkeys: hint: did you mean `mail`?\n",
    );
    here.nothing(&["@"], "invalid value '@'");
    here.nothing(&["--tag", "none"], "keys: no tag matches `none`\n");
    here.nothing(&["--exclude", "nobody"], "keys: no host matches `nobody`\n");
    here.nothing(
        &["--exclude", "*"],
        "keys: no host is in all parts of this selection\n",
    );
    here.nothing(
        &["dove", "--tag", "mail"],
        "keys: no host is in all parts of this selection\n",
    );
    here.nothing(&["--key", "d"], "keys: no key of these hosts matches `d`\n");
    here.nothing(&["--key", "b/cc"], "keys: hint: did you mean `b/c`?\n");
    here.nothing(
        &["dove", "--key", "a"],
        "keys: no key of these hosts matches `a`\n",
    );
    here.nothing(&["--key", ""], "invalid value '' for '--key");
    here.nothing(&["--include"], "a value is required");
}

#[test]
fn a_selection_contacts_the_hosts_it_names_and_no_others() {
    let here = Setting::new();
    let check = |words: &[&str], hosts: &[&str]| assert_eq!(here.hosts(words), hosts, "{words:?}");
    check(&["status"], &["dove", "pigeon", "raven"]);
    check(&["status", "pigeon"], &["pigeon"]);
    check(&["status", "--include", "*on", "dove"], &["dove", "pigeon"]);
    check(&["status", "@mail", "--exclude", "@old"], &["pigeon"]);
    check(
        &["status", "--tag", "mail", "--tag", "old"],
        &["pigeon", "raven"],
    );
    check(&["send", "raven", "--key", "b*"], &["raven"]);
    check(&["send", "--key", "a"], &["pigeon", "raven"]);
}

/// I-14: sources of what is not selected are not asked.
#[test]
fn only_the_sources_of_what_is_selected_are_asked() {
    let here = Setting::new();
    let _hosts = here.hosts(&["send", "--key", "b/*"]);
    assert_eq!(
        std::fs::read_to_string(here.operator.path("asked")).unwrap(),
        "b\n"
    );
    let _hosts = here.hosts(&["send", "dove"]);
    assert_eq!(
        std::fs::read_to_string(here.operator.path("asked")).unwrap(),
        "b\n"
    );
}

/// A key leaves a host only when the whole host was selected.
#[test]
fn a_part_of_the_keys_removes_none() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    let manifest = |names: &[&str]| {
        let mut text = "id = \"x\"\n[hosts.pigeon]\n".to_owned();
        for name in names {
            text += &format!(
                "[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"keys.toml\" }}\n"
            );
        }
        operator.manifest(&text);
    };
    manifest(&["a", "b", "c"]);
    let _sent = operator.send("").succeeded();
    manifest(&["a", "b"]);
    let _sent = operator
        .send("--key a")
        .succeeded()
        .printed("pigeon: a: changed (content)\n");
    assert!(host.inside().has("/run/keys/c"));
    let _sent = operator
        .send("")
        .succeeded()
        .printed("pigeon: c: removed\n");
    assert!(!host.inside().has("/run/keys/c"));
    assert!(host.inside().has("/run/keys/b"));
}
