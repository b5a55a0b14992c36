//! What an identity file holds: age identities line by line, or one ssh private key.
//!
//! Not age's own reader, which refuses a whole file for one line that it does not know.

use keys_protocol::Secret;

use crate::failure::Failure;
use crate::resolve::Terminal;

use super::Opened;
use super::postquantum::PostQuantum;
use super::ssh::{self, LockedKey};

/// What one file gave.
#[derive(Default)]
pub(super) struct Found {
    pub(super) open: Vec<Opened>,
    pub(super) locked: Vec<LockedKey>,
    /// What is there and was not used, and why.
    pub(super) passed_over: Vec<String>,
}

/// Reads the text of the file that the user calls `name`.
pub(super) fn parse(name: &str, text: &Secret, terminal: &Terminal) -> Result<Found, Failure> {
    let bytes = text.expose().trim_ascii_start();
    if bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE")
        || bytes.starts_with(b"age-encryption.org/")
    {
        return Err(Failure::source(
            "an identity file under a passphrase: not supported yet",
        ));
    }
    if bytes.starts_with(b"-----BEGIN ") {
        return ssh::parse(name, bytes, terminal);
    }
    let Ok(text) = str::from_utf8(text.expose()) else {
        return Err(Failure::source(
            "neither age identities nor an ssh private key",
        ));
    };
    let mut found = Found::default();
    for (number, line) in (1..).zip(text.lines()) {
        found.add_line(number, line.trim())?;
    }
    Ok(found)
}

impl Found {
    /// Adds what a line holds. Messages name the line by its number: it may be a secret.
    fn add_line(&mut self, number: usize, line: &str) -> Result<(), Failure> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.starts_with("AGE-PLUGIN-") {
            self.passed_over.push(format!(
                "line {number} needs a plugin, and none is ever run"
            ));
            return Ok(());
        }
        let none = || Failure::source(format!("line {number} is no age identity"));
        self.open.push(opened(line).ok_or_else(none)?);
        Ok(())
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
        let parsed = parse("keys.txt", &Secret::new(text.into()), &Terminal::default());
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
            Ok((2, &["line 2 needs a plugin, and none is ever run"])),
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
        check(
            "age-encryption.org/v1\n-> scrypt",
            Err("an identity file under a passphrase: not supported yet"),
        );
        check(
            "-----BEGIN PRIVATE KEY-----\n",
            Err("a private key of a kind that age does not use"),
        );
    }
}
