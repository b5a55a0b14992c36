//! The NixOS modules, evaluated by a real Nix: their options, what they refuse, and the manifests that come out.
//!
//! `tests/nixos` holds the fixtures, and what stands in for nixpkgs, which cannot be had here.

use std::fs;
use std::sync::OnceLock;

use keys_tests::{Host, LIMIT, Nix, Operator, Release, Sops, Sshd, lab, wait_for};
use serde_json::{Value, json};

/// All fixtures, evaluated once for all cases.
fn evaluated() -> &'static Value {
    static EVALUATED: OnceLock<Value> = OnceLock::new();
    EVALUATED.get_or_init(|| {
        let ran = Nix::new()
            .evaluate("/src/tests/nixos/default.nix")
            .succeeded();
        println!("evaluated in {:?}", ran.took);
        serde_json::from_slice(&ran.stdout).expect("Nix writes JSON")
    })
}

fn fixture(name: &str) -> &'static Value {
    let found = &evaluated()["fixtures"][name];
    assert!(found.is_object(), "no fixture {name}");
    found
}

/// Returns the keys of the one host of a fixture.
fn keys(name: &str) -> &'static Value {
    &fixture(name)["manifest"]["hosts"]["pigeon"]["keys"]
}

/// Options of others' declarations, with what they must be: name, type, default.
const RELIED_ON: &[(&str, &str, &str)] = &[
    ("deployment.keys", "attribute set of (submodule)", "{}"),
    (
        "deployment.keys.<name>.name",
        "string",
        "the attribute's name",
    ),
    ("deployment.keys.<name>.text", "null or string", "null"),
    (
        "deployment.keys.<name>.keyCommand",
        "null or (list of string)",
        "null",
    ),
    (
        "deployment.keys.<name>.keyFile",
        "null or absolute path",
        "null",
    ),
    (
        "deployment.keys.<name>.destDir",
        "absolute path",
        "\"/run/keys\"",
    ),
    (
        "deployment.keys.<name>.path",
        "absolute path",
        "DESTDIR/NAME",
    ),
    ("deployment.keys.<name>.user", "string", "\"root\""),
    ("deployment.keys.<name>.group", "string", "\"root\""),
    ("deployment.keys.<name>.permissions", "string", "\"0600\""),
    (
        "deployment.keys.<name>.uploadAt",
        "one of \"pre-activation\", \"post-activation\"",
        "\"pre-activation\"",
    ),
    (
        "deployment.keys.<name>.service",
        "string",
        "NAME-key.service",
    ),
    (
        "deployment.keys.<name>.environment",
        "attribute set of string",
        "{}",
    ),
    ("sops.secrets", "attribute set of (submodule)", "{}"),
    ("sops.templates", "attribute set of (submodule)", "{}"),
    ("sops.placeholder", "attribute set of string", "{}"),
    ("sops.defaultSopsFile", "absolute path", ""),
    ("sops.defaultSopsFormat", "string", "\"yaml\""),
    ("sops.defaultSopsKey", "null or string", "null"),
    ("sops.validateSopsFiles", "boolean", "true"),
    ("sops.keepGenerations", "unsigned integer, meaning >=0", "1"),
    (
        "sops.log",
        "list of (one of \"keyImport\", \"secretChanges\")",
        "[\"keyImport\",\"secretChanges\"]",
    ),
    (
        "sops.environment",
        "attribute set of (string or absolute path)",
        "{}",
    ),
    ("sops.package", "package", ""),
    ("sops.validationPackage", "package", ""),
    ("sops.useTmpfs", "boolean", "false"),
    (
        "sops.useSystemdActivation",
        "boolean",
        "whether sysusers or userborn is used",
    ),
    ("sops.age.keyFile", "null or absolute path", "null"),
    ("sops.age.plugins", "list of package", "[]"),
    ("sops.age.generateKey", "boolean", "false"),
    (
        "sops.age.sshKeyPaths",
        "list of absolute path",
        "the ed25519 host keys of sshd",
    ),
    ("sops.gnupg.home", "null or string", "null"),
    (
        "sops.gnupg.sshKeyPaths",
        "list of absolute path",
        "the RSA host keys of sshd",
    ),
    ("sops.gnupg.package", "package", ""),
    ("sops.secrets.<name>.name", "string", "the attribute's name"),
    (
        "sops.secrets.<name>.key",
        "string",
        "config.sops.defaultSopsKey, or the attribute's name",
    ),
    ("sops.secrets.<name>.path", "string", "/run/secrets/NAME"),
    (
        "sops.secrets.<name>.format",
        "one of \"yaml\", \"json\", \"binary\", \"dotenv\", \"ini\"",
        "config.sops.defaultSopsFormat",
    ),
    ("sops.secrets.<name>.mode", "string", "\"0400\""),
    ("sops.secrets.<name>.owner", "null or string", "null"),
    ("sops.secrets.<name>.uid", "null or signed integer", "0"),
    (
        "sops.secrets.<name>.group",
        "null or string",
        "the group of the owner",
    ),
    ("sops.secrets.<name>.gid", "null or signed integer", "0"),
    (
        "sops.secrets.<name>.sopsFile",
        "absolute path",
        "config.sops.defaultSopsFile",
    ),
    (
        "sops.secrets.<name>.sopsFileHash",
        "string",
        "the SHA-256 of the file",
    ),
    ("sops.secrets.<name>.restartUnits", "list of string", "[]"),
    ("sops.secrets.<name>.reloadUnits", "list of string", "[]"),
    ("sops.secrets.<name>.neededForUsers", "boolean", "false"),
    (
        "sops.templates.<name>.name",
        "string",
        "the attribute's name",
    ),
    (
        "sops.templates.<name>.path",
        "string",
        "/run/secrets/rendered/NAME",
    ),
    (
        "sops.templates.<name>.content",
        "strings concatenated with \"\\n\"",
        "\"\"",
    ),
    (
        "sops.templates.<name>.file",
        "absolute path",
        "a file that holds the content",
    ),
    ("sops.templates.<name>.mode", "string", "\"0400\""),
    ("sops.templates.<name>.owner", "null or string", "null"),
    ("sops.templates.<name>.uid", "null or signed integer", "0"),
    (
        "sops.templates.<name>.group",
        "null or string",
        "the group of the owner",
    ),
    ("sops.templates.<name>.gid", "null or signed integer", "0"),
    ("sops.templates.<name>.restartUnits", "list of string", "[]"),
    ("sops.templates.<name>.reloadUnits", "list of string", "[]"),
    ("age.secrets", "attribute set of (submodule)", "{}"),
    ("age.secrets.<name>.name", "string", "the attribute's name"),
    ("age.secrets.<name>.file", "absolute path", ""),
    ("age.secrets.<name>.path", "string", "/run/agenix/NAME"),
    ("age.secrets.<name>.mode", "string", "\"0400\""),
    ("age.secrets.<name>.owner", "string", "\"0\""),
    (
        "age.secrets.<name>.group",
        "string",
        "the group of the owner, or \"0\"",
    ),
    ("age.secrets.<name>.symlink", "boolean", "true"),
    ("age.ageBin", "string", "\"age\""),
    ("age.secretsDir", "absolute path", "\"/run/agenix\""),
    (
        "age.secretsMountPoint",
        "absolute path",
        "\"/run/agenix.d\"",
    ),
    (
        "age.identityPaths",
        "list of absolute path",
        "the RSA and ed25519 host keys of sshd",
    ),
];

