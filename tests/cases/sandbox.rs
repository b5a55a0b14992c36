//! The sandbox of the agent's service, from inside: what it can write, be and reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use keys_tests::{Host, Operator, Release, Session};

/// The highest scores that `systemd-analyze security` may give. What mounts cannot have a mount namespace of its own, which
/// is most of a score.
const SCORES: [(&str, f32); 2] = [("keys-agent.service", 2.0), ("keys-mount.service", 4.5)];
/// `CAP_CHOWN`, `CAP_DAC_READ_SEARCH` and `CAP_FOWNER`, as a mask.
const CAPABILITIES: &str = "000000000000000d";
const WRITABLE: [&str; 3] = ["/run/keys", "/etc/keys", "/var/lib/keys"];
const NOT_WRITABLE: [&str; 20] = [
    "/",
    "/run",
    "/run/lock",
    "/run/systemd",
    "/etc",
    "/etc/systemd/system",
    "/usr/local/bin",
    "/var",
    "/var/lib",
    "/var/log",
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/root",
    "/home",
    "/boot",
    "/srv",
    "/opt",
    "/proc/sys/kernel",
    "/sys/fs/cgroup",
];

/// What is tried from inside.
const ATTEMPTS: &str = r#"
sed -n 's/^\(Cap...\|NoNewPrivs\|Seccomp\):[[:space:]]*/> \1 /p' /proc/self/status
try mount mount -t tmpfs x /mnt
try remount mount -o remount,rw /
try unshare unshare --user true
try host-key grep PRIVATE /etc/ssh/ssh_host_ed25519_key
try shadow cat /etc/shadow
try hostname hostname other
try clock date -s 2000-01-01
try bus systemctl is-active sshd.service ssh.service
try strace strace -p 1 -e none
try limits sh -c 'ulimit -c unlimited'
echo "> interfaces $(sed -n 's/: .*//p' /proc/net/dev | tr -d ' \n')"
try network perl -MIO::Socket::INET -e 'IO::Socket::INET->new("127.0.0.1:22") or exit 1'
try packet perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0) or exit 1'
try unix perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) or exit 1'
"#;
/// What comes of it. It can read all files, as it has to read keys of every owner; host keys are hidden from it.
const ANSWERS: [(&str, &str); 20] = [
    ("CapBnd", CAPABILITIES),
    ("CapEff", CAPABILITIES),
    ("CapPrm", CAPABILITIES),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
    ("interfaces", "lo"),
    ("mount", "no"),
    ("remount", "no"),
    ("unshare", "no"),
    ("host-key", "no"),
    ("shadow", "yes"),
    ("hostname", "no"),
    ("clock", "no"),
    ("bus", "yes"),
    ("strace", "no"),
    ("limits", "no"),
    ("network", "no"),
    ("packet", "no"),
    ("unix", "yes"),
];

/// What the listener and its one session are.
const PROCESSES: &str = r#"
main=$(systemctl show -P MainPID keys-agent)
for pid in $main $(pgrep -P $main); do
    sed -n 's/^\(CapEff\|CapBnd\|NoNewPrivs\|Seccomp\):[[:space:]]*/\1 /p' /proc/$pid/status
    echo core $(awk '/core file/ { print $5, $6 }' /proc/$pid/limits)
    [ /proc/$pid/ns/net -ef /proc/1/ns/net ] || echo network of its own
    echo listening $(awk '$4 == "0A"' /proc/$pid/net/tcp /proc/$pid/net/tcp6 | wc -l)
    tr '\0' ' ' </proc/$pid/cmdline; echo; echo next
done"#;

/// Runs lines of shell in the very sandbox of keys-agent.service, and returns what they printed. `try NAME COMMAND` there
/// says whether the command can be done.
fn inside(host: &Host, lines: &str) -> String {
    let unit = host.inside().read("/etc/systemd/system/keys-agent.service");
    let unit = String::from_utf8(unit).expect("a unit");
    let mut probe = String::new();
    for line in unit.lines() {
        let line = match line.split_once('=') {
            Some(("Type", _)) => "Type=oneshot",
            Some(("ExecStart", _)) => "ExecStart=/bin/sh /root/probe",
            Some(("StandardInput" | "Restart" | "RestartSec", _)) => "",
            _ => line,
        };
        probe = probe + line + "\n";
    }
    host.unit("lab-probe.service", &probe);
    let script = format!(
        r#"exec >/run/keys/said 2>&1
        try() {{ name=$1; shift; if "$@" >/dev/null 2>&1; then echo "> $name yes"; else echo "> $name no"; fi; }}
        {lines}
        echo the end"#
    );
    host.inside().write("/root/probe", script, 0o700);
    let run =
        "systemctl daemon-reload; systemctl start lab-probe; cat /run/keys/said; rm /run/keys/said";
    let ran = host.run(run);
    assert!(ran.text().ends_with("the end\n"), "{ran}");
    ran.text()
}

