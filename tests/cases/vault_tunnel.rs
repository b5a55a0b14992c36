//! A Vault behind a host that only ssh reaches: the way there is opened, checked and closed like one to any host.

use std::fs;
use std::process::Command;

use keys_tests::{Operator, Sshd, Tap, Vault, vault_manifest};
use serde_json::json;

const SOURCE: [(&str, &str); 1] = [("x", "{ vault = \"kv/tunnel#f\" }")];

/// An operator who knows the bastion, and a folder for what a run leaves there.
fn setting(bastion: &Sshd) -> Operator {
    let vault = Vault::shared();
    vault.put("kv/tunnel", &json!({"f": "through"}));
    let mut operator = Operator::of(bastion);
    let runtime = operator.path("runtime");
    fs::create_dir(&runtime).unwrap();
    operator
        .env("VAULT_TOKEN", vault.root_token())
        .env("XDG_RUNTIME_DIR", runtime);
    operator
}

#[test]
fn a_vault_behind_a_bastion_is_reached_by_one_login() {
    let bastion = Sshd::start("bastion");
    let mut operator = setting(&bastion);
    let tap = Tap::on(&mut operator);
    let lines = format!("{}\ntunnel = \"bastion\"", Vault::shared().line());
    let source: Vec<(String, String)> = (0..5)
        .map(|key| (format!("x{key}"), "{ vault = \"kv/tunnel#f\" }".to_owned()))
        .collect();
    let mut sources: Vec<(&str, &str)> = source
        .iter()
        .map(|(key, source)| (&**key, &**source))
        .collect();
    sources.extend(SOURCE);
    vault_manifest(&operator, &lines, &sources);
    let ran = operator.keys("get x").succeeded();
    assert_eq!(ran.stdout, b"through", "{ran}");
    let calls = tap.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let words = calls[0].join(" ");
    for option in [
        "StrictHostKeyChecking=yes",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "-W 127.0.0.1:",
        "-- bastion",
    ] {
        assert!(words.contains(option), "{option} in {words}");
    }
    assert!(
        !words.contains("hvs.") && !tap.said().contains("known-host"),
        "{words}"
    );
    let left: Vec<_> = fs::read_dir(operator.path("runtime")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// TLS is checked from end to end, against the address and not against the way there.
#[test]
fn tls_goes_through_it_and_names_the_address() {
    let bastion = Sshd::start("bastion");
    let operator = setting(&bastion);
    let mut make = Command::new("sh");
    make.args(["-c", CERTIFICATES])
        .current_dir(operator.path(""));
    let _made = operator.ran(make).succeeded();
    let path = |name: &str| operator.path(name).display().to_string();
    for (name, code) in [("right", 6), ("other", 6)] {
        let vault = Vault::with(&[
            "-tls-cert",
            &path(&format!("{name}.pem")),
            "-tls-key",
            &path("server.key"),
        ]);
        let lines = format!(
            "{}\nca_file = \"ca.pem\"\ntunnel = \"bastion\"",
            vault.line()
        );
        vault_manifest(&operator, &lines, &SOURCE);
        // The token is another server's: that the server says so means that it was reached.
        let said = if name == "right" {
            "Vault does not know the token"
        } else {
            "certificate"
        };
        let _ran = operator.keys("get x").exited(code).said(said);
    }
}

const CERTIFICATES: &str = r#"
set -e
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=ca -days 2
openssl req $new -keyout server.key -out server.csr -subj /CN=server
sign() {
    echo "subjectAltName=$2" >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile server.ext -days 2 -out $1.pem
}
sign right IP:127.0.0.1
sign other DNS:bastion
"#;

#[test]
fn a_bastion_that_is_not_the_one_carries_nothing() {
    let bastion = Sshd::start("bastion");
    let operator = setting(&bastion);
    let lines = |more: &str| {
        let lines = format!("{}\ntunnel = \"bastion\"\n{more}", Vault::shared().line());
        vault_manifest(&operator, &lines, &SOURCE);
    };
    lines(&format!(
        "tunnel_host_key = \"{}\"",
        bastion.tree().host_key().trim()
    ));
    let _pinned = operator.keys("get x").succeeded();
    lines(
        "tunnel_host_key = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhTYMbzKBShLWqXYzPEgYmQovDbOofeeZKD06RnHC3q\"",
    );
    let ran = operator
        .keys("get x")
        .exited(6)
        .said("the tunnel through bastion: Host key verification failed.");
    let _ran = ran.said("hint: compare the fingerprint with the host's own: ");
    lines("");
    fs::write(operator.ssh("known_hosts"), "").unwrap();
    let _unknown = operator
        .keys("get x")
        .exited(6)
        .said("the tunnel through bastion: Host key verification failed.");
    // A host that forwards nothing says so.
    let mut operator = setting(&bastion);
    operator.knows(&bastion);
    bastion.tree().write(
        "/etc/ssh/sshd_lab",
        "HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPidFile none\nAllowTcpForwarding no\n",
        0o600,
    );
    let lines = format!("{}\ntunnel = \"bastion\"", Vault::shared().line());
    vault_manifest(&operator, &lines, &SOURCE);
    let _refused = operator
        .keys("get x")
        .exited(6)
        .said("the tunnel through bastion: ")
        .said("AllowTcpForwarding");
}
