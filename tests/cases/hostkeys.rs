//! E1, E2: not one byte leaves before the host's key is the pinned one or, without a pin, one in the user's known_hosts.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;

use keys_tests::{Operator, Port, Ran, Sshd, Tap, lab};

/// A host, an operator who has a token for it, and what that operator's ssh is told.
struct Setting {
    host: Sshd,
    operator: Operator,
    tap: Tap,
}

impl Setting {
    fn new() -> Self {
        let host = Sshd::start("pigeon");
        let mut operator = Operator::of(&host);
        operator.token("hunter2");
        let tap = Tap::on(&mut operator);
        Self {
            host,
            operator,
            tap,
        }
    }

    /// Writes what the user knows of `name`.
    fn known(&self, name: &str, key: &str) {
        std::fs::write(self.operator.ssh("known_hosts"), format!("{name} {key}\n")).unwrap();
    }

    /// Writes the manifest with this line in the host's table.
    fn host_line(&self, line: &str) {
        self.operator.manifest(&format!(
            "[hosts.pigeon]\n{line}\n[keys.token]\nhosts = [\"pigeon\"]\nsource = {{ file = \"token\" }}\n"
        ));
    }

    fn pin(&self, key: &str) {
        self.host_line(&format!("host_key = \"{key}\""));
    }

    /// Sends, and sees that the host's key is refused and nothing is said to it.
    fn refused(&self, words: &str) {
        self.nothing_said(self.operator.send(""), words);
    }

    fn nothing_said(&self, ran: Ran, words: &str) {
        let ran = ran.exited(5).said(words);
        assert_eq!(self.tap.said(), "", "{ran}");
        assert!(!self.host.inside().has("/run/keys/token"), "{ran}");
        assert!(!ran.stderr.contains("hunter2"), "{ran}");
    }

    fn sent(&self) {
        let ran = self.operator.send("").succeeded();
        assert_eq!(
            self.host.inside().read("/run/keys/token"),
            b"hunter2",
            "{ran}"
        );
    }
}

