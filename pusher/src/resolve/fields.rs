//! The fields of a JSON object, in its order, and the bytes that are in them.

use std::collections::BTreeSet;
use std::fmt;

use keys_protocol::{Secret, printable};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::failure::Failure;

/// An object; names and values are still text.
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads the object that `json` is. What it holds is never repeated.
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, Failure> {
        let fields: Self = serde_json::from_slice(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = match error.classify() {
                serde_json::error::Category::Data => "it is no map with names that differ",
                _ => "it is no JSON",
            };
            Failure::source(format!("{what} (line {line}, column {column})"))
        })?;
        if fields.0.is_empty() {
            return Err(Failure::source("it has no fields"));
        }
        Ok(fields)
    }

    /// Returns each name with the bytes of its value.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&str, Result<Secret, Failure>)> {
        self.0.iter().map(|(name, value)| {
            let bytes = bytes(value.get());
            (
                name.as_str(),
                bytes.map_err(|what| Failure::source(what).at(shown_field(name))),
            )
        })
    }
}

/// Returns a field's name as messages show it.
pub(crate) fn shown_field(name: &str) -> String {
    const LONGEST: usize = 80;
    format!("field `{}`", printable(name, LONGEST))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        let mut names = BTreeSet::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("twice"));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

/// Returns a string as what it says, and a number or truth value as it is written.
fn bytes(json: &str) -> Result<Secret, &'static str> {
    match json.as_bytes().first() {
        Some(b'"') => string(json),
        Some(b'{') => Err("a map, not one value"),
        Some(b'[') => Err("a list, not one value"),
        Some(b'n') => Err("null: there is no value"),
        _ => Ok(Secret::copy_of(json.as_bytes())),
    }
}

/// Reads a JSON string by itself: serde's reader would leave a copy of it in memory where it holds an escape.
fn string(json: &str) -> Result<Secret, &'static str> {
    let bad = "no string that JSON allows";
    let inner = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or(bad)?;
    let mut secret = Secret::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('\\') {
        secret.push(before.as_bytes());
        let (c, length) = escape(after).ok_or(bad)?;
        secret.push(c.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after.get(length..).ok_or(bad)?;
    }
    secret.push(rest.as_bytes());
    Ok(secret)
}

/// Returns the character that what stands behind a backslash means, and how long it is.
fn escape(text: &str) -> Option<(char, usize)> {
    let c = match text.as_bytes().first()? {
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unicode(text),
        c @ (b'"' | b'\\' | b'/') => char::from(*c),
        _ => return None,
    };
    Some((c, 1))
}

fn unicode(text: &str) -> Option<(char, usize)> {
    let unit = |from: usize| u16::from_str_radix(text.get(from..from + 4)?, 16).ok();
    let first = unit(1)?;
    let pair = || {
        (text.get(5..7)? == "\\u")
            .then(|| unit(7))
            .flatten()
            .map(|second| [first, second])
    };
    if let Some(Ok(c)) = char::decode_utf16([first]).next() {
        return Some((c, 5));
    }
    let c = char::decode_utf16(pair()?).next()?.ok()?;
    Some((c, 11))
}

/// Returns JSON without the whitespace between its parts.
pub(crate) fn compact(json: &[u8]) -> Result<Secret, Failure> {
    let valid: Result<&RawValue, _> = serde_json::from_slice(json);
    let text = valid.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::source(format!("it is no JSON (line {line}, column {column})"))
    })?;
    let mut secret = Secret::with_capacity(text.get().len());
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.get().bytes() {
        if quoted || !byte.is_ascii_whitespace() {
            secret.push(&[byte]);
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = quoted && byte == b'\\' && !escaped;
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the fields as `name=value`, or why one has none.
    fn shown(json: &str) -> String {
        let fields = match Fields::parse(json.as_bytes()) {
            Ok(fields) => fields,
            Err(failure) => return failure.to_string(),
        };
        let fields = fields.bytes().map(|(name, bytes)| match bytes {
            Ok(secret) => format!("{name}={}", String::from_utf8_lossy(secret.expose())),
            Err(failure) => failure.to_string(),
        });
        fields.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_field_has_the_bytes_that_json_says() {
        let check = |json: &str, expected: &str| assert_eq!(shown(json), expected, "{json}");
        check(
            r#"{"b":"x","a":1.10,"c":true,"d":""}"#,
            "b=x, a=1.10, c=true, d=",
        );
        check(
            r#"{"a":"\"\\\/\b\f\n\r\t\u0041\u00fc"}"#,
            "a=\"\\/\u{8}\u{c}\n\r\tAü",
        );
        check(r#"{"a":"\ud83d\ude00\u0000"}"#, "a=😀\0");
        check(r#"{"a":"\ud83d"}"#, "field `a`: no string that JSON allows");
        check(
            r#"{"a":"\ud83dx\ude00"}"#,
            "field `a`: no string that JSON allows",
        );
        check(
            r#"{"a":null,"b":[1],"c":{"d":1}}"#,
            "field `a`: null: there is no value, field `b`: a list, not one value, field `c`: a map, not one value",
        );
        check("{}", "it has no fields");
        check(
            "[1]",
            "it is no map with names that differ (line 1, column 0)",
        );
        check(
            r#"{"a":1,"a":2}"#,
            "it is no map with names that differ (line 1, column 13)",
        );
        check("hunter2", "it is no JSON (line 1, column 1)");
    }

    #[test]
    fn every_character_that_serde_writes_is_read() {
        let all: String = ('\0'..='\u{10ffff}').step_by(7).collect();
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(string(&json).unwrap().expose(), all.as_bytes());
    }

    #[test]
    fn compact_json_differs_in_whitespace_alone() {
        let check = |json: &str, expected: &str| {
            let compact = compact(json.as_bytes()).unwrap();
            assert_eq!(compact.expose(), expected.as_bytes(), "{json}");
        };
        check(
            "\n{ \"b\" : \" \\\" \\\\\" ,\t\"a\": [ 1.50, { } ] }\n",
            "{\"b\":\" \\\" \\\\\",\"a\":[1.50,{}]}",
        );
        check(r#"{"a":"x\\" , "b":" "}"#, r#"{"a":"x\\","b":" "}"#);
    }
}