#[test]
fn every_option_of_others_is_there_with_its_type_and_default() {
    let options = evaluated()["options"].as_array().expect("a list");
    for (name, kind, default) in RELIED_ON {
        let found = options.iter().find(|option| option["name"] == *name);
        let found = found.unwrap_or_else(|| panic!("no option {name}"));
        let there = (
            found["type"].as_str().unwrap_or_default(),
            found["default"].as_str().unwrap_or_default(),
        );
        assert_eq!(there, (*kind, *default), "{name}");
    }
}

/// The unit files, and who wants each.
const UNITS: [(&str, &[&str]); 4] = [
    ("keys-mount.service", &["sysinit.target"]),
    ("keys-agent.socket", &["sockets.target"]),
    ("keys-agent.service", &[]),
    ("keys-refused.service", &[]),
];
/// Where the fixtures' package has the agent.
const PROGRAM: &str = "/nix/store/00000000000000000000000000000000-keys-agent/bin/keys-agent";

#[test]
fn a_host_has_the_units_that_are_installed_elsewhere() {
    let host = fixture("agent");
    for (name, wanted_by) in UNITS {
        let path = lab::source().join("agent/systemd").join(name);
        let text = fs::read_to_string(path).expect("a unit of ours");
        assert!(text.contains("/usr/local/bin/keys-agent") || !name.ends_with("service"));
        let text = text.replace("/usr/local/bin/keys-agent", PROGRAM);
        assert_eq!(host["units"][name]["text"], text, "{name}");
        assert_eq!(host["units"][name]["wantedBy"], json!(wanted_by), "{name}");
    }
    let line = fs::read_to_string(lab::source().join("agent/systemd/zz-keys-tmpfiles.conf"))
        .expect("a file of ours");
    assert!(line.ends_with("\nz /run/keys 0751 root keys\n"), "{line}");
    assert_eq!(
        host["tmpfiles"],
        json!({ "zz-keys": { "/run/keys": { "z": { "mode": "0751", "user": "root", "group": "keys" } } } })
    );
    assert_eq!(host["groups"], json!(["keys"]));
    let forced = format!("restrict,command=\"{PROGRAM} relay\" ssh-ed25519 AAAA operator");
    assert_eq!(
        host["users"]["root"],
        json!({ "openssh": { "authorizedKeys": { "keys": [forced] } } })
    );
    assert_eq!(host["refused"], json!([]));
}