/// The key of a host that is not the one that is meant.
fn stranger() -> String {
    let path = lab::folder().join(format!("stranger-{:?}", thread::current().id()));
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    let line = lab::make_ssh_key(&path);
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

const UNKNOWN: &str = "keys: pigeon: its ssh host key is neither pinned nor known\n";
const CHANGED: &str = "keys: pigeon: its ssh host key is not the one that is pinned or known\n";

/// E2
#[test]
fn an_unknown_host_gets_nothing_and_the_way_to_pin_it_is_said() {
    let here = Setting::new();
    here.known("elsewhere", &here.host.tree().host_key());
    here.refused(UNKNOWN);
    here.refused("keys: hint: compare the fingerprint with the host's own: ssh-keyscan -t ed25519 pigeon | ssh-keygen -lf -\n");
    here.refused("keys: hint: then pin it: [hosts.pigeon] host_key = \"ssh-ed25519 AAAA…\"\n");
    for words in ["plan", "status", "status --compare"] {
        here.nothing_said(here.operator.keys(words), UNKNOWN);
    }
    here.pin(&here.host.tree().host_key());
    here.sent();
}

/// E1
#[test]
fn a_host_whose_key_changed_gets_nothing() {
    let here = Setting::new();
    here.known("pigeon", &stranger());
    here.refused(CHANGED);
    here.known("pigeon", &here.host.tree().host_key());
    here.sent();
}

/// E1
#[test]
fn a_pin_is_the_only_key_that_counts() {
    let here = Setting::new();
    here.pin(&stranger());
    here.refused(CHANGED);
    // What the user knows is neither needed nor asked.
    here.pin(&here.host.tree().host_key());
    here.known("pigeon", &stranger());
    here.sent();
}

/// E1, I-12: each of these lets ssh itself in, as the second half shows, and not `keys`.
#[test]
fn no_setting_of_the_user_lets_a_stranger_in() {
    let here = Setting::new();
    let port = Port::to(&here.host);
    let (own, other) = (here.host.tree().host_key(), stranger());
    let file = here.operator.ssh("more_hosts");
    std::fs::write(&file, format!("pigeon {own}\n")).unwrap();
    let more = file.display();
    let print = format!("KnownHostsCommand /bin/echo %H {own}");
    let check = |lines: &str, pin: Option<&str>| {
        let operator = &here.operator;
        let config = std::fs::read_to_string(operator.ssh("config")).unwrap();
        operator.ssh_lines(lines);
        here.known("elsewhere", &own);
        here.host_line(&pin.map_or_else(String::new, |key| format!("host_key = \"{key}\"")));
        here.refused(if pin.is_some() { CHANGED } else { UNKNOWN });
        let known = std::fs::read_to_string(operator.ssh("known_hosts")).unwrap();
        assert_eq!(
            known,
            format!("elsewhere {own}\n"),
            "{lines}: a host was learnt"
        );
        let _let_in = operator.ssh_run("pigeon", "true").succeeded();
        std::fs::write(operator.ssh("config"), config).unwrap();
    };
    check("StrictHostKeyChecking no", None);
    check("StrictHostKeyChecking accept-new", None);
    check(
        &format!(
            "Host pigeon\nProxyCommand none\nHostName 127.0.0.1\nPort {}\nNoHostAuthenticationForLocalhost yes\nHost *",
            port.number()
        ),
        None,
    );
    check(&print, Some(&other));
    check(&format!("UserKnownHostsFile {more}"), Some(&other));
    check(&format!("GlobalKnownHostsFile {more}"), Some(&other));
    check("StrictHostKeyChecking no\nUpdateHostKeys yes", Some(&other));
}

/// E1: a record in the DNS that the resolver calls authentic.
#[test]
fn a_fingerprint_in_the_dns_lets_nobody_in() {
    let here = Setting::new();
    here.known("elsewhere", &stranger());
    here.operator.ssh_lines("VerifyHostKeyDNS yes");
    let _server = serve_fingerprint(&here.host);
    here.nothing_said(
        here.operator
            .ran(resolving(&here.operator.command(&["send"]))),
        UNKNOWN,
    );
    let mut ssh = Command::new("ssh");
    ssh.arg("-nF").arg(here.operator.ssh("config"));
    ssh.args(["-o", "BatchMode=yes", "pigeon", "true"]);
    let _let_in = here.operator.ran(resolving(&ssh)).succeeded();
}

/// I-12: ssh's connection is the right one, and it leads to an agent on another machine.
#[test]
fn an_agent_on_another_host_than_the_pinned_one_is_told_nothing() {
    let here = Setting::new();
    here.pin(&here.host.tree().host_key());
    let folder = here.host.tree().path("/elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let _other = lab::make_ssh_key(&folder.join("ssh_host_ed25519_key"));
    here.host.wrap("exec unshare --mount sh -c 'mount --bind /elsewhere /etc/ssh; exec keys-agent.real \"$1\"' sh \"$1\"");
    let words = "keys: pigeon: the agent that answered runs on a host without the key SHA256:";
    here.refused(words);
    here.nothing_said(here.operator.keys("status"), words);
}

/// I-12: a pin holds for an address and a port, and behind a jump host that the user's configuration knows.
#[test]
fn a_pin_holds_wherever_the_host_is_reached() {
    let here = Setting::new();
    let port = Port::to(&here.host);
    let key = here.host.tree().host_key();
    here.operator.ssh_lines(&format!(
        "User root\nIdentityFile {}",
        lab::ssh_key().display()
    ));
    let place = format!("ssh = \"root@127.0.0.1:{}\"", port.number());
    here.host_line(&format!("{place}\nhost_key = \"{}\"", stranger()));
    here.refused(&format!(
        "ssh-keyscan -p {} -t ed25519 127.0.0.1 ",
        port.number()
    ));
    here.host_line(&format!("{place}\nhost_key = \"{key}\""));
    here.sent();
    let gate = Sshd::start("gate");
    let way = Port::to(&gate);
    here.known("gate", &gate.tree().host_key());
    here.operator.ssh_lines(&format!(
        "Host gate\nHostName 127.0.0.1\nHostKeyAlias gate\nPort {}\nHost 127.0.0.1\nProxyJump gate\nHost *",
        way.number()
    ));
    here.operator.write("token", "hunter3");
    let _sent = here.operator.send("").succeeded();
    assert_eq!(here.host.inside().read("/run/keys/token"), b"hunter3");
    here.known("gate", &stranger());
    here.operator.write("token", "hunter4");
    let ran = here.operator.send("");
    assert_ne!(ran.code(), 0, "{ran}");
    assert_eq!(here.host.inside().read("/run/keys/token"), b"hunter3");
}

/// Runs a command where names are asked of 127.0.0.1, and its word that a record is authentic is trusted.
fn resolving(command: &Command) -> Command {
    let config = lab::folder().join("resolv.conf");
    std::fs::write(&config, "nameserver 127.0.0.1\noptions trust-ad edns0\n").unwrap();
    let line = format!(
        "mount --bind {} /etc/resolv.conf; exec \"$@\"",
        config.display()
    );
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-c", &line, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        inside.envs(value.map(|value| (name, value)));
    }
    inside
}

/// Answers every question of the DNS with the fingerprint of `host`, marked as authentic.
fn serve_fingerprint(host: &Sshd) -> thread::JoinHandle<()> {
    let record = fingerprint(&host.tree().path("/etc/ssh/ssh_host_ed25519_key.pub"));
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let end = question[12..length]
                .iter()
                .position(|byte| *byte == 0)
                .unwrap()
                + 12
                + 5;
            let mut answer = question[..2].to_vec();
            // An answer, authentic, to one question, with one record.
            answer.extend([0x81, 0xa0, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend(&question[12..end]);
            // The same name, SSHFP, IN, a minute.
            answer.extend([0xc0, 12, 0, 44, 0, 1, 0, 0, 0, 60, 0, 34, 4, 2]);
            answer.extend(&record);
            let _sent = socket.send_to(&answer, from);
        }
    })
}

/// Returns the SHA-256 of a public key as `ssh-keygen -r` prints it for the DNS.
fn fingerprint(key: &Path) -> Vec<u8> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-r", "pigeon", "-f"]).arg(key);
    let text = Ran::of(command, b"").succeeded().text();
    let line = text
        .lines()
        .find(|line| line.contains(" SSHFP 4 2 "))
        .unwrap();
    let hex = line.rsplit(' ').next().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
