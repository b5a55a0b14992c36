//! L3, D9, H: secrets from files and programs, byte for byte what sops, age and the file itself have.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use keys_tests::{Age, LIMIT, Operator, Ran, Sops, Sshd, lab, wait_for};

/// Every byte, no newline at the end, and what a text editor, a shell or a C program would change.
fn values() -> Vec<Vec<u8>> {
    let every: Vec<u8> = (0..=255).collect();
    vec![
        vec![b'1'],
        every.repeat(4),
        b"no newline".to_vec(),
        b"one\n".to_vec(),
        b"\r\ntwo\r\n\r\n".to_vec(),
        b"\xff\xfeU\0T\0F\0-\0\x31\x006\0".to_vec(),
        b"ends in NUL\0".to_vec(),
        b"\xef\xbb\xbfmark".to_vec(),
        every.repeat(4096),
    ]
}

/// Writes a manifest with one key, `x`, for `pigeon`.
fn from(operator: &Operator, source: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = {source}\n"
    ));
}

fn gets(operator: &Operator, source: &str, value: &[u8]) {
    from(operator, source);
    let ran = operator.keys("get x").succeeded();
    assert!(
        ran.stdout == value,
        "{source}: {} bytes of {}",
        ran.stdout.len(),
        value.len()
    );
}

fn fails(operator: &Operator, source: &str, said: &str) {
    from(operator, source);
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

/// D9: all the way to the host.
#[test]
fn bytes_arrive_as_they_are() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    let mut text = "id = \"lab\"\n[hosts.pigeon]\n".to_owned();
    let mut values = values();
    values.push(Vec::new());
    for (number, value) in values.iter().enumerate() {
        operator.write(&format!("value{number}"), value);
        text += &format!(
            "[keys.key{number}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"value{number}\" }}\n"
        );
    }
    operator.manifest(&text);
    let _sent = operator.send("").succeeded();
    for (number, value) in values.iter().enumerate() {
        assert_eq!(
            &host.inside().read(&format!("/run/keys/key{number}")),
            value
        );
    }
}

/// L3
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_file_is_a_regular_one_below_the_manifest() {
    let operator = Operator::new();
    operator.write("sub/value", "x");
    fs::write(operator.path("../outside"), "outside").unwrap();
    symlink("../outside", operator.path("out")).unwrap();
    symlink("/etc/passwd", operator.path("absolute")).unwrap();
    symlink("/proc/self/environ", operator.path("environ")).unwrap();
    symlink("/", operator.path("root")).unwrap();
    let _made = Ran::of(
        shell(
            &operator,
            "mkfifo fifo; mknod zero c 1 5; truncate -s 65M large",
        ),
        b"",
    )
    .succeeded();
    gets(&operator, "{ file = \"sub/value\" }", b"x");
    gets(&operator, "{ file = \"./sub/../sub/value\" }", b"x");
    for path in [
        "../outside",
        "sub/../../outside",
        "out",
        "absolute",
        "environ",
        "root/etc/passwd",
    ] {
        fails(
            &operator,
            &format!("{{ file = \"{path}\" }}"),
            &format!("keys: x: file {path}: "),
        );
    }
    for (path, said) in [
        ("fifo", "not a regular file"),
        ("zero", "not a regular file"),
        ("sub", "not a regular file"),
        ("large", "larger than 64 MiB"),
        ("none", "No such file or directory"),
    ] {
        fails(
            &operator,
            &format!("{{ file = \"{path}\" }}"),
            &format!("keys: x: file {path}: {said}"),
        );
    }
    for path in ["", "/etc/passwd", "a\\u0000b"] {
        from(&operator, &format!("{{ file = \"{path}\" }}"));
        let _wrong = operator.keys("get x").exited(64);
    }
}

/// L3: half of an old and half of a new value is neither.
#[test]
fn a_file_that_changes_while_it_is_read_is_refused_or_whole() {
    let operator = Operator::new();
    let size = 16 << 20;
    operator.write("value", vec![b'a'; size]);
    from(&operator, "{ file = \"value\" }");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(operator.path("value"))
                .unwrap();
            for round in (0..).take_while(|_| !over.load(Ordering::Relaxed)) {
                let bytes = vec![b'a' + round % 2; 1 << 20];
                for at in (0..size as u64).step_by(1 << 20) {
                    file.write_all_at(&bytes, at).unwrap();
                }
            }
        });
        wait_for("a change while it is read", LIMIT, || {
            let ran = operator.keys("get x");
            if ran.code() == 0 {
                assert!(
                    ran.stdout.iter().all(|byte| *byte == ran.stdout[0]),
                    "a mixture"
                );
                return None;
            }
            let _refused = ran.said("value: changed while it was read\n");
            Some(())
        });
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let _whole = operator.keys("get x").succeeded();
}

