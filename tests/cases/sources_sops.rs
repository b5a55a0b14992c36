//! H: whoever can open a sops file: the user's gpg, the transit engine of the configured Vault, and groups of all kinds.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keys_tests::{Age, Gpg, LIMIT, Operator, Sops, Sshd, Vault, lab, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Writes a manifest with one key, `x`, for `pigeon`, from there; these lines before it.
fn from(operator: &Operator, lines: &str, source: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n{lines}\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = {source}\n"
    ));
}

fn gets(operator: &Operator, value: &str) {
    let ran = operator.keys("get x").succeeded();
    assert_eq!(ran.text(), value, "{ran}");
}

fn fails(operator: &Operator, said: &str) {
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

fn program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A file for one pgp key, and an operator whose gpg has it.
fn pgp() -> (Operator, Gpg) {
    let gpg = Gpg::with_passphrase("");
    let mut sops = Sops::new();
    sops.env("GNUPGHOME", gpg.home());
    let rules = format!("creation_rules: [{{pgp: '{}'}}]\n", gpg.fingerprint());
    let mut operator = Operator::new();
    let text = "a: first\nb: second\nc: third\n";
    operator.write("a.yaml", sops.encrypt_by(&rules, "a.yaml", text));
    operator.env("GNUPGHOME", gpg.home());
    from(&operator, "", "{ sops = \"a.yaml#a\" }");
    (operator, gpg)
}

#[test]
fn a_pgp_recipient_is_opened_by_the_gpg_of_the_user() {
    let (mut operator, _gpg) = pgp();
    gets(&operator, "first");
    let empty = empty_home(&operator);
    operator.env("GNUPGHOME", empty);
    fails(&operator, "keys: x: sops a.yaml: no data key: pgp ");
    fails(&operator, "gpg: exit status: 2 (it said: ");
    fails(&operator, "No secret key");
}

/// I-13: and it sees none of our secrets, in its environment or elsewhere.
#[test]
fn gpg_runs_once_for_a_file_and_sees_no_secret_of_ours() {
    let (mut operator, _gpg) = pgp();
    let host = Sshd::start("pigeon");
    operator.knows(&host);
    let log = operator.path("log");
    let script = format!(
        "{{ echo run; env; echo \"$@\"; }} >>{}\nexec /usr/bin/gpg \"$@\"",
        log.display()
    );
    program(&operator.path("wrapped"), &script);
    let wrapped = operator.path("wrapped");
    operator
        .env("SOPS_GPG_EXEC", wrapped)
        .env("VAULT_TOKEN", "c4nary")
        .env("BAO_TOKEN", "c4nary")
        .env("SOPS_AGE_KEY", "# c4nary")
        .env("AGE_X", "c4nary");
    let keys: String = ["a", "b", "c"]
        .map(|name| {
            format!(
                "[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ sops = \"a.yaml#{name}\" }}\n"
            )
        })
        .concat();
    operator.manifest(&format!("id = \"lab\"\n[hosts.pigeon]\n{keys}"));
    let _sent = operator.send("").succeeded();
    assert_eq!(host.inside().read("/run/keys/c"), b"third");
    let seen = fs::read_to_string(&log).unwrap();
    assert_eq!(seen.matches("run\n").count(), 1, "{seen}");
    assert!(
        seen.contains("GNUPGHOME=") && !seen.contains("c4nary"),
        "{seen}"
    );
}

/// H9: gpg is the one of an absolute folder in PATH, or the one that the user names in full.
#[test]
fn a_gpg_that_lies_about_is_not_run() {
    let (mut operator, _gpg) = pgp();
    let mark = format!("touch {}", operator.path("marker").display());
    fs::create_dir(operator.path("bin")).unwrap();
    for name in ["gpg", "bin/gpg"] {
        program(&operator.path(name), &mark);
    }
    operator.env("PATH", "bin::.:/usr/bin:/bin");
    gets(&operator, "first");
    for named in ["./gpg", "bin/gpg"] {
        operator.env("SOPS_GPG_EXEC", named);
        fails(
            &operator,
            "gpg: SOPS_GPG_EXEC is neither a name nor an absolute path",
        );
    }
    operator.env("SOPS_GPG_EXEC", "no-such-gpg");
    fails(&operator, "gpg: no program `no-such-gpg` in PATH");
    operator.env("SOPS_GPG_EXEC", "").env("PATH", ".:bin");
    fails(&operator, "gpg: no program `gpg` in PATH");
    assert!(!operator.path("marker").exists());
}

#[test]
fn a_gpg_that_fails_or_talks_too_much_gives_nothing() {
    let (mut operator, _gpg) = pgp();
    let named = operator.path("gpg");
    operator.env("SOPS_GPG_EXEC", named);
    for (script, said) in [
        (
            "echo part; echo no >&2; exit 2",
            "gpg: exit status: 2 (it said: no)",
        ),
        ("cat /dev/zero", "gpg: it printed more than 64 bytes"),
        ("true", "unwrapped to 0 bytes where 32 are due"),
        ("printf %031d 7", "unwrapped to 31 bytes where 32 are due"),
        ("printf %032d 7", "cannot be decrypted"),
        ("kill -9 $$", "gpg: signal: 9"),
    ] {
        program(&operator.path("gpg"), script);
        fails(&operator, said);
    }
}

#[test]
fn an_interrupted_run_leaves_no_gpg_behind() {
    let (mut operator, _gpg) = pgp();
    let (named, number) = (operator.path("gpg"), operator.path("number"));
    program(
        &named,
        &format!(
            "sleep 600 & echo $! >{}.new; mv {0}.new {0}; wait",
            number.display()
        ),
    );
    operator.env("SOPS_GPG_EXEC", named);
    let mut keys = operator.command(&["get", "x"]);
    let mut keys = keys.stdout(Stdio::null()).spawn().unwrap();
    let gpg = wait_for("gpg", LIMIT, || fs::read_to_string(&number).ok());
    let process = Path::new("/proc").join(gpg.trim());
    assert!(process.exists());
    kill(
        Pid::from_raw(keys.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(keys.wait().unwrap().code(), Some(143));
    wait_for("the end of gpg", LIMIT, || {
        (!process.exists()).then_some(())
    });
}

/// A file that opens without asking anyone does: gpg may want a passphrase, and is not even started.
#[test]
fn gpg_is_started_only_if_nothing_else_opens_the_file() {
    let gpg = Gpg::with_passphrase("");
    let mut sops = Sops::new();
    sops.env("GNUPGHOME", gpg.home());
    let (age, pgp) = (sops.age().recipient(), gpg.fingerprint());
    let other = Age::new_identity();
    let rules = format!(
        "creation_rules: [{{shamir_threshold: 2, key_groups: [{{pgp: ['{pgp}']}}, {{age: ['{age}']}}, {{age: ['{}']}}]}}]\n",
        other.recipient()
    );
    let mut operator = Operator::new();
    operator.write("a.yaml", sops.encrypt_by(&rules, "a.yaml", "a: first\n"));
    from(&operator, "", "{ sops = \"a.yaml#a\" }");
    let (named, marker) = (operator.path("gpg"), operator.path("marker"));
    program(
        &named,
        &format!("touch {}\nexec /usr/bin/gpg \"$@\"", marker.display()),
    );
    let both = sops.age().identity_text() + &other.identity_text();
    operator
        .env("SOPS_GPG_EXEC", named)
        .env("GNUPGHOME", gpg.home())
        .env("SOPS_AGE_KEY", both);
    gets(&operator, "first");
    assert!(!marker.exists());
    operator.env("SOPS_AGE_KEY", other.identity_text());
    gets(&operator, "first");
    assert!(marker.exists());
}

/// The agent of gpg asks where the user sits, though gpg itself has no terminal.
#[test]
fn the_agent_of_gpg_may_ask_on_the_terminal() {
    let gpg = Gpg::with_passphrase("open sesame");
    let mut sops = Sops::new();
    sops.env("GNUPGHOME", gpg.home());
    let rules = format!("creation_rules: [{{pgp: '{}'}}]\n", gpg.fingerprint());
    let mut operator = Operator::new();
    operator.write("a.yaml", sops.encrypt_by(&rules, "a.yaml", "a: first\n"));
    operator.env("GNUPGHOME", gpg.home()).env("TERM", "xterm");
    from(&operator, "", "{ sops = \"a.yaml#a\" }");
    // Nobody can be asked: it fails by itself.
    fails(&operator, "no data key: pgp ");
    let mut script = Command::new("script");
    script.arg("-qefc");
    let keys = operator.command(&[]);
    let line = format!("{} get x --reveal", keys.get_program().display());
    script
        .arg(line)
        .arg("/dev/null")
        .current_dir(operator.path(""));
    script.env_clear().env("SHELL", "/bin/sh");
    script.envs(
        keys.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while stdout.read(&mut byte).unwrap() > 0 {
        seen.push(byte[0]);
        if seen.ends_with(b"Passphrase: ") {
            stdin.write_all(b"open sesame\r").unwrap();
        }
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(seen.ends_with("first"), "{seen}");
}

/// Starts a Vault with a transit key `k`.
fn transit() -> Vault {
    let vault = Vault::start();
    vault.api("POST", "sys/mounts/transit", &json!({"type": "transit"}));
    vault.api("POST", "transit/keys/k", &json!({}));
    vault
}

/// Listens at an address that no Vault is at.
fn listener() -> (TcpListener, String) {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let address = format!("http://{}", other.local_addr().unwrap());
    (other, address)
}

/// Makes a folder that is a home of gpg without any key.
fn empty_home(operator: &Operator) -> PathBuf {
    let empty = operator.path("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o700)).unwrap();
    empty
}

/// A Vault with a transit key `k`, and a file that it can open.
struct Transit {
    vault: Vault,
    operator: Operator,
    file: String,
}

impl Transit {
    fn new() -> Self {
        let vault = transit();
        vault.policy(
            "opener",
            "path \"transit/decrypt/k\" { capabilities = [\"update\"] }",
        );
        let mut sops = Sops::new();
        sops.env("VAULT_TOKEN", vault.root_token());
        let rules = format!(
            "creation_rules: [{{hc_vault_transit_uri: '{}/v1/transit/keys/k'}}]\n",
            vault.address()
        );
        let file = sops.encrypt_by(&rules, "a.yaml", "a: first\n");
        let mut operator = Operator::new();
        operator.write("a.yaml", &file);
        operator.env("VAULT_TOKEN", vault.token("opener", "1h"));
        let here = Self {
            vault,
            operator,
            file,
        };
        here.configure(here.vault.address());
        here
    }

    fn configure(&self, address: &str) {
        let lines = format!("[vault]\naddress = \"{address}\"");
        from(&self.operator, &lines, "{ sops = \"a.yaml#a\" }");
    }

    /// Puts a `sops` into PATH that writes its environment to a file, and returns that.
    fn logs_sops(&mut self) -> PathBuf {
        let (log, bin) = (self.operator.path("log"), self.operator.path("bin"));
        fs::create_dir(&bin).unwrap();
        let sops = lab::peer("sops");
        let script = format!("env >{}\nexec {} \"$@\"", log.display(), sops.display());
        program(&bin.join("sops"), &script);
        let path = format!("{}:/usr/bin:/bin", bin.display());
        self.operator.env("PATH", path);
        log
    }

    /// The same file, with one of its words for the key changed.
    fn planted(&self, word: &str, other: &str) {
        let changed = self.file.replace(word, other);
        assert_ne!(changed, self.file, "{word}");
        self.operator.write("a.yaml", changed);
    }
}

#[test]
fn a_transit_recipient_is_opened_by_the_configured_vault() {
    let mut here = Transit::new();
    gets(&here.operator, "first");
    here.configure(&format!("{}/", here.vault.address()));
    gets(&here.operator, "first");
    from(&here.operator, "", "{ sops = \"a.yaml#a\" }");
    let address = here.vault.address().to_owned();
    here.operator.env("VAULT_ADDR", address);
    gets(&here.operator, "first");
    let token = here.vault.token("default", "1h");
    here.operator.env("VAULT_TOKEN", token);
    fails(
        &here.operator,
        "no mount `transit/`, or none that the token may use (403)",
    );
    // One that can see the engine.
    let policy = "path \"transit/keys/k\" { capabilities = [\"read\"] }";
    here.vault.policy("looker", policy);
    let token = here.vault.token("looker", "1h");
    here.operator.env("VAULT_TOKEN", token);
    fails(&here.operator, "permission denied (403)");
    fails(&here.operator, "no `update` on transit/decrypt/k");
    here.operator.env("VAULT_TOKEN", "hvs.none");
    fails(&here.operator, "Vault does not know the token");
    here.vault.seal();
    fails(&here.operator, "it is sealed (503)");
}

/// A planted file must not learn a token: sops itself would send it there.
#[test]
fn a_file_that_names_another_vault_is_refused_and_that_one_not_contacted() {
    let mut here = Transit::new();
    let (other, address) = listener();
    let ours = here.vault.address().to_owned();
    let lookalike = format!("{ours}.example.org");
    let with_user = ours.replace("http://", "http://user@");
    let in_tls = ours.replace("http://", "https://");
    let below = format!("{ours}/v1/x");
    for named in [&address, &lookalike, &with_user, &in_tls, &below] {
        here.planted(&ours, named);
        fails(
            &here.operator,
            &format!("not the configured Vault, which is {ours}\n"),
        );
    }
    from(&here.operator, "", "{ sops = \"a.yaml#a\" }");
    fails(
        &here.operator,
        "no Vault address is configured (the one in the file is not followed: ",
    );
    here.planted(&ours, &address);
    here.operator.env("VAULT_ADDR", &ours);
    fails(&here.operator, "not the configured Vault");
    assert!(other.accept().is_err(), "someone came");
}

/// The file chooses engine and key, too: the request must decrypt, and do nothing else anywhere.
#[test]
fn a_file_cannot_make_a_request_that_is_more_than_decrypting() {
    let mut here = Transit::new();
    here.vault
        .api("POST", "sys/mounts/kv1", &json!({"type": "kv"}));
    let token = here.vault.root_token().to_owned();
    here.operator.env("VAULT_TOKEN", token);
    let log = here.operator.path("audit");
    here.vault.audit(log.to_str().unwrap());
    let odd = "has a name that Vault gives to none";
    for (engine, said) in [
        ("kv1", "there is no transit engine at kv1/"),
        ("transit/x", "there is no transit engine at transit/x/"),
        ("none", "no mount `none/`"),
        ("sys", odd),
        ("auth/token", odd),
        ("transit/../sys", odd),
        ("../transit", odd),
        ("sys/seal?", odd),
        ("sys/seal#", odd),
        ("transit%2f..", odd),
        ("''", odd),
    ] {
        here.planted("engine_path: transit", &format!("engine_path: {engine}"));
        fails(&here.operator, said);
    }
    for key in ["k/../../../sys/seal", "../rewrap/k", "k?x=y", "k#", "''"] {
        here.planted("key_name: k", &format!("key_name: {key}"));
        fails(&here.operator, odd);
    }
    let text = fs::read_to_string(&log).unwrap();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let path = line["request"]["path"].to_string();
        assert!(
            !path.contains("decrypt") && !path.contains("seal"),
            "{path}"
        );
    }
    here.operator.write("a.yaml", &here.file);
    gets(&here.operator, "first");
}

/// A planted file must not learn a token from the sops that writes a store either: it asks whichever server a file names.
#[test]
fn the_sops_that_writes_a_store_asks_no_other_vault() {
    let host = Sshd::start("pigeon");
    let mut here = Transit::new();
    here.operator.knows(&host);
    let log = here.logs_sops();
    let ours = here.vault.address().to_owned();
    let configured = format!("[vault]\naddress = \"{ours}\"\n");
    let made = "{ generate = { kind = \"hex\", store = { sops = \"a.yaml#made\" } } }";
    from(&here.operator, &configured, made);
    let _sent = here.operator.send("").succeeded();
    let told = |to: &str| format!("SOPS_HC_VAULT_ALLOWLIST={to}\n");
    let seen = fs::read_to_string(&log).unwrap();
    assert!(
        seen.contains("VAULT_TOKEN=") && seen.contains(&told(&ours)),
        "{seen}"
    );
    // We open the next one by an identity of the manifest, which sops does not know of.
    let mut sops = Sops::new();
    sops.env("VAULT_TOKEN", here.vault.root_token());
    let rules = format!(
        "creation_rules: [{{age: '{}', hc_vault_transit_uri: '{ours}/v1/transit/keys/k'}}]\n",
        sops.age().recipient()
    );
    let file = sops.encrypt_by(&rules, "a.yaml", "a: first\n");
    let (other, address) = listener();
    here.operator.write("a.yaml", file.replace(&ours, &address));
    let identity = sops.age().identity().display().to_string();
    for (vault, token, allowed) in [
        ("", false, "none"),
        (configured.as_str(), true, ours.as_str()),
    ] {
        let lines = format!("{vault}[age]\nidentities = [\"{identity}\"]");
        from(&here.operator, &lines, made);
        let ran = here.operator.send("").exited(6).said("sops: exit status");
        let seen = fs::read_to_string(&log).unwrap();
        assert!(seen.contains(&told(allowed)), "{seen}\n{ran}");
        assert_eq!(seen.contains("VAULT_TOKEN="), token, "{seen}\n{ran}");
    }
    assert!(other.accept().is_err(), "someone came");
}

/// What someone may have of what opens a file.
const HAVES: [&str; 8] = [
    "age pgp vault",
    "age pgp",
    "age vault",
    "pgp vault",
    "age",
    "pgp",
    "vault",
    "",
];

/// Groups of one kind each; any two of the three open the file.
#[test]
fn shares_of_every_kind_make_one_key() {
    let gpg = Gpg::with_passphrase("");
    let vault = transit();
    let mut sops = Sops::new();
    sops.env("GNUPGHOME", gpg.home());
    sops.env("VAULT_TOKEN", vault.root_token());
    let rules = format!(
        "creation_rules:\n- shamir_threshold: 2\n  key_groups:\n  - age: ['{}']\n  - pgp: ['{}']\n  - hc_vault: ['{}/v1/transit/keys/k']\n",
        sops.age().recipient(),
        gpg.fingerprint(),
        vault.address(),
    );
    let mut operator = Operator::new();
    operator.write("a.yaml", sops.encrypt_by(&rules, "a.yaml", "a: first\n"));
    let lines = format!("[vault]\naddress = \"{}\"", vault.address());
    from(&operator, &lines, "{ sops = \"a.yaml#a\" }");
    let empty = empty_home(&operator);
    let identity = sops.age().identity_text();
    for have in HAVES {
        let has = |kind: &str| have.split(' ').any(|one| one == kind);
        operator.env("SOPS_AGE_KEY", if has("age") { &identity } else { "" });
        operator.env("GNUPGHOME", if has("pgp") { gpg.home() } else { &empty });
        let token = if has("vault") { vault.root_token() } else { "" };
        operator.env("VAULT_TOKEN", token);
        let count = have.split_whitespace().count();
        let said = format!("no data key: {count} of 2 key groups that are needed; ");
        if count >= 2 {
            gets(&operator, "first");
        } else {
            fails(&operator, &said);
        }
    }
}

/// What nobody here can open is named, with what would help.
#[test]
fn recipients_of_other_services_are_refused_by_name() {
    let operator = Operator::new();
    let keys = r#""kms": [{"arn": "arn:aws:kms:one", "created_at": "2026-01-01T00:00:00Z", "enc": "e"}],
        "gcp_kms": [{"resource_id": "projects/two", "created_at": "2026-01-01T00:00:00Z", "enc": "e"}],
        "azure_kv": [{"vault_url": "https://three", "name": "k", "version": "1", "created_at": "2026-01-01T00:00:00Z", "enc": "e"}],
        "hckms": [{"key_id": "four:5", "created_at": "2026-01-01T00:00:00Z", "enc": "e"}]"#;
    operator.write(
        "a.json",
        format!(r#"{{"a": "ENC[]", "sops": {{{keys}, "lastmodified": "2026-01-01T00:00:00Z", "mac": "ENC[]"}}}}"#),
    );
    from(&operator, "", "{ sops = \"a.json#a\" }");
    fails(
        &operator,
        "keys: x: sops a.json: no data key: kms arn:aws:kms:one: not supported; gcp_kms projects/two: not supported; \
         hckms four:5: not supported; azure_kv https://three/keys/k/1: not supported\n\
         keys: hint: of a sops file's recipients, age, pgp and hc_vault ones are used: add one with `sops updatekeys`\n",
    );
}

/// A value in clear is no secret unless the manifest says so, whichever way the file is opened.
#[test]
fn a_value_in_clear_is_a_key_only_where_the_manifest_says_so() {
    let mut operator = Operator::new();
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    let text = "a_unencrypted: clear\nb: secret\nc:\n  d_unencrypted: clear\n  e: secret\n";
    operator.write("a.yaml", sops.encrypt("a.yaml", text));
    for (key, value) in [("a_unencrypted", "clear"), ("c/d_unencrypted", "clear")] {
        from(&operator, "", &format!("{{ sops = \"a.yaml#{key}\" }}"));
        fails(&operator, "the file holds it in clear, or a part of it");
        let table = format!(
            "{{ sops = {{ file = \"a.yaml\", key = \"{key}\", allow_unencrypted = true }} }}"
        );
        from(&operator, "", &table);
        gets(&operator, value);
    }
    from(&operator, "", "{ sops = \"a.yaml\" }");
    fails(&operator, "the file holds it in clear, or a part of it");
    from(&operator, "", "{ sops = \"a.yaml#b\" }");
    gets(&operator, "secret");
}

/// Aliases of aliases of aliases.
fn bomb() -> String {
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    (1..30).fold(first, |text, n| {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{list}]\n")
    })
}

/// H8: and the program that is asked stays small.
#[test]
fn a_file_made_to_cost_memory_is_refused_and_costs_none() {
    let operator = Operator::new();
    let file = Sops::new().encrypt("a.yaml", "a: b\n");
    let bomb = bomb();
    for (name, text, said) in [
        ("a.yaml", format!("{bomb}{file}"), "aliases"),
        (
            "a.yaml",
            format!("b: {}\n{file}", "[".repeat(100_000)),
            "nested more than 200 deep",
        ),
        (
            "a.json",
            format!("{{\"a\": {}", "[".repeat(100_000)),
            "nested more than 200 deep",
        ),
        (
            "a.yaml",
            format!("{file}#{}", " ".repeat(50 << 20)),
            "larger than 16 MiB",
        ),
        ("a.bin", " ".repeat(50 << 20), "larger than 16 MiB"),
        (
            "a.yaml",
            "k: 1\n".repeat(1 << 20),
            "two fields are named `k`",
        ),
    ] {
        operator.write(name, text);
        from(&operator, "", &format!("{{ sops = \"{name}#a\" }}"));
        // Virtual memory, in KiB: threads have 2 MiB of it each, and nearly all of them none of the real one.
        let ran = operator
            .after("ulimit -v 600000", "get x")
            .exited(6)
            .said(said);
        assert!(ran.took < LIMIT, "{ran}");
    }
}
