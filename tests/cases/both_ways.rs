//! The same sends by every way that docs/install.md offers: root without the socket, and through it with a forced command,
//! with sudo, and with a user of its own.

use std::fmt::Write as _;
use std::fs;

use keys_tests::{Host, Operator, Release, lab};

/// How keys get to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Root's login does the agent's work itself.
    Direct,
    /// Root's key can do nothing but the relay; socket, sandbox.
    Forced,
    /// A user may run the agent by sudo; relay, socket, sandbox.
    Sudo,
    /// A user whom the socket lets in, by a key that can do nothing but the relay.
    Sender,
}

impl Way {
    const ALL: [Self; 4] = [Self::Direct, Self::Forced, Self::Sudo, Self::Sender];

    /// Opens it, as docs/install.md says, and returns the lines about the host in the manifest.
    fn open(self, host: &Host) -> &'static str {
        match self {
            Self::Direct => {
                let _stopped = host
                    .run("systemctl stop keys-agent.socket keys-agent.service")
                    .succeeded();
                assert!(!host.inside().has("/run/keys-agent.sock"));
                ""
            }
            Self::Forced => {
                let own = host.inside().read("/root/.ssh/authorized_keys");
                host.tree()
                    .write("/root/.ssh/authorized_keys", forced(&own), 0o600);
                ""
            }
            Self::Sudo => {
                if !host.inside().has("/home/operator") {
                    let _made = host
                        .run("useradd --create-home --shell /bin/sh --gid operator operator")
                        .succeeded();
                    let recording = "Defaults log_input, log_output, iolog_dir=/root/recorded\n";
                    host.tree()
                        .write("/etc/sudoers.d/0-recording", recording, 0o440);
                    host.tree()
                        .write("/etc/sudoers.d/keys-agent", block("Defaults!"), 0o440);
                }
                authorize(host, "operator", &lab_key());
                "ssh = \"operator@pigeon\"\nsudo = true\n"
            }
            Self::Sender => {
                let doing = block("useradd");
                let again = doing.replace("useradd", "id sender >/dev/null || useradd");
                let _made = host.run(&format!("set -e; {again}")).succeeded();
                authorize(host, "sender", &forced(&lab_key()));
                "ssh = \"sender@pigeon\"\n"
            }
        }
    }
}

/// Returns the block of docs/install.md that begins with this word.
fn block(first: &str) -> String {
    let page =
        fs::read_to_string(lab::source().join("docs/install.md")).expect("the page is there");
    let blocks = page
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').expect("a line").1);
    blocks
        .into_iter()
        .find(|block| block.starts_with(first))
        .expect("a block of the page")
        .to_owned()
}

fn lab_key() -> Vec<u8> {
    fs::read(lab::ssh_key().with_extension("pub")).expect("the lab's key was made")
}

/// Puts what docs/install.md puts before a key that can do nothing else.
fn forced(key: &[u8]) -> Vec<u8> {
    let line = block("restrict,");
    let (before, _) = line
        .split_once("ssh-ed25519")
        .expect("a line of authorized_keys");
    [before.as_bytes(), key].concat()
}

fn authorize(host: &Host, user: &str, line: &[u8]) {
    host.tree()
        .write(&format!("/home/{user}/.ssh/authorized_keys"), line, 0o600);
    let _owned = host
        .run(&format!(
            "chown -R {user}: /home/{user}/.ssh; chmod 0700 /home/{user}/.ssh"
        ))
        .succeeded();
}

