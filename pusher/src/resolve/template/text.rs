//! The text of a template: `{{ name }}` and `{{ name | json }}`, and nothing else that means anything.

use crate::resolve::escape::{Escape, NAMES};
use crate::source::shown;
use crate::spelling::nearest;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// To be copied as it is.
    Plain(&'t str),
    /// A value, written in these ways one after the other.
    Value { name: &'t str, escapes: Vec<Escape> },
}

/// Splits `text` into pieces whose names are all among `known`.
pub(super) fn parse<'t>(text: &'t str, known: &[&str]) -> Result<Vec<Piece<'t>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let line = text[..text.len() - after.len()].matches('\n').count() + 1;
        let at_line = |what: String| format!("line {line}: {what}");
        let end = closing(after).ok_or_else(|| at_line("`{{` without `}}`".into()))?;
        pieces.push(Piece::Plain(before));
        pieces.push(piece(after[..end].trim(), known).map_err(at_line)?);
        rest = &after[end + 2..];
    }
    pieces.push(Piece::Plain(rest));
    Ok(pieces)
}

/// Finds the `}}` that ends what `text` begins with; one inside quotes does not.
fn closing(text: &str) -> Option<usize> {
    let from = match text.trim_start().strip_prefix('"') {
        Some(quoted) => text.len() - quoted.len() + quoted.find('"')?,
        None => 0,
    };
    Some(from + text[from..].find("}}")?)
}

/// Reads what stands between the braces.
fn piece<'t>(text: &'t str, known: &[&str]) -> Result<Piece<'t>, String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let plain = quoted
            .strip_suffix('"')
            .filter(|plain| !plain.contains('"'));
        let plain = plain.ok_or("what is in quotes stands alone: `{{ \"{{\" }}`")?;
        return Ok(Piece::Plain(plain));
    }
    let mut words = text.split('|').map(str::trim);
    let name = words.next().unwrap_or_default();
    if !known.contains(&name) {
        return Err(unknown("value", name, known));
    }
    let escapes = words.map(|word| {
        let found = NAMES.iter().find(|(name, _)| *name == word);
        found
            .map(|(_, escape)| *escape)
            .ok_or_else(|| unknown("escape", word, &NAMES.map(|(name, _)| name)))
    });
    Ok(Piece::Value {
        name,
        escapes: escapes.collect::<Result<_, _>>()?,
    })
}

fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let advice = match nearest(found, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    format!("no {what} `{}` ({advice})", shown(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[Piece<'_>], &str>) {
        let found = parse(text, &["password", "host"]);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn braces_hold_a_name_and_its_escapes() {
        let value = |name, escapes: &[Escape]| Piece::Value {
            name,
            escapes: escapes.to_vec(),
        };
        check("", Ok(&[Piece::Plain("")]));
        check("a {b} }} {", Ok(&[Piece::Plain("a {b} }} {")]));
        check(
            "a\n{{password}}{{ host|trim |\tjson }}\n",
            Ok(&[
                Piece::Plain("a\n"),
                value("password", &[]),
                Piece::Plain(""),
                value("host", &[Escape::Trim, Escape::Json]),
                Piece::Plain("\n"),
            ]),
        );
        check(
            r#"{{ "{{ x }}" }}b"#,
            Ok(&[Piece::Plain(""), Piece::Plain("{{ x }}"), Piece::Plain("b")]),
        );
    }

    #[test]
    fn what_is_no_name_is_an_error_with_its_line() {
        check("{{ password", Err("line 1: `{{` without `}}`"));
        check("\n\n{{ \"a }}", Err("line 3: `{{` without `}}`"));
        check(
            "{{ \"a\" | json }}",
            Err("line 1: what is in quotes stands alone: `{{ \"{{\" }}`"),
        );
        check(
            "{{}}",
            Err("line 1: no value `` (known here: password, host)"),
        );
        check(
            "\n{{ pasword }}",
            Err("line 2: no value `pasword` (did you mean `password`?)"),
        );
        check(
            "{{ password | jsn }}",
            Err("line 1: no escape `jsn` (did you mean `json`?)"),
        );
        check(
            "{{ password json }}",
            Err("line 1: no value `password json` (known here: password, host)"),
        );
        check(
            "{{ {{ password }} }}",
            Err("line 1: no value `{{ password` (did you mean `password`?)"),
        );
    }
}
