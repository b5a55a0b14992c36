//! The two streams: stdout is data, stderr is talk. Nothing secret goes to either, but what `keys get` was asked for.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use keys_protocol::printable;
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// How stdout speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// Where everything is printed.
pub(crate) struct Output {
    form: Form,
    stdout: io::BufWriter<io::Stdout>,
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            stdout: io::BufWriter::new(io::stdout()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Prints one line of data; with `--json` the document has it already.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        if self.is_json() {
            Ok(())
        } else {
            writeln!(self.stdout, "{line}")
        }
    }

    /// Prints the document of `--json`.
    pub(crate) fn json(&mut self, document: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(document)?;
        for line in text.lines() {
            writeln!(self.stdout, "{}", escaped(line))?;
        }
        Ok(())
    }

    /// Writes bytes as they are: for `keys get`.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Past the buffer: it is not wiped.
        self.stdout.flush()?;
        let mut stdout = self.stdout.get_ref().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Talks about a failure, with its hint on lines of its own.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.remark(format_args!("{failure}"));
        for hint in failure.advice().into_iter().flat_map(str::lines) {
            self.remark(format_args!("hint: {hint}"));
        }
    }

    /// Talks about several, and returns the exit code they have in common.
    pub(crate) fn failures(&mut self, failures: &[Failure], exit: Exit) -> Result<Exit, Failure> {
        for failure in failures {
            self.failure(failure);
        }
        if self.is_json() {
            let errors: Vec<String> = failures.iter().map(ToString::to_string).collect();
            self.json(&serde_json::json!({ "exit": exit as u8, "errors": errors }))
                .map_err(Failure::output)?;
        }
        self.finish().map(|()| exit).map_err(Failure::output)
    }

    /// Talks about something worth knowing.
    #[expect(
        clippy::unused_self,
        reason = "whoever talks holds the output, so that talk and data are in order"
    )]
    pub(crate) fn remark(&mut self, remark: fmt::Arguments<'_>) {
        // If stderr is closed there is nobody left to tell.
        writeln!(io::stderr(), "keys: {remark}").ok();
    }

    /// Writes what is buffered.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Escapes in a line of JSON what a terminal would obey. `serde_json` does so below the space alone; the other controls and
/// the characters of direction stand in strings only, and JSON has an escape for each.
fn escaped(line: &str) -> Cow<'_, str> {
    if printable(line, usize::MAX) == line {
        return Cow::Borrowed(line);
    }
    let escape = |c: char| {
        if printable(c.encode_utf8(&mut [0; 4]), 1).starts_with(c) {
            c.to_string()
        } else {
            format!("\\u{:04x}", u32::from(c))
        }
    };
    Cow::Owned(line.chars().map(escape).collect())
}

/// Says on a terminal what is under way; gone when dropped. Silent without one.
pub(crate) struct Doing(ProgressBar);

impl Doing {
    pub(crate) fn now(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("keys: {msg} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gives_no_orders_and_stays_json() {
        let text = "a\u{1b}[31m\u{9b}2J\u{202e}b\u{7f}ü\u{1f511}";
        let line = serde_json::to_string(text).unwrap();
        assert_eq!(
            escaped(&line),
            "\"a\\u001b[31m\\u009b2J\\u202eb\\u007fü\u{1f511}\""
        );
        assert_eq!(
            serde_json::from_str::<String>(&escaped(&line)).unwrap(),
            text
        );
    }
}
