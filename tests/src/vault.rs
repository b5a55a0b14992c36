//! A real Vault server in memory, with KV mounts, policies, tokens and `AppRole`s.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, ask};
use crate::{Operator, lab, wait_for};

/// The two versions of the KV engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvVersion {
    /// Without history.
    One,
    /// With versions; paths have `data/` after the mount.
    Two,
}

/// A running server, ended when dropped.
pub struct Vault {
    server: Child,
    address: String,
    root_token: String,
    unseal_key: String,
}

impl Vault {
    /// Starts a server of its own.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with these words: `-sealed`, `-tls-cert FILE`, `-tls-key FILE`, `-tls-client-ca FILE`.
    #[must_use]
    pub fn with(words: &[&str]) -> Self {
        let mut server = Command::new(lab::peer("vaultd"))
            .args(["-addr", "127.0.0.1:0"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("vaultd starts");
        let mut line = String::new();
        let stdout = server.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("vaultd says where it listens");
        let ready: Value = serde_json::from_str(&line).expect("vaultd says it in JSON");
        let field = |name: &str| ready[name].as_str().expect("a text").to_owned();
        Self {
            server,
            address: field("addr"),
            root_token: field("root_token"),
            unseal_key: field("unseal_key"),
        }
    }

    /// Returns the server that cases of this run share, with a KV of each version at `kv1` and `kv`. Paths are the
    /// caller's own to choose: put what no one else would.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Vault> = OnceLock::new();
        SERVER.get_or_init(|| {
            let vault = Self::start();
            vault.mount_kv("kv1", KvVersion::One);
            vault.mount_kv("kv", KvVersion::Two);
            vault
        })
    }

    /// Returns its address, with the scheme.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the line of `[vault]` that leads here.
    #[must_use]
    pub fn line(&self) -> String {
        format!("address = \"{}\"", self.address)
    }

    /// Returns the key share that unseals it.
    #[must_use]
    pub fn unseal_key(&self) -> &str {
        &self.unseal_key
    }

    /// Returns whether it takes this token.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        let body = json!({"token": token});
        self.ask("POST", "auth/token/lookup", &body).status == 200
    }

    /// Returns how many tokens there are.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let found = self.api("LIST", "auth/token/accessors", &Value::Null);
        found["data"]["keys"].as_array().map_or(0, Vec::len)
    }

    /// Returns the token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Asks its API as root, and panics unless it succeeds. A body of null is none.
    #[expect(
        clippy::must_use_candidate,
        reason = "it is mostly called for what it does"
    )]
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        let Answer { status, body } = answer;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {body}"
        );
        body
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let address = self
            .address
            .strip_prefix("http://")
            .expect("only plain servers are asked");
        ask(
            address,
            (method, &format!("/v1/{path}")),
            &self.root_token,
            body,
        )
    }

    /// Writes an empty object to `path` as root, and returns the token that the answer is wrapped in for `ttl`.
    #[must_use]
    pub fn wrapped(&self, path: &str, ttl: &str) -> String {
        let address = self.address.trim_start_matches("http://");
        let line = ("POST", &*format!("/v1/{path}"));
        // One more line of the head, after the token's.
        let token = format!("{}\r\nX-Vault-Wrap-TTL: {ttl}", self.root_token);
        let answer = ask(address, line, &token, &json!({"a": "b"}));
        text(&answer.body["wrap_info"]["token"])
    }

    /// Mounts a KV engine and waits until it answers: version 2 takes a second.
    pub fn mount_kv(&self, mount: &str, version: KvVersion) {
        let number = match version {
            KvVersion::One => "1",
            KvVersion::Two => "2",
        };
        let body = json!({"type": "kv", "options": {"version": number}});
        self.api("POST", &format!("sys/mounts/{mount}"), &body);
        let probe = match version {
            KvVersion::One => format!("{mount}/probe"),
            KvVersion::Two => format!("{mount}/data/probe"),
        };
        wait_for("a KV mount", Duration::from_secs(20), || {
            (self.ask("GET", &probe, &Value::Null).status == 404).then_some(())
        });
    }

    /// Puts fields at `MOUNT/PATH` of a KV of version 2.
    pub fn put(&self, path: &str, fields: &Value) {
        let (mount, rest) = path.split_once('/').expect("a mount and a path");
        self.api(
            "POST",
            &format!("{mount}/data/{rest}"),
            &json!({"data": fields}),
        );
    }

    /// Puts fields at `MOUNT/PATH` of a KV of version 1.
    pub fn put_v1(&self, path: &str, fields: &Value) {
        self.api("POST", path, fields);
    }

    /// Writes a policy in Vault's own language.
    pub fn policy(&self, name: &str, text: &str) {
        self.api(
            "PUT",
            &format!("sys/policies/acl/{name}"),
            &json!({"policy": text}),
        );
    }

    /// Makes a token with one policy that lives for `ttl`, such as `1h`.
    #[must_use]
    pub fn token(&self, policy: &str, ttl: &str) -> String {
        let body = json!({"policies": [policy], "ttl": ttl});
        text(&self.api("POST", "auth/token/create", &body)["auth"]["client_token"])
    }

    /// Makes an AppRole with one policy, and returns its role id and a secret id. Call it once a server and name.
    #[must_use]
    pub fn approle(&self, name: &str, policy: &str) -> (String, String) {
        // Mounted already is as good.
        let mounted = self.ask("POST", "sys/auth/approle", &json!({"type": "approle"}));
        assert!(
            matches!(mounted.status, 204 | 400),
            "sys/auth/approle: {}",
            mounted.body
        );
        let role = format!("auth/approle/role/{name}");
        self.api("POST", &role, &json!({"token_policies": [policy]}));
        let role_id = self.api("GET", &format!("{role}/role-id"), &Value::Null);
        let secret_id = self.api("POST", &format!("{role}/secret-id"), &json!({}));
        (
            text(&role_id["data"]["role_id"]),
            text(&secret_id["data"]["secret_id"]),
        )
    }

    /// Seals it: from now on it answers 503.
    pub fn seal(&self) {
        self.api("PUT", "sys/seal", &json!({}));
    }

    /// Unseals it.
    pub fn unseal(&self) {
        self.api("PUT", "sys/unseal", &json!({"key": self.unseal_key}));
    }

    /// Lets it write an audit log to `path` from now on, a JSON object a line; values in it are HMACs.
    pub fn audit(&self, path: &str) {
        let body = json!({"type": "file", "options": {"file_path": path}});
        self.api("PUT", "sys/audit/file", &body);
    }
}

/// Writes a manifest of an operator: these lines in `[vault]`, the host pigeon, and a key of it from each source.
pub fn vault_manifest(operator: &Operator, vault: &str, sources: &[(&str, &str)]) {
    let keys: Vec<String> = sources
        .iter()
        .map(|(name, source)| format!("[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {source}\n"))
        .collect();
    operator.manifest(&format!(
        "id = \"lab\"\n[vault]\n{vault}\n[hosts.pigeon]\n{}",
        keys.concat()
    ));
}

impl Drop for Vault {
    fn drop(&mut self) {
        if let Err(e) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("vaultd: {e}");
        }
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text was expected: {value}"))
        .to_owned()
}
