//! Secret ids for services: a new one for a host that lacks its key, and never because somebody asked what is there.

use keys_tests::{Operator, Sshd, Vault, vault_manifest};
use serde_json::{Value, json};

/// A host, its operator, and a role whose secret ids can be counted.
struct Setting {
    operator: Operator,
    host: Sshd,
    vault: Vault,
}

impl Setting {
    fn new() -> Self {
        let vault = Vault::start();
        let (_role, _first) = vault.approle("web", "default");
        let host = Sshd::start("pigeon");
        let mut operator = Operator::of(&host);
        operator.env("VAULT_TOKEN", vault.root_token());
        operator.write("other", "1");
        let here = Self {
            operator,
            host,
            vault,
        };
        here.manifest("role = \"web\", wrap_ttl = \"5m\"");
        here
    }

    fn manifest(&self, fields: &str) {
        let source = format!("{{ vault_secret_id = {{ {fields} }} }}");
        vault_manifest(
            &self.operator,
            &self.vault.line(),
            &[("web-login", &source), ("other", "{ file = \"other\" }")],
        );
    }

    /// How many secret ids there are, but for the first.
    fn made(&self) -> usize {
        let found = self
            .vault
            .api("LIST", "auth/approle/role/web/secret-id", &Value::Null);
        found["data"]["keys"].as_array().unwrap().len() - 1
    }

    fn there(&self) -> String {
        String::from_utf8(self.host.inside().read("/run/keys/web-login")).unwrap()
    }
}

#[test]
fn a_secret_id_is_made_where_it_is_missing_and_not_again() {
    let here = Setting::new();
    let both = "pigeon: other: new\npigeon: web-login: new\n";
    let ran = here.operator.keys("plan").exited(2);
    assert_eq!(ran.text(), both, "{ran}");
    let _asked = here.operator.keys("status --compare").exited(1);
    assert_eq!(here.made(), 0);
    let ran = here.operator.send("").succeeded();
    assert_eq!(ran.text(), both, "{ran}");
    assert_eq!(here.made(), 1);
    let first = here.there();
    for _ in 0..2 {
        let ran = here.operator.send("").succeeded();
        assert_eq!(ran.text(), "", "{ran}");
    }
    let _asked = here.operator.keys("plan").succeeded();
    let _asked = here.operator.keys("status --compare").succeeded();
    here.operator.write("other", "2");
    let ran = here.operator.send("").succeeded();
    assert_eq!(ran.text(), "pigeon: other: changed (content)\n", "{ran}");
    assert_eq!((here.made(), here.there()), (1, first.clone()));
    let ran = here.operator.send("--renew").succeeded();
    assert_eq!(
        ran.text(),
        "pigeon: web-login: changed (content)\n",
        "{ran}"
    );
    assert_eq!(here.made(), 2);
    assert_ne!(here.there(), first);
}

/// As after a reboot, when nothing is there any more.
#[test]
fn a_host_that_lost_its_keys_gets_a_new_secret_id_of_its_own() {
    let here = Setting::new();
    let _first = here.operator.send("").succeeded();
    let gone = "rm -rf /run/keys/.gen.* /run/keys/.current /run/keys/other /run/keys/web-login";
    let _gone = here.host.inside().run(gone).succeeded();
    let ran = here.operator.send("").succeeded();
    assert_eq!(
        ran.text(),
        "pigeon: other: new\npigeon: web-login: new\n",
        "{ran}"
    );
    assert_eq!(here.made(), 2);
    let wrapping = here.there();
    let lookup = here
        .vault
        .api("POST", "sys/wrapping/lookup", &json!({"token": wrapping}));
    assert_eq!(
        lookup["data"]["creation_path"],
        json!("auth/approle/role/web/secret-id")
    );
    assert_eq!(lookup["data"]["creation_ttl"], json!(300));
    let opened = here
        .vault
        .api("POST", "sys/wrapping/unwrap", &json!({"token": wrapping}));
    let secret = json!({"secret_id": opened["data"]["secret_id"]});
    let known = here
        .vault
        .api("POST", "auth/approle/role/web/secret-id/lookup", &secret);
    assert_eq!(
        known["data"]["metadata"],
        json!({"host": "pigeon", "by": "keys"})
    );
}

#[test]
fn nobody_sees_or_shares_a_secret_id() {
    let here = Setting::new();
    let _shown = here
        .operator
        .keys("get web-login")
        .exited(64)
        .said("web-login: vault secret id of web is new each time\n");
    let _planned = here
        .operator
        .keys("plan --renew")
        .exited(64)
        .said("--renew makes new values, and a plan makes none");
    assert_eq!(here.made(), 0);
    let source = "{ vault_secret_id = { role = \"web\" } }";
    vault_manifest(
        &here.operator,
        &here.vault.line(),
        &[("a", source), ("b", source)],
    );
    let _shared =
        here.operator.send("").exited(64).said(
            "keys.b: on pigeon: a takes the same vault secret id of web, and it is for one\n",
        );
}

#[test]
fn a_secret_id_is_bound_as_the_manifest_says() {
    let here = Setting::new();
    here.manifest("role = \"web\", ttl = \"1h\", num_uses = 1, cidrs = [\"10.0.0.0/8\"]");
    let _sent = here.operator.send("").succeeded();
    let opened = here.vault.api(
        "POST",
        "sys/wrapping/unwrap",
        &json!({"token": here.there()}),
    );
    let secret = json!({"secret_id": opened["data"]["secret_id"]});
    let known = here
        .vault
        .api("POST", "auth/approle/role/web/secret-id/lookup", &secret);
    assert_eq!(known["data"]["cidr_list"], json!(["10.0.0.0/8"]));
    assert_eq!(known["data"]["token_bound_cidrs"], json!(["10.0.0.0/8"]));
    assert_eq!(
        (
            &known["data"]["secret_id_ttl"],
            &known["data"]["secret_id_num_uses"]
        ),
        (&json!(3600), &json!(1))
    );
    here.manifest("role = \"none\"");
    let _unknown = here
        .operator
        .send("--renew")
        .exited(6)
        .said("vault secret id of none: ");
}
