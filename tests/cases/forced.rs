//! A login with a forced command: whatever it asks for, it gets two verbs of the agent and nothing else.

use std::fs;
use std::process::Command;

use keys_protocol::MAGIC;
use keys_tests::{Host, Operator, Ran, Release, Session, lab};

const VERB: &str = "keys-agent status";
/// What no command may ever make.
const MARK: &str = "/root/mark";
/// How many commands are tried.
const COMMANDS: usize = 100;

/// What ssh can ask for beside a command, and what it says of the refusal. `-W` is what `-L` and `-D` come down to.
const FORWARDS: [([&str; 2], &str); 6] = [
    (["-t", "-t"], "PTY allocation request failed"),
    (["-R", "9999:127.0.0.1:22"], "remote port forwarding failed"),
    (["-R", "9998"], "remote port forwarding failed"),
    (
        ["-R", "/run/keys/agent.sock:127.0.0.1:22"],
        "remote port forwarding failed",
    ),
    (["-W", "127.0.0.1:22"], "administratively prohibited"),
    (["-w", "any:any"], "Tunnel"),
];

/// Shells, other programs, near misses, and other verbs of the agent's own.
const HOSTILE: [&str; 51] = [
    "",
    " ",
    "sh",
    "bash -i",
    "-c id",
    "id",
    "cat /etc/shadow",
    "scp -t /root",
    "rsync --server . /",
    "internal-sftp",
    "/usr/lib/openssh/sftp-server",
    "keys-agent",
    "keys-agent ",
    "keys-agent  receive",
    "keys-agent receive ",
    " keys-agent receive",
    "keys-agent receive\n",
    "keys-agent\treceive",
    "keys-agent receive receive",
    "keys-agent Receive",
    "KEYS-AGENT receive",
    "keys-agent relay",
    "keys-agent session",
    "keys-agent serve",
    "keys-agent finish",
    "keys-agent install",
    "keys-agent mount",
    "keys-agent retire 1",
    "keys-agent --help",
    "keys-agent 'receive'",
    "\"keys-agent\" receive",
    "keys-agent receive\\",
    "keys-agent $0",
    "/usr/local/bin/keys-agent receive",
    "./keys-agent receive",
    "sudo keys-agent receive",
    "sudo -n keys-agent",
    "sudo -n -u root keys-agent receive",
    "sudo -n sudo -n keys-agent receive",
    "sudo  -n keys-agent receive",
    "exec keys-agent receive",
    "env keys-agent receive",
    "PATH=/tmp keys-agent receive",
    "LD_PRELOAD=/x keys-agent receive",
    "keys-agent-v1 push; id",
    "\u{1b}]0;owned\u{7}",
    "\u{1b}[2J\u{1b}[H",
    "%s%n%s%n",
    "\u{feff}keys-agent receive",
    "keys-agent\u{a0}receive",
    "keys\u{2010}agent receive",
];

/// Chains that begin with a verb, chains that end with one, and very long ones.
fn chains() -> Vec<String> {
    let touch = format!("touch {MARK}");
    let mut chains = Vec::new();
    for verb in [
        "keys-agent receive",
        "keys-agent status",
        "sudo -n keys-agent status",
    ] {
        for glue in [
            "; ",
            " && ",
            " || ",
            " | ",
            " & ",
            "\n",
            "\r\n",
            " `",
            " $(",
            " >/dev/null; ",
            "#\n",
            " <(",
        ] {
            chains.push(format!("{verb}{glue}{touch}"));
        }
    }
    for first in ["X", "$(X)", "`X`", "sh -c 'X'", "() { :; }; X"] {
        let first = first.replace('X', &touch);
        chains.push(format!("{first}; keys-agent receive"));
        chains.push(first);
    }
    chains.push(format!("keys-agent receive{}", " ".repeat(100 << 10)));
    chains.push(format!("{touch} {}", "x".repeat(100 << 10)));
    chains.push("../keys-agent receive".to_owned());
    chains
}

/// Puts what docs/install.md puts there before the key that root's logins use.
fn force(host: &Host) {
    let page =
        fs::read_to_string(lab::source().join("docs/install.md")).expect("the page is there");
    let is_forced = |line: &&str| line.contains("command=\"");
    let line = page
        .lines()
        .find(is_forced)
        .expect("a line with a forced command");
    let (before, _) = line
        .split_once("ssh-ed25519")
        .expect("a line of authorized_keys");
    let path = "/root/.ssh/authorized_keys";
    let own = String::from_utf8(host.inside().read(path)).expect("a line");
    host.tree().write(path, format!("{before}{own}"), 0o600);
}

