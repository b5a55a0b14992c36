//! Secrets that are made where there are none, and the same from then on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;

use keys_tests::{Age, Operator, Ran, Sops, Sshd, lab};
use serde_json::Value;

/// What can be made into a value of `s.yaml`, with the fields that it takes.
const KINDS: [(&str, &str); 8] = [
    ("password", "length = 40, alphabet = \"abcdefghij!\\\"$\""),
    ("diceware", "words = 7"),
    ("hex", "length = 20"),
    ("base64", "length = 33"),
    ("uuid", ""),
    ("ssh-ed25519", ""),
    ("wireguard", ""),
    ("age", ""),
];

/// An operator with sops in PATH, an identity, and creation rules for it.
fn operator(sops: &Sops, host: Option<&Sshd>) -> Operator {
    let mut operator = host.map_or_else(Operator::new, Operator::of);
    let bin = lab::peer("sops");
    let bin = bin.parent().expect("it lies in a folder").display();
    operator
        .env("SOPS_AGE_KEY_FILE", sops.age().identity())
        .env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin"));
    let rule = format!("creation_rules:\n  - age: {}\n", sops.age().recipient());
    operator.write(".sops.yaml", rule);
    operator
}

fn keys(operator: &Operator, keys: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[hosts.pigeon.keys]\n{keys}\n"
    ));
}

/// Returns a key of each kind, all kept in `file`.
fn every_kind(file: &str) -> String {
    let key = |(kind, fields): (&str, &str)| {
        let comma = if fields.is_empty() { "" } else { ", " };
        format!(
            "{kind}.source.generate = {{ kind = \"{kind}\"{comma}{fields}, store = {{ sops = \"{file}#made/{kind}\" }} }}\n"
        )
    };
    KINDS.map(key).concat()
}

fn sent(host: &Sshd, key: &str) -> String {
    String::from_utf8(host.inside().read(&format!("/run/keys/{key}"))).expect("it is text")
}

/// Runs a program on a private key in a file that nobody else may read.
fn of_key(operator: &Operator, key: &str, program: &str, words: &[&str]) -> String {
    operator.write("private", key);
    let mut command = Command::new(program);
    command.args(words).arg(operator.path("private"));
    Ran::of(command, b"")
        .succeeded()
        .text()
        .trim_end()
        .to_owned()
}

#[test]
fn what_is_made_is_what_it_is_called_and_sops_has_it() {
    let host = Sshd::start("pigeon");
    let sops = Sops::new();
    let operator = operator(&sops, Some(&host));
    keys(&operator, &every_kind("s.yaml"));
    let _sent = operator.send("").succeeded();
    let value = |key: &str| sent(&host, key);
    let of = |text: &str, length: usize, allowed: &str| {
        assert!(
            text.chars().count() == length && text.chars().all(|c| allowed.contains(c)),
            "{text}"
        );
    };
    of(&value("password"), 40, "abcdefghij!\"$");
    of(&value("hex"), 40, "0123456789abcdef");
    let list = include_str!("../../pusher/src/resolve/generate/eff_large_wordlist.txt");
    let words: BTreeSet<&str> = list.lines().map(|line| &line[6..]).collect();
    assert_eq!(words.len(), 7776);
    let phrase = value("diceware");
    // Four words of the list have a `-` of their own.
    let parts = phrase
        .split('-')
        .filter(|word| words.contains(word))
        .count();
    assert!(
        (6..=7).contains(&parts) || phrase.matches('-').count() > 6,
        "{phrase}"
    );
    let uuid = value("uuid");
    of(&uuid, 36, "0123456789abcdef-");
    assert!(
        uuid.as_bytes()[14] == b'4' && b"89ab".contains(&uuid.as_bytes()[19]),
        "{uuid}"
    );
    let public = of_key(
        &operator,
        &value("ssh-ed25519"),
        "ssh-keygen",
        &["-y", "-f"],
    );
    assert!(public.starts_with("ssh-ed25519 AAAA"), "{public}");
    let recipient = of_key(
        &operator,
        &value("age"),
        lab::peer("age-keygen").to_str().unwrap(),
        &["-y"],
    );
    assert!(recipient.starts_with("age1"), "{recipient}");
    for (kind, _) in KINDS {
        let there = sops.decrypt(
            &operator.path("s.yaml"),
            Some(&format!("[\"made\"][\"{kind}\"]")),
        );
        assert_eq!(there.succeeded().text(), value(kind), "{kind}");
    }
    let file = fs::read_to_string(operator.path("s.yaml")).unwrap();
    assert!(
        KINDS
            .iter()
            .all(|(kind, _)| !file.contains(value(kind).trim_end())),
        "{file}"
    );
    // From then on it is the same.
    let before: Vec<String> = KINDS.map(|(kind, _)| value(kind)).into();
    let ran = operator.send("").succeeded();
    assert_eq!(ran.text(), "", "{ran}");
    assert_eq!(KINDS.map(|(kind, _)| value(kind)).to_vec(), before);
    assert_eq!(fs::read_to_string(operator.path("s.yaml")).unwrap(), file);
}

