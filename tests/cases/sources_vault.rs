//! G: secrets from a real Vault, and what becomes of a run where one of them cannot be had.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use keys_tests::{KvVersion, LIMIT, Operator, Port, Ran, Sshd, Tap, Vault, lab, wait_for};
use serde_json::{Value, json};

/// An operator of `pigeon` who reads from a Vault.
struct Setting {
    vault: Reference,
    operator: Operator,
}

enum Reference {
    Shared(&'static Vault),
    Own(Vault),
}

impl Setting {
    fn new() -> Self {
        Self::of(Reference::Shared(Vault::shared()))
    }

    /// With a server that can be sealed and audited.
    fn alone() -> Self {
        let vault = Vault::start();
        vault.mount_kv("kv", KvVersion::Two);
        Self::of(Reference::Own(vault))
    }

    fn of(vault: Reference) -> Self {
        let mut operator = Operator::new();
        let token = match &vault {
            Reference::Shared(vault) => vault.root_token(),
            Reference::Own(vault) => vault.root_token(),
        };
        operator.env("VAULT_TOKEN", token);
        Self { vault, operator }
    }

    fn vault(&self) -> &Vault {
        match &self.vault {
            Reference::Shared(vault) => vault,
            Reference::Own(vault) => vault,
        }
    }

    /// Writes a manifest with these lines in `[vault]`, and these sources.
    fn manifest(&self, vault: &str, sources: &[(&str, &str)]) {
        self.manifest_at(self.vault().address(), vault, sources);
    }

    fn manifest_at(&self, address: &str, vault: &str, sources: &[(&str, &str)]) {
        let mut text =
            format!("id = \"lab\"\n[vault]\naddress = \"{address}\"\n{vault}\n[hosts.pigeon]\n");
        for (name, source) in sources {
            text += &format!("[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {source}\n");
        }
        self.operator.manifest(&text);
    }

    /// Writes a manifest with the one key `x` from there.
    fn from(&self, source: &str) {
        self.manifest("", &[("x", source)]);
    }

    fn get(&self) -> Ran {
        self.operator.keys("get x")
    }

    fn gets(&self, value: impl AsRef<[u8]>) {
        let ran = self.get().succeeded();
        assert_eq!(ran.stdout, value.as_ref(), "{ran}");
    }

