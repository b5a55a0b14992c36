//! What an identity file holds: age identities line by line, or one ssh private key.
//!
//! Not age's own reader, which refuses a whole file for one line that it does not know.

use keys_protocol::Secret;

use crate::failure::Failure;
use crate::resolve::Terminal;

use super::Opened;
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
        if line.starts_with("AGE-SECRET-KEY-PQ-1") {
            self.passed_over
                .push(format!("line {number} is post-quantum: not supported yet"));
            return Ok(());
        }
        if line.starts_with("AGE-PLUGIN-") {
            self.passed_over.push(format!(
                "line {number} needs a plugin, and none is ever run"
            ));
            return Ok(());
        }
        let identity: age::x25519::Identity = line
            .parse()
            .map_err(|_| Failure::source(format!("line {number} is no age identity")))?;
        self.open.push(Box::new(identity));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str =
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

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
            &format!("AGE-SECRET-KEY-PQ-1XYZ\nAGE-PLUGIN-../../X-1ABC\n{IDENTITY}\n"),
            Ok((
                1,
                &[
                    "line 1 is post-quantum: not supported yet",
                    "line 2 needs a plugin, and none is ever run",
                ],
            )),
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
