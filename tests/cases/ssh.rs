//! E4, E9, E10: what reaches ssh, what of the user's configuration counts, and hosts without a working agent.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use keys_protocol::{Digest, Hello, Wire};
use keys_tests::{LIMIT, Operator, Sshd, Tap, lab, wait_for};

/// Texts that a shell, ssh, a terminal or a parser could take for something else than a name.
const HOSTILE: [&str; 44] = [
    "-oProxyCommand=touch marker",
    "-oProxyCommand=touch${IFS}marker",
    "--",
    "-",
    "-l",
    "-F/dev/null",
    "-Wx:22",
    "root@-oProxyCommand=touch marker",
    "-oProxyCommand=touch marker@pigeon",
    "a@b@pigeon",
    "@pigeon",
    "root@",
    "a b",
    " pigeon",
    "pigeon ",
    "$(touch marker)",
    "`touch marker`",
    "$IFS",
    "pigeon;touch marker",
    "pigeon|touch marker",
    "pigeon&touch marker",
    "pigeon>marker",
    "pigeon\\ntouch marker",
    "pigeon\\ttouch",
    "pigeon\\r",
    "\\u0000pigeon",
    "%h",
    "pigeon%d",
    "{host}",
    "~root",
    "*",
    "!pigeon",
    "'pigeon'",
    "pigeon/../x",
    "/etc/passwd",
    "[::1",
    "::1",
    "[fe80::1%eth0]",
    "[127.0.0.1]",
    "pigeon\\u3002example",
    "p\\u0456geon",
    "\\u202enoegip",
    "\\u001b]52;c;eA==\\u0007",
    "",
];

const PORTS: [&str; 12] = [
    "0", "65536", "-1", "+22", " 22", "22 ", "0x16", "22a", "", "1e3", "٢٢", "22:22",
];

/// E4: refused before ssh is started, wherever it stands.
#[test]
fn what_is_no_name_never_reaches_ssh() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.token("x");
    let tap = Tap::dead(&mut operator);
    let ports = PORTS.map(|port| format!("pigeon:{port}"));
    let longest = "h".repeat(256);
    let texts = HOSTILE.into_iter().chain(ports.iter().map(String::as_str));
    for text in texts.chain([longest.as_str()]) {
        let key = "[keys.token]\nsource = { file = \"token\" }\nhosts = ";
        for manifest in [
            format!("[hosts.pigeon]\nssh = \"{text}\"\n{key}[\"pigeon\"]\n"),
            format!("[hosts.pigeon]\nssh = \"root@{text}\"\n{key}[\"pigeon\"]\n"),
            format!("[hosts.\"{text}\"]\n{key}[\"{text}\"]\n"),
        ] {
            operator.manifest(&manifest);
            let ran = operator.send("").exited(64);
            assert_eq!(tap.calls().len(), 0, "{manifest}{ran}");
            assert!(!ran.stderr.contains('\u{1b}'), "{manifest}{ran}");
        }
    }
    operator.token("x");
    for text in HOSTILE
        .into_iter()
        .filter(|text| *text != "*" && !text.contains("\\u0000"))
    {
        let text = text.replace("\\n", "\n").replace("\\u001b", "\u{1b}");
        for words in [["send", "--include", &text], ["send", "--", &text]] {
            let ran = operator.ran(operator.command(&words)).exited(64);
            assert_eq!(tap.calls().len(), 0, "{ran}");
            assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
        }
    }
    assert!(!operator.path("marker").exists());
}

/// E4: the options end before the host, and the host, user and port are words of their own.
#[test]
fn names_are_words_of_their_own_behind_the_options() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    let tap = Tap::dead(&mut operator);
    let check = |place: &str, sudo: bool, words: &str| {
        operator.write("token", "x");
        let before = tap.calls().len();
        operator.manifest(&format!(
            "[hosts.pigeon]\nssh = \"{place}\"\nsudo = {sudo}\n\
             [keys.token]\nhosts = [\"pigeon\"]\nsource = {{ file = \"token\" }}\n"
        ));
        let ran = operator.send("").exited(1);
        let calls = tap.calls().split_off(before);
        assert!(
            calls.len() == 1 && calls[0].join("|").ends_with(words),
            "{calls:?}\n{ran}"
        );
    };
    check("pigeon", false, "|--|pigeon|keys-agent receive");
    check("_x-y.z", false, "|--|_x-y.z|keys-agent receive");
    check(
        "deploy@pigeon",
        true,
        "|-l|deploy|--|pigeon|sudo -n keys-agent receive",
    );
    check(
        "root@[::1]:2222",
        false,
        "|-l|root|-p|2222|--|::1|keys-agent receive",
    );
}

