//! Reads JSON into a tree that keeps the order of fields and the exact value of numbers.

use crate::Format;
use crate::error::{Error, line_after};
use crate::tree::{Budget, Kind, Leaf, Map, MapBuilder, Node};

/// The longest number, in bytes; doubles have at most a thousand digits that matter.
const LONGEST_NUMBER: usize = 4096;

/// Reads a file that holds one object.
pub(crate) fn read(text: &str) -> Result<Map, Error> {
    let mut reader = Reader {
        text,
        at: 0,
        budget: Budget::new(),
    };
    reader.blanks();
    if reader.peek() != Some(b'{') {
        return Err(reader.refuse("an object is wanted at the top"));
    }
    let map = reader.map(1)?;
    reader.blanks();
    if reader.at < text.len() {
        // Go's sops ignores what follows; nobody means it to be there.
        return Err(reader.refuse("something follows the object"));
    }
    Ok(map)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    budget: Budget,
}

impl Reader<'_> {
    fn refuse(&self, rule: &str) -> Error {
        let line = line_after(&self.text.as_bytes()[..self.at]);
        Error::syntax(Format::Json, line, rule)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Steps over `wanted` and the blanks around it.
    fn step(&mut self, wanted: u8) -> bool {
        self.blanks();
        let there = self.peek() == Some(wanted);
        if there {
            self.at += 1;
            self.blanks();
        }
        there
    }

    fn node(&mut self, depth: usize) -> Result<Node, Error> {
        match self.peek() {
            Some(b'{') => return self.map(depth).map(Node::Map),
            Some(b'[') => return self.list(depth).map(Node::List),
            _ => self.budget.spend(depth)?,
        }
        let leaf = match self.peek() {
            Some(b'"') => Leaf::new(Kind::Str, self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node::Leaf(leaf))
    }

    fn map(&mut self, depth: usize) -> Result<Map, Error> {
        self.budget.spend(depth)?;
        let mut map = MapBuilder::default();
        self.step(b'{');
        if self.step(b'}') {
            return Ok(map.finish());
        }
        loop {
            let name = self.string()?;
            if !self.step(b':') {
                return Err(self.refuse("`:` is wanted after the name of a field"));
            }
            let value = self.node(depth + 1)?;
            map.field(name, value)?;
            if self.step(b'}') {
                return Ok(map.finish());
            }
            if !self.step(b',') {
                return Err(self.refuse("`,` or `}` is wanted after a field"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        self.budget.spend(depth)?;
        let mut list = Vec::new();
        self.step(b'[');
        if self.step(b']') {
            return Ok(list);
        }
        loop {
            list.push(self.node(depth + 1)?);
            if self.step(b']') {
                return Ok(list);
            }
            if !self.step(b',') {
                return Err(self.refuse("`,` or `]` is wanted after an item"));
            }
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        let rest = &self.text[self.at..];
        let length = string_length(rest.as_bytes());
        let string = length.and_then(|length| serde_json::from_str(&rest[..length]).ok());
        match (string, length) {
            (Some(string), Some(length)) => {
                self.at += length;
                Ok(string)
            }
            _ => Err(self.refuse("a string is wanted")),
        }
    }

    fn number(&mut self) -> Result<Leaf, Error> {
        let rest = &self.text[self.at..];
        let part_of_number = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let bytes = rest.bytes().take(LONGEST_NUMBER + 1);
        let length = bytes.take_while(part_of_number).count();
        let text = &rest[..length];
        if !is_number(text) {
            return Err(self.refuse("a number that is not JSON"));
        }
        let leaf = match (text.parse::<i64>(), text.parse::<f64>()) {
            _ if length > LONGEST_NUMBER => return Err(self.refuse("a number of too many digits")),
            (Ok(int), _) => Leaf::new(Kind::Int, int.to_string()),
            (_, Ok(float)) if float.is_finite() => Leaf::float(float),
            _ => return Err(self.refuse("a number that no double holds")),
        };
        self.at += length;
        Ok(leaf)
    }

    fn word(&mut self) -> Result<Leaf, Error> {
        let rest = &self.text[self.at..];
        for (word, leaf) in [
            ("true", Leaf::bool(true)),
            ("false", Leaf::bool(false)),
            ("null", Leaf::null()),
        ] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(leaf);
            }
        }
        Err(self.refuse("a value is wanted"))
    }
}

/// Returns the length of the string that `rest` starts with, with its quotes.
fn string_length(rest: &[u8]) -> Option<usize> {
    let (b'"', inner) = rest.split_first()? else {
        return None;
    };
    let mut at = 0;
    loop {
        match inner.get(at)? {
            b'"' => return Some(at + 2),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns whether `text` is a number by the grammar of JSON, which is narrower than Rust's.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let map = read(&format!("{{\"x\": {json}}}")).unwrap();
        match map.get("x") {
            Some(Node::Leaf(leaf)) => format!("{:?} {}", leaf.kind, leaf.utf8().unwrap()),
            _ => panic!("not a leaf: {json}"),
        }
    }

    #[test]
    fn numbers_keep_their_value() {
        for (json, expected) in [
            ("9223372036854775807", "Int 9223372036854775807"),
            ("9223372036854775808", "Float 9223372036854776000"),
            ("-0", "Int 0"),
            ("-0.0", "Float -0"),
            ("1.0", "Float 1"),
            ("1e21", "Float 1000000000000000000000"),
            ("0.1", "Float 0.1"),
            ("5e-324", "Float 0.000"),
        ] {
            let found = text(json);
            assert!(found.starts_with(expected), "{json}: {found}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "0x1",
            "1e400",
            "NaN",
            "tru",
            "\"\n\"",
            "\"\\x\"",
            "'a'",
            "[1,]",
            "{\"a\":1,}",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "\"\\ud800\"",
            "\"a",
            "",
            "-",
        ] {
            assert!(read(&format!("{{\"x\": {bad}}}")).is_err(), "{bad}");
        }
        for bad in ["", "[]", "1", "{}x", "{} {}", "{", "{\"a\":1", "nul"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(matches!(
            read("{\"a\":1,\"a\":2}"),
            Err(Error::Duplicate(name)) if name == "a"
        ));
    }

    #[test]
    fn an_error_says_in_which_line() {
        let error = read("{\n \"a\": 1,\n \"b\": x\n}").err().unwrap();
        assert!(matches!(error, Error::Syntax { line: 3, .. }), "{error}");
    }
}
