//! What `keys send` costs, each figure beside `ssh host true` or the peer of the same run: `tests/bench`.
//!
//! A figure is the median of pairs A B A B, so that a machine that is busy for a while is busy for both.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keys_tests::{Host, Operator, Ran, Release, lab};

/// How many pairs a figure is the median of.
const PAIRS: usize = 7;

fn main() {
    // `cargo bench` passes --bench; there is nothing else to choose.
    let host = Host::boot("pigeon", Release::Bookworm);
    host.inside()
        .install(&lab::binary("keys-agent"), "/usr/local/bin/keys-agent");
    let bench = Bench {
        operator: Operator::of_host(&host),
        host,
    };
    println!("| what | target | direct | through the socket | by itself |");
    println!("|---|---|---|---|---|");
    let direct = bench
        .all_sends("mount -t tmpfs -o noswap,nosuid,nodev,noexec,mode=0751,size=1g keys /run/keys");
    let socket = bench.all_sends("umount /run/keys; keys-agent install");
    for (direct, socket) in direct.iter().zip(&socket) {
        println!(
            "| {} | {} | {:.2} × | {:.2} × | {:.0} ms |",
            direct.what,
            direct.target,
            direct.ratio,
            socket.ratio,
            direct.alone.as_secs_f64() * 1000.0
        );
    }
    bench.peers();
    bench.memory();
}

struct Bench {
    host: Host,
    operator: Operator,
}

/// A figure: how long something took, in multiples of what it is compared with.
struct Figure {
    what: &'static str,
    target: &'static str,
    ratio: f64,
    alone: Duration,
}

impl Bench {
    /// Every kind of send, on a host whose folder `prepare` makes.
    fn all_sends(&self, prepare: &str) -> Vec<Figure> {
        let _prepared = self
            .host
            .run(&format!("mkdir -p /run/keys; {prepare}"))
            .succeeded();
        for count in [30, 1_000, 10_000] {
            self.manifests(count);
        }
        vec![
            self.pairs("30 keys, all changed", "≤ 1.25", &mut |round| {
                self.send(30, parity(round))
            }),
            self.pairs("1,000 keys, all new", "≤ 1.5", &mut |_| {
                self.empty();
                self.send(1_000, "a")
            }),
            self.pairs("1,000 keys, all changed", "", &mut |round| {
                self.send(1_000, parity(round))
            }),
            self.pairs("1,000 keys, one changed", "≤ 1.25", &mut |round| {
                self.send(1_000, one(round))
            }),
            self.pairs("1,000 keys, none changed", "≤ 1.15", &mut |_| {
                self.send(1_000, "one-a")
            }),
            self.pairs("10,000 keys of 1 KiB, all new", "≤ 10 s", &mut |_| {
                self.empty();
                self.send(10_000, "a")
            }),
            self.pairs("10,000 keys of 1 KiB, none changed", "≤ 3 s", &mut |_| {
                self.send(10_000, "a")
            }),
        ]
    }