/// Lines of a user's configuration, some of which break a client that does not set them itself.
fn lines_of_a_user(operator: &Operator) -> Vec<String> {
    let (marker, socket) = (operator.path("marker"), operator.path("control"));
    let lines = [
        "ForwardAgent yes",
        &format!(
            "PermitLocalCommand yes\nLocalCommand touch {}",
            marker.display()
        ),
        "RemoteCommand touch /root/marker",
        "StdinNull yes",
        "SessionType none",
        "ForkAfterAuthentication yes",
        &format!(
            "ControlMaster auto\nControlPath {}\nControlPersist 60",
            socket.display()
        ),
        "SendEnv *",
        "EscapeChar ~",
        "RequestTTY force",
        "LogLevel DEBUG3",
        "LogLevel QUIET",
        "ServerAliveInterval 0",
        "LocalForward 127.0.0.1:1 127.0.0.1:2\nExitOnForwardFailure yes",
        "DynamicForward 127.0.0.1:1\nExitOnForwardFailure yes\nClearAllForwardings no",
        "ForwardX11 yes\nForwardX11Trusted yes\nTunnel yes",
        "GSSAPIDelegateCredentials yes\nGSSAPIKeyExchange yes",
        "VisualHostKey yes\nBatchMode no\nNumberOfPasswordPrompts 3",
    ];
    lines.map(str::to_owned).to_vec()
}

/// Starts an ssh-agent for an operator, until it is killed.
fn ssh_agent(operator: &mut Operator) -> Child {
    let socket = operator.path("agent");
    operator.env("SSH_AUTH_SOCK", &socket).env("DISPLAY", ":9");
    let mut agent = Command::new("ssh-agent");
    let agent = agent.arg("-Da").arg(&socket).stdout(Stdio::null());
    let agent = agent.spawn().unwrap();
    wait_for("an ssh-agent", LIMIT, || socket.exists().then_some(()));
    agent
}

/// E9: each of these alone, and then all at once.
#[test]
fn our_options_win_over_the_users() {
    let host = Sshd::start("pigeon");
    host.wrap("env >/root/env; id -un >>/root/who; exec keys-agent.real \"$@\"");
    host.sshd_lines("AllowAgentForwarding yes\nX11Forwarding yes");
    let mut operator = Operator::of(&host);
    let mut agent = ssh_agent(&mut operator);
    let mut all = lines_of_a_user(&operator);
    all.push(all.join("\n"));
    let config = std::fs::read_to_string(operator.ssh("config")).unwrap();
    for (number, lines) in all.iter().enumerate() {
        std::fs::write(operator.ssh("config"), &config).unwrap();
        operator.ssh_lines(lines);
        // A line with what EscapeChar would end the session for, and bytes that a terminal takes for itself.
        let token = format!("{number}\n~.\n~?\n\0\x04\x03\x1a\x11\x13\r\n");
        operator.token(&token);
        let ran = operator.send("").succeeded().printed("pigeon: token: ");
        assert_eq!(ran.text().lines().count(), 1, "{lines}: {ran}");
        assert_eq!(
            host.inside().read("/run/keys/token"),
            token.as_bytes(),
            "{lines}"
        );
        let env = String::from_utf8(host.inside().read("/root/env")).unwrap();
        for word in ["SSH_AUTH_SOCK", "SSH_TTY", "DISPLAY="] {
            assert!(!env.contains(word), "{lines}: {env}");
        }
        let made = ["marker", "control"].map(|name| operator.path(name).exists());
        assert_eq!(made, [false; 2], "{lines}");
        assert!(!host.inside().has("/root/marker"), "{lines}");
    }
    assert_eq!(
        host.inside().read("/root/who"),
        "root\n".repeat(all.len()).as_bytes()
    );
    // And how ssh ends is how the session ended.
    host.wrap("exit 127");
    let _missing = operator
        .send("")
        .exited(1)
        .said("keys: pigeon: no agent on the host: ");
    agent.kill().and_then(|()| agent.wait()).unwrap();
}

/// E9, C1: `SendEnv *` cannot be undone, so what is secret is not in ssh's environment.
#[test]
fn variables_with_secrets_are_not_sent_to_the_host() {
    let host = Sshd::start("pigeon");
    host.wrap("env >/root/env; exec keys-agent.real \"$@\"");
    host.sshd_lines("AcceptEnv *");
    let mut operator = Operator::of(&host);
    operator.ssh_lines("SendEnv *");
    operator.token("x");
    for name in [
        "VAULT_TOKEN",
        "VAULT_ADDR",
        "BAO_TOKEN",
        "SOPS_AGE_KEY",
        "SOPS_AGE_KEY_FILE",
        "AGE_PASSPHRASE",
        "HARMLESS",
    ] {
        operator.env(name, "c4nary");
    }
    let _sent = operator.send("").succeeded();
    let env = String::from_utf8(host.inside().read("/root/env")).unwrap();
    let sent: Vec<&str> = env.lines().filter(|line| line.contains("c4nary")).collect();
    assert_eq!(sent, ["HARMLESS=c4nary"], "{env}");
}