#[test]
fn a_plan_makes_nothing_and_says_what_a_send_would_make() {
    let host = Sshd::start("pigeon");
    let sops = Sops::new();
    let operator = operator(&sops, Some(&host));
    keys(
        &operator,
        "x.source.generate = { kind = \"hex\", store = { sops = \"s.yaml#x\" } }\n\
         y.source.template = { text = \"{{ x }}\", values = { x = { key = \"x\" } } }",
    );
    let would =
        "pigeon: x: generate hex in sops s.yaml#x: would be generated and kept in sops s.yaml#x\n";
    for words in ["plan", "send --dry-run"] {
        let ran = operator.keys(words).exited(2).printed(would);
        let ran = ran.printed(
            "pigeon: y: template of x: value `x`: generate hex in sops s.yaml#x: would be",
        );
        assert_eq!(ran.stderr, "", "{ran}");
        assert!(!operator.path("s.yaml").exists() && !host.inside().has("/run/keys/x"));
    }
    let json: Value =
        serde_json::from_slice(&operator.keys("plan --json").exited(2).stdout).unwrap();
    assert!(
        json["hosts"][0]["sources"][0]["pending"].is_string(),
        "{json}"
    );
    let _ran = operator
        .keys("get x")
        .exited(6)
        .said("keys: hint: `keys send` makes it\n");
    let _ran = operator.keys("status --compare");
    assert!(!operator.path("s.yaml").exists());
    let _sent = operator.send("").succeeded();
    assert_eq!(sent(&host, "y"), sent(&host, "x"));
    let _ran = operator.keys("plan").succeeded();
}

/// Absence is what the store says, and nothing else: no file that cannot be opened, no place that cannot be reached.
#[test]
fn nothing_is_made_where_the_store_fails() {
    let sops = Sops::new();
    let mut operator = operator(&sops, None);
    let host = Sshd::start("pigeon");
    operator.knows(&host);
    let fails = |operator: &Operator, store: &str, said: &str| {
        keys(
            operator,
            &format!("x.source.generate = {{ kind = \"hex\", store = {store} }}"),
        );
        let before = fs::read(operator.path("s.yaml")).ok();
        let _ran = operator.send("").exited(6).said(said);
        assert_eq!(fs::read(operator.path("s.yaml")).ok(), before);
        assert!(!host.inside().has("/run/keys/x"));
    };
    let other = Sops::new();
    operator.write("s.yaml", other.encrypt("s.yaml", "y: 1\n"));
    fails(&operator, "{ sops = \"s.yaml#x\" }", "sops s.yaml#x: ");
    operator.write("s.yaml", "x: hunter2\n");
    fails(&operator, "{ sops = \"s.yaml#x\" }", "sops s.yaml#x: ");
    operator.write("s.yaml", sops.encrypt("s.yaml", "y: \"1\"\n"));
    fails(
        &operator,
        "{ sops = \"s.yaml#y/x\" }",
        "something else than a map is on the way there",
    );
    // What the file's rules leave in clear is no secret.
    let clear = sops.encrypt_with("s.yaml", "y: \"1\"\n", &["--encrypted-regex", "^y$"]);
    operator.write("s.yaml", clear);
    fails(
        &operator,
        "{ sops = \"s.yaml#x\" }",
        "the file holds it in clear",
    );
    let names: Vec<_> = fs::read_dir(operator.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with(".s.yaml")),
        "{names:?}"
    );
    fails(
        &operator,
        "{ age = { file = \"none/x.age\", recipients = [] } }",
        "age none/x.age: ",
    );
    let foreign = format!(
        "{{ age = {{ file = \"x.age\", recipients = [\"{}\"] }} }}",
        Age::new_identity().recipient()
    );
    fails(&operator, &foreign, "age x.age: no identity opens it");
    assert!(
        !operator.path("x.age").exists(),
        "what nobody here can open is not left behind"
    );
    operator.env("PATH", "/usr/bin:/bin");
    operator.write("s.yaml", sops.encrypt("s.yaml", "y: \"1\"\n"));
    fails(
        &operator,
        "{ sops = \"s.yaml#x\" }",
        "no program `sops` in PATH",
    );
}