    fn fails(&self, said: &str) {
        let ran = self.get().exited(6).said(said);
        assert_eq!(ran.stdout, b"", "{ran}");
    }
}

#[test]
fn every_way_to_log_in_reads_both_versions_of_kv() {
    let mut here = Setting::new();
    let vault = here.vault();
    vault.put("kv/login", &json!({"f": "two"}));
    vault.put_v1("kv1/login", &json!({"f": "one"}));
    vault.policy("login", "path \"kv/data/login\" { capabilities = [\"read\"] }\npath \"kv1/login\" { capabilities = [\"read\"] }");
    let token = vault.token("login", "1h");
    let (role, secret) = vault.approle("login", "login");
    here.operator.write("token", format!("{token}\n"));
    here.operator.write("role-id", format!("{role}\n"));
    here.operator.write("secret-id", format!("{secret}\n"));
    here.operator.env("VAULT_TOKEN", "");
    let check = |here: &Setting, auth: &str| {
        for (path, value) in [("kv/login", "two"), ("kv1/login", "one")] {
            here.manifest(auth, &[("x", &format!("{{ vault = \"{path}#f\" }}"))]);
            here.gets(value);
        }
    };
    check(&here, "auth = { token_file = \"token\" }");
    check(
        &here,
        "auth = { approle = { role_id_file = \"role-id\", secret_id_file = \"secret-id\" } }",
    );
    check(
        &here,
        &format!(
            "auth = {{ approle = {{ role_id = \"{role}\", secret_id_command = [\"cat\", \"secret-id\"] }} }}"
        ),
    );
    here.from("{ vault = \"kv/login#f\" }");
    here.fails("keys: x: no Vault token\nkeys: hint: `vault login`, or set VAULT_TOKEN, or `auth` under [vault]\n");
    here.operator.env("VAULT_TOKEN", &token);
    check(&here, "");
    here.operator.env("VAULT_TOKEN", "");
    fs::copy(
        here.operator.path("token"),
        here.operator.home().join(".vault-token"),
    )
    .unwrap();
    check(&here, "");
}

/// G7: as `vault kv get -field` has it, without a newline of our own.
#[test]
fn a_value_is_the_one_that_was_put() {
    let here = Setting::new();
    let large = "0123456789abcdef".repeat(1 << 16);
    here.vault().put("kv/values", &json!({
        "text": "a\r\n\u{0}\u{1f}ü\u{1f511}\"\\</script>", "empty": "", "newline": "\n", "number": 12, "float": 1.5,
        "yes": true, "base64": "AAEC/w==", "large": large, "in": {"ner": {"a/b": "deep"}}, "list": [1], "null": null,
    }));
    let check = |field: &str, value: &str| {
        here.from(&format!("{{ vault = \"kv/values#{field}\" }}"));
        here.gets(value);
    };
    check("text", "a\r\n\u{0}\u{1f}ü\u{1f511}\"\\</script>");
    check("empty", "");
    check("newline", "\n");
    check("number", "12");
    check("float", "1.5");
    check("yes", "true");
    check("base64", "AAEC/w==");
    check("large", &large);
    here.from("{ vault = { path = \"kv/values\", field = [\"in\", \"ner\", \"a/b\"] } }");
    here.gets("deep");
    for (field, said) in [
        (
            "in",
            "keys: x: field `in` is a table at kv/values\nkeys: hint: fields in it: ner\n",
        ),
        ("list", "field `list` is a list at kv/values\n"),
        (
            "nul",
            "no field `nul` at kv/values\nkeys: hint: fields there: base64, empty, float, in, large, list, newline, null, number, text, yes\n",
        ),
        ("null", "no field `null` at kv/values\n"),
        ("text/x", "field `text` holds no fields at kv/values\n"),
    ] {
        here.from(&format!("{{ vault = \"kv/values#{field}\" }}"));
        here.fails(said);
    }
}

/// G6: each its message, and none of them means that the key is not wanted any more.
#[test]
fn what_is_not_there_says_why_and_removes_nothing() {
    let mut here = Setting::new();
    let host = Sshd::start("pigeon");
    here.operator.knows(&host);
    let vault = here.vault();
    vault.policy("some", "path \"kv/data/*\" { capabilities = [\"read\"] }\npath \"kv/data/gone/denied\" { capabilities = [\"deny\"] }\npath \"kv1/*\" { capabilities = [\"read\"] }");
    for (path, value) in [
        ("kv/gone/fine", "1"),
        ("kv/gone/fine", "2"),
        ("kv/gone/deleted", "3"),
        ("kv/gone/destroyed", "4"),
        ("kv/gone/denied", "5"),
    ] {
        vault.put(path, &json!({"f": value}));
    }
    vault.put_v1("kv1/gone", &json!({"f": "6"}));
    vault.api("DELETE", "kv/data/gone/deleted", &Value::Null);
    vault.api(
        "POST",
        "kv/destroy/gone/destroyed",
        &json!({"versions": [1]}),
    );
    let token = vault.token("some", "1h");
    here.operator.env("VAULT_TOKEN", token);
    here.from("{ vault = \"kv/gone/fine#f\" }");
    let _sent = here.operator.send("").succeeded();
    let check = |source: &str, said: &str| {
        here.from(source);
        here.fails(said);
        let ran = here.operator.send("").exited(6).said(said);
        assert_eq!(host.inside().read("/run/keys/x"), b"2", "{ran}");
    };
    check(
        "{ vault = \"kv/gone/nothing#f\" }",
        ": x: kv/gone/nothing: nothing is there (404)\nkeys: hint: `vault kv list kv/` shows what is; a token may also not see it\n",
    );
    check(
        "{ vault = \"kv/data/gone/fine#f\" }",
        "keys: hint: `data/` is added for KV v2: say kv/gone/fine\n",
    );
    check(
        "{ vault = \"kv/gone/deleted#f\" }",
        ": x: kv/gone/deleted: version 1 was deleted at 20",
    );
    check(
        "{ vault = \"kv/gone/destroyed#f\" }",
        ": x: kv/gone/destroyed: version 1 was destroyed\nkeys: hint: nothing brings it back",
    );
    check(
        "{ vault = \"kv/gone/denied#f\" }",
        ": x: kv/gone/denied: permission denied (403)\nkeys: hint: the token's policies have no `read` on kv/data/gone/denied\n",
    );
    check(
        "{ vault = \"none/gone#f\" }",
        ": x: none/gone: no mount `none/`, or none that the token may use (403)\n",
    );
    check(
        "{ vault = { path = \"kv/gone/fine\", field = \"f\", version = 7 } }",
        "nothing is there (404)",
    );
    check(
        "{ vault = { path = \"kv1/gone\", field = \"f\", version = 1 } }",
        ": x: kv1/gone: a KV v1 mount keeps no versions\n",
    );
    here.from("{ vault = { path = \"kv/gone/fine\", field = \"f\", version = 1 } }");
    here.gets("1");
    // G8: a token that has run out.
    let short = here.vault().token("some", "1s");
    here.operator.env("VAULT_TOKEN", short);
    here.from("{ vault = \"kv/gone/fine#f\" }");
    wait_for("a token to run out", LIMIT, || {
        (here.get().code() == 6).then_some(())
    });
    here.fails("Vault does not know the token: expired, revoked, or from elsewhere (403)\n");
}

/// G5: nothing is sent to anyone, and every one that failed is listed.
#[test]
fn one_secret_of_twenty_that_fails_stops_the_run() {
    let mut here = Setting::new();
    let host = Sshd::start("pigeon");
    here.operator.knows(&host);
    let tap = Tap::on(&mut here.operator);
    let sources: Vec<(String, String)> = (0..20)
        .map(|number| {
            here.vault().put(
                &format!("kv/twenty/{number}"),
                &json!({"f": format!("old-{number}")}),
            );
            (
                format!("key{number:02}"),
                format!("{{ vault = \"kv/twenty/{number}#f\" }}"),
            )
        })
        .collect();
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    here.manifest("", &sources);
    let _sent = here.operator.send("").succeeded();
    let sessions = tap.calls().len();
    let vault = here.vault();
    vault.policy("nineteen", "path \"kv/data/twenty/*\" { capabilities = [\"read\"] }\npath \"kv/data/twenty/7\" { capabilities = [\"deny\"] }");
    let token = vault.token("nineteen", "1h");
    for number in 0..20 {
        vault.put(
            &format!("kv/twenty/{number}"),
            &json!({"f": format!("new-{number}")}),
        );
    }
    vault.api("DELETE", "kv/data/twenty/13", &Value::Null);
    here.operator.env("VAULT_TOKEN", token);
    for words in ["send", "plan", "status --compare"] {
        let ran = here.operator.keys(words).exited(6);
        let ran = ran
            .said("keys: pigeon: key07: kv/twenty/7: permission denied (403)\n")
            .said("keys: pigeon: key13: kv/twenty/13: version 2 was deleted at ");
        assert_eq!(tap.calls().len(), sessions, "{ran}");
    }
    let ran = here.operator.send("--keep-going").exited(3);
    let ran = ran
        .said("keys: pigeon: key07: kv/twenty/7: permission denied (403)\n")
        .said("keys: pigeon: key13: ")
        .printed("pigeon: key00: changed (content)\n");
    for number in 0..20 {
        let found = host.inside().read(&format!("/run/keys/key{number:02}"));
        let age = if [7, 13].contains(&number) {
            "old"
        } else {
            "new"
        };
        assert_eq!(found, format!("{age}-{number}").as_bytes(), "{ran}");
    }
}

/// G14: the server's own log shows one login and its end, and one read of each path that was listed, whatever the number of keys.
#[test]
fn each_path_is_read_once_and_nothing_else() {
    let mut here = Setting::alone();
    let hosts = [Sshd::start("pigeon"), Sshd::start("raven")];
    for host in &hosts {
        here.operator.knows(host);
    }
    let vault = here.vault();
    for path in ["kv/a", "kv/b", "kv/not-listed"] {
        vault.put(path, &json!({"f": path, "g": "g", "h": "h"}));
    }
    vault.policy("all", "path \"kv/*\" { capabilities = [\"read\"] }");
    let (role, secret) = vault.approle("audit", "all");
    here.operator.write("secret-id", secret);
    let log = lab::folder().join("vault-audit.log");
    vault.audit(log.to_str().unwrap());
    let mut text = format!(
        "[vault]\naddress = \"{}\"\nauth = {{ approle = {{ role_id = \"{role}\", secret_id_file = \"secret-id\" }} }}\n[hosts.pigeon]\n[hosts.raven]\n",
        vault.address()
    );
    for (number, source) in [
        "kv/a#f",
        "kv/a#g",
        "kv/a#h",
        "kv/b#f",
        "kv/{host}#f",
        "kv/{host}#g",
    ]
    .into_iter()
    .enumerate()
    {
        text += &format!(
            "[keys.key{number}]\nhosts = [\"pigeon\", \"raven\"]\nsource = {{ vault = \"{source}\" }}\n"
        );
    }
    for path in ["kv/pigeon", "kv/raven"] {
        vault.put(path, &json!({"f": path, "g": "g"}));
    }
    let before = requests(&log).len();
    here.operator.manifest(&text);
    let _sent = here.operator.send("").succeeded();
    assert_eq!(hosts[1].inside().read("/run/keys/key4"), b"kv/raven");
    let asked = requests(&log).split_off(before);
    let mut reads: Vec<&str> = asked
        .iter()
        .map(String::as_str)
        .filter(|line| !line.contains("sys/internal/ui/mounts"))
        .collect();
    reads.sort_unstable();
    assert_eq!(
        reads,
        [
            "read kv/data/a",
            "read kv/data/b",
            "read kv/data/pigeon",
            "read kv/data/raven",
            "update auth/approle/login",
            "update auth/token/revoke-self",
        ]
    );
    assert_eq!(
        asked.len(),
        reads.len() + 1,
        "the mount is looked up once: {asked:?}"
    );
}

/// Returns what an audit log says was asked, as `OPERATION PATH`.
fn requests(log: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests = lines.filter(|line| line["type"] == "request");
    requests
        .map(|line| {
            let word = |name: &str| {
                line["request"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            format!("{} {}", word("operation"), word("path"))
        })
        .collect()
}

/// G2, G3
#[test]
fn a_sealed_or_absent_server_is_said_and_no_host_is_contacted() {
    let mut here = Setting::alone();
    let tap = Tap::dead(&mut here.operator);
    here.vault().put("kv/a", &json!({"f": "x"}));
    here.vault().seal();
    let check = |said: &str| {
        let ran = here.operator.send("").exited(6).said(said);
        assert_eq!(tap.calls().len(), 0, "{ran}");
        assert!(ran.took < Duration::from_secs(25), "{ran}");
    };
    here.from("{ vault = \"kv/a#f\" }");
    check(
        "it is sealed (503)\nkeys: hint: unseal it (`keys unseal`), then run this again; `--wait SECONDS` waits for that\n",
    );
    here.vault().unseal();
    here.gets("x");
    let closed = format!("http://127.0.0.1:{}", Port::closed());
    here.manifest_at(&closed, "", &[("x", "{ vault = \"kv/a#f\" }")]);
    check(&format!("vault at {closed}: "));
}

/// A server's port that notes what is said to it.
struct Noted {
    port: Port,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Noted {
    /// Answers everything with these bytes.
    fn answering(answer: String) -> Self {
        Self::with(move |mut stream, said| {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap_or_default();
            said.lock().unwrap().extend(&buffer[..read]);
            let _gone = stream.write_all(answer.as_bytes());
        })
    }

    /// Stands before a real server.
    fn before(address: &str) -> Self {
        let address = address.trim_start_matches("http://").to_owned();
        Self::with(move |mut stream, said| {
            let mut server = TcpStream::connect(&address).unwrap();
            let (mut answer, mut back) = (server.try_clone().unwrap(), stream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answer, &mut back));
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                said.lock().unwrap().extend(&buffer[..read]);
                server.write_all(&buffer[..read]).unwrap();
            }
        })
    }

    fn with(serve: impl Fn(TcpStream, &Mutex<Vec<u8>>) + Send + Sync + 'static) -> Self {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let (serve, notes) = (Arc::new(serve), Arc::clone(&said));
        let port = Port::serving(move |stream| {
            let (serve, notes) = (Arc::clone(&serve), Arc::clone(&notes));
            thread::spawn(move || serve(stream, &notes));
        });
        Self { port, said }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}

/// I-28: the token goes to the server that was named, and to none that it points to.
#[test]
fn a_redirect_is_not_followed() {
    let here = Setting::new();
    let other = Noted::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".into());
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let first = Noted::answering(format!(
            "HTTP/1.1 {status}\r\nLocation: {}/v1/kv/data/a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            other.address()
        ));
        here.manifest_at(&first.address(), "", &[("x", "{ vault = \"kv/a#f\" }")]);
        here.fails(&format!(
            "it points to {}/v1/kv/data/a, and the token goes nowhere else\n",
            other.address()
        ));
        assert!(
            first.said().contains("\r\nx-vault-token: hvs."),
            "{}",
            first.said()
        );
    }
    assert_eq!(other.said(), "");
}

/// G10: the namespace is a header; a proxy of the environment sees nothing of a server on this machine.
#[test]
fn requests_hold_the_namespace_and_go_to_no_proxy() {
    let mut here = Setting::new();
    here.vault().put("kv/header", &json!({"f": "x"}));
    let server = Noted::before(here.vault().address());
    let proxy = Noted::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".into());
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        here.operator.env(name, proxy.address());
    }
    let source = [("x", "{ vault = \"kv/header#f\" }")];
    let check = |here: &Setting, vault: &str, header: &str| {
        here.manifest_at(&server.address(), vault, &source);
        server.said.lock().unwrap().clear();
        let _got = here.get();
        assert_eq!(
            server.said().contains("\r\nx-vault-namespace: "),
            !header.is_empty()
        );
        assert!(server.said().contains(header), "{}", server.said());
        assert!(server.said().contains("\r\nx-vault-request: true\r\n"));
    };
    check(&here, "", "");
    here.gets("x");
    check(
        &here,
        "namespace = \"team/a/\"",
        "\r\nx-vault-namespace: team/a\r\n",
    );
    here.operator.env("VAULT_NAMESPACE", "other");
    check(&here, "", "\r\nx-vault-namespace: other\r\n");
    check(
        &here,
        "namespace = \"team/a\"",
        "\r\nx-vault-namespace: team/a\r\n",
    );
    assert_eq!(proxy.said(), "");
}

/// G12: a source can only be read, and only as it is written.
#[test]
fn paths_that_could_mean_something_else_are_refused() {
    let here = Setting::new();
    for path in [
        "kv/a/../b",
        "kv/./a",
        "kv//a",
        "/kv/a",
        "kv/a/",
        "kv/%2e%2e/a",
        "kv/a?version=1",
        "kv/a\\\\b",
        "kv/a\\nb",
        "sys/seal",
        "auth/token/lookup-self",
        "cubbyhole/a",
        "identity/a",
        "kv",
    ] {
        here.from(&format!("{{ vault = \"{path}#f\" }}"));
        let _refused = here.get().exited(64);
    }
    for source in ["kv/a#", "#f", "kv/a#f/", "kv/a#/f"] {
        here.from(&format!("{{ vault = \"{source}\" }}"));
        let _refused = here.get().exited(64);
    }
}

/// G13: a token that others can read is none.
#[test]
fn a_token_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut here = Setting::new();
    here.vault().put("kv/file", &json!({"f": "x"}));
    here.operator.write("token", here.vault().root_token());
    here.operator.env("VAULT_TOKEN", "");
    here.manifest(
        "auth = { token_file = \"token\" }",
        &[("x", "{ vault = \"kv/file#f\" }")],
    );
    here.gets("x");
    let token = here.operator.path("token");
    for mode in [0o640, 0o604, 0o620, 0o602] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        here.fails(&token.display().to_string());
    }
    let usual = here.operator.home().join(".vault-token");
    fs::rename(&token, &usual).unwrap();
    here.from("{ vault = \"kv/file#f\" }");
    here.fails(&usual.display().to_string());
    fs::set_permissions(&usual, fs::Permissions::from_mode(0o600)).unwrap();
    here.gets("x");
}