/// Returns the lines `> NAME VALUE` of what was printed.
fn answers(said: &str) -> BTreeMap<&str, &str> {
    let lines = said
        .lines()
        .filter_map(|line| line.strip_prefix("> ")?.split_once(' '));
    lines.collect()
}

#[test]
fn the_score_is_low_on_both_releases() {
    for release in Release::ALL {
        let host = Host::served(release);
        for (unit, highest) in SCORES {
            let line =
                format!("systemctl start {unit}; systemd-analyze security --no-pager {unit}");
            let table = host.run(&line);
            let text = table.text();
            let overall = text.lines().rfind(|line| line.contains("Overall exposure"));
            let mut words = overall.unwrap_or_default().split_whitespace();
            let score: Option<f32> = words.find_map(|word| word.parse().ok());
            println!("{release:?}: {unit}: {score:?}");
            assert!(
                score.is_some_and(|score| score <= highest),
                "{release:?}\n{table}"
            );
        }
    }
}

/// With `ProtectProc=` and its like, /run is writable in spite of `ProtectSystem=strict`: so this tries to write.
#[test]
fn only_the_folders_of_the_agent_can_be_written() {
    let mut script = String::new();
    for folder in WRITABLE.iter().chain(&NOT_WRITABLE) {
        let _infallible = writeln!(script, "try {folder} sh -c ': >{folder}/probe'");
    }
    for release in Release::ALL {
        let host = Host::served(release);
        let said = inside(&host, &script);
        let answers = answers(&said);
        for (folders, answer) in [(&WRITABLE[..], "yes"), (&NOT_WRITABLE[..], "no")] {
            for folder in folders {
                assert_eq!(
                    answers.get(folder),
                    Some(&answer),
                    "{release:?}: {folder}\n{said}"
                );
            }
        }
        let everyones = host.inside().has("/run/keys/probe");
        assert!(
            everyones,
            "{release:?}: another /run/keys than that of the host"
        );
    }
}

#[test]
fn it_is_root_with_three_capabilities_and_cannot_get_more() {
    for release in Release::ALL {
        let host = Host::served(release);
        let said = inside(&host, ATTEMPTS);
        let answers = answers(&said);
        for (name, answer) in ANSWERS {
            assert_eq!(
                answers.get(name),
                Some(&answer),
                "{release:?}: {name}\n{said}"
            );
        }
    }
}

/// The same of the processes that do the work: the listener, and a session that a pusher holds open.
#[test]
fn the_processes_are_what_the_unit_says() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        let command = operator.ssh_command(&["pigeon", "keys-agent receive"]);
        let mut session = Session::of(command).expect("an agent");
        let _greeted = session.hello().expect("a greeting");
        let states = host.run(PROCESSES);
        let _ended = session.close();
        let text = states.text();
        let (listener, session) = text
            .split_once("next\n")
            .unwrap_or_else(|| panic!("{states}"));
        for process in [listener, session] {
            let is = format!(
                "CapEff {CAPABILITIES}\nCapBnd {CAPABILITIES}\nNoNewPrivs 1\nSeccomp 2\ncore 0 0\n"
            );
            assert!(process.starts_with(&is), "{release:?}\n{states}");
            assert!(
                process.contains("network of its own\nlistening 0\n"),
                "{release:?}\n{states}"
            );
        }
        assert!(
            session.ends_with("keys-agent session \nnext\n"),
            "{release:?}\n{states}"
        );
        let listening = host
            .run("awk '$4 == \"0A\" { print $2 }' /proc/net/tcp /proc/net/tcp6")
            .text();
        let others = listening
            .lines()
            .filter(|line| !line.ends_with(":0016"))
            .count();
        assert_eq!(
            others, 0,
            "{release:?}: sshd alone listens on the host: {listening}"
        );
    }
}
