//! What the agent tells the journal: one line per push, key and unit, by name and outcome, never a value or a digest.
//!
//! Each line can be searched for by field, `journalctl KEYS_NAME=tls-cert`. A host without a journal gets none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use keys_protocol::{KeyOutcome, KeyResult, Refusal, UnitOutcome, UnitResult, limits, printable};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::record::Origin;

/// The thread that writes: sending to a journal that is stuck blocks for ever, and no push may wait for that.
static WRITER: OnceLock<Option<SyncSender<Order>>> = OnceLock::new();
/// The most entries that wait: one for each key of the largest push, and some.
const QUEUE: usize = limits::KEYS as usize + 1024;
/// How long the end of a process waits for the journal.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much a line matters, as `syslog(3)` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something failed.
    Error = 3,
    /// Something was refused.
    Warning = 4,
    /// Something changed.
    Notice = 5,
    /// Nothing changed.
    Info = 6,
}

/// What a push did to the keys: a line for each that it did something to, and one for the whole.
pub(crate) fn push(generation: u64, origin: &Origin, results: &[KeyResult]) {
    let generation = generation.to_string();
    let manifest = printable(&origin.manifest, limits::TEXT);
    let sender = printable(&origin.sender, limits::TEXT);
    let common = [
        ("KEYS_GENERATION", generation.as_str()),
        ("KEYS_MANIFEST", manifest.as_str()),
        ("KEYS_SENDER", sender.as_str()),
    ];
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for result in results {
        let (level, outcome) = of_key(result.outcome);
        *counts.entry(outcome).or_default() += 1;
        if result.outcome != KeyOutcome::Unchanged {
            let name = result.name.as_str();
            let fields = [
                &common[..],
                &[("KEYS_NAME", name), ("KEYS_OUTCOME", outcome)],
            ]
            .concat();
            send(level, &told(name, outcome, &result.detail), &fields);
        }
    }
    let counts = counts
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let counts = if counts.is_empty() {
        "no keys"
    } else {
        &counts
    };
    let text = format!("generation {generation} from {sender}: {counts}");
    send(Level::Notice, &text, &common);
}

/// What became of a unit.
pub(crate) fn unit(result: &UnitResult) {
    let (level, outcome) = match result.outcome {
        UnitOutcome::Restarted => (Level::Notice, "restarted"),
        UnitOutcome::Reloaded => (Level::Notice, "reloaded"),
        UnitOutcome::Started => (Level::Notice, "started"),
        UnitOutcome::Stopped => (Level::Notice, "stopped"),
        UnitOutcome::Signalled => (Level::Notice, "signalled"),
        UnitOutcome::Running => (Level::Info, "running"),
        UnitOutcome::NotRunning => (Level::Info, "not_running"),
        UnitOutcome::StillRestarting => (Level::Warning, "still_restarting"),
        UnitOutcome::Failed => (Level::Error, "failed"),
    };
    let unit = result.unit.as_str();
    let fields = [("KEYS_UNIT", unit), ("KEYS_OUTCOME", outcome)];
    send(level, &told(unit, outcome, &result.detail), &fields);
}

/// A push that changed nothing, and why.
pub(crate) fn refused(refusal: &Refusal) {
    let text = format!("refused: {refusal}");
    send(Level::Warning, &text, &[("KEYS_OUTCOME", "refused")]);
}

fn of_key(outcome: KeyOutcome) -> (Level, &'static str) {
    match outcome {
        KeyOutcome::New => (Level::Notice, "new"),
        KeyOutcome::Changed => (Level::Notice, "changed"),
        KeyOutcome::Unchanged => (Level::Info, "unchanged"),
        KeyOutcome::Removed => (Level::Notice, "removed"),
        KeyOutcome::Kept => (Level::Warning, "kept"),
        KeyOutcome::FailedKept => (Level::Error, "failed_kept"),
        KeyOutcome::Failed => (Level::Error, "failed"),
        KeyOutcome::Foreign => (Level::Warning, "foreign"),
    }
}

fn told(name: &str, outcome: &str, detail: &str) -> String {
    if detail.is_empty() {
        format!("{name}: {outcome}")
    } else {
        format!("{name}: {outcome}: {}", printable(detail, limits::TEXT))
    }
}

/// One line for whoever started us: the journal, or the operator at the other end of ssh.
pub(crate) fn note(level: Level, text: &str) {
    let text = printable(text, limits::TEXT);
    if stderr_is_journal() {
        // Not as an entry of its own: the journal may come to that when we have ended, cannot find out any more whose it
        // was, and `systemctl status` does not show it. Of the stream it knows. The number is the level: sd-daemon(3).
        return queue(Order::Say(format!("<{}>{text}", level as u8)));
    }
    // Nobody is there to be told that nobody is there.
    let _unheard = writeln!(std::io::stderr(), "keys-agent: {text}");
}

/// One line for the journal alone.
pub(crate) fn record(level: Level, text: &str) {
    send(level, &printable(text, limits::TEXT), &[]);
}

/// Whether standard error goes to the journal by itself: systemd says which file that is.
fn stderr_is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM");
    let is = std::fs::metadata("/proc/self/fd/2").map(|of| format!("{}:{}", of.dev(), of.ino()));
    said.is_ok_and(|said| is.is_ok_and(|is| is == said))
}

/// Queues one entry. One that finds no room is lost: the report to the pusher is the account that counts.
fn send(level: Level, text: &str, fields: &[(&str, &str)]) {
    let mut entry = vec![
        format!("MESSAGE={text}"),
        format!("PRIORITY={}", level as u8),
        "SYSLOG_IDENTIFIER=keys-agent".to_owned(),
    ];
    entry.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
    queue(Order::Write(entry));
}

fn queue(order: Order) {
    if let Some(queue) = WRITER.get_or_init(start_writer) {
        let _lost = queue.try_send(order);
    }
}

/// Waits a little until what was queued is written; called last.
pub(crate) fn flush() {
    let Some(Some(queue)) = WRITER.get() else {
        return;
    };
    let (done, written) = mpsc::channel();
    if queue.try_send(Order::Answer(done)).is_ok() {
        let _late = written.recv_timeout(LAST_WORDS);
    }
}

enum Order {
    Write(Vec<String>),
    /// One line on standard error.
    Say(String),
    /// Everything before this is written.
    Answer(Sender<()>),
}

fn start_writer() -> Option<SyncSender<Order>> {
    let (queue, orders) = mpsc::sync_channel(QUEUE);
    // Signals are for the thread that waits for them; a new thread starts with the mask of this one.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let started = thread::Builder::new().spawn(move || {
        for order in orders {
            match order {
                Order::Write(entry) => {
                    let entry: Vec<&str> = entry.iter().map(String::as_str).collect();
                    let _unheard = systemd::journal::send(&entry);
                }
                Order::Say(line) => {
                    let _unheard = writeln!(std::io::stderr(), "{line}");
                }
                Order::Answer(done) => {
                    let _late = done.send(());
                }
            }
        }
    });
    if let Ok(before) = before {
        let _unchanged = before.thread_set_mask();
    }
    started.is_ok().then_some(queue)
}