#[test]
fn a_login_of_its_own_is_let_in_by_socket_and_agent() {
    let host = fixture("login");
    let socket = host["units"]["keys-agent.socket"]["text"]
        .as_str()
        .expect("a text");
    assert!(
        socket.contains("\nSocketMode=0600\nSocketUser=sender\n"),
        "{socket}"
    );
    let service = host["units"]["keys-agent.service"]["text"]
        .as_str()
        .expect("a text");
    assert!(
        service.contains(&format!("\nExecStart={PROGRAM} serve --peer sender\n")),
        "{service}"
    );
    assert_eq!(host["users"]["sender"]["isSystemUser"], true);
    assert!(host["users"].get("root").is_none());
    assert_eq!(host["groups"], json!(["keys", "sender"]));
    assert_eq!(
        host["filesystems"]["/run/keys"],
        json!({ "fsType": "tmpfs", "options": ["noswap", "nosuid", "nodev", "noexec", "mode=0751", "size=8M"] })
    );
    let sudo = host["sudo"].as_str().expect("a text");
    assert!(
        sudo.starts_with(
            "Defaults!/run/current-system/sw/bin/keys-agent !log_input, !log_output\noperator ALL=(root) NOPASSWD: "
        ),
        "{sudo}"
    );
}

#[test]
fn a_host_that_uses_nothing_of_the_modules_is_as_it_was() {
    let host = fixture("none");
    for field in ["units", "activation", "tmpfiles", "filesystems", "users"] {
        assert_eq!(host[field], json!({}), "{field}");
    }
    for field in ["groups", "packages", "refused"] {
        assert_eq!(host[field], json!([]), "{field}");
    }
    assert_eq!(
        host["manifest"],
        json!({ "hosts": { "pigeon": { "keys": {} } } })
    );
}

#[test]
fn items_are_the_keys_of_the_manifest() {
    let host = fixture("items");
    assert_eq!(host["refused"], json!([]));
    let plain = |source: Value| json!({ "source": source, "owner": "root", "group": "root", "mode": "0400" });
    assert_eq!(
        host["manifest"],
        json!({
            "id": "lab",
            "vault": { "address": "https://vault.example.org:8200" },
            "hosts": { "pigeon": {
                "ssh": "root@pigeon",
                "tags": ["production"],
                "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJhTYMbzKBShLWqXYzPEgYmQovDbOofeeZKD06RnHC3q",
                "sudo": true,
                "keys": {
                    "pgsql-password": {
                        "source": { "vault": "kv/web#pgsql_password" },
                        "owner": "gitea", "group": "postgres", "mode": "0640",
                        "restart_units": ["gitea.service"], "reload_units": ["nginx.service"],
                    },
                    "web/tls+key": plain(json!({ "sops": { "file": "secrets/main.yaml", "key": "tls/key" } })),
                    "ca": { "source": { "sops": "secrets/main.yaml" }, "owner": "root", "group": "root", "mode": "0444", "public": true },
                    "token": plain(json!({ "age": { "file": "secrets/token.age" } })),
                    "command": plain(json!({ "command": {
                        "argv": ["pass", "show", "a"], "env": { "PASSWORD_STORE_DIR": "/secrets" }, "prompts": true,
                    } })),
                    "env": plain(json!({ "template": { "text": "A={{ a | env }}\n", "values": { "a": { "key": "command" } } } })),
                    "session": plain(json!({ "generate": { "kind": "base64", "store": { "sops": "secrets.yaml#session" } } })),
                },
            } },
        })
    );
    assert_eq!(
        host["uses"],
        json!({ "path": "/run/keys/web/tls+key", "unit": "web-tls\\x2bkey-key.service" })
    );
    assert_eq!(
        host["tmpfiles"]["keys-links"],
        json!({ "/etc/web/tls.key": { "L": { "argument": "/run/keys/web/tls+key" } } })
    );
}