/// E9: nobody is asked, neither by a window nor on a terminal, where there are several hosts or no terminal.
#[test]
fn no_question_is_asked_without_a_terminal() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.token("x");
    let ask = operator.path("ask");
    std::fs::write(
        &ask,
        format!(
            "#!/bin/sh\ntouch {}\necho yes\n",
            operator.path("marker").display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o755)).unwrap();
    operator
        .env("SSH_ASKPASS", &ask)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("DISPLAY", ":9");
    // The key that the host takes, behind a passphrase.
    let key = operator.ssh("locked");
    std::fs::copy(lab::ssh_key(), &key).unwrap();
    std::fs::copy(lab::public_of(lab::ssh_key()), lab::public_of(&key)).unwrap();
    let mut lock = Command::new("ssh-keygen");
    lock.args(["-q", "-p", "-N", "passphrase", "-f"]).arg(&key);
    let _locked = operator.ran(lock).succeeded();
    let config = std::fs::read_to_string(operator.ssh("config")).unwrap();
    let other = config.replace(
        &lab::ssh_key().display().to_string(),
        &key.display().to_string(),
    );
    std::fs::write(operator.ssh("config"), other).unwrap();
    let ran = operator.send("").exited(4).said("keys: pigeon: ssh: ");
    assert!(!operator.path("marker").exists(), "{ran}");
    // And a host that nobody knows.
    std::fs::write(operator.ssh("config"), config).unwrap();
    std::fs::write(operator.ssh("known_hosts"), "").unwrap();
    let ran = operator.send("").exited(5);
    assert!(!operator.path("marker").exists(), "{ran}");
}

/// E10: every way of having no agent has its own words, and none is told anything.
#[test]
fn a_host_without_a_working_agent_is_told_nothing() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.token("c4nary");
    let tap = Tap::on(&mut operator);
    let agent = "/usr/local/bin/keys-agent";
    let check = |make: &str, words: &[&str]| {
        let _made = host.inside().run(make).succeeded();
        let mut ran = operator.send("").exited(1);
        for words in words {
            ran = ran.said(words);
        }
        assert_eq!(tap.said(), "", "{make}\n{ran}");
        assert_eq!(ran.text(), "", "{make}");
    };
    let none = "keys: pigeon: no agent on the host: ";
    let install = "keys: hint: install it: ssh pigeon \"cd /usr/local/bin && ";
    check(
        &format!("mv {agent} {agent}.real"),
        &[none, "command not found", install],
    );
    check(
        &format!("cp {agent}.real {agent}; chmod 644 {agent}"),
        &[none, "ermission denied", install],
    );
    check(
        &format!("printf '\\177ELF\\2\\1\\1 not of this machine' >{agent}; chmod 755 {agent}"),
        &[none, "cannot execute", install],
    );
    check(
        &format!("printf '#!/bin/sh\\necho good day; exit 3' >{agent}"),
        &[
            "keys: pigeon: no agent answered (exit status 3): it said nothing",
            "keys: hint: the host printed instead: good day",
        ],
    );
    check(
        &format!("printf '#!/bin/sh\\nexit 0' >{agent}"),
        &["keys: pigeon: no agent answered (exit status 0): it said nothing"],
    );
}

/// E10, D7: an agent of another protocol, or one that asks for what we do not know, is not told anything.
#[test]
fn an_agent_of_another_protocol_is_told_nothing() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    operator.token("c4nary");
    let tap = Tap::on(&mut operator);
    host.wrap("cat /root/greeting; cat >/root/said");
    let check = |protocol: (u32, u32), requires: &str, words: &str| {
        let mut greeting = Vec::new();
        let mut wire = Wire::accept(&b""[..], &mut greeting);
        wire.send(&hello(protocol, requires)).unwrap();
        wire.flush().unwrap();
        drop(wire);
        host.inside().write("/root/greeting", &greeting, 0o600);
        let ran = operator
            .send("")
            .exited(1)
            .said(words)
            .said("keys: hint: install the same version on both sides");
        assert_eq!(tap.said(), "", "{ran}");
    };
    check(
        (2, 3),
        "",
        "keys: pigeon: keys-agent 9.9 speaks protocol 2 to 3, and this is protocol 1",
    );
    check(
        (0, 0),
        "",
        "keys: pigeon: keys-agent 9.9 speaks protocol 0 to 0, and this is protocol 1",
    );
    check(
        (1, 1),
        "colour",
        "keys: pigeon: keys-agent 9.9 requires `colour`, which this keys does not know",
    );
}

fn hello((protocol_min, protocol_max): (u32, u32), requires: &str) -> Hello {
    Hello {
        protocol_min,
        protocol_max,
        requires: requires.into(),
        features: String::new(),
        agent: "9.9".into(),
        host_id: None,
        host_keys: String::new(),
        boot: "boot".into(),
        boot_id: String::new(),
        generation: 0,
        epoch: 0,
        bundle: None,
        sent_by: String::new(),
        sent_at: 0,
        nonce: Digest([7; 32]),
        keys: 0,
        strays: 0,
    }
}