/// The value travels on pipes: neither in argv nor in the environment of what is run, nor in a file in clear.
#[test]
fn sops_is_given_the_value_on_its_standard_input() {
    let sops = Sops::new();
    let mut operator = operator(&sops, None);
    let host = Sshd::start("pigeon");
    operator.knows(&host);
    let real = lab::peer("sops");
    operator.write(
        "bin/sops",
        format!(
            "#!/bin/sh\n{{ echo \"$@\"; env; }} >>{}\nexec {} \"$@\"\n",
            operator.path("seen").display(),
            real.display()
        ),
    );
    fs::set_permissions(operator.path("bin/sops"), fs::Permissions::from_mode(0o755)).unwrap();
    operator.env(
        "PATH",
        format!("{}:/usr/bin:/bin", operator.path("bin").display()),
    );
    keys(
        &operator,
        "x.source.generate = { kind = \"hex\", store = { sops = \"s.yaml#x\" } }\n\
         y.source.generate = { kind = \"hex\", store = { sops = \"s.yaml#y\" } }",
    );
    let _sent = operator.send("").succeeded();
    let seen = fs::read_to_string(operator.path("seen")).unwrap();
    assert!(
        seen.contains("set --value-stdin") && seen.contains("encrypt --input-type json"),
        "{seen}"
    );
    assert!(
        !seen.contains(&sent(&host, "x")) && !seen.contains(&sent(&host, "y")),
        "{seen}"
    );
}

#[test]
fn an_age_file_is_made_for_its_recipients() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    let (me, other) = (Age::new_identity(), Age::new_identity());
    operator.env("SOPS_AGE_KEY_FILE", me.identity());
    let recipients = format!(
        "recipients = [\"{}\", \"{}\"]",
        me.recipient(),
        other.recipient()
    );
    keys(
        &operator,
        &format!(
            "x.source.generate = {{ kind = \"password\", store = {{ age = {{ file = \"x.age\", {recipients} }} }} }}"
        ),
    );
    let _sent = operator.send("").succeeded();
    let value = sent(&host, "x");
    assert_eq!(value.len(), 32);
    let file = fs::read(operator.path("x.age")).unwrap();
    assert!(file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----\n"));
    for identity in [me.identity(), other.identity()] {
        assert_eq!(Age::decrypt(&identity, &file).succeeded().text(), value);
    }
    let _sent = operator.send("").succeeded();
    assert_eq!(sent(&host, "x"), value);
    assert_eq!(fs::read(operator.path("x.age")).unwrap(), file);
}

/// Two operators at once end with one value, whatever they are kept in.
#[test]
fn of_two_who_make_one_at_the_same_time_both_send_the_same() {
    let sops = Sops::new();
    let hosts = [Sshd::start("pigeon"), Sshd::start("pigeon")];
    for round in 0..keys_tests::scaled(5) {
        let operator = operator(&sops, None);
        let recipients = format!("recipients = [\"{}\"]", sops.age().recipient());
        keys(
            &operator,
            &format!(
                "x.source.generate = {{ kind = \"hex\", store = {{ sops = \"s{round}.yaml#x\" }} }}\n\
                 y.source.generate = {{ kind = \"hex\", store = {{ age = {{ file = \"y{round}.age\", {recipients} }} }} }}"
            ),
        );
        let text = fs::read_to_string(operator.path("keys.toml")).unwrap();
        let text = text.split("[ssh]").next().unwrap();
        thread::scope(|scope| {
            for (number, host) in hosts.iter().enumerate() {
                let own = self::operator(&sops, Some(host));
                // The same folder of secrets, and a manifest each with the way to its host.
                let name = format!("keys{number}.toml");
                let config = own.ssh("config");
                let ssh = format!("[ssh]\nconfig = \"{}\"\n", config.display());
                operator.write(&name, format!("{text}\n{ssh}"));
                let file = operator.path(&name);
                scope.spawn(move || {
                    let _sent = own.keys(&format!("send -f {}", file.display())).succeeded();
                });
            }
        });
        for key in ["x", "y"] {
            assert_eq!(sent(&hosts[0], key), sent(&hosts[1], key), "{key}");
        }
    }
}

#[test]
fn a_public_half_is_what_the_tools_say_it_is() {
    let host = Sshd::start("pigeon");
    let sops = Sops::new();
    let operator = operator(&sops, Some(&host));
    let public = |kind: &str| format!("{kind}-pub.source.public = {{ key = \"{kind}\" }}\n");
    let halves = ["ssh-ed25519", "wireguard", "age"].map(public).concat();
    keys(&operator, &format!("{}{halves}", every_kind("s.yaml")));
    let _sent = operator.send("").succeeded();
    let key = sent(&host, "ssh-ed25519");
    assert_eq!(
        sent(&host, "ssh-ed25519-pub"),
        of_key(&operator, &key, "ssh-keygen", &["-y", "-f"])
    );
    let age_keygen = lab::peer("age-keygen");
    let recipient = of_key(
        &operator,
        &sent(&host, "age"),
        age_keygen.to_str().unwrap(),
        &["-y"],
    );
    assert_eq!(sent(&host, "age-pub"), recipient);
    // openssl reads an X25519 key behind the 16 bytes that say so.
    let line = "(printf '302e020100300506032b656e04220420' | xxd -r -p; base64 -d private) \
        | openssl pkey -inform DER -pubout -outform DER | tail -c 32 | base64 -w0";
    operator.write("private", sent(&host, "wireguard"));
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(operator.path(""));
    assert_eq!(
        sent(&host, "wireguard-pub"),
        Ran::of(command, b"").succeeded().text()
    );
    keys(&operator, "x.source.public = { file = \"keys.toml\" }");
    let _ran = operator
        .keys("get x")
        .exited(6)
        .said("public half of file keys.toml: no private key of ssh, WireGuard or age");
}

