//! What an identity file holds: age identities line by line, or one ssh private key.
//!
//! Not age's own reader, which refuses a whole file for one line that it does not know.

use keys_protocol::Secret;

use crate::age_file::is_age;
use crate::failure::Failure;

use super::Means;
use super::found::{Found, Opened};
use super::locked_file::LockedFile;
use super::plugin::{Plugin, plugin_of};
use super::postquantum::PostQuantum;
use super::ssh;

/// Reads the text of the file that the user calls `name`.
pub(super) fn parse(name: &str, text: Secret, means: &Means) -> Result<Found, Failure> {
    let bytes = text.expose().trim_ascii_start();
    if is_age(bytes) {
        return Ok(Found {
            files: vec![LockedFile::new(name, text, means)],
            ..Found::default()
        });
    }
    if bytes.starts_with(b"-----BEGIN ") {
        return ssh::parse(name, bytes, &means.terminal);
    }
    let Ok(text) = str::from_utf8(text.expose()) else {
        return Err(Failure::source(
            "neither age identities nor an ssh private key",
        ));
    };
    let mut found = Found::default();
    for (number, line) in (1..).zip(text.lines()) {
        found.add_line(number, line.trim(), means)?;
    }
    Ok(found)
}

impl Found {
    /// Adds what a line holds. Messages name the line by its number: it may be a secret.
    fn add_line(&mut self, number: usize, line: &str, means: &Means) -> Result<(), Failure> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        // SOPS takes several in one line of its variable.
        for word in line.split_ascii_whitespace() {
            if word.starts_with("AGE-PLUGIN-") {
                self.add_plugin(number, word, means);
                continue;
            }
            let none = || Failure::source(format!("line {number} is no age identity"));
            self.open.push(opened(word).ok_or_else(none)?);
        }
        Ok(())
    }

    fn add_plugin(&mut self, number: usize, identity: &str, means: &Means) {
        let why_not = match plugin_of(identity) {
            Some(name) if means.plugins.contains(&name) => {
                let plugin = Plugin::new(name, identity, &means.terminal);
                self.plugins.push(plugin);
                return;
            }
            Some(name) => format!("needs {name}, which `plugins` under [age] does not name"),
            None => "names no plugin".to_owned(),
        };
        self.passed_over.push(format!("line {number} {why_not}"));
    }
}

fn opened(identity: &str) -> Option<Opened> {
    if identity.starts_with("AGE-SECRET-KEY-PQ-") {
        return Some(Box::new(PostQuantum::parse(identity)?));
    }
    Some(Box::new(identity.parse::<age::x25519::Identity>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str =
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

    const POST_QUANTUM: &str =
        "AGE-SECRET-KEY-PQ-1HZLGZUPT4ETPKDEV8HSGFDCYZ4E522W0A7PU2LHT8EH9W6YLNC3SW78XKG";

    fn check(text: &str, found: Result<(usize, &[&str]), &str>) {
        let parsed = parse("keys.txt", Secret::new(text.into()), &Means::default());
        match (parsed, found) {
            (Ok(parsed), Ok((open, passed_over))) => {
                assert_eq!(parsed.open.len(), open, "{text}");
                assert_eq!(parsed.passed_over, passed_over, "{text}");
            }
            (Err(failure), Err(expected)) => assert_eq!(failure.to_string(), expected),
            (Ok(_), Err(expected)) => panic!("{text} was read, not: {expected}"),
            (Err(failure), Ok(_)) => panic!("{text}: {failure}"),
        }
    }

    #[test]
    fn each_line_is_judged_alone() {
        check("", Ok((0, &[])));
        check(
            &format!("# mine\r\n\r\n  {IDENTITY}\r\n{IDENTITY}"),
            Ok((2, &[])),
        );
        check(
            &format!("{POST_QUANTUM}\nAGE-PLUGIN-../../X-1ABC\n{IDENTITY}\n"),
            Ok((2, &["line 2 names no plugin"])),
        );
        check(
            &format!("{IDENTITY}\n{}", POST_QUANTUM.to_lowercase()),
            Err("line 2 is no age identity"),
        );
        check(
            &POST_QUANTUM.replace("PQ-1H", "PQ-1Q"),
            Err("line 1 is no age identity"),
        );
        check(&format!("\n{IDENTITY}x"), Err("line 2 is no age identity"));
        check("hunter2", Err("line 1 is no age identity"));
        check(&format!("{IDENTITY} {POST_QUANTUM}"), Ok((2, &[])));
        check(
            &format!("{IDENTITY} hunter2"),
            Err("line 1 is no age identity"),
        );
        check(
            "-----BEGIN PRIVATE KEY-----\n",
            Err("a private key of a kind that age does not use"),
        );
    }
}
