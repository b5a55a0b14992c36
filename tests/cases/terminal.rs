//! L4, L8: what reaches a terminal, and outputs that are none.

use std::fs;
use std::io::{Read as _, Write as _};

use keys_protocol::{Digest, Done, Hello, Stray, Wire};
use keys_tests::{Operator, Port, Ran, Sshd};

/// What a terminal would obey: a colour, a title, the clipboard, one byte instead of two, a line that reads backwards.
const ORDERS: &str = "\u{1b}[31m\u{1b}]0;t\u{7}\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}evil\r";

/// Sees that nothing of it is obeyed, and that it is not without end.
fn harmless(ran: &Ran) {
    let said = format!("{}{}", ran.text(), ran.stderr);
    let order = said
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(order, None, "{ran:.2000}");
    assert!(said.len() < 16 << 10, "{} bytes: {said:.2000}", said.len());
}

fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| format!("\\u{:04x}", c as u32))
        .collect()
}

/// L4: from the manifest and the command line.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn names_cannot_give_orders_to_a_terminal() {
    let operator = Operator::new();
    let long = "x".repeat(10 << 10);
    for text in [escaped(ORDERS), long] {
        let source = "source = { file = \"x\" }\nhosts = [\"a\"]\n";
        for manifest in [
            format!("\"{text}\" = 1\n"),
            format!("[hosts.\"{text}\"]\n"),
            format!("[hosts.a]\nssh = \"{text}\"\n"),
            format!("[hosts.a]\nhost_key = \"{text}\"\n"),
            format!("[hosts.a]\ntags = [\"{text}\"]\n"),
            format!("[hosts.a]\n[keys.\"{text}\"]\n{source}"),
            format!("[hosts.a]\n[keys.x]\n{source}owner = \"{text}\"\n"),
            format!("[hosts.a]\n[keys.x]\n{source}mode = \"{text}\"\n"),
            format!("[hosts.a]\n[keys.x]\n{source}restart_units = [\"{text}\"]\n"),
            format!("[hosts.a]\n[keys.x]\nhosts = [\"{text}\"]\nsource = {{ file = \"x\" }}\n"),
            format!("[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ \"{text}\" = 1 }}\n"),
            format!("[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ file = \"{text}\" }}\n"),
            format!("[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ sops = \"{text}#a\" }}\n"),
            format!("[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ age = \"{text}\" }}\n"),
            format!(
                "[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ vault = \"kv/{text}#a\" }}\n"
            ),
            format!(
                "[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ command = [\"{text}\"] }}\n"
            ),
            format!("id = \"{text}\"\n[hosts.a]\n"),
            format!(
                "[vault]\naddress = \"{text}\"\n[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {{ vault = \"kv/a#a\" }}\n"
            ),
        ] {
            operator.write("keys.toml", manifest);
            let ran = operator.keys("send");
            assert_ne!(ran.code(), 0, "{ran}");
            harmless(&ran);
        }
    }
    operator.write("keys.toml", "[hosts.a]\n");
    for words in [
        ["send", ORDERS],
        ["get", ORDERS],
        [ORDERS, "x"],
        ["-f", ORDERS],
        ["--nonsense", ORDERS],
    ] {
        let mut words = words.to_vec();
        words.push("send");
        let ran = operator.ran(operator.command(&words)).exited(64);
        harmless(&ran);
    }
    // Places that hold them.
    let folder = operator.path(ORDERS.trim_end());
    fs::create_dir(&folder).unwrap();
    let mut command = operator.command(&["send", "-f", "none"]);
    command.current_dir(&folder);
    harmless(&operator.ran(command).exited(64));
}

/// L4: from a host: its login, its agent, and files that lie there.
#[test]
fn a_host_cannot_give_orders_to_a_terminal() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token("x");
    host.inside()
        .write(&format!("/run/keys/{}", ORDERS.trim_end()), "x", 0o600);
    for words in ["send", "status", "plan", "send --json", "status --json"] {
        let ran = operator.keys(words).succeeded();
        assert!(
            format!("{}{}", ran.text(), ran.stderr).contains("\\u{1b}[31m"),
            "{ran}"
        );
        harmless(&ran);
    }
    host.inside()
        .write("/root/noise", ORDERS.repeat(500), 0o600);
    for script in [
        "cat /root/noise >&2; exit 1",
        "cat /root/noise; exit 3",
        "cat /root/noise >&2; exit 127",
        "cat /root/noise >&2; exit 75",
        "cat /root/noise >&2; exit 255",
        "cat /root/hello",
    ] {
        host.wrap(script);
        host.inside().write("/root/hello", hello(), 0o600);
        for words in ["send", "status", "send --json", "status --json"] {
            let ran = operator.keys(words);
            let known = words.starts_with("status");
            assert!(ran.code() != 0 || known, "{script}: {ran}");
            harmless(&ran);
        }
    }
}