/// What an evaluation with all that is wrong says, sorted.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "refused",
        &[
            "services.keys.items..env: a name has 1 to 8 parts by `/`, each of A-Z a-z 0-9 . _ + @ - and not beginning with `.` or `-`",
            "services.keys.items.a/b: a key cannot lie in another: a",
            "services.keys.items.both: a.service: in restartUnits and in reloadUnits",
            "services.keys.items.inside: /nix/store/00000000000000000000000000000000-y is in the Nix store, where everybody can read it; name the file by a text relative to the manifest's folder",
            "services.keys.items.mode: mode 4400: three or four octal digits, never setuid, setgid, sticky, or writable for others",
            "services.keys.items.needed: neededBy names services, which end in .service",
            "services.keys.items.needed: neededBy takes services.keys.agent.enable = true",
            "services.keys.items.none: a source is of one kind, and this one is of 0",
            "services.keys.items.open: with mode 0444 every user of the host can read the key; if that is meant: public = true",
            "services.keys.items.stored: /nix/store/00000000000000000000000000000000-x is in the Nix store, where everybody can read it; name the file by a text relative to the manifest's folder",
            "services.keys.items.target: reboot.target: no name of a service; it ends in .service",
            "services.keys.items.there: links are absolute paths",
            "services.keys.items.two: a source is of one kind, and this one is of 2",
            "services.keys.items.unknown: no kind of source: fil; there are vault, vault_secret_id, sops, age, file, command, prompt, generate, public, key, template",
            "services.keys.items.writable: mode 0602: three or four octal digits, never setuid, setgid, sticky, or writable for others",
            "services.keys.items: a-b, a/b would all have the unit a-b-key.service",
            "services.keys.items: several keys would be at /etc/x",
        ],
    ),
    (
        "deployment-refused",
        &[
            "deployment.keys.both: exactly one of keyCommand, keyFile and vault is wanted, not 2",
            "deployment.keys.environment: environment is that of a keyCommand",
            "deployment.keys.no-program: keyCommand names no program",
            "deployment.keys.nothing: exactly one of keyCommand, keyFile and vault is wanted, not 0",
            "deployment.keys.one: another key is at /run/keys/same, too",
            "deployment.keys.one: another key would be /run/keys/same, too",
            "deployment.keys.other: another key is at /run/keys/same, too",
            "deployment.keys.other: another key would be /run/keys/same, too",
            "deployment.keys.stored: keyFile is in the Nix store, where everybody can read it; name the file by an absolute path as a text",
            "deployment.keys.text: `text` puts the secret into the evaluation; use keyCommand, keyFile, or vault = { path = …; field = …; }",
            "services.keys.items.executable: mode 4644: three or four octal digits, never setuid, setgid, sticky, or writable for others",
        ],
    ),
    (
        "sops-refused",
        &[
            "sops.secrets.password: neededForUsers is not supported yet: this key would come after the users are made",
            "sops.secrets.twice: both owner and uid",
            "sops.templates.twice: a secret has this name, too",
            "sops.templates.unknown: a placeholder in it is of no secret that is declared",
        ],
    ),
    (
        "age-refused",
        &[
            "age.secrets.copied: symlink = false would put the secret on a disk; it is always a link to /run/keys",
        ],
    ),
];

#[test]
fn what_cannot_be_is_an_error_of_the_evaluation() {
    for (name, said) in REFUSED {
        assert_eq!(fixture(name)["refused"], json!(said), "{name}");
    }
    let broken = evaluated()["evaluate"].as_object().expect("a table");
    assert!(broken.len() > 5, "{broken:?}");
    for (name, evaluates) in broken {
        assert_eq!(*evaluates, json!(name == "right"), "{name}");
    }
}