/// H1: the values that sops itself prints, of every format.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn sops_files_give_what_sops_gives() {
    let mut operator = Operator::new();
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    let check = |name: &str, text: &str, values: &[(&str, &str)]| {
        operator.write(name, sops.encrypt(name, text));
        for (key, extract) in values {
            let right = sops
                .decrypt(&operator.path(name), Some(extract))
                .succeeded()
                .stdout;
            gets(&operator, &format!("{{ sops = \"{name}#{key}\" }}"), &right);
        }
        // YAML as a whole is the same data, in another layout.
        if name == "a.yaml" {
            return;
        }
        let whole = sops.decrypt(&operator.path(name), None).succeeded().stdout;
        gets(&operator, &format!("{{ sops = \"{name}\" }}"), &whole);
    };
    check(
        "a.yaml",
        "text: \"ü \\U0001F511\\ttab\\r\\n\"\nin:\n  ner: |\n    -----BEGIN\n    two\n  number: 12\n  float: 1.5\n  yes: true\nempty: \"\"\n",
        &[
            ("text", "[\"text\"]"),
            ("in/ner", "[\"in\"][\"ner\"]"),
            ("in/number", "[\"in\"][\"number\"]"),
            ("in/float", "[\"in\"][\"float\"]"),
        ],
    );
    check(
        "a.json",
        "{\"a\": {\"b/c\": \"x\\u0000\\n\"}, \"n\": 3}",
        &[("n", "[\"n\"]")],
    );
    check(
        "a.env",
        "A=b c\nB=x=y\\nz\n",
        &[("A", "[\"A\"]"), ("B", "[\"B\"]")],
    );
    check("a.ini", "[s]\nk = v w\n", &[("s/k", "[\"s\"][\"k\"]")]);
    operator.write(
        "a.json",
        sops.encrypt("a.json", "{\"a\": {\"b/c\": \"x\\u0000\\n\"}}"),
    );
    gets(
        &operator,
        "{ sops = { file = \"a.json\", key = [\"a\", \"b/c\"] } }",
        b"x\0\n",
    );
    for value in values() {
        let plain = operator.path("plain");
        fs::write(&plain, &value).unwrap();
        let mut command = Command::new(lab::peer("sops"));
        command
            .args([
                "encrypt",
                "--input-type",
                "binary",
                "--age",
                sops.age().recipient(),
            ])
            .arg(&plain);
        operator.write("a.bin", operator.ran(command).succeeded().stdout);
        gets(&operator, "{ sops = \"a.bin\" }", &value);
    }
}

/// H2, H3: what sops refuses is refused, and nothing of it is shown.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_sops_file_that_was_tampered_with_gives_nothing() {
    let mut operator = Operator::new();
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    let file = sops.encrypt("a.yaml", "one: first-value\ntwo: second-value\n");
    let line = |name: &str| {
        file.lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap()
    };
    let cipher = |name: &str| line(name).split_once(": ").unwrap().1;
    let other = sops.encrypt("a.yaml", "one: first-value\ntwo: other-value\n");
    let mac = |text: &str| {
        text.lines()
            .find(|line| line.contains("  mac: "))
            .unwrap()
            .to_owned()
    };
    for (what, text) in [
        (
            "swapped",
            file.replace(cipher("one"), "@")
                .replace(cipher("two"), cipher("one"))
                .replace('@', cipher("two")),
        ),
        ("another's mac", file.replace(&mac(&file), &mac(&other))),
        ("no mac", file.replace(&mac(&file), "")),
        ("a value in clear", file.replace(cipher("two"), "clear")),
        (
            "a value removed",
            file.replace(&format!("{}\n", line("two")), ""),
        ),
        ("cut", file[..file.len() / 2].to_owned()),
    ] {
        operator.write("a.yaml", &text);
        assert_ne!(
            sops.decrypt(&operator.path("a.yaml"), Some("[\"one\"]"))
                .code(),
            0,
            "{what}"
        );
        fails(
            &operator,
            "{ sops = \"a.yaml#one\" }",
            "keys: x: sops a.yaml: ",
        );
    }
    operator.write(
        "a.yaml",
        sops.encrypt_with(
            "a.yaml",
            "one_unencrypted: clear\ntwo: b\n",
            &["--unencrypted-suffix", "_unencrypted"],
        ),
    );
    fails(
        &operator,
        "{ sops = \"a.yaml#one_unencrypted\" }",
        "in clear",
    );
    gets(
        &operator,
        "{ sops = { file = \"a.yaml\", key = \"one_unencrypted\", allow_unencrypted = true } }",
        b"clear",
    );
    fails(&operator, "{ sops = \"a.yaml#three\" }", "keys: hint: ");
}