#[test]
fn a_hash_is_the_one_that_a_login_computes() {
    let host = Sshd::start("pigeon");
    let sops = Sops::new();
    let operator = operator(&sops, Some(&host));
    operator.write("password", "corréct horse");
    let hash = "x.source.generate = { kind = \"crypt\", of = { file = \"password\" }, store = { sops = \"s.yaml#hash\" } }";
    keys(&operator, hash);
    let _sent = operator.send("").succeeded();
    let made = sent(&host, "x");
    let parts: Vec<&str> = made.split('$').collect();
    let ["", "6", "rounds=100000", salt, _] = parts[..] else {
        panic!("{made}")
    };
    assert_eq!(salt.len(), 16);
    // By the C library, which is what checks it at a login.
    let said = host.inside().run_with(
        "perl -CA -e 'print crypt(\"corr\\xc3\\xa9ct horse\", $ARGV[0])' \"$(cat /run/keys/x)\"",
        b"",
    );
    assert_eq!(said.succeeded().text(), made);
    let _sent = operator.send("").succeeded();
    assert_eq!(sent(&host, "x"), made);
    // A password that changed needs a hash that changes: an old one would let the old password in.
    operator.write("password", "another");
    let ran = operator
        .send("")
        .exited(6)
        .said("the hash in the store is that of another password");
    let _ran = ran
        .said("keys: hint: remove it from sops s.yaml#hash: the next `keys send` makes it anew\n");
    operator.write("password", "two\nlines");
    let _ran = operator.send("").exited(6).said("nobody could type it");
}

#[test]
fn a_typed_password_is_asked_for_only_until_its_hash_is_there() {
    let host = Sshd::start("pigeon");
    let sops = Sops::new();
    let operator = operator(&sops, Some(&host));
    keys(
        &operator,
        "x.source.generate = { kind = \"crypt\", of = { prompt = \"Password of root\" }, store = { sops = \"s.yaml#x\" } }",
    );
    let line = format!("{} send", lab::binary("keys").display());
    let ran = operator.typing("hunter22\nhunter22\n", &line).succeeded();
    assert!(ran.text().contains("Password of root (again): "), "{ran}");
    let made = sent(&host, "x");
    let ran = operator.without_terminal("send").succeeded();
    assert_eq!(ran.text(), "");
    assert_eq!(sent(&host, "x"), made);
}

#[test]
fn what_cannot_be_made_is_said_when_the_manifest_is_read() {
    let operator = Operator::new();
    let check = |fields: &str, said: &str| {
        keys(
            &operator,
            &format!("x.source.generate = {{ {fields}, store = {{ sops = \"s.yaml#x\" }} }}"),
        );
        let _ran = operator.keys("get x").exited(64).said(said);
    };
    check("kind = \"pasword\"", "did you mean `password`?");
    check(
        "kind = \"password\", length = 7",
        "`length` is from 8 to 4096",
    );
    check("kind = \"hex\", length = 15", "`length` is from 16 to 4096");
    check("kind = \"diceware\", words = 3", "`words` is from 4 to 64");
    check(
        "kind = \"uuid\", length = 16",
        "`length` means nothing for the kind `uuid`",
    );
    check(
        "kind = \"hex\", alphabet = \"abcdefghijk\"",
        "`alphabet` means nothing for the kind `hex`",
    );
    check(
        "kind = \"password\", alphabet = \"aabcdefghijk\"",
        "each once",
    );
    check(
        "kind = \"password\", alphabet = \"abc\"",
        "10 characters or more",
    );
    check("kind = \"crypt\"", "`of` is the password of a `crypt` hash");
    check(
        "kind = \"hex\", of = { file = \"x\" }",
        "`of` is the password of a `crypt` hash",
    );
    keys(&operator, "x.source.generate = { kind = \"hex\" }");
    let _ran = operator.keys("get x").exited(64).said("`store` is missing");
    keys(
        &operator,
        "x.source.generate = { kind = \"hex\", store = { file = \"x\" } }",
    );
    let _ran = operator.keys("get x").exited(64).said("`file`");
}