/// Through one connection of our own, so that a hundred commands are a hundred sessions and not a hundred logins.
fn through(operator: &Operator, words: &[&str]) -> Ran {
    let path = format!("ControlPath={}", operator.path("master").display());
    let mut all = vec![
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=60",
        "-o",
        &path,
    ];
    all.extend(words);
    operator.ran(operator.ssh_command(&all))
}

/// E6: a hundred commands that are none of ours run nothing, and are logged without their raw bytes.
#[test]
fn no_other_command_runs_anything() {
    Release::side_by_side(|release| {
        let mut commands = HOSTILE.map(str::to_owned).to_vec();
        commands.extend(chains());
        assert_eq!(commands.len(), COMMANDS);
        let host = Host::with_agent("pigeon", release);
        force(&host);
        let operator = Operator::of_host(&host);
        for command in &commands {
            let shown: String = command.chars().take(60).collect();
            let ran = through(&operator, &["-n", "--", "pigeon", command]);
            assert!(ran.code() == 7 && ran.stdout.is_empty(), "{shown:?}\n{ran}");
            assert!(
                ran.stderr.contains("nothing else") && !ran.stderr.contains("mark"),
                "{shown:?}\n{ran}"
            );
        }
        let _master = through(&operator, &["-O", "exit", "pigeon"]);
        println!("{release:?}: {COMMANDS} commands refused");
        assert!(!host.inside().has(MARK), "a command of another ran");
        let said =
            host.run("journalctl --sync; journalctl --boot --all --no-pager -o cat -t keys-agent");
        let is_refusal =
            |line: &&str| line.starts_with("refused a command of") && line.len() < 1000;
        assert_eq!(
            said.text().lines().filter(is_refusal).count(),
            COMMANDS,
            "{said}"
        );
        let raw = said
            .stdout
            .iter()
            .find(|byte| byte.is_ascii_control() && **byte != b'\n');
        assert_eq!(raw, None, "{said}");
    });
}

/// E6: the two verbs do their work, and so does all of `keys`.
#[test]
fn the_two_verbs_work() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        force(&host);
        operator.manifest("[hosts.pigeon]\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"echo\", \"1\"] }\n");
        let _sent = operator
            .send("--include pigeon")
            .succeeded()
            .printed("pigeon: a: new");
        let _status = operator
            .keys("status --include pigeon")
            .succeeded()
            .printed("present");
        let sudo = operator
            .ssh_run("pigeon", "sudo -n keys-agent status")
            .succeeded();
        assert!(sudo.stdout.starts_with(&MAGIC));
        assert_eq!(host.inside().read("/run/keys/a"), b"1\n");
    }
}

/// E6: what else ssh can ask for is refused as well: terminals, file transfer, forwarding of ports, sockets and tunnels.
#[test]
fn nothing_but_a_command_can_be_asked_for() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        force(&host);
        let ssh = |words: &[&str]| operator.ran(operator.ssh_command(words));
        let sftp = ssh(&["-n", "-s", "pigeon", "sftp"]).exited(7);
        assert_eq!(sftp.text(), "", "{sftp}");
        let listening = || {
            host.run("awk '$4 == \"0A\"' /proc/net/tcp /proc/net/tcp6")
                .text()
                .lines()
                .count()
        };
        let before = listening();
        for (words, said) in FORWARDS {
            let mut all = vec!["-n", "-o", "ExitOnForwardFailure=yes"];
            all.extend(words);
            all.push("pigeon");
            // A command and `-W` exclude each other.
            all.extend((words[0] != "-W").then_some(VERB));
            let ran = ssh(&all).exited(255).said(said);
            assert_eq!(ran.text(), "", "{ran}");
        }
        assert_eq!(listening(), before, "{release:?}: a port was opened");
        assert!(!host.inside().has("/run/keys/agent.sock"));
    }
}

/// E6: the relay starts with nothing of the other side's environment and without its agent.
#[test]
fn nothing_is_forwarded_to_the_relay() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        force(&host);
        let ssh = operator.ssh_command(&["-A", "-o", "SendEnv=*", "pigeon", "keys-agent receive"]);
        let mut agent = Command::new("ssh-agent");
        agent
            .arg("ssh")
            .args(ssh.get_args())
            .env("KEYS_CASE", "1")
            .env("LD_PRELOAD", "");
        let mut session = Session::of(agent).expect("an agent");
        let _greeted = session.hello().expect("a greeting");
        let environ =
            "tr '\\0' '\\n' </proc/$(pgrep -xf '/usr/local/bin/keys-agent relay')/environ";
        let ran = host
            .run(environ)
            .succeeded()
            .printed("SSH_ORIGINAL_COMMAND=keys-agent receive\n");
        for name in ["SSH_AUTH_SOCK", "LD_PRELOAD", "DISPLAY", "KEYS_CASE"] {
            assert!(!ran.text().contains(name), "{name}\n{ran}");
        }
        let _ended = session.close();
    }
}
