//! `keys unseal`: key shares from any source but Vault, to the server of the manifest alone.

use keys_tests::{Operator, Tap, Vault};
use serde_json::{Value, json};

/// A server whose seal takes two of three key shares, and those.
fn server() -> (Vault, Vec<String>) {
    let vault = Vault::start();
    let rule = json!({"secret_shares": 3, "secret_threshold": 2});
    let started = vault.api("PUT", "sys/rekey/init", &rule);
    let old = json!({"key": vault.unseal_key(), "nonce": started["nonce"]});
    let done = vault.api("PUT", "sys/rekey/update", &old);
    let shares = done["keys_base64"].as_array().unwrap();
    let shares = shares
        .iter()
        .map(|share| share.as_str().unwrap().to_owned())
        .collect();
    vault.seal();
    (vault, shares)
}

fn manifest(operator: &Operator, vault: &Vault, shares: &str) {
    operator.manifest(&format!(
        "[vault]\n{}\n[vault.unseal]\nshares = [{shares}]\n",
        vault.line()
    ));
}

fn sealed(vault: &Vault) -> bool {
    vault.api("GET", "sys/seal-status", &Value::Null)["sealed"] == json!(true)
}

#[test]
fn enough_key_shares_unseal_a_server() {
    let (vault, shares) = server();
    let operator = Operator::new();
    for (number, share) in shares.iter().enumerate() {
        operator.write(&format!("share{number}"), format!("{share}\n"));
    }
    // One is not enough, and that is said; the server keeps it.
    manifest(&operator, &vault, "{ file = \"share0\" }");
    let place = format!("vault at {}", vault.address());
    let ran = operator.keys("unseal").exited(3);
    let ran = ran.said(&format!(
        "keys: {place}: still sealed: 1 more key shares are wanted\n"
    ));
    assert_eq!(
        ran.text(),
        format!(
            "{place}: sealed, 0 of 2 key shares given\n{place}: sealed, 1 of 2 key shares given\n"
        )
    );
    assert!(sealed(&vault));
    // The second operator's is the last that is needed; a third is not given.
    manifest(
        &operator,
        &vault,
        "{ command = [\"cat\", \"share1\"] }, { file = \"share2\" }",
    );
    let ran = operator.keys("unseal").succeeded();
    assert_eq!(
        ran.text(),
        format!("{place}: sealed, 1 of 2 key shares given\n{place}: unsealed\n")
    );
    assert!(!sealed(&vault));
    let ran = operator.keys("unseal").succeeded();
    assert_eq!(ran.text(), format!("{place}: unsealed\n"));
    let ran = operator.keys("unseal --json").succeeded();
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&document["sealed"], &document["exit"]),
        (&json!(false), &json!(0))
    );
}

#[test]
fn a_key_share_that_cannot_be_had_or_is_none_leaves_the_seal_alone() {
    let (vault, shares) = server();
    let mut operator = Operator::new();
    let tap = Tap::dead(&mut operator);
    operator.write("share0", &shares[0]);
    operator.write("wrong", "bm8ga2V5IHNoYXJlIG9mIHRoaXMgc2VydmVyIGF0IGFsbCE=");
    operator.write("odd", "not base64 at all");
    // All of them are fetched before the first is given.
    manifest(
        &operator,
        &vault,
        "{ file = \"share0\" }, { file = \"missing\" }",
    );
    let _missing = operator
        .keys("unseal")
        .exited(6)
        .said("key share: file missing: No such file");
    let status = vault.api("GET", "sys/seal-status", &Value::Null);
    assert_eq!(status["progress"], json!(0), "{status}");
    for wrong in ["wrong", "odd"] {
        manifest(
            &operator,
            &vault,
            &format!("{{ file = \"share0\" }}, {{ file = \"{wrong}\" }}"),
        );
        let ran = operator
            .keys("unseal")
            .exited(6)
            .said(": it refused the key shares (400)\n");
        let share = std::fs::read_to_string(operator.path(wrong)).unwrap();
        assert!(
            !ran.stderr.contains(&share) && !ran.stderr.contains(&shares[0]),
            "{ran}"
        );
        assert!(sealed(&vault));
        vault.api("PUT", "sys/unseal", &json!({"reset": true}));
    }
    assert_eq!(tap.calls().len(), 0);
}

#[test]
fn key_shares_do_not_come_from_a_vault() {
    let operator = Operator::new();
    for (lines, said) in [
        (
            "[vault.unseal]\nshares = [{ vault = \"kv/a#b\" }]",
            "a key share cannot come from Vault, which may be sealed",
        ),
        (
            "[vault.unseal]\nshares = []",
            "a key share at least is wanted",
        ),
        (
            "[vault.unseal]\nshares = [{ file = \"a\" }, { file = \"a\" }]",
            "the same key share is there twice",
        ),
        (
            "[vault]\naddress = \"https://vault.invalid\"",
            "the manifest names no key shares\nkeys: hint: [vault.unseal] shares = [",
        ),
    ] {
        operator.manifest(lines);
        let _refused = operator.keys("unseal").exited(64).said(said);
    }
    operator.manifest("");
    let _unknown = operator
        .keys("unseal other")
        .exited(64)
        .said("no [vaults.other] in the manifest");
}