#[test]
fn deployment_keys_become_these_keys() {
    let prompting =
        |argv: &[&str]| json!({ "command": { "argv": argv, "prompts": true, "timeout": "10m" } });
    let mut lighthouse = prompting(&["pass", "show", "lighthouse"]);
    lighthouse["command"]["env"] = json!({ "PASSWORD_STORE_DIR": "/secrets" });
    assert_eq!(
        *keys("deployment"),
        json!({
            "thedroneely_pgsql_database_password": {
                "source": { "vault": { "path": "thedroneely/thedroneely.com", "field": "pgsql_database_password" } },
                "owner": "thedroneely", "group": "postgres", "mode": "0640",
            },
            "vault-key.rsa": {
                "source": { "command": ["cat", "--", "/home/ops/vault-key.rsa"] },
                "owner": "vault", "group": "root", "mode": "600",
            },
            "beside": { "source": { "file": "secrets/plain.txt" }, "owner": "root", "group": "root", "mode": "0600" },
            "LIGHTHOUSE_JWT": { "source": lighthouse, "owner": "root", "group": "root", "mode": "660" },
            "acme": { "source": prompting(&["true"]), "owner": "root", "group": "root", "mode": "0444", "public": true },
            "passwords/root_password_hash": { "source": prompting(&["true"]), "owner": "root", "group": "keys", "mode": "0600" },
        })
    );
}

#[test]
fn what_deployment_keys_were_referred_to_by_stays() {
    let host = fixture("deployment");
    assert_eq!(host["refused"], json!([]));
    let used = |name: &str| {
        let both = &host["uses"][name];
        format!(
            "{} {}",
            both["path"].as_str().expect("a path"),
            both["service"].as_str().expect("a unit")
        )
    };
    assert_eq!(
        used("vault-key.rsa"),
        "/opt/vault/tls/vault-key.rsa vault-key.rsa-key.service"
    );
    assert_eq!(
        used("acme-credentials.secret"),
        "/run/keys/acme acme-key.service"
    );
    assert_eq!(
        used("root_password_hash"),
        "/run/keys/passwords/root_password_hash passwords-root_password_hash-key.service"
    );
    assert_eq!(
        host["tmpfiles"]["keys-links"],
        json!({
            "/opt/vault/tls/vault-key.rsa": { "L": { "argument": "/run/keys/vault-key.rsa" } },
            "/var/lib/goethereum/mainnet/LIGHTHOUSE_JWT": { "L": { "argument": "/run/keys/LIGHTHOUSE_JWT" } },
        })
    );
    let off = fixture("deployment-off");
    assert_eq!((&off["refused"], &off["items"]), (&json!([]), &json!({})));
}

#[test]
fn sops_secrets_and_templates_become_these_keys() {
    let of = |key: &str| json!({ "sops": { "file": "secrets/main.yaml", "format": "yaml", "key": key } });
    let root =
        |source: Value| json!({ "source": source, "owner": "0", "group": "0", "mode": "0400" });
    assert_eq!(
        *keys("sops"),
        json!({
            "tailscale_key": root(of("tailscale_key")),
            "hosts/pc/users/dima/password-hash": {
                "source": of("hosts/pc/users/dima/password-hash"), "owner": "nginx", "group": "web", "mode": "660",
                "restart_units": ["phpfpm-dokuwiki-wiki.example.org.service"],
            },
            "ssh": { "source": of("users/munty/ssh"), "owner": "1000", "group": "100", "mode": "0400" },
            "dae/config.dae": {
                "source": { "sops": { "file": "secrets/config.dae", "format": "binary" } },
                "owner": "0", "group": "0", "mode": "0444", "public": true, "reload_units": ["dae.service"],
            },
            "acme.env": {
                "source": { "template": {
                    "text": "CF_DNS_API_TOKEN={{ secret1 }}\n{{ \"{{\" }} brace }}\nAGAIN={{ secret1 }}{{ secret0 }}\n",
                    "values": { "secret0": { "key": "dae/config.dae" }, "secret1": { "key": "tailscale_key" } },
                } },
                "owner": "acme", "group": "0", "mode": "0400", "restart_units": ["acme.service"],
            },
            "from-file": root(json!({ "template": { "text": "text of a file\n", "values": {} } })),
        })
    );
    let host = fixture("sops");
    assert_eq!(host["refused"], json!([]));
    let uses = &host["uses"];
    assert_eq!(uses["ssh"], "/home/munty/.ssh/id_ed25519");
    assert_eq!(uses["tailscale_key"], "/run/secrets/tailscale_key");
    assert_eq!(uses["template"], "/run/secrets/rendered/acme.env");
    assert_eq!(uses["hostKeys"], json!(["/etc/ssh/ssh_host_ed25519_key"]));
    let links = host["tmpfiles"]["keys-links"].as_object().expect("a table");
    assert_eq!(
        links["/run/secrets/dae/config.dae"],
        json!({ "L": { "argument": "/run/keys/dae/config.dae" } })
    );
    assert_eq!(links.len(), 6);
}

