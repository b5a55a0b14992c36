/// Kept in Vault: other fields stay, and what another one wrote first is taken.
#[test]
fn vault_keeps_what_is_made_and_what_was_there() {
    let vault = Vault::start();
    vault.mount_kv("kv", KvVersion::Two);
    vault.mount_kv("old", KvVersion::One);
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.env("VAULT_TOKEN", vault.root_token());
    let manifest = |keys: &str| {
        operator.manifest(&format!(
            "id = \"lab\"\n[vault]\naddress = \"{}\"\n[hosts.pigeon]\n[hosts.pigeon.keys]\n{keys}\n",
            vault.address()
        ));
    };
    vault.put("kv/web", &json!({"other": "stays"}));
    let key = |name: &str, path: &str| {
        format!(
            "{name}.source.generate = {{ kind = \"diceware\", store = {{ vault = \"{path}#{name}\" }} }}\n"
        )
    };
    manifest(
        &[
            key("a", "kv/web"),
            key("b", "kv/web"),
            key("c", "kv/new/deep"),
        ]
        .concat(),
    );
    let _sent = operator.send("").succeeded();
    let fields = |path: &str| vault.api("GET", path, &Value::Null)["data"]["data"].clone();
    assert_eq!(
        fields("kv/data/web"),
        json!({"other": "stays", "a": sent(&host, "a"), "b": sent(&host, "b")})
    );
    assert_eq!(fields("kv/data/new/deep"), json!({"c": sent(&host, "c")}));
    let before = sent(&host, "a");
    let _sent = operator.send("").succeeded();
    assert_eq!(sent(&host, "a"), before);
    // Deleted is not absent, and forbidden, sealed or gone is not, either.
    vault.api("DELETE", "kv/data/new/deep", &Value::Null);
    let _ran = operator.send("").exited(6).said("was deleted");
    manifest(&key("d", "old/web"));
    let _ran = operator
        .send("")
        .exited(6)
        .said("a KV v1 mount cannot say who wrote first");
    manifest(&key("e", "kv/web"));
    vault.policy(
        "reader",
        "path \"kv/data/web\" { capabilities = [\"read\"] }",
    );
    operator.env("VAULT_TOKEN", vault.token("reader", "1h"));
    let _ran = operator.send("").exited(6).said("permission denied");
    vault.seal();
    let _ran = operator.send("").exited(6).said("sealed");
    vault.unseal();
    assert_eq!(fields("kv/data/web")["e"], Value::Null);
}
