//! What a watcher shows of itself: a line, a page for people, and one for Prometheus.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::watch::board::{Entry, State, View};

/// One line for `systemctl status`.
pub(super) fn line(view: &View) -> String {
    let complete = view.hosts.values().filter(is_complete).count();
    let total = view.hosts.len();
    match view.running {
        0 => format!("{complete} of {total} hosts have every key"),
        _ => format!("{complete} of {total} hosts have every key; sending"),
    }
}

fn is_complete(entry: &&Entry) -> bool {
    entry.state == State::Complete
}

/// The page for people: a line for each host.
pub(super) fn text(view: &View) -> String {
    let mut page = line(view) + "\n\n";
    let longest = view.hosts.keys().map(|name| name.as_str().len()).max();
    let longest = longest.unwrap_or(0);
    for (name, entry) in &view.hosts {
        let (name, state, since) = (name.as_str(), entry.state.word(), entry.since);
        let there = entry.wanted.saturating_sub(entry.missing.len());
        let keys = format!("{there} of {} keys", entry.wanted);
        let boot = entry.boot.get(..8).unwrap_or("none");
        let trouble = entry.trouble.as_deref();
        let trouble = trouble.map_or_else(String::new, |text| format!("; {text}"));
        let _infallible = writeln!(
            page,
            "{name:longest$}  {state:11}  since {since:.0}, {keys}, boot {boot}, reseeded {} times{trouble}",
            entry.reseeds
        );
    }
    page
}

/// What is measured of each host: name, kind, help, and the number.
type Measure = (&'static str, &'static str, &'static str, fn(&Entry) -> f64);

#[expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^53, and Prometheus has no other numbers"
)]
const MEASURES: [Measure; 7] = [
    ("complete", "gauge", "Whether every key is there", |entry| {
        f64::from(u8::from(entry.state == State::Complete))
    }),
    (
        "reachable",
        "gauge",
        "Whether the host is connected",
        |entry| {
            f64::from(u8::from(matches!(
                entry.state,
                State::Complete | State::Lacking
            )))
        },
    ),
    (
        "missing_keys",
        "gauge",
        "Keys that were missing when the host last answered",
        |entry| entry.missing.len() as f64,
    ),
    (
        "seen_timestamp_seconds",
        "gauge",
        "When the host last answered",
        |entry| entry.seen.map_or(0.0, |seen| seconds(seen) as f64),
    ),
    (
        "reboots_total",
        "counter",
        "Boots that followed another one under this watcher",
        |entry| entry.reboots as f64,
    ),
    (
        "reseeds_total",
        "counter",
        "Times its missing keys were sent, or tried to be",
        |entry| entry.reseeds as f64,
    ),
    (
        "logins_total",
        "counter",
        "Connections that were begun",
        |entry| entry.logins as f64,
    ),
];

fn seconds(time: Timestamp) -> i64 {
    time.as_second()
}

/// The page for Prometheus, in its text format 0.0.4. The names of hosts need no quoting there.
pub(super) fn metrics(view: &View) -> String {
    let mut page = String::new();
    let one = |name: &str, kind: &str, help: &str| {
        format!("# HELP keys_watch_{name} {help}.\n# TYPE keys_watch_{name} {kind}\n")
    };
    for (name, kind, help, measure) in MEASURES {
        let name = format!("host_{name}");
        page += &one(&name, kind, help);
        for (host, entry) in &view.hosts {
            let _infallible = writeln!(
                page,
                "keys_watch_{name}{{host=\"{}\"}} {}",
                host.as_str(),
                measure(entry)
            );
        }
    }
    for (name, help, value) in [
        (
            "runs_total",
            "Times another keys was started to send",
            view.runs,
        ),
        (
            "source_failures_total",
            "Runs in which a source failed",
            view.source_failures,
        ),
    ] {
        page += &one(name, "counter", help);
        let _infallible = writeln!(page, "keys_watch_{name} {value}");
    }
    page
}
