//! Tokens that a run makes end with it, however it ends; a user's own token stays as it was.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use keys_tests::{
    Chaos, Fault, KvVersion, LIMIT, Operator, Sshd, Vault, lab, vault_manifest, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A server of its own with an audit log, and an operator.
struct Setting {
    operator: Operator,
    vault: Vault,
    log: PathBuf,
}

const SOURCE: [(&str, &str); 1] = [("x", "{ vault = \"kv/a#f\" }")];

impl Setting {
    fn new() -> Self {
        let vault = Vault::start();
        vault.mount_kv("kv", KvVersion::Two);
        vault.put("kv/a", &json!({"f": "x"}));
        vault.policy("reader", "path \"kv/data/a\" { capabilities = [\"read\"] }");
        let create = "path \"auth/token/create\" { capabilities = [\"create\", \"update\"] }";
        vault.policy(
            "parent",
            &format!("path \"kv/data/a\" {{ capabilities = [\"read\"] }}\n{create}"),
        );
        let operator = Operator::new();
        vault_manifest(&operator, &vault.line(), &SOURCE);
        let log = lab::folder().join(format!(
            "audit-{}.log",
            vault.address().rsplit(':').next().unwrap()
        ));
        vault.audit(log.to_str().unwrap());
        Self {
            operator,
            vault,
            log,
        }
    }

    /// Returns what was asked since the last time, and by whom: the accessor's HMAC, in the order of appearance.
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        fs::write(&self.log, "").unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut who = Vec::new();
        let mut said = Vec::new();
        for line in lines.filter(|line| line["type"] == "response") {
            let accessor = line["auth"]["accessor"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let known = who.iter().position(|known| *known == accessor);
            let number = known.unwrap_or_else(|| {
                who.push(accessor);
                who.len() - 1
            });
            let word = |name: &str| {
                line["request"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let letter = ["a", "b", "c", "d"][number];
            said.push(format!("{letter}: {} {}", word("operation"), word("path")));
        }
        said
    }
}

#[test]
fn a_run_reads_with_a_child_of_the_users_token_and_revokes_it() {
    let mut here = Setting::new();
    let token = here.vault.token("parent", "1h");
    here.operator.env("VAULT_TOKEN", &token);
    let before = here.vault.tokens();
    let _forget = here.asked();
    let _got = here.operator.keys("get x").succeeded();
    assert_eq!(
        here.asked(),
        [
            "a: update auth/token/create",
            "b: read sys/internal/ui/mounts/kv/a",
            "b: read kv/data/a",
            "b: update auth/token/revoke-self",
        ]
    );
    assert_eq!(here.vault.tokens(), before);
    assert!(here.vault.knows(&token));
    // A run that fails ends it as well.
    here.operator.env("VAULT_TOKEN", &token);
    vault_manifest(
        &here.operator,
        &here.vault.line(),
        &[("x", "{ vault = \"kv/a#none\" }")],
    );
    let _failed = here.operator.keys("get x").exited(6);
    assert_eq!(here.vault.tokens(), before);
    assert!(here.vault.knows(&token));
}

#[test]
fn a_token_that_may_have_no_children_is_used_itself_and_stays() {
    let mut here = Setting::new();
    let token = here.vault.token("reader", "1h");
    here.operator.env("VAULT_TOKEN", &token);
    let before = here.vault.tokens();
    let _forget = here.asked();
    let _got = here.operator.keys("get x").succeeded();
    assert_eq!(
        here.asked(),
        [
            "a: update auth/token/create",
            "a: read sys/internal/ui/mounts/kv/a",
            "a: read kv/data/a",
        ]
    );
    assert_eq!(here.vault.tokens(), before);
    assert!(here.vault.knows(&token));
}

#[test]
fn the_token_of_a_login_is_revoked_before_the_first_host_is_contacted() {
    let mut here = Setting::new();
    let host = Sshd::start("pigeon");
    here.operator.knows(&host);
    let (role, secret) = here.vault.approle("ends", "reader");
    here.operator.write("secret-id", secret);
    let auth = format!("auth.approle = {{ role_id = \"{role}\", secret_id_file = \"secret-id\" }}");
    vault_manifest(
        &here.operator,
        &format!("{}\n{auth}", here.vault.line()),
        &SOURCE,
    );
    let before = here.vault.tokens();
    let _sent = here.operator.send("").succeeded();
    assert_eq!(here.vault.tokens(), before);
    // A token that cannot be revoked is said, and the keys are sent all the same.
    let chaos = Chaos::before(here.vault.address());
    chaos.meet(
        "revoke-self",
        9,
        Fault::Instead(
            "500 Internal Server Error",
            String::new(),
            "{\"errors\":[\"no\"]}".into(),
        ),
    );
    let lines = format!("address = \"{}\"\n{auth}", chaos.address());
    vault_manifest(&here.operator, &lines, &SOURCE);
    let _sent = here
        .operator
        .send("")
        .succeeded()
        .said("keys: the token of this run was not revoked: vault at http://127.0.0.1:")
        .said("keys: hint: it ends by itself when its time is up");
    assert_eq!(here.vault.tokens(), before + 1);
}

#[test]
fn a_signal_ends_the_token_with_the_run() {
    let here = Setting::new();
    let (role, secret) = here.vault.approle("signals", "reader");
    here.operator.write("secret-id", secret);
    let chaos = Chaos::before(here.vault.address());
    chaos.meet("kv/data/a", 9, Fault::Late(Duration::from_secs(20)));
    let auth = format!("auth.approle = {{ role_id = \"{role}\", secret_id_file = \"secret-id\" }}");
    vault_manifest(
        &here.operator,
        &format!("address = \"{}\"\n{auth}", chaos.address()),
        &SOURCE,
    );
    let before = here.vault.tokens();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut child = here.operator.command(&["get", "x"]).spawn().unwrap();
        // It has a token and waits for its secret.
        let reads = |head: &String| head.contains("kv/data/a");
        wait_for("a read", LIMIT, || {
            chaos.requests().iter().any(reads).then_some(())
        });
        assert_eq!(here.vault.tokens(), before + 1);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(here.vault.tokens(), before, "{signal}");
        chaos.calm();
        chaos.meet("kv/data/a", 9, Fault::Late(Duration::from_secs(20)));
    }
}