    fn pairs(
        &self,
        what: &'static str,
        target: &'static str,
        run: &mut dyn FnMut(usize) -> Duration,
    ) -> Figure {
        let mut pairs: Vec<(Duration, Duration)> =
            (0..PAIRS).map(|round| (self.login(), run(round))).collect();
        // The first pair warms up caches on both sides.
        pairs.remove(0);
        let mut ratios: Vec<f64> = pairs
            .iter()
            .map(|(login, run)| run.as_secs_f64() / login.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let mut times: Vec<Duration> = pairs.iter().map(|(_, run)| *run).collect();
        times.sort();
        Figure {
            what,
            target,
            ratio: ratios[ratios.len() / 2],
            alone: times[times.len() / 2],
        }
    }

    /// `ssh host true`.
    fn login(&self) -> Duration {
        self.operator.ssh_run("pigeon", "true").succeeded().took
    }

    /// Sends variant `variant` of `count` keys. All variants are one manifest to the host.
    fn send(&self, count: usize, variant: &str) -> Duration {
        let file = format!("{count}-{variant}.toml");
        self.operator
            .ran(self.operator.command(&["-f", &file, "send", "--prune-all"]))
            .succeeded()
            .took
    }

    /// Takes all keys off the host.
    fn empty(&self) {
        let _emptied = self
            .host
            .run("rm -rf /run/keys/.gen.* /run/keys/.current /run/keys/k*")
            .succeeded();
    }

    /// Writes variants of `count` keys: `a`, `b` (all values differ), `one-a`, `one-b` (as `a`, but for one key).
    fn manifests(&self, count: usize) {
        for variant in ["a", "b", "one-a", "one-b"] {
            let config = self.operator.ssh("config");
            let mut manifest = format!(
                "id = \"bench\"\n[ssh]\nconfig = \"{}\"\n[hosts.pigeon]\n",
                config.display()
            );
            let source = |n: usize, value: &str| {
                format!(
                    "values/{}-{n}",
                    if n == 0 {
                        value
                    } else {
                        &value[value.len() - 1..]
                    }
                )
            };
            let value = if variant.starts_with("one") {
                "a"
            } else {
                variant
            };
            for n in 0..count {
                let file = if n == 0 {
                    source(n, variant)
                } else {
                    source(n, value)
                };
                writeln!(
                    manifest,
                    "[keys.k{n}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"{file}\" }}"
                )
                .expect("memory");
                self.value(&file);
            }
            self.operator
                .write(&format!("{count}-{variant}.toml"), manifest);
        }
    }

    /// Writes a value of 1 KiB that no other file has.
    fn value(&self, file: &str) {
        fs::create_dir_all(self.operator.path("values")).expect("the lab's folder can be written");
        if !self.operator.path(file).exists() {
            self.operator.write(file, format!("{file:x<1024}"));
        }
    }

    /// How the tools that people come from do it: 30 keys, by the same ssh.
    fn peers(&self) {
        let ssh = format!(
            "ssh -F {} -o BatchMode=yes",
            self.operator.ssh("config").display()
        );
        let upload = "umask 077; cat > /run/keys/x.tmp && chown root:root /run/keys/x.tmp && mv /run/keys/x.tmp /run/keys/x";
        let each =
            format!("for n in $(seq 30); do echo value | {ssh} pigeon '{upload}' || exit 1; done");
        let master = format!("{ssh} -o ControlPath=$PWD/master -o ControlPersist=60");
        let shared = format!(
            "{master} -MNf pigeon; for n in $(seq 30); do {master} -n pigeon 'rm -f /run/keys/x' && echo value | {master} pigeon \
             '{upload}' || exit 1; done; {master} -O exit pigeon"
        );
        println!("\n| 30 keys the way of | × `ssh host true` |\n|---|---|");
        for (name, line) in [
            ("Colmena: one ssh a key", each),
            ("NixOps: one connection, a few commands a key", shared),
        ] {
            let login = self.login().as_secs_f64();
            let took = shell(&line, &self.operator).took.as_secs_f64();
            println!("| {name} | {:.1} |", took / login);
        }
        let _removed = self.host.run("rm -f /run/keys/x").succeeded();
    }

    /// Peak resident memory of both sides.
    fn memory(&self) {
        println!("\n| peak resident memory | keys | keys-agent |\n|---|---|---|");
        self.operator.write("values/large", vec![b'x'; 64 << 20]);
        let config = self.operator.ssh("config");
        self.operator.write(
            "large.toml",
            format!(
                "id = \"bench\"\n[ssh]\nconfig = \"{}\"\n[hosts.pigeon]\n[keys.large]\nhosts = [\"pigeon\"]\nsource = {{ file = \"values/large\" }}\n",
                config.display()
            ),
        );
        for (what, file) in [
            ("1,000 keys of 1 KiB", "1000-b.toml"),
            ("10,000 keys of 1 KiB", "10000-b.toml"),
            ("one key of 64 MiB", "large.toml"),
        ] {
            self.empty();
            let (pusher, agent) = self.peaks(file);
            println!(
                "| {what} | {:.1} MiB | {:.1} MiB |",
                mib(pusher),
                mib(agent)
            );
        }
    }

    /// Sends, and looks at the high-water marks of `keys` and of every keys-agent there is until it ends, in KiB.
    fn peaks(&self, file: &str) -> (u64, u64) {
        let mut command = self.operator.command(&["-f", file, "send"]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("keys starts");
        let (mut pusher, mut agent) = (0, 0);
        while child.try_wait().expect("our own child").is_none() {
            pusher = pusher.max(high_water(child.id()).unwrap_or(0));
            agent = agent.max(agents().filter_map(high_water).max().unwrap_or(0));
            thread::sleep(Duration::from_millis(1));
        }
        (pusher, agent)
    }
}

fn parity(round: usize) -> &'static str {
    if round.is_multiple_of(2) { "a" } else { "b" }
}

fn one(round: usize) -> &'static str {
    if round.is_multiple_of(2) {
        "one-a"
    } else {
        "one-b"
    }
}

fn shell(line: &str, operator: &Operator) -> Ran {
    let mut command = Command::new("bash");
    command.args(["-ec", line]).current_dir(operator.path(""));
    let start = Instant::now();
    let ran = Ran::of(command, b"").succeeded();
    assert!(
        ran.took <= start.elapsed(),
        "a command took longer than the wait for it"
    );
    ran
}

#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn agents() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("/proc is there").flatten();
    processes.filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        // The child behind the socket is started as /proc/self/exe.
        matches!(name.trim_end(), "keys-agent" | "exe").then_some(process)
    })
}

fn high_water(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
