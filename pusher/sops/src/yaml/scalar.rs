//! What a YAML scalar is, by the table of Go's yaml.v3, which sops hashes unencrypted values by.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::timestamp::Timestamp;
use crate::tree::{Kind, Leaf};

/// How a scalar is written.
pub(super) struct Scalar<'a> {
    pub(super) text: &'a str,
    pub(super) plain: bool,
    /// The tag without its prefix, if it is one of YAML's own, such as `str`.
    pub(super) tag: Option<&'a str>,
}

impl Scalar<'_> {
    /// Returns the value, or why Go's sops has none for it.
    pub(super) fn resolve(&self) -> Result<Leaf, &'static str> {
        let text = self.text;
        let untagged = || {
            if self.plain {
                plain(text)
            } else {
                Ok(string(text))
            }
        };
        let tag = match self.tag {
            None => return untagged(),
            Some("binary") => return binary(text),
            Some(tag @ ("bool" | "int" | "float" | "null" | "timestamp")) => tag,
            // Other tags are dropped, and what they stood on is a string.
            Some(_) => return Ok(string(text)),
        };
        let leaf = plain(text)?;
        match (tag, leaf.kind) {
            ("bool", Kind::Bool)
            | ("int", Kind::Int)
            | ("float", Kind::Float)
            | ("null", Kind::Null)
            | ("timestamp", Kind::Time) => Ok(leaf),
            ("float", Kind::Int) => Ok(Leaf::float(float(text).ok_or("not a number")?)),
            // Go's sops takes these for null.
            _ => Err("a value that is not what its tag says"),
        }
    }
}

fn string(text: &str) -> Leaf {
    Leaf::new(Kind::Str, text)
}

fn binary(text: &str) -> Result<Leaf, &'static str> {
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(compact) {
        Ok(bytes) => Ok(Leaf::new(Kind::Str, bytes)),
        Err(_) => Err("a !!binary value that is not base64"),
    }
}

fn plain(text: &str) -> Result<Leaf, &'static str> {
    let leaf = match text {
        "" | "~" | "null" | "Null" | "NULL" => Leaf::null(),
        "true" | "True" | "TRUE" => Leaf::bool(true),
        "false" | "False" | "FALSE" => Leaf::bool(false),
        ".nan" | ".NaN" | ".NAN" => Leaf::float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Leaf::float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Leaf::float(f64::NEG_INFINITY),
        _ => return number(text),
    };
    Ok(leaf)
}

/// Reads what starts as a number does; all else is a string.
fn number(text: &str) -> Result<Leaf, &'static str> {
    match text.as_bytes() {
        [b'.', ..] => return Ok(float(text).map_or_else(|| string(text), Leaf::float)),
        [b'0'..=b'9' | b'+' | b'-', ..] => {}
        _ => return Ok(string(text)),
    }
    if let Some(time) = Timestamp::yaml(text) {
        return Ok(Leaf::new(Kind::Time, time.exact()));
    }
    let digits = text.replace('_', "");
    let (sign, unsigned) = match digits.as_bytes() {
        [b'-', ..] => (-1, &digits[1..]),
        [b'+', ..] => (1, &digits[1..]),
        _ => (1, &digits[..]),
    };
    if let Some(size) = integer(unsigned) {
        match i64::try_from(sign * i128::from(size)) {
            Ok(int) => return Ok(Leaf::new(Kind::Int, int.to_string())),
            // Only what has no sign is tried as unsigned, and sops then stops at it.
            Err(_) if unsigned.len() == digits.len() => {
                return Err("an integer beyond 63 bits, at which sops stops");
            }
            Err(_) => {}
        }
    }
    Ok(float(&digits).map_or_else(|| string(text), Leaf::float))
}

/// Reads a size as Go's `ParseInt` does with base 0: a leading zero means octal.
fn integer(digits: &str) -> Option<u64> {
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    // Rust takes a sign here, Go does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Reads decimal digits with a point, an exponent, or both, as a double; what no double holds stays text.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let number: f64 = decimal.then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tag: Option<&str>, plain: bool, text: &str) -> String {
        let scalar = Scalar { text, plain, tag };
        match scalar.resolve() {
            Ok(leaf) => format!("{:?} {}", leaf.kind, leaf.utf8().unwrap()),
            Err(_) => "refused".to_owned(),
        }
    }

    #[test]
    fn plain_scalars_follow_the_table_of_go_yaml() {
        for (text, expected) in [
            ("yes", "Str yes"),
            ("on", "Str on"),
            ("True", "Bool True"),
            ("NULL", "Null "),
            ("~", "Null "),
            ("<<", "Str <<"),
            ("0777", "Int 511"),
            ("0o17", "Int 15"),
            ("0x1F", "Int 31"),
            ("-0b11", "Int -3"),
            ("1_000", "Int 1000"),
            ("+7", "Int 7"),
            ("08", "Float 8"),
            ("-9223372036854775808", "Int -9223372036854775808"),
            ("9223372036854775808", "refused"),
            ("-9223372036854775809", "Float -9223372036854776000"),
            ("18446744073709551616", "Float 18446744073709552000"),
            ("1.50", "Float 1.5"),
            (".5", "Float 0.5"),
            ("5.", "Float 5"),
            ("1e3", "Float 1000"),
            ("1e400", "Str 1e400"),
            ("-.INF", "Float -Inf"),
            (".nan", "Float NaN"),
            ("inf", "Str inf"),
            (".", "Str ."),
            ("-", "Str -"),
            ("12:30:45", "Str 12:30:45"),
            ("1.2.3", "Str 1.2.3"),
            ("2001-12-14", "Time 2001-12-14T00:00:00Z"),
            ("2001-12-14x", "Str 2001-12-14x"),
            ("0x", "Str 0x"),
            ("grün", "Str grün"),
        ] {
            assert_eq!(check(None, true, text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_and_tags_decide_before_the_text() {
        for (tag, plain, text, expected) in [
            (None, false, "1", "Str 1"),
            (Some("str"), true, "1", "Str 1"),
            (Some("int"), false, "1", "Int 1"),
            (Some("float"), true, "5", "Float 5"),
            (Some("float"), true, "1_0.5", "Float 10.5"),
            (Some("binary"), true, "aGk=", "Str hi"),
            (Some("binary"), true, "!", "refused"),
            (Some("bool"), true, "yes", "refused"),
            (Some("int"), true, "x", "refused"),
            (
                Some("timestamp"),
                false,
                "2001-12-14",
                "Time 2001-12-14T00:00:00Z",
            ),
            (Some("merge"), true, "<<", "Str <<"),
            (Some("other"), true, "1", "Str 1"),
        ] {
            assert_eq!(check(tag, plain, text), expected, "{tag:?} {text}");
        }
    }
}