#[test]
fn age_secrets_become_these_keys() {
    let of = |file: &str, owner: &str, group: &str, mode: &str| json!({ "source": { "age": { "file": file } }, "owner": owner, "group": group, "mode": mode });
    assert_eq!(
        *keys("age"),
        json!({
            "tailscale": of("secrets/tailscale.age", "0", "0", "0400"),
            "backup": of("secrets/backup.age", "nginx", "web", "660"),
            "passwords/root": of("secrets/renamed.age", "0", "0", "0400"),
        })
    );
    let host = fixture("age");
    assert_eq!(
        host["uses"],
        json!({ "tailscale": "/run/agenix/tailscale", "backup": "/var/lib/backup/.env", "renamed": "/run/agenix/passwords/root" })
    );
    let to = |name: &str| json!({ "L": { "argument": format!("/run/keys/{name}") } });
    assert_eq!(
        host["tmpfiles"]["keys-links"],
        json!({
            "/run/agenix/tailscale": to("tailscale"),
            "/var/lib/backup/.env": to("backup"),
            "/run/agenix/passwords/root": to("passwords/root"),
        })
    );
}

/// The real parser takes every manifest that an evaluation without errors gives.
#[test]
fn every_manifest_of_the_modules_is_one_for_the_pusher() {
    let operator = Operator::new();
    for (name, host) in evaluated()["fixtures"].as_object().expect("a table") {
        if host["refused"] != json!([]) {
            continue;
        }
        operator.write("keys.json", host["manifest"].to_string());
        let asked = operator.keys("-f keys.json get none").exited(64);
        assert!(
            asked.stderr.contains("any host has no key none"),
            "{name}\n{asked}"
        );
    }
}

#[test]
fn the_kinds_of_sources_are_those_of_the_pusher() {
    let schema = Operator::new().keys("manifest schema").succeeded();
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("a schema is JSON");
    let kinds = schema["$defs"]["Source"]["oneOf"]
        .as_array()
        .expect("a list");
    let kinds: Vec<&Value> = kinds.iter().map(|kind| &kind["required"][0]).collect();
    assert_eq!(json!(kinds), evaluated()["kinds"]);
}

/// The keys of the fixture that is sent: name, bytes, owner and mode.
const SENT: [(&str, &str, &str); 7] = [
    ("plain", "a value", "root:1000 0440"),
    ("web/tls.key", "of a file", "root:root 0400"),
    ("vault-key.rsa", "of a command", "root:root 0660"),
    ("db/password", "hunter2", "root:root 0444"),
    ("whole", "bytes\n", "root:root 0400"),
    (
        "web.env",
        "PASSWORD=hunter2 {{ brace }}\n",
        "root:root 0400",
    ),
    ("tailscale", "tskey", "root:root 0400"),
];

/// Makes that fixture's manifest and what its sources want.
fn prepare(operator: &mut Operator) {
    let sops = Sops::new();
    operator.write("identity", sops.age().identity_text());
    let identity = operator.path("identity");
    operator.env("SOPS_AGE_KEY_FILE", identity);
    operator.write(
        "secrets.yaml",
        sops.encrypt("secrets.yaml", "db:\n  password: hunter2\n"),
    );
    operator.write("secrets.bin", sops.encrypt("secrets.bin", "bytes\n"));
    operator.write("tailscale.age", sops.age().encrypt(b"tskey", &[]));
    operator.write("tls.key", "of a file");
    assert_eq!(fixture("sent")["refused"], json!([]));
    operator.write("keys.json", fixture("sent")["manifest"].to_string());
}