/// A key: its name, its owner, and its line about units.
type Key = (&'static str, &'static str, &'static str);

const WEB: &str = "restart_units = [\"lab-web.service\"]";
const BOTH: &str = "restart_units = [\"lab-web.service\"]\nreload_units = [\"lab-proxy.service\"]";
const WORKER: &str = "restart_units = [\"lab-worker.service\"]";
const ALL: &[Key] = &[
    ("cert", "root", WEB),
    ("key", "root", BOTH),
    ("plain", "root", ""),
    ("token", "root", WORKER),
];
const OWNED: &[Key] = &[
    ("cert", "daemon", WEB),
    ("key", "root", BOTH),
    ("plain", "root", ""),
    ("token", "root", WORKER),
];
const FEWER: &[Key] = &[
    ("cert", "daemon", WEB),
    ("plain", "root", ""),
    ("token", "root", WORKER),
];

/// One send of a case.
struct Step {
    what: &'static str,
    keys: &'static [Key],
    /// What `keys` prints.
    printed: &'static str,
    /// How often web, proxy and worker were started by then, and proxy reloaded.
    counts: [usize; 4],
}

const STEPS: [Step; 5] = [
    Step {
        what: "new keys",
        keys: ALL,
        printed: "pigeon: cert: new\npigeon: key: new\npigeon: plain: new\npigeon: token: new\n\
                  pigeon: lab-proxy.service: reloaded\npigeon: lab-web.service: restarted\n\
                  pigeon: lab-worker.service: restarted\n",
        counts: [2, 1, 2, 1],
    },
    Step {
        what: "other bytes",
        keys: ALL,
        printed: "pigeon: token: changed (content)\npigeon: lab-worker.service: restarted\n",
        counts: [2, 1, 3, 1],
    },
    Step {
        what: "another owner",
        keys: OWNED,
        printed: "pigeon: cert: changed (owner)\npigeon: lab-web.service: restarted\n",
        counts: [3, 1, 3, 1],
    },
    Step {
        what: "a key less",
        keys: FEWER,
        printed: "pigeon: key: removed\npigeon: lab-proxy.service: reloaded\npigeon: lab-web.service: restarted\n",
        counts: [4, 1, 3, 2],
    },
    Step {
        what: "nothing new",
        keys: FEWER,
        printed: "",
        counts: [4, 1, 3, 2],
    },
];

#[test]
fn every_way_does_the_same_and_tells_the_units_whose_keys_changed() {
    for release in Release::ALL {
        for way in Way::ALL {
            let host = Host::served(release);
            send_by(way, &host);
            came_by(way, &host);
            println!("{release:?}, {way:?}: {} sends", STEPS.len());
        }
    }
}

fn send_by(way: Way, host: &Host) {
    let often = "[Unit]\nStartLimitBurst=100";
    let reloads = format!("ExecReload=/bin/sh -c 'echo >>/run/lab/reloads'\n{often}");
    host.services(&[("web", often), ("proxy", &reloads), ("worker", often)]);
    let about = way.open(host);
    let operator = Operator::of_host(host);
    for name in ["cert", "key", "plain", "token"] {
        operator.write(name, format!("secret of {name}"));
    }
    for step in STEPS {
        if step.what == "other bytes" {
            operator.write("token", "another secret");
        }
        manifest(&operator, about, step.keys);
        let ran = operator.send("--include pigeon").succeeded();
        assert_eq!(
            sorted(&ran.text()),
            sorted(step.printed),
            "{way:?}, {}\n{ran}",
            step.what
        );
        let [web, proxy, worker] = ["web", "proxy", "worker"].map(|name| host.starts(name));
        let reloads = host.run("cat /run/lab/reloads 2>/dev/null").text().len();
        assert_eq!(
            [web, proxy, worker, reloads],
            step.counts,
            "{way:?}, {}",
            step.what
        );
        are_there(step.keys, host, &operator);
    }
}

/// Units are printed as they are done.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn manifest(operator: &Operator, about: &str, keys: &[Key]) {
    let mut text = format!("id = \"both\"\n[hosts.pigeon]\n{about}");
    for (name, owner, units) in keys {
        let _infallible = write!(
            text,
            "[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ command = [\"cat\", \"{name}\"] }}\nowner = \"{owner}\"\n{units}\n"
        );
    }
    operator.manifest(&text);
}

/// Panics unless these keys are there, as they should be, and no other.
fn are_there(keys: &[Key], host: &Host, operator: &Operator) {
    let names: Vec<&str> = keys.iter().map(|(name, ..)| *name).collect();
    let there = host.run("ls -1 --ignore=done /run/keys").text();
    assert_eq!(there, names.join("\n") + "\n");
    for (name, owner, _) in keys {
        let path = format!("/run/keys/{name}");
        assert_eq!(
            host.inside().access(&path),
            format!("{owner}:root 0400"),
            "{name}"
        );
        let there = host.inside().read(&path);
        assert_eq!(
            there,
            fs::read(operator.path(name)).expect("we wrote it"),
            "{name}"
        );
    }
}

/// Makes sure that the way was taken, and that nothing of the secrets stayed on it.
fn came_by(way: Way, host: &Host) {
    let served = host.property("keys-agent.service", "ActiveState");
    let expected = if way == Way::Direct {
        "inactive"
    } else {
        "active"
    };
    assert_eq!(served, expected, "{way:?}");
    if way == Way::Sudo {
        let journal = host.journal("");
        assert!(
            journal.contains("COMMAND=/usr/local/bin/keys-agent receive"),
            "{journal}"
        );
        // sudo records other commands here, and would have recorded the keys.
        let _other = host.run("sudo -n true").succeeded();
        assert!(
            host.inside().has("/root/recorded/00"),
            "nothing is recorded here, so this shows nothing"
        );
        let recorded = host.run("grep -r keys-agent /root/recorded");
        assert_eq!(recorded.text(), "", "{recorded}");
    }
}
