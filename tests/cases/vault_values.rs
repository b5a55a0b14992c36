//! G7: what is read from a key-value engine, beside one field as it is: all fields, bytes in base64, odd mounts.

use keys_tests::{KvVersion, Operator, Sshd, Vault, vault_manifest};
use serde_json::{Value, json};

fn setting() -> (Operator, &'static Vault) {
    let vault = Vault::shared();
    let mut operator = Operator::new();
    operator.env("VAULT_TOKEN", vault.root_token());
    (operator, vault)
}

fn reads(operator: &Operator, source: &str, expected: &[u8]) {
    vault_manifest(operator, &Vault::shared().line(), &[("x", source)]);
    let ran = operator.keys("get x").succeeded();
    assert_eq!(ran.stdout, expected, "{source}\n{ran}");
}

fn fails(operator: &Operator, source: &str, said: &str) {
    vault_manifest(operator, &Vault::shared().line(), &[("x", source)]);
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

#[test]
fn without_a_field_there_are_all_of_them() {
    let (operator, vault) = setting();
    vault.put("kv/whole", &json!({"b": "ü\n", "a": 1.5, "t": {"n": null}}));
    vault.put_v1("kv1/whole", &json!({"only": "one"}));
    reads(
        &operator,
        "{ vault = \"kv/whole\" }",
        "{\"a\":1.5,\"b\":\"ü\\n\",\"t\":{\"n\":null}}".as_bytes(),
    );
    reads(
        &operator,
        "{ vault = \"kv1/whole\" }",
        b"{\"only\":\"one\"}",
    );
    reads(
        &operator,
        "{ vault = { path = \"kv/whole\", version = 1 } }",
        "{\"a\":1.5,\"b\":\"ü\\n\",\"t\":{\"n\":null}}".as_bytes(),
    );
    reads(&operator, "{ vault = { path = \"kv/whole#a\" } }", b"1.5");
}

#[test]
fn a_path_becomes_one_file_or_a_folder_of_keys() {
    let (operator, vault) = setting();
    vault.put(
        "kv/map",
        &json!({"USER": "web", "PORT": 5432, "QUOTE": "a\"b$c\n"}),
    );
    reads(
        &operator,
        "{ vault = \"kv/map\", as = \"env\" }",
        b"PORT=\"5432\"\nQUOTE=\"a\\\"b\\$c\n\"\nUSER=\"web\"\n",
    );
    reads(
        &operator,
        "{ vault = { path = \"kv/map\", version = 1 }, as = \"json\" }",
        b"{\"PORT\":5432,\"QUOTE\":\"a\\\"b$c\\n\",\"USER\":\"web\"}",
    );
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.env("VAULT_TOKEN", vault.root_token());
    let folder = [("map", "{ vault = \"kv/map\", as = \"dir\" }")];
    vault_manifest(&operator, &vault.line(), &folder);
    let _sent = operator.send("").succeeded();
    for (name, value) in [("USER", "web"), ("PORT", "5432"), ("QUOTE", "a\"b$c\n")] {
        let sent = host.inside().read(&format!("/run/keys/map/{name}"));
        assert_eq!(sent, value.as_bytes(), "{name}");
    }
    vault.put("kv/odd-map", &json!({"no name": "x"}));
    fails(
        &operator,
        "{ vault = \"kv/odd-map\", as = \"env\" }",
        "no name of a variable",
    );
}

#[test]
fn bytes_come_out_of_base64_as_they_went_in() {
    let (operator, vault) = setting();
    vault.put(
        "kv/bytes",
        &json!({"f": "AAEC\r\n/w==\n", "none": "", "odd": "AAEC/w", "text": "hello!"}),
    );
    let field = |name: &str| format!("{{ vault = \"kv/bytes#{name}\", encoding = \"base64\" }}");
    reads(&operator, &field("f"), &[0, 1, 2, 0xff]);
    for (odd, what) in [
        ("odd", "it is no base64"),
        ("text", "it is no base64"),
        ("none", "it is empty"),
    ] {
        fails(
            &operator,
            &field(odd),
            &format!("keys: x: vault kv/bytes#{odd} from base64: {what}\n"),
        );
    }
    // Beside a field of the same path that is read as it is.
    let sources = [("x", &*field("f")), ("y", "{ vault = \"kv/bytes#text\" }")];
    vault_manifest(&operator, &vault.line(), &sources);
    let ran = operator.keys("get y").succeeded();
    assert_eq!(ran.stdout, b"hello!", "{ran}");
}

#[test]
fn a_mount_may_have_a_name_of_several_parts() {
    let (operator, vault) = setting();
    vault.mount_kv("teams/web/kv", KvVersion::Two);
    vault.api(
        "POST",
        "teams/web/kv/data/a/b",
        &json!({"data": {"f": "deep"}}),
    );
    reads(&operator, "{ vault = \"teams/web/kv/a/b#f\" }", b"deep");
    reads(
        &operator,
        "{ vault = { mount = \"teams/web/kv/\", path = \"a/b\", field = \"f\" } }",
        b"deep",
    );
    fails(
        &operator,
        "{ vault = \"teams/web/kv#f\" }",
        "keys: x: teams/web/kv: that is a mount, not a secret\n",
    );
    fails(
        &operator,
        "{ vault = \"teams/web#f\" }",
        "keys: x: teams/web: ",
    );
}

/// G11, G12: nothing but key-value is read, so that nothing is made by reading.
#[test]
fn a_mount_of_another_type_is_not_read() {
    let (operator, vault) = setting();
    vault.api(
        "POST",
        "sys/mounts/transit-odd",
        &json!({"type": "transit"}),
    );
    vault.api("POST", "transit-odd/keys/x", &json!({}));
    fails(
        &operator,
        "{ vault = \"transit-odd/keys/x#name\" }",
        "keys: x: transit-odd/keys/x: the mount is of the type transit, not key-value\n",
    );
}

/// Who says what is mounted needs nobody's answer to that: some put only the paths themselves into a policy's reach.
#[test]
fn the_manifest_can_say_which_engine_it_is() {
    let (mut operator, vault) = setting();
    vault.put("kv/engine", &json!({"f": "two"}));
    vault.put_v1("kv1/engine", &json!({"f": "one"}));
    let denied = "path \"sys/internal/ui/mounts/*\" { capabilities = [\"deny\"] }";
    let read = "path \"kv/data/engine\" { capabilities = [\"read\"] }\npath \"kv1/engine\" { capabilities = [\"read\"] }";
    vault.policy("blind", &format!("{read}\n{denied}"));
    operator.env("VAULT_TOKEN", vault.token("blind", "1h"));
    fails(
        &operator,
        "{ vault = \"kv/engine#f\" }",
        "keys: x: kv/engine: no mount `kv/`, or none that the token may use (403)\n",
    );
    reads(
        &operator,
        "{ vault = { path = \"kv/engine#f\", engine = 2 } }",
        b"two",
    );
    reads(
        &operator,
        "{ vault = { path = \"engine#f\", mount = \"kv1\", engine = 1 } }",
        b"one",
    );
    fails(
        &operator,
        "{ vault = { path = \"kv/engine#f\", engine = 1 } }",
        "keys: x: kv/engine: permission denied (403)\n",
    );
}

/// Reading changes nothing there: not the versions, not what people noted beside them.
#[test]
fn metadata_stays_as_it_is() {
    let (operator, vault) = setting();
    vault.put("kv/noted", &json!({"f": "x"}));
    vault.api(
        "POST",
        "kv/metadata/noted",
        &json!({"custom_metadata": {"owner": "alice"}, "max_versions": 7}),
    );
    let before = vault.api("GET", "kv/metadata/noted", &Value::Null)["data"].clone();
    reads(&operator, "{ vault = \"kv/noted#f\" }", b"x");
    assert_eq!(
        vault.api("GET", "kv/metadata/noted", &Value::Null)["data"],
        before
    );
    assert_eq!(before["custom_metadata"], json!({"owner": "alice"}));
}