/// Sends what a fixture says, sources and all, to a real host, where a switch names what is missing.
#[test]
fn what_nix_declares_is_what_is_sent() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    prepare(&mut operator);
    let activation = fixture("sent")["activation"]["keys"]["text"].as_str();
    let activation = activation.expect("a script");
    let activate = |action: &str| {
        let line = format!("export NIXOS_ACTION={action}; {activation}");
        host.inside().run(&line).succeeded().stderr
    };
    let missing = activate("switch");
    assert_eq!(missing.lines().count(), SENT.len(), "{missing}");
    assert!(
        missing.contains("keys: web/tls.key is declared and not on this host: keys send\n"),
        "{missing}"
    );
    assert_eq!(activate(""), "", "at boot nothing is there yet");
    let _sent = operator.keys("-f keys.json send").succeeded();
    assert_eq!(activate("dry-activate"), "");
    for (name, bytes, access) in SENT {
        let path = fixture("sent")["items"][name]["path"].as_str();
        let path = path.expect("a path");
        assert_eq!(host.inside().read(path), bytes.as_bytes(), "{name}");
        assert_eq!(host.inside().access(path), access, "{name}");
    }
    assert_eq!(operator.keys("-f keys.json plan").succeeded().text(), "");
}

/// Puts the units as the module writes them on a host, and starts them.
fn install(host: &Host, name: &str) {
    let folder = PROGRAM.rsplit_once('/').expect("a path").0;
    let _made = host
        .run(&format!(
            "mkdir -p {folder} /usr/local/bin && groupadd --gid 96 keys"
        ))
        .succeeded();
    let agent = lab::binary("keys-agent");
    host.inside().install(&agent, PROGRAM);
    host.inside().install(&agent, "/usr/local/bin/keys-agent");
    let units = fixture(name)["units"].as_object().expect("a table");
    for (unit, what) in units {
        let path = format!("/etc/systemd/system/{unit}");
        let text = what["text"].as_str().expect("a text");
        host.inside().write(&path, text, 0o644);
    }
    for (name, wanted_by) in UNITS {
        for target in wanted_by {
            let _linked = host
                .run(&format!("systemctl add-wants {target} {name}"))
                .succeeded();
        }
    }
    let _started = host
        .run("systemctl daemon-reload && systemctl start keys-mount.service keys-agent.socket")
        .succeeded();
}

#[test]
fn the_units_of_the_modules_run_on_a_booted_host() {
    let host = Host::boot("pigeon", Release::Trixie);
    install(&host, "agent");
    let operator = Operator::of_host(&host);
    operator.token("x");
    let _sent = operator.send("").succeeded().printed("pigeon: token: new");
    assert_eq!(host.property("keys-agent.service", "ActiveState"), "active");
    assert_eq!(host.inside().read("/run/keys/token"), b"x");
    // The links that the module asks systemd-tmpfiles for lead to where keys are.
    let links = fixture("items")["tmpfiles"]["keys-links"].as_object();
    for (path, rule) in links.expect("a table") {
        let target = rule["L"]["argument"].as_str().expect("a path");
        let line = format!("L {path} - - - - {target}\n");
        host.inside()
            .write("/etc/tmpfiles.d/keys-links.conf", &line, 0o644);
        let _made = host
            .run("systemd-tmpfiles --create keys-links.conf")
            .succeeded();
        let read = host.run(&format!("readlink {path}")).succeeded();
        assert_eq!(read.text().trim_end(), target);
    }
}

#[test]
fn key_units_are_those_of_the_generator() {
    let host = fixture("units");
    assert_eq!(host["refused"], json!([]));
    let text = fs::read_to_string(lab::source().join("agent/systemd/key.service.in"))
        .expect("a file of ours")
        .replace("/usr/local/bin/keys-agent", PROGRAM);
    for (key, unit) in [
        ("token", "token-key.service"),
        ("web/tls+key", "web-tls\\x2bkey-key.service"),
    ] {
        let text = text.replace("@KEY@", key) + "\n[Unit]\nX-RestartIfChanged=false\n";
        assert_eq!(host["units"][unit]["text"], text, "{key}");
    }
    let landed = host["units"]["keys-landed.target"]["text"].as_str();
    assert!(landed.is_some_and(|text| {
        text.ends_with("Wants=token-key.service\nWants=web-tls\\x2bkey-key.service\n")
    }));
    let both = json!(["token-key.service", "web-tls\\x2bkey-key.service"]);
    let one = json!(["web-tls\\x2bkey-key.service"]);
    assert_eq!(
        host["services"],
        json!({
            "web": { "after": both, "requires": both, "wantedBy": both },
            "mail@1": { "after": one, "requires": one, "wantedBy": one },
        })
    );
    assert_eq!(
        known("units"),
        json!({ "format": 1, "keys": [
            { "name": "token", "units": [
                { "how": "reload", "unit": "mail@1.service" },
                { "how": "start", "unit": "once.service" },
                { "how": "stop", "unit": "web.service" },
                { "how": "SIGUSR2", "unit": "haproxy.service" },
            ] },
            { "name": "web/tls+key", "units": [{ "how": "restart", "unit": "proxy.service" }] },
        ] })
    );
}

