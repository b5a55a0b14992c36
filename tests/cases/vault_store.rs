//! What is generated can be kept in Vault: made once, never over what is there, the same for all who make it at once.

use std::thread;

use keys_tests::{KvVersion, Operator, Sshd, Vault, scaled};
use serde_json::{Value, json};

fn operator(vault: &Vault, host: &Sshd) -> Operator {
    let mut operator = Operator::of(host);
    operator.env("VAULT_TOKEN", vault.root_token());
    operator
}

/// Writes a manifest with a key for each field, made and kept in that field of its path.
fn made(operator: &Operator, vault: &Vault, keys: &[(&str, &str)]) {
    let keys: Vec<String> = keys
        .iter()
        .map(|(name, path)| {
            format!("{name}.source.generate = {{ kind = \"diceware\", store = {{ vault = \"{path}#{name}\" }} }}\n")
        })
        .collect();
    let line = vault.line();
    operator.manifest(&format!(
        "id = \"lab\"\n[vault]\n{line}\n[hosts.pigeon]\n[hosts.pigeon.keys]\n{}",
        keys.concat()
    ));
}

fn sent(host: &Sshd, key: &str) -> String {
    String::from_utf8(host.inside().read(&format!("/run/keys/{key}"))).expect("it is text")
}

fn fields(vault: &Vault, path: &str) -> Value {
    vault.api("GET", path, &Value::Null)["data"]["data"].clone()
}

#[test]
fn vault_keeps_what_is_made_and_what_was_there() {
    let vault = Vault::shared();
    let host = Sshd::start("pigeon");
    let operator = operator(vault, &host);
    vault.put("kv/made", &json!({"other": "stays", "n": 1.5}));
    let keys = [
        ("a", "kv/made"),
        ("b", "kv/made"),
        ("c", "kv/made-new/deep"),
    ];
    made(&operator, vault, &keys);
    let _ran = operator.keys("plan").said("would be generated");
    assert_eq!(
        fields(vault, "kv/data/made"),
        json!({"other": "stays", "n": 1.5})
    );
    let _sent = operator.send("").succeeded();
    assert_eq!(
        fields(vault, "kv/data/made"),
        json!({"other": "stays", "n": 1.5, "a": sent(&host, "a"), "b": sent(&host, "b")})
    );
    assert_eq!(
        fields(vault, "kv/data/made-new/deep"),
        json!({"c": sent(&host, "c")})
    );
    let before = sent(&host, "a");
    let _sent = operator.send("").succeeded();
    assert_eq!(sent(&host, "a"), before);
}

#[test]
fn nothing_is_made_where_it_is_not_certain_that_nothing_is_there() {
    let vault = Vault::start();
    vault.mount_kv("kv", KvVersion::Two);
    vault.mount_kv("old", KvVersion::One);
    let host = Sshd::start("pigeon");
    let mut operator = operator(&vault, &host);
    vault.put("kv/web", &json!({"other": "stays"}));
    vault.put("kv/gone", &json!({"c": "was"}));
    vault.api("DELETE", "kv/data/gone", &Value::Null);
    let fails = |operator: &Operator, key: (&str, &str), said: &str| {
        made(operator, &vault, &[key]);
        let _ran = operator.send("").exited(6).said(said);
    };
    fails(&operator, ("c", "kv/gone"), "was deleted");
    fails(
        &operator,
        ("d", "old/web"),
        "a KV v1 mount cannot say who wrote first",
    );
    vault.policy(
        "reader",
        "path \"kv/data/web\" { capabilities = [\"read\"] }",
    );
    operator.env("VAULT_TOKEN", vault.token("reader", "1h"));
    fails(&operator, ("e", "kv/web"), "permission denied");
    fails(&operator, ("e", "kv/other"), "permission denied");
    vault.seal();
    fails(&operator, ("e", "kv/web"), "sealed");
    vault.unseal();
    assert_eq!(fields(&vault, "kv/data/web"), json!({"other": "stays"}));
    assert!(!host.inside().has("/run/keys/e"));
}

#[test]
fn of_two_who_make_one_at_once_both_have_the_same() {
    let vault = Vault::shared();
    let hosts = [Sshd::start("pigeon"), Sshd::start("pigeon")];
    for round in 0..scaled(3) {
        let there = format!("kv/race-{round}/there");
        vault.put(&there, &json!({"other": "stays"}));
        let none = format!("kv/race-{round}/none");
        let keys = [("x", none.as_str()), ("y", there.as_str())];
        thread::scope(|scope| {
            for host in &hosts {
                scope.spawn(move || {
                    let operator = operator(vault, host);
                    made(&operator, vault, &keys);
                    let _sent = operator.send("").succeeded();
                });
            }
        });
        for key in ["x", "y"] {
            assert_eq!(sent(&hosts[0], key), sent(&hosts[1], key), "{key}");
        }
        let kept = fields(vault, &there.replacen("kv/", "kv/data/", 1));
        assert_eq!(kept["other"], "stays");
        assert_eq!(kept["y"], sent(&hosts[0], "y"));
    }
}