/// H4: as age itself, through binary and armor, with identities from every place.
#[test]
fn age_files_give_what_age_gives() {
    let mut operator = Operator::new();
    let age = Age::new_identity();
    operator.write("identity", age.identity_text());
    for (number, value) in values().iter().enumerate() {
        for words in [&[][..], &["--armor"]] {
            let file = age.encrypt(value, words);
            assert_eq!(
                &Age::decrypt(&age.identity(), &file).succeeded().stdout,
                value
            );
            let name = format!("value{number}{}.age", words.len());
            operator.write(&name, &file);
            gets(
                &operator,
                &format!("{{ age = {{ file = \"{name}\", identities = [\"identity\"] }} }}"),
                value,
            );
        }
    }
    let source = "{ age = \"value2.age\" }";
    operator.write("value2.age", age.encrypt(b"usual", &[]));
    fails(
        &operator,
        source,
        "keys: x: age value2.age: no identity opens it\n",
    );
    operator.env("SOPS_AGE_KEY_FILE", age.identity());
    gets(&operator, source, b"usual");
    operator
        .env("SOPS_AGE_KEY_FILE", "")
        .env("SOPS_AGE_KEY", age.identity_text());
    gets(&operator, source, b"usual");
    operator.env("SOPS_AGE_KEY", "");
    let usual = operator.home().join(".config/sops/age/keys.txt");
    fs::create_dir_all(usual.parent().unwrap()).unwrap();
    fs::copy(age.identity(), &usual).unwrap();
    fs::set_permissions(&usual, fs::Permissions::from_mode(0o600)).unwrap();
    gets(&operator, source, b"usual");
}

/// H5: not one byte of a file whose end is not authentic, though age itself prints what comes before.
#[test]
fn an_age_file_that_was_cut_or_changed_gives_nothing() {
    let operator = Operator::new();
    let age = Age::new_identity();
    operator.write("identity", age.identity_text());
    let value = vec![b'v'; 200_000];
    let file = age.encrypt(&value, &[]);
    let source = "{ age = { file = \"a.age\", identities = [\"identity\"] } }";
    let header = file.len() - 200_000 - 4 * 16;
    let chunk = (64 << 10) + 16;
    let ends = [
        header - 1,
        header,
        header + 1,
        header + chunk - 1,
        header + chunk,
        header + chunk + 1,
        header + 3 * chunk,
        file.len() - 1,
    ];
    for end in ends {
        operator.write("a.age", &file[..end]);
        fails(&operator, source, "keys: x: age a.age: ");
    }
    operator.write("a.age", [&file[..], b"x"].concat());
    fails(&operator, source, "keys: x: age a.age: ");
    for at in [
        0,
        30,
        header - 5,
        header + 5,
        header + 2 * chunk,
        file.len() - 1,
    ] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        operator.write("a.age", &changed);
        fails(&operator, source, "keys: x: age a.age: ");
    }
}

