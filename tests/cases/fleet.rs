//! E3, E11, E12: many hosts at once, some of which fail, each in its own way.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use keys_tests::{Operator, Port, Sshd, Tap};
use serde_json::Value;

/// How many hosts are good, and how many fail for each of the reasons.
const GOOD: usize = 24;
const REFUSING: usize = 3;
const SILENT: usize = 1;
const CHANGED: usize = 2;

/// What the whole fleet may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Hosts, shared by the cases here, and an ssh configuration that leads to all of them.
struct Fleet {
    good: Vec<Sshd>,
    changed: Vec<Sshd>,
    _silent: Port,
    config: String,
    known: String,
    /// The names in the order of the alphabet.
    names: Vec<String>,
    /// Whoever sends has it: the cases would else meet each other's keys.
    turn: Mutex<()>,
}

fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    FLEET.get_or_init(Fleet::start)
}

/// Starts all that are there, by two threads.
fn hosts() -> Vec<Sshd> {
    let half = |first: usize| {
        let numbers = (first..GOOD + CHANGED).step_by(2);
        numbers
            .map(|number| Sshd::start(&format!("host{number:02}")))
            .collect::<Vec<_>>()
    };
    let mut hosts = thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        let mut hosts = half(0);
        hosts.extend(odd.join().unwrap());
        hosts
    });
    hosts.sort_by(|one, other| one.name().cmp(other.name()));
    hosts
}

impl Fleet {
    fn start() -> Self {
        let mut good = hosts();
        let changed = good.split_off(GOOD);
        let silent = Port::silent();
        let mut config = String::new();
        let mut known = String::new();
        let mut names = Vec::new();
        for host in good.iter().chain(&changed) {
            config += &host.ssh_config();
            let key = if names.len() < GOOD { host } else { &good[0] }
                .tree()
                .host_key();
            known += &format!("{} {key}\n", host.name());
            names.push(host.name().to_owned());
        }
        let ports = (0..REFUSING)
            .map(|_| Port::closed())
            .chain([silent.number()]);
        for (number, port) in ports.enumerate() {
            let name = format!("lost{number}");
            config += &format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User root\n");
            names.push(name);
        }
        config += "Host *\n";
        names.sort();
        Self {
            good,
            changed,
            _silent: silent,
            config,
            known,
            names,
            turn: Mutex::default(),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // A case that failed is no reason for others to.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an operator with 20 keys for each host, `value` in every one, and `more` in its manifest.
    fn operator(&self, value: &str, more: &str) -> Operator {
        let operator = Operator::new();
        operator.ssh_lines(&self.config);
        std::fs::write(operator.ssh("known_hosts"), &self.known).unwrap();
        operator.write("value", value);
        let mut text = "id = \"fleet\"\n".to_owned();
        for name in &self.names {
            text += &format!("[hosts.{name}]\ntags = [\"all\"]\n");
        }
        for key in 0..20 {
            text += &format!(
                "[keys.key{key:02}]\nhosts = [\"@all\"]\nsource = {{ file = \"value\" }}\n"
            );
        }
        text += &format!(
            "[ssh]\nconfig = \"{}\"\nconnect_timeout = \"15s\"\n{more}",
            operator.ssh("config").display()
        );
        operator.write("keys.toml", text);
        operator
    }

    fn have(&self, value: &str) {
        for host in &self.good {
            for key in 0..20 {
                let found = host.inside().read(&format!("/run/keys/key{key:02}"));
                assert_eq!(found, value.as_bytes(), "{}: key{key:02}", host.name());
            }
        }
        for host in &self.changed {
            assert!(!host.inside().has("/run/keys/key00"), "{}", host.name());
        }
    }
}

/// E11, E3: the good ones are whole, the others are reported by their cause, and none waits for another.
#[test]
fn hosts_that_fail_do_not_touch_the_others() {
    let fleet = fleet();
    let _turn = fleet.turn();
    let operator = fleet.operator("one", "");
    let ran = operator.send("--json").exited(3);
    assert!(ran.took < LIMIT, "{ran}");
    fleet.have("one");
    let report: Value = serde_json::from_slice(&ran.stdout).expect("one document");
    assert_eq!(report["exit"], 3, "{ran}");
    let hosts = report["hosts"].as_array().expect("a list");
    let names: Vec<&str> = hosts
        .iter()
        .filter_map(|host| host["host"].as_str())
        .collect();
    assert_eq!(names, fleet.names);
    let count = |code: u64| hosts.iter().filter(|host| host["exit"] == code).count();
    assert_eq!(
        (count(0), count(4), count(5)),
        (GOOD, REFUSING + SILENT, CHANGED),
        "{ran}"
    );
    for line in [
        "keys: lost0: ssh: connect to host 127.0.0.1 port ",
        "keys: lost3: ssh: Connection timed out during banner exchange",
        "keys: host24: its ssh host key is not the one that is pinned or known",
    ] {
        assert!(ran.stderr.contains(line), "{line} is missing: {ran}");
    }
}

/// E12: a session waits until there are descriptors for it, and fails nothing.
#[test]
fn few_descriptors_make_it_slow_and_nothing_else() {
    let fleet = fleet();
    let _turn = fleet.turn();
    let operator = fleet.operator("two", "parallel = 64\n");
    let words = "send --exclude lost* host24 host25";
    let ran = operator.after("ulimit -n 64", words).succeeded();
    assert!(ran.took < LIMIT, "{ran}");
    fleet.have("two");
}

/// E11: no more hosts at once than were asked for.
#[test]
fn no_more_hosts_at_once_than_asked_for() {
    let fleet = fleet();
    let check = |words: &str, more: &str, most: u32| {
        let mut operator = fleet.operator("x", more);
        let tap = Tap::slow(&mut operator);
        let ran = operator.keys(&format!("{words} --include host0*"));
        let at_once = tap.at_once();
        assert!(
            at_once <= most && at_once > most / 2,
            "{at_once} at once: {words}, {more}\n{ran}"
        );
    };
    check("status", "parallel = 2\n", 2);
    check("plan --parallel 4", "parallel = 2\n", 4);
}
