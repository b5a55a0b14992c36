//! H4 to H7, H10: age files open as age opens them, with the identities that age and sops would use, and with nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use keys_protocol::Digest;
use keys_tests::{Age, Operator, Ran, Sops, lab};
use miniz_oxide::inflate::decompress_to_vec_zlib;

/// Writes a manifest with one key, `x`, for `pigeon`; `lines` are further tables.
fn from(operator: &Operator, source: &str, lines: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = {source}\n{lines}\n"
    ));
}

fn gets(operator: &Operator, source: &str, value: &[u8]) {
    from(operator, source, "");
    let ran = operator.keys("get x").succeeded();
    assert!(ran.stdout == value, "{source}\n{ran}");
}

fn fails(operator: &Operator, source: &str, said: &str) {
    from(operator, source, "");
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

/// What age and sops encrypt to `age1pq1…`.
#[test]
fn post_quantum_identities_open_what_age_and_sops_encrypt_to_them() {
    let mut operator = Operator::new();
    let (sops, other) = (Sops::of(Age::new_post_quantum()), Age::new_post_quantum());
    let me = sops.age();
    assert!(me.recipient().starts_with("age1pq1"), "{}", me.recipient());
    operator.write("me", me.identity_text());
    let many = [
        &["-r", other.recipient()][..],
        &["--armor", "-r", other.recipient()],
        &[],
    ];
    for words in many {
        operator.write("a.age", me.encrypt(b"quantum", words));
        gets(
            &operator,
            "{ age = { file = \"a.age\", identities = [\"me\"] } }",
            b"quantum",
        );
    }
    operator.write("a.age", other.encrypt(b"quantum", &[]));
    fails(
        &operator,
        "{ age = { file = \"a.age\", identities = [\"me\"] } }",
        "keys: x: age a.age: no identity opens it\n",
    );
    operator.env("SOPS_AGE_KEY_FILE", me.identity());
    operator.write("a.yaml", sops.encrypt("a.yaml", "one: quantum\n"));
    gets(&operator, "{ sops = \"a.yaml#one\" }", b"quantum");
}

/// Writes `keys get x` into the file `out`, on a terminal where these words are typed, and returns how that went.
fn typed(operator: &Operator, words: &str) -> Ran {
    let line = format!("{} get x >out", lab::binary("keys").display());
    operator.typing(words, &line)
}

/// What was printed into the file `out`.
fn out(operator: &Operator) -> Vec<u8> {
    fs::read(operator.path("out")).unwrap()
}

#[test]
fn a_file_for_a_passphrase_opens_when_it_is_typed() {
    let operator = Operator::new();
    from(&operator, "{ age = \"a.age\" }", "");
    for words in ["", "--armor"] {
        operator.write("a.age", Age::lock("correct horse", b"value\n", words));
        let ran = typed(&operator, "correct horse\n").succeeded();
        assert_eq!(out(&operator), b"value\n");
        let _asked = ran.printed("Passphrase for a.age");
    }
    // One that takes little work.
    let vector = Vector::read("scrypt");
    operator.write("a.age", &vector.file);
    let right = &vector.passphrases;
    let _third = typed(&operator, &format!("no\nnor this\n{right}")).succeeded();
    assert_eq!(Some(Digest::of(&out(&operator))), vector.payload);
    for (words, said) in [
        (format!("no\nno\nno\n{right}"), "the passphrase was wrong"),
        ("\n".to_owned(), "its passphrase was not given"),
        ("no\n\n".to_owned(), "its passphrase was not given"),
    ] {
        let said = format!("keys: x: age a.age: {said}\r\n");
        let _failed = typed(&operator, &words).exited(6).printed(&said);
        assert_eq!(out(&operator), b"");
    }
    let ran = operator.without_terminal("get x").exited(6);
    let ran = ran.said("age a.age: it needs its passphrase, and there is no terminal\n");
    assert_eq!(ran.stdout, b"");
}

/// As `age -i` and sops take them: a file of identities that is itself encrypted to a passphrase.
#[test]
fn an_identity_file_under_a_passphrase_is_asked_for_once_and_only_if_needed() {
    let mut operator = Operator::new();
    let sops = Sops::of(Age::new_post_quantum());
    let (locked, other) = (Age::new_identity(), Age::new_identity());
    let both = format!("{}{}", locked.identity_text(), sops.age().identity_text());
    operator.write("other", other.identity_text());
    operator.write("b.yaml", sops.encrypt("b.yaml", "one: another\n"));
    operator.env("SOPS_AGE_KEY_FILE", operator.path("locked"));
    // Nobody is there: what counts is what was asked before.
    operator.ssh_lines("Host pigeon\nProxyCommand false\n");
    operator.manifest(
        "[age]\nidentities = [\"other\"]\n[hosts.pigeon.keys]\nx = { source = { age = \"a.age\" } }\ny = { source = { sops = \"b.yaml#one\" } }\n",
    );
    for words in ["", "--armor"] {
        operator.write("locked", Age::lock("correct horse", both.as_bytes(), words));
        operator.write("a.age", locked.encrypt(b"value", &[]));
        let _value = typed(&operator, "correct horse\n").succeeded();
        assert_eq!(out(&operator), b"value");
        let ran = typed(&operator, "\n").exited(6).printed("not used: ");
        let _said = ran.printed("locked (SOPS_AGE_KEY_FILE): its passphrase was not given");
        assert_eq!(out(&operator), b"");
        operator.write("a.age", other.encrypt(b"value", &[]));
        let ran = operator.without_terminal("get x").succeeded();
        assert_eq!(ran.stdout, b"value", "{ran}");
    }
    // Both keys of one run, and then the one of sops alone.
    operator.write("a.age", locked.encrypt(b"value", &[]));
    let line = format!("{0} plan; {0} get y >out", lab::binary("keys").display());
    let ran = operator.typing("correct horse\ncorrect horse\n", &line);
    assert_eq!(ran.text().matches("Passphrase for ").count(), 2, "{ran}");
    assert_eq!(out(&operator), b"another");

    operator.write("locked", sops.age().encrypt(both.as_bytes(), &[]));
    let ran = operator.keys("get x").exited(6);
    let _said = ran.said("locked (SOPS_AGE_KEY_FILE): encrypted, and not to a passphrase");
}

/// The environment of one case: variables, and what they point to below the operator's folder `work`.
struct Place<'a> {
    what: &'a str,
    variables: Vec<(&'a str, String)>,
    files: Vec<(&'a str, String)>,
}

/// Makes an ssh key, and returns the text of its private and its public half.
fn ssh_key(operator: &Operator, kind: &str) -> (String, String) {
    let path = operator.path(&format!("made-{kind}"));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", "", "-f"]).arg(&path);
    let _made = operator.ran(command).succeeded();
    let public = fs::read_to_string(lab::public_of(&path)).unwrap();
    let words: Vec<&str> = public.split(' ').collect();
    (fs::read_to_string(&path).unwrap(), words[..2].join(" "))
}

/// Every place where sops looks is one where `keys` looks: what opens there opens here.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn identities_are_where_sops_has_them() {
    let operator = Operator::new();
    let (one, two) = (Age::new_identity(), Age::new_identity());
    let (ed25519, ed25519_public) = ssh_key(&operator, "ed25519");
    let (rsa, rsa_public) = ssh_key(&operator, "rsa");
    let path = |name: &str| operator.path(name).display().to_string();
    let of_one = "one.yaml";
    let sops = Sops::of(one);
    let one = sops.age().identity_text();
    let one_line = one.lines().last().unwrap();
    let two_line = two.identity_text().lines().last().unwrap().to_owned();
    operator.write(of_one, sops.encrypt(of_one, "one: value\n"));
    let encrypt = |name: &str, recipients: &str| {
        let mut command = Command::new(lab::peer("sops"));
        command.args(["encrypt", "--input-type", "yaml", "--output-type", "yaml"]);
        command.args(["--age", recipients, "/dev/stdin"]);
        let ran = Ran::of(command, b"one: value\n").succeeded();
        operator.write(name, ran.stdout);
    };
    encrypt("ed25519.yaml", &ed25519_public);
    encrypt("rsa.yaml", &rsa_public);
    encrypt(
        "two.yaml",
        &format!("{},{}", two.recipient(), sops.age().recipient()),
    );
    let chosen = format!(
        "sh -c 'test \"$SOPS_AGE_RECIPIENT\" = {} && cat key; true'",
        sops.age().recipient()
    );
    let case =
        |what, variables: &[(&'static str, String)], files: &[(&'static str, String)]| Place {
            what,
            variables: variables.to_vec(),
            files: files.to_vec(),
        };
    let key = |text: &str| ("key", text.to_owned());
    let cases = [
        (
            of_one,
            case("SOPS_AGE_KEY", &[("SOPS_AGE_KEY", one.clone())], &[]),
        ),
        (
            of_one,
            case(
                "several in one line",
                &[("SOPS_AGE_KEY", format!("{two_line} {one_line}"))],
                &[],
            ),
        ),
        (
            of_one,
            case(
                "a file",
                &[("SOPS_AGE_KEY_FILE", path("key"))],
                &[key(&one)],
            ),
        ),
        (
            of_one,
            case(
                "relative",
                &[("SOPS_AGE_KEY_FILE", "key".into())],
                &[key(&one)],
            ),
        ),
        (
            of_one,
            case(
                "a command",
                &[("SOPS_AGE_KEY_CMD", "cat key".into())],
                &[key(&one)],
            ),
        ),
        (
            of_one,
            case(
                "quotes",
                &[("SOPS_AGE_KEY_CMD", "sh -c 'cat \"$0\"' \"a key\"".into())],
                &[("a key", one.clone())],
            ),
        ),
        (
            of_one,
            case(
                "for a recipient",
                &[("SOPS_AGE_KEY_CMD", chosen.clone())],
                &[key(&one)],
            ),
        ),
        (
            "two.yaml",
            case(
                "for the second",
                &[("SOPS_AGE_KEY_CMD", chosen)],
                &[key(&one)],
            ),
        ),
        (
            of_one,
            case(
                "~/.config",
                &[],
                &[("../home/.config/sops/age/keys.txt", one.clone())],
            ),
        ),
        (
            of_one,
            case(
                "XDG",
                &[("XDG_CONFIG_HOME", path("xdg"))],
                &[("xdg/sops/age/keys.txt", one.clone())],
            ),
        ),
        (
            "ed25519.yaml",
            case(
                "an ssh file",
                &[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", path("key"))],
                &[key(&ed25519)],
            ),
        ),
        (
            "rsa.yaml",
            case(
                "an ssh command",
                &[("SOPS_AGE_SSH_PRIVATE_KEY_CMD", "cat key".into())],
                &[key(&rsa)],
            ),
        ),
        (
            "ed25519.yaml",
            case(
                "~/.ssh",
                &[],
                &[("../home/.ssh/id_ed25519", ed25519.clone())],
            ),
        ),
        (
            "rsa.yaml",
            case("~/.ssh", &[], &[("../home/.ssh/id_rsa", rsa.clone())]),
        ),
        (
            "rsa.yaml",
            case(
                "~/.ssh beside another",
                &[("SOPS_AGE_SSH_PRIVATE_KEY_FILE", path("key"))],
                &[key(&ed25519), ("../home/.ssh/id_rsa", rsa.clone())],
            ),
        ),
    ];
    for (file, place) in cases {
        opens_as_with_sops(&operator, file, &place);
    }
}

fn opens_as_with_sops(operator: &Operator, file: &str, place: &Place) {
    let what = format!("{file}: {}", place.what);
    for (name, text) in &place.files {
        fs::create_dir_all(operator.path(name).parent().unwrap()).unwrap();
        operator.write(name, text);
    }
    from(operator, &format!("{{ sops = \"{file}#one\" }}"), "");
    let with = |mut command: Command| {
        command.envs(place.variables.iter().map(|(name, text)| (name, text)));
        operator.ran(command)
    };
    let mut sops = Command::new(lab::peer("sops"));
    sops.args(["decrypt", "--extract", "[\"one\"]", file]);
    sops.env_clear()
        .env("HOME", operator.home())
        .env("PATH", "/usr/bin:/bin");
    sops.current_dir(operator.path(""));
    let theirs = with(sops);
    assert_eq!(theirs.stdout, b"value", "{what}\n{theirs}");
    let ours = with(operator.command(&["get", "x"]));
    assert_eq!(ours.stdout, b"value", "{what}\n{ours}");
    for (name, _) in &place.files {
        fs::remove_file(operator.path(name)).unwrap();
    }
    let neither = with(operator.command(&["get", "x"]));
    let kept = place.files.is_empty();
    assert_eq!(
        neither.code(),
        if kept { 0 } else { 6 },
        "{what}\n{neither}"
    );
}

/// An identity of the plugin `lab`, which holds nothing.
const PLUGIN: &str = "AGE-PLUGIN-LAB-1ERXPXW\n";

/// Writes a plugin that holds the key of the vector `x25519`, and that says and asks these stanzas before it tells it.
fn write_plugin(operator: &Operator, path: &str, says: &str) {
    let script = format!(
        r#"#!/bin/sh
touch {}
next() {{ read -r answer && while read -r body && [ ${{#body}} = 64 ]; do :; done; }}
until [ "$answer" = "-> done" ]; do next || exit 1; done
say() {{ printf -- '-> %s\n%s\n' "$1" "$2"; next; }}
{says}
say 'file-key 0' WUVMTE9XIFNVQk1BUklORQ
printf -- '-> done\n\n'
"#,
        operator.path("marker").display()
    );
    fs::create_dir_all(operator.path(path).parent().unwrap()).unwrap();
    operator.write(path, script);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(operator.path(path), mode).unwrap();
}

/// I-31, H6: what the manifest names is run, from PATH, and nothing else that an identity, a recipient or a file says.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn only_plugins_that_the_manifest_names_are_run_from_absolute_folders() {
    let mut operator = Operator::new();
    let vector = Vector::read("x25519");
    operator.write("a.age", &vector.file);
    operator.write("me", PLUGIN);
    write_plugin(&operator, "bin/age-plugin-lab", "");
    let bin = format!("{}:/usr/bin:/bin", operator.path("bin").display());
    operator.env("PATH", &bin);
    let mut age = Command::new(lab::peer("age"));
    age.args(["-d", "-i", "me", "a.age"])
        .current_dir(operator.path(""));
    age.env("PATH", &bin);
    let right = operator.ran(age).succeeded().stdout;
    let ran_it = || fs::remove_file(operator.path("marker")).is_ok();
    assert!(ran_it(), "age runs the plugin");

    let source = "{ age = { file = \"a.age\", identities = [\"me\"] } }";
    let unnamed = "needs age-plugin-lab, which `plugins` under [age] does not name";
    for lines in [
        "",
        "[age]\nplugins = []\n",
        "[age]\nplugins = [\"la\", \"lab2\"]\n",
    ] {
        from(&operator, source, lines);
        let _ran = operator.keys("get x").exited(6).said(unnamed);
        assert!(!ran_it(), "{lines}");
    }
    for name in ["../../x", "", "Lab", "a/b", "a\\u0000"] {
        from(
            &operator,
            source,
            &format!("[age]\nplugins = [\"{name}\"]\n"),
        );
        let _wrong = operator.keys("get x").exited(64);
    }
    let named = "[age]\nplugins = [\"lab\"]\n";
    from(&operator, source, named);
    assert_eq!(operator.keys("get x").succeeded().stdout, right);
    assert!(ran_it());

    // Planted: in the current folder, and where PATH is relative.
    let mut planted = Operator::new();
    write_plugin(&planted, "age-plugin-lab", "");
    write_plugin(&planted, "bin/age-plugin-lab", "");
    write_plugin(&planted, "../x", "");
    write_plugin(&planted, "age-plugin-x", "");
    planted.env("PATH", ":.:bin:/usr/bin:/bin");
    planted.write("a.age", &vector.file);
    planted.write(
        "me",
        format!("{PLUGIN}AGE-PLUGIN-X-1TPLWTE\nAGE-PLUGIN-../../X-1883D3J\n"),
    );
    from(&planted, source, named);
    let ran = planted.keys("get x").exited(6);
    let ran = ran.said("age-plugin-lab: no program `age-plugin-lab` in PATH");
    let ran = ran.said("me: line 2 needs age-plugin-x, which `plugins` under [age] does not name");
    let _said = ran.said("me: line 3 names no plugin");
    let sops = Sops::new();
    planted.env("SOPS_AGE_KEY", sops.age().identity_text());
    let file = sops.encrypt("a.yaml", "one: value\n");
    for recipient in [
        "age1x1pzrywq7sf7",
        "age1../../x1pzryqys6th",
        "age1lab1y2r30c",
    ] {
        planted.write("a.yaml", file.replace(sops.age().recipient(), recipient));
        from(&planted, "{ sops = \"a.yaml#one\" }", named);
        assert_eq!(planted.keys("get x").succeeded().stdout, b"value");
    }
    assert!(!planted.path("marker").exists());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_plugin_asks_on_the_terminal_and_is_told_nothing_that_it_should_not_see() {
    let mut operator = Operator::new();
    let vector = Vector::read("x25519");
    operator.write("a.age", &vector.file);
    operator.write("me", PLUGIN);
    let bin = format!("{}:/usr/bin:/bin", operator.path("bin").display());
    operator
        .env("PATH", &bin)
        .env("VAULT_TOKEN", "c4nary")
        .env("AGEDEBUG", "plugin");
    let source = "{ age = { file = \"a.age\", identities = [\"me\"] } }";
    from(&operator, source, "[age]\nplugins = [\"lab\"]\n");
    // `Your\x1b[31m PIN`, `touch it`, `really?` with `yes` and `no`.
    let says = format!(
        "say msg dG91Y2ggaXQ\nsay request-secret WW91chtbMzFtIFBJTg\n[ \"$body\" = MTIzNA ] || exit 1\n\
         say 'confirm eWVz bm8' cmVhbGx5Pw\n[ \"$answer\" = '-> ok yes' ] || exit 1\n\
         say unknown ''\n[ \"$answer\" = '-> unsupported' ] || exit 1\nenv >{}",
        operator.path("env").display()
    );
    write_plugin(&operator, "bin/age-plugin-lab", &says);
    let ran = typed(&operator, "1234\ny\n").succeeded();
    assert_eq!(
        Digest::of(&out(&operator)),
        vector.payload.unwrap(),
        "{ran}"
    );
    let ran = ran
        .printed("age-plugin-lab: touch it")
        .printed("age-plugin-lab: Your\\u{1b}[31m PIN: ");
    let _ran = ran.printed("age-plugin-lab: really? (y: yes, n: no): ");
    let env = fs::read_to_string(operator.path("env")).unwrap();
    assert!(
        !env.contains("c4nary") && !env.contains("AGEDEBUG"),
        "{env}"
    );
    let _wrong = typed(&operator, "4321\ny\n")
        .exited(6)
        .printed("age-plugin-lab: it ended too early");
    let _alone = operator
        .without_terminal("get x")
        .exited(6)
        .said("age-plugin-lab: ");
    for (says, said) in [
        ("say error bm8ga2V5", "age-plugin-lab: no key"),
        (
            "echo nonsense; echo",
            "age-plugin-lab: it does not speak as a plugin does",
        ),
        (
            "head -c 2000000 /dev/zero",
            "age-plugin-lab: it ended too early",
        ),
        (
            "while :; do say msg eA; done",
            "age-plugin-lab: it talks without end",
        ),
        (
            "say 'file-key 0' eA",
            "age-plugin-lab: it gave a file key of a wrong length",
        ),
    ] {
        write_plugin(&operator, "bin/age-plugin-lab", says);
        let ran = operator.without_terminal("get x").exited(6).said(said);
        assert_eq!(ran.stdout, b"", "{ran}");
    }
}

/// A vector of C2SP/CCTV, see tests/data/age-testkit.md.
struct Vector {
    name: String,
    expect: String,
    payload: Option<Digest>,
    identities: String,
    passphrases: String,
    file: Vec<u8>,
}

impl Vector {
    fn all() -> Vec<Self> {
        let folder = format!("{}/data/age-testkit", env!("CARGO_MANIFEST_DIR"));
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let vectors: Vec<Self> = names.map(|name| Self::read(&name)).collect();
        assert_eq!(vectors.len(), 143);
        vectors
    }

    fn read(name: &str) -> Self {
        let path = format!("{}/data/age-testkit/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let header = str::from_utf8(&bytes[..end]).unwrap();
        let values = |name: &str| -> Vec<&str> {
            let lines = header.lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .collect()
        };
        let mut file = bytes[end + 2..].to_vec();
        if values("compressed") == ["zlib"] {
            file = decompress_to_vec_zlib(&file).unwrap();
        }
        let lines = |name| {
            values(name)
                .iter()
                .map(|line| format!("{line}\n"))
                .collect()
        };
        Self {
            name: name.to_owned(),
            expect: values("expect")[0].to_owned(),
            payload: values("payload").first().map(|hex| hex.parse().unwrap()),
            identities: lines("identity"),
            passphrases: lines("passphrase"),
            file,
        }
    }

    /// What `keys` says for what is expected.
    fn said(&self) -> &'static [&'static str] {
        match self.expect.as_str() {
            "no match" => &["no identity opens it", "the passphrase was wrong"],
            "HMAC failure" => &["damaged: its header is not authentic"],
            "header failure" => &[
                "damaged: its header cannot be read",
                "not an age file",
                "an age format that is not known",
                "its work factor is 23, and the largest is 22",
            ],
            "payload failure" => &["damaged or cut off: its end is not authentic"],
            "armor failure" => &["damaged: its armor cannot be read", "not an age file"],
            other => panic!("{}: {other}", self.name),
        }
    }
}

/// H4: all vectors of age's own specification: what is to open opens, what is not gives not one byte, and says why.
#[test]
fn the_vectors_of_age_open_or_fail_as_they_should() {
    let operator = Operator::new();
    let source = "{ age = { file = \"a.age\", identities = [\"me\"] } }";
    from(&operator, source, "");
    let (mut classes, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    for vector in Vector::all() {
        operator.write("a.age", &vector.file);
        operator.write("me", &vector.identities);
        let (code, said, bytes) = if vector.passphrases.is_empty() {
            let ran = operator.without_terminal("get x");
            (ran.code(), ran.stderr, ran.stdout)
        } else {
            // A wrong one is asked for again.
            let ran = typed(&operator, &vector.passphrases.repeat(3));
            (ran.code(), ran.text(), out(&operator))
        };
        let what = format!(
            "{}: {} was expected: {code}: {said}",
            vector.name, vector.expect
        );
        let right = if vector.expect == "success" {
            code == 0 && Some(Digest::of(&bytes)) == vector.payload
        } else {
            let known = vector.said().iter().any(|words| said.contains(words));
            code == 6 && bytes.is_empty() && known
        };
        if !right {
            wrong.push(what);
        }
        *classes.entry(vector.expect).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{classes:?}");
}

/// H7, I-18: what would cost time or memory is refused before it does: a second of the processor, 64 MiB of data.
#[test]
fn files_that_would_cost_too_much_are_refused_at_once() {
    let operator = Operator::new();
    operator.write("me", Vector::read("x25519").identities);
    let file = "age-encryption.org/v1\n";
    let stanza = "-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nhjabGXwSLQ9c3S6Lw2i+S2Tu2fiwQHHslbBN6B41FLE\n";
    let scrypt = String::from_utf8_lossy(&Vector::read("scrypt").file).into_owned();
    let end = "--- WyJp9F/9FOZh7gJdheq2WIJcwHgYc8NIVh3ddwhrcNg\n0123456789abcdef";
    let large = "its header is larger than that of any age file";
    let line = "A".repeat(64) + "\n";
    let armored = |text: &str| {
        let mut command = Command::new("base64");
        command.args(["-w", "64"]);
        let text = Ran::of(command, text.as_bytes()).succeeded().text();
        format!("-----BEGIN AGE ENCRYPTED FILE-----\n{text}-----END AGE ENCRYPTED FILE-----\n")
    };
    let stanzas = format!("{file}{}{end}", stanza.repeat(10_000));
    for (what, text, said) in [
        (
            "work",
            scrypt.replace(" 10\n", " 30\n"),
            "its work factor is 30, and the largest is 22",
        ),
        ("stanzas", stanzas.clone(), large),
        ("armored stanzas", armored(&stanzas), large),
        (
            "small stanzas",
            format!("{file}{}{end}", "-> x\n\n".repeat(10_000)),
            large,
        ),
        (
            "one line",
            format!("{file}-> X25519 {}", "A".repeat(90 << 20)),
            large,
        ),
        (
            "one body",
            format!("{file}-> X25519\n{}", line.repeat((90 << 20) / 65)),
            large,
        ),
        (
            "arguments",
            format!("{file}-> X25519{}\n\n{end}", " A".repeat(45 << 20)),
            large,
        ),
        (
            "100 MiB",
            format!("{file}-> X25519 {}", "A".repeat(100 << 20)),
            "larger than 96 MiB",
        ),
    ] {
        operator.write("a.age", text);
        from(
            &operator,
            "{ age = { file = \"a.age\", identities = [\"me\"] } }",
            "",
        );
        let ran = operator
            .after("ulimit -d 65536; ulimit -t 1", "get x")
            .exited(6);
        let ran = ran.said(&format!("keys: x: age a.age: {said}\n"));
        assert_eq!(ran.stdout, b"", "{what}");
        println!("{what}: {:?}", ran.took);
    }
}

/// Encrypts to recipients, as agenix does: for a user and for hosts.
fn encrypted_to(recipients: &[&str], words: &[&str], value: &[u8]) -> Vec<u8> {
    let mut command = Command::new(lab::peer("age"));
    command.args(words);
    for recipient in recipients {
        command.args(["-r", recipient]);
    }
    Ran::of(command, value).succeeded().stdout
}

/// H10: ssh keys as they are, as ssh-to-age converts them, in each format and behind each cipher that ssh-keygen writes.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn ssh_keys_open_what_is_encrypted_to_them_or_say_why_not() {
    let operator = Operator::new();
    let (ed25519, public) = ssh_key(&operator, "ed25519");
    let (rsa, rsa_public) = ssh_key(&operator, "rsa");
    let (ecdsa, _) = ssh_key(&operator, "ecdsa");
    operator.manifest(&format!("[hosts.pigeon]\nhost_key = \"{public}\"\n"));
    let converted = operator.keys("recipients").succeeded().text();
    let converted = converted.trim_end().strip_prefix("pigeon: ").unwrap();
    let other = Age::new_identity();
    let source = "{ age = { file = \"secrets/a.age\", identities = [\"me\"] } }";
    fs::create_dir(operator.path("secrets")).unwrap();
    for (key, recipient) in [
        (&ed25519, &public[..]),
        (&ed25519, converted),
        (&rsa, &rsa_public),
    ] {
        for words in [&[][..], &["--armor"]] {
            let file = encrypted_to(&[other.recipient(), recipient], words, b"value");
            operator.write("secrets/a.age", file);
            operator.write("me", key);
            gets(&operator, source, b"value");
            operator.write("me", key.replace('\n', "\r\n"));
            gets(&operator, source, b"value");
            for (cipher, words) in [
                ("aes256-ctr", "passphrase\n"),
                ("chacha20-poly1305@openssh.com", "no\npassphrase\n"),
            ] {
                operator.write("me", key);
                rewritten(&operator, &["-N", "passphrase", "-Z", cipher]);
                let _asked = typed(&operator, words).succeeded();
                assert_eq!(out(&operator), b"value", "{recipient} {cipher}");
                let _alone = operator
                    .without_terminal("get x")
                    .exited(6)
                    .said("there is no terminal");
            }
        }
    }
    operator.write("me", &rsa);
    rewritten(&operator, &["-N", "", "-m", "PEM"]);
    assert!(
        fs::read_to_string(operator.path("me"))
            .unwrap()
            .contains("BEGIN RSA")
    );
    gets(&operator, source, b"value");
    rewritten(&operator, &["-N", "passphrase", "-m", "PEM"]);
    fails(
        &operator,
        source,
        "me: a key under a passphrase in the old PEM format\nkeys: hint: ssh-keygen -p",
    );
    operator.write("me", &ecdsa);
    fails(
        &operator,
        source,
        "me: age uses ssh keys of the types ed25519 and rsa only\n",
    );
    for key in [&ed25519, &rsa] {
        let lines: Vec<&str> = key.lines().collect();
        for end in 1..lines.len() {
            operator.write("me", lines[..end].join("\n"));
            fails(
                &operator,
                source,
                "me: the ssh private key cannot be read\n",
            );
        }
        operator.write("me", &key[..key.len() / 2]);
        fails(
            &operator,
            source,
            "me: the ssh private key cannot be read\n",
        );
    }
}

/// Writes the key `me` anew with other words for ssh-keygen.
fn rewritten(operator: &Operator, words: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-p", "-P", ""])
        .args(words)
        .arg("-f")
        .arg(operator.path("me"));
    let _written = operator.ran(command).succeeded();
}