/// H6, H9, I-31: nothing that is named sops, age or age-plugin-… is run, wherever it lies.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn no_program_is_chosen_by_data() {
    let mut operator = Operator::new();
    let (sops, age) = (Sops::new(), Age::new_identity());
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    operator.env(
        "PATH",
        format!("{}::.:/usr/bin:/bin", operator.path("bin").display()),
    );
    let script = format!("#!/bin/sh\ntouch {}\n", operator.path("marker").display());
    for name in ["sops", "age", "gpg", "ssh", "age-plugin-x", "helper"] {
        for folder in ["bin", "."] {
            operator.write(&format!("{folder}/{name}"), &script);
            fs::set_permissions(
                operator.path(&format!("{folder}/{name}")),
                fs::Permissions::from_mode(0o755),
            )
            .unwrap();
        }
    }
    operator.write("a.yaml", sops.encrypt("a.yaml", "one: a\n"));
    gets(&operator, "{ sops = \"a.yaml#one\" }", b"a");
    operator.write(
        "identity",
        format!(
            "AGE-PLUGIN-X-1QQQQ\nAGE-PLUGIN-../../X-1QQQQ\n{}",
            age.identity_text()
        ),
    );
    operator.write("a.age", age.encrypt(b"b", &[]));
    gets(
        &operator,
        "{ age = { file = \"a.age\", identities = [\"identity\"] } }",
        b"b",
    );
    operator
        .env("SOPS_AGE_KEY_CMD", "helper")
        .env("SOPS_AGE_SSH_PRIVATE_KEY_CMD", "helper");
    gets(&operator, "{ sops = \"a.yaml#one\" }", b"a");
    assert!(!operator.path("marker").exists());
    // From PATH, and then only from its absolute folders.
    from(&operator, "{ command = [\"helper\"] }");
    let _ran = operator.keys("get x").exited(6);
    assert!(operator.path("marker").exists());
    fs::remove_file(operator.path("marker")).unwrap();
    fs::remove_file(operator.path("bin/helper")).unwrap();
    fails(
        &operator,
        "{ command = [\"helper\"] }",
        "no program `helper` in PATH",
    );
    assert!(!operator.path("marker").exists());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_command_gives_what_it_prints() {
    let operator = Operator::new();
    for value in values() {
        operator.write("value", &value);
        gets(&operator, "{ command = [\"cat\", \"value\"] }", &value);
    }
    gets(
        &operator,
        "{ command = { argv = [\"printf\", \"a\\\\n\\\\n\"], trim = \"newline\" } }",
        b"a\n",
    );
    gets(
        &operator,
        "{ command = [\"printf\", \"%s\", \"$(touch marker) `touch marker` {host}\"] }",
        b"$(touch marker) `touch marker` pigeon",
    );
    assert!(!operator.path("marker").exists());
    gets(
        &operator,
        "{ command = { argv = [\"sh\", \"-c\", \"pwd; echo $A\"], env = { A = \"b\" }, cwd = \"/\" } }",
        b"/\nb\n",
    );
    fails(
        &operator,
        "{ command = [\"sh\", \"-c\", \"echo part; exit 3\"] }",
        "exit status: 3",
    );
    fails(
        &operator,
        "{ command = [\"sh\", \"-c\", \"echo part; kill -9 $$\"] }",
        "signal: 9",
    );
    fails(
        &operator,
        "{ command = [\"true\"] }",
        "it printed nothing\nkeys: hint: `allow_empty = true` takes that as the secret\n",
    );
    fails(
        &operator,
        "{ command = [\"sh\", \"-c\", \"head -c 70000000 /dev/zero\"] }",
        "it printed more than 64 MiB",
    );
    let source = "{ command = { argv = [\"sh\", \"-c\", \"sleep 61 & echo part; sleep 61\"], timeout = \"1s\" } }";
    from(&operator, source);
    let ran = operator.keys("get x").exited(6).said("no end after 1s");
    assert!(ran.took < Duration::from_secs(5), "{ran}");
}

/// One run for all keys that say the same, and one for each that says something else.
#[test]
fn a_command_runs_once_for_all_who_say_the_same() {
    let operator = Operator::new();
    let script = "#!/bin/sh\necho \"$A $(pwd) $*\" >>\"$LOG\"\necho x\n";
    operator.write("bin/ask", script);
    operator.write("sub/x", "");
    fs::set_permissions(operator.path("bin/ask"), fs::Permissions::from_mode(0o755)).unwrap();
    let log = operator.path("log").display().to_string();
    let key = |name: &str, more: &str| {
        format!(
            "{name}.source.command = {{ argv = [\"bin/ask\", \"{{host}}\"], env = {{ LOG = \"{log}\", A = \"a-{{host}}\" }}{more} }}\n"
        )
    };
    let keys = [
        key("x", ""),
        key("y", ""),
        key("z", ", cwd = \"sub\"").replace("bin/ask", "../bin/ask"),
    ]
    .concat();
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.a.keys]\n{keys}[hosts.b.keys]\n{keys}"
    ));
    // The hosts are not there; the sources are asked all the same, before them.
    let _ran = operator.keys("plan").exited(4);
    let log = fs::read_to_string(operator.path("log")).unwrap();
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    let folder = operator.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    assert_eq!(
        lines,
        [
            format!("a-a {folder} a"),
            format!("a-a {folder}/sub a"),
            format!("a-b {folder} b"),
            format!("a-b {folder}/sub b"),
        ]
    );
}

/// As `pass`, `rbw`, `op` and `bw` are called: what they say when they fail is shown, its end, and harmless.
#[test]
fn what_a_failed_command_said_is_shown_within_bounds() {
    let operator = Operator::new();
    let script = "#!/bin/sh\nseq 1 5000 >&2\nprintf 'Error: x is not in the password store.\\033[31m\\n' >&2\nexit 1\n";
    operator.write("pass", script);
    fs::set_permissions(operator.path("pass"), fs::Permissions::from_mode(0o755)).unwrap();
    from(&operator, "{ command = [\"./pass\", \"show\", \"x\"] }");
    let ran = operator.keys("get x").exited(6);
    let ran = ran
        .said("keys: x: command ./pass show x: exit status: 1\nkeys: hint: it said: 4994 | 4995");
    let ran = ran.said("| 5000 | Error: x is not in the password store.\\u{1b}[31m\n");
    assert!(ran.stderr.len() < 1000, "{ran}");
}

fn shell(operator: &Operator, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(operator.path(""));
    command
}