/// G8: a secret id that is used up fails the whole run.
#[test]
fn a_login_that_is_refused_fails_the_run() {
    let here = Setting::new();
    let vault = here.vault();
    vault.put("kv/once", &json!({"f": "x"}));
    vault.policy(
        "once",
        "path \"kv/data/once\" { capabilities = [\"read\"] }",
    );
    let (role, _many) = vault.approle("once", "once");
    let once = vault.api(
        "POST",
        "auth/approle/role/once/secret-id",
        &json!({"num_uses": 1}),
    );
    here.operator
        .write("secret-id", once["data"]["secret_id"].as_str().unwrap());
    here.manifest(
        &format!(
            "auth = {{ approle = {{ role_id = \"{role}\", secret_id_file = \"secret-id\" }} }}"
        ),
        &[("x", "{ vault = \"kv/once#f\" }")],
    );
    here.gets("x");
    here.fails("log in at auth/approle: Vault refused the role id or secret id\nkeys: hint: a secret id may have expired or been used up: make a new one\n");
}

/// Makes two authorities, and certificates of the first: a good one, one that ran out, and one for another address.
const CERTIFICATES: &str = r#"
set -e
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
for ca in ca other; do openssl req -x509 $new -keyout $ca.key -out $ca.pem -subj /CN=$ca -days 2; done
openssl req $new -keyout server.key -out server.csr -subj /CN=server
sign() {
    echo "subjectAltName=IP:$2" >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile server.ext -days $3 -out $1.pem
}
sign good 127.0.0.1 2
sign expired 127.0.0.1 -1
sign elsewhere 127.0.0.2 2
"#;