/// Returns what the agent of a fixture's host knows of its keys.
fn known(name: &str) -> Value {
    let text = fixture(name)["etc"]["keys/host.json"]["text"].as_str();
    serde_json::from_str(text.expect("a text")).expect("Nix writes JSON")
}

/// A service as `neededBy` makes it.
const DEPENDENT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";

#[test]
fn what_needs_keys_starts_with_the_last_of_them() {
    let host = Host::boot("pigeon", Release::Trixie);
    install(&host, "units");
    // As on NixOS, where it is a link into the store.
    host.inside()
        .write("/nix/store/host.json", known("units").to_string(), 0o444);
    let web = &fixture("units")["services"]["web"];
    let listed = |field: &str| {
        let units = web[field].as_array().expect("a list").iter();
        let units: Vec<&str> = units.filter_map(Value::as_str).collect();
        units.join(" ")
    };
    let unit = format!(
        "[Unit]\nAfter={}\nRequires={}\n{DEPENDENT}[Install]\nWantedBy={}\n",
        listed("after"),
        listed("requires"),
        listed("wantedBy")
    );
    host.inside()
        .write("/etc/systemd/system/web.service", unit, 0o644);
    let _linked = host
        .run("mkdir -p /etc/keys && ln -s /nix/store/host.json /etc/keys/host.json && systemctl enable web.service")
        .succeeded();
    let operator = Operator::of_host(&host);
    operator.write("value", "1");
    operator.manifest(
        "id = \"lab\"\n[hosts.pigeon.keys.token]\nsource = { file = \"value\" }\n\
         [hosts.pigeon.keys.\"web/tls+key\"]\nsource = { file = \"value\" }\n",
    );
    let _one = operator.send("--key token").succeeded();
    assert_eq!(host.property("token-key.service", "ActiveState"), "active");
    assert_eq!(host.property("web.service", "ActiveState"), "inactive");
    let _both = operator.send("").succeeded();
    wait_for("web.service to be active", LIMIT, || {
        (host.property("web.service", "ActiveState") == "active").then_some(())
    });
    assert!(
        host.run("readlink /etc/keys/host.json").succeeded().text() == "/nix/store/host.json\n"
    );
}

const REFERENCE: &str = "docs/nixos-options.md";
const MADE: &str = "<!-- written by a test: KEYS_UPDATE_DOCS=1 tests/run nixos:: -->\n";

#[test]
fn the_reference_of_the_options_is_true() {
    let path = lab::source().join(REFERENCE);
    let page = fs::read_to_string(&path).expect("a page of ours");
    let (above, _) = page.split_once(MADE).expect("the mark of what is made");
    let mut made = format!("{above}{MADE}");
    for option in evaluated()["options"].as_array().expect("a list") {
        made.push_str(&entry(option));
    }
    if std::env::var_os("KEYS_UPDATE_DOCS").is_some() {
        fs::write(&path, &made).expect("our own page");
    }
    assert!(
        page == made,
        "{REFERENCE} is not true: KEYS_UPDATE_DOCS=1 writes it"
    );
}

fn entry(option: &Value) -> String {
    let text = |field: &str| option[field].as_str().unwrap_or_default().trim();
    let default = match text("default") {
        _ if option["default"].is_null() => "none".to_owned(),
        default if default.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let is_json = serde_json::from_str::<Value>(default).is_ok();
            if is_json {
                format!("`{default}`")
            } else {
                default.to_owned()
            }
        }
        default => format!("`{default}`"),
    };
    let read_only = if option["readOnly"] == true {
        ", read-only"
    } else {
        ""
    };
    format!(
        "\n### `{}`\n\n{}\n\nType: {}{read_only}. Default: {default}.\n",
        text("name"),
        text("description"),
        text("type")
    )
}
