//! What the agent tells the journal: one line per push, key and unit, by name and outcome, never a value or a digest.
//!
//! Each line can be searched for by field, `journalctl KEYS_NAME=tls-cert`. A host without a journal gets none.

use keys_protocol::{KeyOutcome, KeyResult, UnitOutcome, UnitResult, limits, printable};

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

/// The push that lines belong to.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// The generation it committed, or that stayed.
    pub(crate) generation: u64,
    /// The id of its manifest.
    pub(crate) manifest: String,
    /// Who is said to have sent it.
    pub(crate) sender: String,
}

impl Push {
    /// One line for the whole push.
    pub(crate) fn committed(&self, new: usize, changed: usize, removed: usize) {
        let text = format!(
            "generation {}: {new} new, {changed} changed, {removed} removed, from {}",
            self.generation,
            printable(&self.sender, limits::TEXT)
        );
        let level = if new + changed + removed > 0 {
            Level::Notice
        } else {
            Level::Info
        };
        self.line(level, &text, &[]);
    }

    /// One line for a push that changed nothing, and why.
    pub(crate) fn refused(&self, why: &str) {
        let text = format!("refused: {}", printable(why, limits::TEXT));
        self.line(Level::Warning, &text, &[("KEYS_OUTCOME", "refused")]);
    }

    /// One line for a key; none where nothing happened to it.
    pub(crate) fn key(&self, result: &KeyResult) {
        let (level, outcome) = match result.outcome {
            KeyOutcome::New => (Level::Notice, "new"),
            KeyOutcome::Changed => (Level::Notice, "changed"),
            KeyOutcome::Removed => (Level::Notice, "removed"),
            KeyOutcome::Kept => (Level::Warning, "kept"),
            KeyOutcome::FailedKept => (Level::Error, "failed_kept"),
            KeyOutcome::Failed => (Level::Error, "failed"),
            KeyOutcome::Foreign => (Level::Warning, "foreign"),
            KeyOutcome::Unchanged => return,
        };
        let text = told(result.name.as_str(), outcome, &result.detail);
        self.line(
            level,
            &text,
            &[
                ("KEYS_NAME", result.name.as_str()),
                ("KEYS_OUTCOME", outcome),
            ],
        );
    }

    /// One line for a unit.
    pub(crate) fn unit(&self, result: &UnitResult) {
        let (level, outcome) = match result.outcome {
            UnitOutcome::Restarted => (Level::Notice, "restarted"),
            UnitOutcome::Reloaded => (Level::Notice, "reloaded"),
            UnitOutcome::NotRunning => (Level::Info, "not_running"),
            UnitOutcome::StillRestarting => (Level::Warning, "still_restarting"),
            UnitOutcome::Failed => (Level::Error, "failed"),
        };
        let text = told(result.unit.as_str(), outcome, &result.detail);
        self.line(
            level,
            &text,
            &[
                ("KEYS_UNIT", result.unit.as_str()),
                ("KEYS_OUTCOME", outcome),
            ],
        );
    }

    fn line(&self, level: Level, text: &str, more: &[(&str, &str)]) {
        let generation = self.generation.to_string();
        let manifest = printable(&self.manifest, limits::TEXT);
        let sender = printable(&self.sender, limits::TEXT);
        let mut fields = vec![
            ("KEYS_GENERATION", generation.as_str()),
            ("KEYS_MANIFEST", manifest.as_str()),
            ("KEYS_SENDER", sender.as_str()),
        ];
        fields.extend_from_slice(more);
        send(level, text, &fields);
    }
}

fn told(name: &str, outcome: &str, detail: &str) -> String {
    if detail.is_empty() {
        format!("{name}: {outcome}")
    } else {
        format!("{name}: {outcome}: {}", printable(detail, limits::TEXT))
    }
}

/// One line that belongs to no push.
pub(crate) fn note(level: Level, text: &str) {
    send(level, &printable(text, limits::TEXT), &[]);
}

/// Sends one entry. A journal that is not there or does not listen never stops a push: the report to the pusher is
/// the account that counts.
fn send(level: Level, text: &str, fields: &[(&str, &str)]) {
    let mut entry = vec![
        format!("MESSAGE={text}"),
        format!("PRIORITY={}", level as u8),
        "SYSLOG_IDENTIFIER=keys-agent".to_owned(),
    ];
    entry.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
    let entry: Vec<&str> = entry.iter().map(String::as_str).collect();
    let _unheard = systemd::journal::send(&entry);
}