/// Asks a server with TLS, without looking who it is.
fn put_by_tls(vault: &Vault, path: &str, body: &Value) {
    let address = vault.address().trim_start_matches("https://");
    let body = body.to_string();
    let request = format!(
        "POST /v1/{path} HTTP/1.1\r\nHost: {address}\r\nX-Vault-Token: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        vault.root_token(),
        body.len()
    );
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", address]);
    let _put = Ran::of(command, request.as_bytes()).printed("HTTP/1.1 204 ");
}

/// G9: by the CA that is named, with date and address, and never in clear over a network.
#[test]
fn the_server_is_the_one_whose_certificate_is_trusted() {
    let mut here = Setting::new();
    let mut make = Command::new("sh");
    make.args(["-c", CERTIFICATES])
        .current_dir(here.operator.path(""));
    let _made = here.operator.ran(make).succeeded();
    let path = |name: &str| here.operator.path(name).display().to_string();
    let servers = ["good", "expired", "elsewhere"].map(|name| {
        Vault::with(&[
            "-tls-cert",
            &path(&format!("{name}.pem")),
            "-tls-key",
            &path("server.key"),
        ])
    });
    let [good, expired, elsewhere] = &servers;
    put_by_tls(good, "sys/mounts/kv1", &json!({"type": "kv"}));
    put_by_tls(good, "kv1/a", &json!({"f": "by TLS"}));
    here.operator.env("VAULT_TOKEN", good.root_token());
    let from = |vault: &Vault, lines: &str| {
        here.manifest_at(vault.address(), lines, &[("x", "{ vault = \"kv1/a#f\" }")]);
    };
    from(good, "ca_file = \"ca.pem\"");
    here.gets("by TLS");
    for (vault, lines) in [
        (good, ""),
        (good, "ca_file = \"other.pem\""),
        (expired, "ca_file = \"ca.pem\""),
        (elsewhere, "ca_file = \"ca.pem\""),
    ] {
        from(vault, lines);
        here.fails(&format!("vault at {}: ", vault.address()));
        assert!(here.get().stderr.contains("certificate"), "{}", here.get());
    }
    let path = here.operator.path("ca.pem");
    from(good, "");
    no_variable_turns_the_look_off(&here.operator, &path);
}

