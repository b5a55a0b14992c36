//! What it costs to resolve secrets from sops files, beside sops itself: `tests/bench sources`.
//!
//! A figure is the median of pairs A B A B, so that a machine that is busy for a while is busy for both.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::fmt::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use keys_tests::{Operator, Ran, Sops, Sshd};
use nix::sys::resource::{UsageWho, getrusage};

/// How many pairs a figure is the median of.
const PAIRS: usize = 9;

/// The word that makes this program run another and say what memory that took.
const MEASURE: &str = "--measure";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, rest)) if first == MEASURE => return measure(rest),
        _ => {}
    }
    let mut bench = Bench {
        operator: Operator::new(),
        sops: Sops::new(),
    };
    bench.one_value();
    bench.many_files();
    ExitCode::SUCCESS
}

/// Runs a program, and prints its peak resident memory in KiB as the last line of stderr.
fn measure(words: &[String]) -> ExitCode {
    let (program, arguments) = words.split_first().expect("a program");
    let status = Command::new(program).args(arguments).status();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own children");
    eprintln!("{}", peak.max_rss());
    if status.is_ok_and(|status| status.success()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Bench {
    operator: Operator,
    sops: Sops,
}

/// What a program took.
struct Cost {
    time: Duration,
    /// Peak resident memory, in KiB.
    memory: i64,
}

impl Bench {
    /// One value of a file, beside `sops decrypt` of the same file.
    fn one_value(&mut self) {
        println!(
            "| one sops file of | `keys get` of a value, × `sops decrypt` | target | peak memory | target |"
        );
        println!("|---|---|---|---|---|");
        for count in [30, 1_000] {
            self.file(&format!("{count}.yaml"), count);
            let source = format!(
                "[keys.k]\nhosts = [\"pigeon\"]\nsource = {{ sops = \"{count}.yaml#key7\" }}\n"
            );
            self.manifest("[hosts.pigeon]\n", &source);
            let pairs = (0..PAIRS).map(|_| {
                let mut theirs = self.sops.command(&["decrypt"]);
                theirs.arg(self.operator.path(&format!("{count}.yaml")));
                (cost(&theirs), cost(&self.operator.command(&["get", "k"])))
            });
            let (ratio, ours) = median(pairs.collect());
            let memory = mib(ours.memory);
            println!("| {count} values | {ratio:.2} | ≤ 0.25 | {memory:.1} MiB | ≤ 12 |");
        }
    }

    /// A plan of many keys from many files, beside sops decrypting each of the files once.
    fn many_files(&mut self) {
        const FILES: usize = 20;
        const KEYS: usize = 50;
        let host = Sshd::start("pigeon");
        self.operator.knows(&host);
        let mut sources = String::new();
        let mut line = String::from("true");
        for file in 0..FILES {
            let name = format!("f{file}.yaml");
            self.file(&name, KEYS);
            let path = self.operator.path(&name);
            write!(line, " && \"$0\" decrypt '{}' >/dev/null", path.display()).expect("memory");
            for key in 0..KEYS {
                writeln!(
                    sources,
                    "[keys.f{file}k{key}]\nhosts = [\"pigeon\"]\nsource = {{ sops = \"{name}#key{key}\" }}"
                )
                .expect("memory");
            }
        }
        self.manifest("id = \"bench\"\n[hosts.pigeon]\n", &sources);
        let pairs = (0..PAIRS).map(|_| {
            let theirs = in_shell(&line, &self.sops.command(&[]));
            // A plan that has something to do ends with 2.
            let plan = self.operator.command(&["plan"]);
            let ours = in_shell("\"$0\" plan >/dev/null; test $? = 2", &plan);
            (cost(&theirs), cost(&ours))
        });
        let (ratio, ours) = median(pairs.collect());
        println!(
            "\n| {FILES} sops files of {KEYS} keys | × {FILES} `sops decrypt` | by itself | peak memory |\n|---|---|---|---|"
        );
        println!(
            "| `keys plan`, with its login | {ratio:.2} | {:.0} ms | {:.1} MiB |",
            ours.time.as_secs_f64() * 1000.0,
            mib(ours.memory)
        );
    }

    /// Writes a file with so many values.
    fn file(&self, name: &str, count: usize) {
        let text = (0..count).fold(String::new(), |mut text, n| {
            writeln!(
                text,
                "key{n}: value number {n} of a file that is read in one go"
            )
            .expect("memory");
            text
        });
        self.operator.write(name, self.sops.encrypt(name, &text));
    }

    fn manifest(&self, head: &str, sources: &str) {
        let identity = self.sops.age().identity();
        self.operator.manifest(&format!(
            "{head}{sources}[age]\nidentities = [\"{}\"]\n",
            identity.display()
        ));
    }
}

/// A line of shell in the environment and folder of a command, whose program is `$0`.
fn in_shell(line: &str, of: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).arg(of.get_program()).envs(
        of.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(folder) = of.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// Runs a command by way of ourselves.
fn cost(command: &Command) -> Cost {
    let mut measured = Command::new(std::env::current_exe().expect("it is running"));
    measured
        .arg(MEASURE)
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    if let Some(folder) = command.get_current_dir() {
        measured.current_dir(folder);
    }
    let ran = Ran::of(measured, b"").succeeded();
    let last = ran.stderr.lines().last().expect("it says its memory");
    Cost {
        time: ran.took,
        memory: last.parse().expect("a number"),
    }
}

/// Returns the median of how many times the second took as long as the first, and of what the second took.
fn median(mut pairs: Vec<(Cost, Cost)>) -> (f64, Cost) {
    // The first pair warms up caches on both sides.
    pairs.remove(0);
    let mut ratios: Vec<f64> = pairs
        .iter()
        .map(|(theirs, ours)| ours.time.as_secs_f64() / theirs.time.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    let mut ours: Vec<Cost> = pairs.into_iter().map(|(_, ours)| ours).collect();
    ours.sort_by_key(|cost| cost.time);
    let ratio = ratios[ratios.len() / 2];
    (ratio, ours.swap_remove(ours.len() / 2))
}

#[expect(clippy::cast_precision_loss, reason = "printed with one decimal")]
fn mib(kib: i64) -> f64 {
    kib as f64 / 1024.0
}