/// Returns what an agent would say whose every text gives orders.
fn hello() -> Vec<u8> {
    let text = || ORDERS.repeat(8);
    let mut bytes = Vec::new();
    let mut wire = Wire::accept(&b""[..], &mut bytes);
    wire.send(&Hello {
        protocol_min: 1,
        protocol_max: 1,
        requires: String::new(),
        features: String::new(),
        agent: text(),
        host_id: None,
        host_keys: text(),
        boot: text(),
        boot_id: text(),
        generation: 1,
        epoch: 0,
        bundle: None,
        sent_by: text(),
        sent_at: 1,
        nonce: Digest([7; 32]),
        keys: 0,
        strays: 1,
    })
    .unwrap();
    wire.send(&Stray { name: text() }).unwrap();
    wire.send(&Done { generation: 1 }).unwrap();
    wire.flush().unwrap();
    drop(wire);
    bytes
}

/// L4: from a source: what a command says, and what a server answers.
#[test]
fn a_source_cannot_give_orders_to_a_terminal() {
    let operator = Operator::new();
    operator.write("noise", ORDERS.repeat(500));
    let from = |lines: &str, source: &str| {
        operator.manifest(&format!(
            "{lines}\n[hosts.a]\n[keys.x]\nhosts = [\"a\"]\nsource = {source}\n"
        ));
        let ran = operator.keys("send").exited(6);
        harmless(&ran);
    };
    from(
        "",
        "{ command = [\"sh\", \"-c\", \"cat noise >&2; exit 1\"] }",
    );
    let body = format!("{{\"errors\": [\"{}\"]}}", escaped(ORDERS).repeat(20));
    for status in [
        "400 Bad",
        "403 No",
        "404 No",
        "500 Bad",
        "503 Bad",
        "307 There\r\nLocation: http://\x1b[31m/",
    ] {
        let body = body.clone();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let port = Port::serving(move |mut stream| {
            let _read = stream.read(&mut [0; 4096]);
            let _written = stream.write_all(answer.as_bytes());
        });
        operator.write("token", "x");
        from(
            &format!(
                "[vault]\naddress = \"http://127.0.0.1:{}\"\nauth = {{ token_file = \"token\" }}",
                port.number()
            ),
            "{ vault = \"kv/a#a\" }",
        );
    }
}

/// L8: an output that takes nothing is a failure, and no panic.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_closed_or_full_output_is_a_failure_without_a_panic() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token(vec![b'x'; 1 << 20]);
    let binary = keys_tests::lab::binary("keys");
    let run = |line: &str| {
        let mut command = operator.command(&[]);
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-c", line])
            .current_dir(operator.path(""))
            .env_clear();
        shell.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        shell.env("KEYS", &binary);
        command = shell;
        let ran = operator.ran(command);
        assert!(
            !ran.stderr.contains("panicked") && ran.code() != 101,
            "{line}\n{ran}"
        );
        ran
    };
    let failed = |line: &str| {
        let _failed = run(line).exited(1).said("keys: cannot write to stdout: ");
    };
    failed("$KEYS plan >/dev/full");
    failed("$KEYS plan --json >/dev/full");
    failed("$KEYS get token >/dev/full");
    failed("$KEYS manifest schema >/dev/full");
    failed("$KEYS --help >/dev/full");
    failed("$KEYS --version >/dev/full");
    failed("$KEYS get token | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}");
    let _sent = run("$KEYS send >/dev/full").exited(1);
    assert_eq!(
        host.inside().read("/run/keys/token").len(),
        1 << 20,
        "it was sent all the same"
    );
    let _changed = run("$KEYS status <&- 2>&-").exited(0);
    let _done = run("$KEYS completions bash >/dev/full");
    for line in [
        "$KEYS plan >&-",
        "$KEYS plan >&- 2>&- <&-",
        "$KEYS get token >&-",
        "$KEYS send 2>/dev/full",
        "$KEYS nonsense 2>/dev/full",
        "$KEYS nonsense >&- 2>&-",
    ] {
        let _ran = run(line);
    }
}

/// L8: on a terminal, however narrow or dumb.
#[test]
fn a_terminal_of_any_kind_is_written_to_without_a_panic() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.token("x");
    for (term, size) in [
        ("dumb", "40 10"),
        ("", "1 1"),
        ("xterm-256color", "80 24"),
        ("nonsense", "0 0"),
    ] {
        operator.env("TERM", term);
        for words in ["plan", "send", "status", "--help", "send --nonsense"] {
            let (columns, rows) = size.split_once(' ').unwrap();
            let line = format!(
                "stty cols {columns} rows {rows}; exec {} {words}",
                keys_tests::lab::binary("keys").display()
            );
            let ran = operator.on_terminal(&line);
            assert!(
                !ran.text().contains("panicked") && ran.code() != 101,
                "{ran}"
            );
        }
    }
    let ran = operator.on_terminal(&format!(
        "exec {} plan",
        keys_tests::lab::binary("keys").display()
    ));
    assert_eq!(ran.code(), 0, "{ran}");
}
