//! Hints: what the author of a manifest probably meant.

use keys_protocol::printable;

use super::tree::{Bare, Node, Path, Step};
use crate::spelling::nearest;

/// The known word that was probably meant, or all of them.
pub(super) fn meant(found: &str, known: &[&str]) -> String {
    match nearest(found, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// `[keys.a.b]` is the table `b` inside the key `a`: whoever writes it wants the key `a.b` or `a/b`.
pub(super) fn quoted_name(way: &[Step], node: Option<&Node>, known: &[&str]) -> Option<String> {
    let [outer @ .., Step::Name(name), Step::Name(found)] = way else {
        return None;
    };
    let mut members = node?.table()?;
    let mut names = vec![name.as_str(), found.as_str()];
    // `[keys.a.b.c]`, as long as nothing else is said on the way.
    while let [only] = members
        && let Some(inner) = only.node.table()
        && !known.contains(&only.name.as_str())
    {
        names.push(&only.name);
        members = inner;
    }
    let header = |name: &str| format!("[{}.{}]", Path(outer), Bare(name));
    let dotted = header(&names.join("."));
    match outer.last() {
        Some(Step::Name(table)) if table == "hosts" => {
            Some(format!("a name with a dot is written in quotes: {dotted}"))
        }
        Some(Step::Name(table)) if table == "keys" => {
            let deeper = header(&names.join("/"));
            Some(format!(
                "a name with a dot or slash is written in quotes: {dotted} or {deeper}"
            ))
        }
        _ => None,
    }
}

/// `source = { command = …, timeout = … }`: whoever writes it wants the timeout inside the table of the command.
pub(super) fn inside_kind(way: &[Step], found: &str, known: &[&str]) -> Option<String> {
    let beside = |step: &Step| matches!(step, Step::Name(name) if name == "source");
    let [.., table, _] = way else {
        return None;
    };
    (beside(table) && nearest(found, known.iter().copied()).is_none())
        .then(|| "what there is to say of a kind goes inside it: source.command = { … }".to_owned())
}

/// `mode = 0400` is no TOML: a number has no leading zero.
pub(super) fn unquoted_mode(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let (name, value) = text[start..].lines().next()?.split_once('=')?;
    let value = value.trim_start();
    (name.trim().ends_with("mode") && value.starts_with(|c: char| c.is_ascii_digit()))
        .then(|| quoted_mode(value))
}

/// A mode without quotes would be a number, and 400 another one than 0400.
pub(super) fn quoted_mode(text: &str) -> String {
    format!("a mode is written in quotes: mode = \"{}\"", digits(text))
}

/// The octal digits that a number without quotes was meant as.
fn digits(text: &str) -> String {
    let text = text.trim_start_matches("0o");
    let digits: String = text
        .chars()
        .take_while(|c| ('0'..='7').contains(c))
        .collect();
    match digits.len() {
        3 => format!("0{digits}"),
        4 => digits,
        _ => "0400".to_owned(),
    }
}

/// Words in backquotes.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("`{}`", printable(word, 80)))
        .collect();
    quoted.join(", ")
}
