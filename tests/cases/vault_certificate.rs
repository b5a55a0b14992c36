//! G9: who logs in with a certificate, and to whom: a server that proves itself by the name that is wanted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use keys_tests::{Operator, Ran, Vault, vault_manifest};
use serde_json::{Value, json};

/// An operator with certificates, and a server whose certificate names `vault.lab` and not its address.
fn setting() -> (Operator, Vault) {
    let operator = Operator::new();
    let mut make = Command::new("sh");
    make.args(["-c", CERTIFICATES]);
    make.current_dir(operator.path(""));
    let _made = operator.ran(make).succeeded();
    let path = |name: &str| operator.path(name).display().to_string();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let vault = Vault::with(&["-tls-cert", &cert, "-tls-key", &key, "-tls-client-ca", &ca]);
    let authority = fs::read_to_string(&ca).unwrap();
    let policy = "path \"kv1/*\" { capabilities = [\"read\"] }";
    let role = json!({"certificate": authority, "token_policies": ["one"]});
    for (path, body) in [
        ("sys/mounts/kv1", json!({"type": "kv"})),
        ("kv1/a", json!({"f": "by certificate"})),
        ("sys/policies/acl/one", json!({"policy": policy})),
        ("sys/auth/cert", json!({"type": "cert"})),
        ("auth/cert/certs/operator", role),
    ] {
        by_tls(&vault, path, &body);
    }
    (operator, vault)
}

const SOURCE: [(&str, &str); 1] = [("x", "{ vault = \"kv1/a#f\" }")];

#[test]
fn a_certificate_logs_in() {
    let (operator, vault) = setting();
    let with = |lines: &str| {
        let name = "ca_file = \"ca.pem\"\ntls_server_name = \"vault.lab\"";
        let lines = format!("{}\n{name}\n{lines}", vault.line());
        vault_manifest(&operator, &lines, &SOURCE);
    };
    let files = "client_cert_file = \"client.pem\"\nclient_key_file = \"client.key\"";
    for role in ["{ role = \"operator\" }", "{}"] {
        with(&format!("{files}\nauth.cert = {role}"));
        let ran = operator.keys("get x").succeeded();
        assert_eq!(ran.stdout, b"by certificate", "{ran}");
    }
    with("auth.cert = {}");
    fails(
        &operator,
        "log in at auth/cert: Vault refused the client certificate\n",
    );
    with("client_cert_file = \"client.pem\"\nauth.cert = {}");
    fails(&operator, "a client certificate and its key go together\n");
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(operator.path("client.key"), readable).unwrap();
    with(&format!("{files}\nauth.cert = {{}}"));
    fails(&operator, "others may read it (mode 0644)\n");
}

#[test]
fn a_server_is_known_by_the_name_that_is_wanted() {
    let (mut operator, vault) = setting();
    operator.env("VAULT_TOKEN", vault.root_token());
    vault_manifest(
        &operator,
        &format!("{}\nca_file = \"ca.pem\"", vault.line()),
        &SOURCE,
    );
    fails(&operator, "certificate");
    operator.env("VAULT_TLS_SERVER_NAME", "vault.lab");
    let _same = operator.keys("get x").succeeded();
    operator.env("VAULT_TLS_SERVER_NAME", "127.0.0.1");
    fails(
        &operator,
        "the TLS server name is no host name: 127.0.0.1\n",
    );
    operator.env("VAULT_TLS_SERVER_NAME", "vault.lab");
    // A folder of authorities does as well as a file.
    vault_manifest(&operator, &vault.line(), &SOURCE);
    fails(&operator, "certificate");
    fs::create_dir(operator.path("authorities")).unwrap();
    fs::copy(
        operator.path("ca.pem"),
        operator.path("authorities/one.pem"),
    )
    .unwrap();
    let folder = operator.path("authorities");
    operator.env("VAULT_CAPATH", folder);
    let _same = operator.keys("get x").succeeded();
}

const CERTIFICATES: &str = r#"
set -e
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=ca -days 2
sign() {
    openssl req $new -keyout $1.key -out $1.csr -subj /CN=$1
    printf '%s\n' "subjectAltName=$2" "extendedKeyUsage=$3" >$1.ext
    openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile $1.ext -days 2 -out $1.pem
}
sign server DNS:vault.lab serverAuth
sign client DNS:operator clientAuth
chmod 600 client.key
"#;

/// Asks a server with TLS, without looking who it is.
fn by_tls(vault: &Vault, path: &str, body: &Value) {
    let address = vault.address().trim_start_matches("https://");
    let body = body.to_string();
    let request = format!(
        "POST /v1/{path} HTTP/1.1\r\nHost: {address}\r\nX-Vault-Token: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        vault.root_token(),
        body.len()
    );
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", address]);
    let _put = Ran::of(command, request.as_bytes()).printed("HTTP/1.1 20");
}

fn fails(operator: &Operator, said: &str) {
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}