fn no_variable_turns_the_look_off(operator: &Operator, authority: &std::path::Path) {
    let mut command = operator.command(&["get", "x"]);
    command.env("VAULT_SKIP_VERIFY", "true");
    let refused = operator.ran(command).exited(6);
    let _early = refused.said("VAULT_SKIP_VERIFY is set, and certificates are always verified\n");
    let mut command = operator.command(&["get", "x"]);
    command.env("VAULT_CACERT", authority);
    let _trusted = operator.ran(command).succeeded();
}

/// G9: never in clear over a network, and no secret in an address.
#[test]
fn a_token_does_not_cross_a_network_in_clear() {
    let here = Setting::new();
    for address in [
        "http://vault.invalid:8200",
        "http://10.99.0.1:8200",
        "ftp://127.0.0.1",
        "127.0.0.1:8200",
        "https://user:hunter2@127.0.0.1",
        "https://127.0.0.1/?x",
    ] {
        here.manifest_at(address, "", &[("x", "{ vault = \"kv1/a#f\" }")]);
        let ran = here.get();
        assert!(
            matches!(ran.code(), 6 | 64) && !ran.stderr.contains("hunter2"),
            "{ran}"
        );
    }
}

/// G4: a server that allows few requests is asked again when it says so.
#[test]
fn a_busy_server_is_waited_for() {
    let here = Setting::alone();
    let vault = here.vault();
    let mut sources = Vec::new();
    for number in 0..16 {
        vault.put(
            &format!("kv/busy/{number}"),
            &json!({"f": number.to_string()}),
        );
        sources.push((
            format!("key{number}"),
            format!("{{ vault = \"kv/busy/{number}#f\" }}"),
        ));
    }
    vault.api(
        "POST",
        "sys/quotas/rate-limit/slow",
        &json!({"path": "kv/", "rate": 5}),
    );
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    here.manifest("", &sources);
    // Nobody to send to: that comes after the last source.
    let ran = here.operator.send("").exited(4);
    assert!(
        ran.took > Duration::from_secs(1),
        "there was no limit: {ran}"
    );
}
