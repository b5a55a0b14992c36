//! Writes sections as sops does: names aligned, quotes only where ini.v1 needs them.

use zeroize::Zeroizing;

use crate::render::Text;
use crate::tree::{Entry, Kind, Leaf, Map, Node};

/// Writes a map of sections, or says why it cannot be.
pub(crate) fn write(map: &Map) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Text::new();
    let count = map.fields().count();
    for (index, (name, section)) in map.fields().enumerate() {
        let Node::Map(section) = section else {
            return Err("an ini file holds sections");
        };
        let is_default = index == 0 && name.eq_ignore_ascii_case("DEFAULT");
        let mut entries = &section.0[..];
        if let [Entry::Comment(comment), rest @ ..] = entries {
            write_comment(&mut text, comment, |line| line)?;
            entries = rest;
        }
        if is_default && section.fields().next().is_none() {
            continue;
        }
        if !is_default {
            text.push("[");
            text.push(name);
            text.push("]\n");
        }
        write_fields(&mut text, entries)?;
        if index + 1 < count {
            text.push("\n");
        }
    }
    Ok(text.finish())
}

fn write_fields(text: &mut Text, entries: &[Entry]) -> Result<(), &'static str> {
    let name_of = |entry: &Entry| match entry {
        Entry::Field(name, _) => Some(quoted_name(name)),
        Entry::Comment(_) => None,
    };
    let width = entries.iter().filter_map(name_of).map(|name| name.len());
    let width = width.max().unwrap_or(0);
    for (at, entry) in entries.iter().enumerate() {
        let Some(name) = name_of(entry) else {
            continue;
        };
        // A comment is kept behind its field and written above it; of several, the last.
        let comments = entries[at + 1..].iter().map_while(|entry| match entry {
            Entry::Comment(comment) => Some(comment),
            Entry::Field(..) => None,
        });
        if let Some(comment) = comments.last() {
            write_comment(text, comment, str::trim)?;
        }
        let Entry::Field(_, Node::Leaf(leaf)) = entry else {
            return Err("an ini file holds strings only");
        };
        let value = match leaf.utf8() {
            Some(value) if leaf.kind == Kind::Str => value,
            _ => return Err("an ini file holds strings only"),
        };
        text.push(&name);
        text.push(" ".repeat(width - name.len()));
        text.push(" = ");
        write_value(text, value);
        text.push("\n");
    }
    Ok(())
}

fn quoted_name(name: &str) -> String {
    if name.contains(['"', '=', ':']) {
        format!("`{name}`")
    } else if name.contains('`') {
        format!("\"\"\"{name}\"\"\"")
    } else {
        name.to_owned()
    }
}

fn write_value(text: &mut Text, value: &str) {
    let quote = if value.contains(['\n', '`']) {
        "\"\"\""
    } else if value.contains(['#', ';']) {
        "`"
    } else if value.trim() != value {
        "\""
    } else {
        ""
    };
    text.push(quote);
    text.push(value);
    text.push(quote);
}

/// Writes the lines of a comment, as much of each as `kept` returns.
fn write_comment(
    text: &mut Text,
    comment: &Leaf,
    kept: fn(&str) -> &str,
) -> Result<(), &'static str> {
    let comment = comment.utf8().ok_or("an ini file holds text only")?;
    if comment.is_empty() {
        return Ok(());
    }
    for line in comment.split('\n') {
        if line.starts_with(['#', ';']) {
            text.push(&line[..1]);
            text.push(" ");
            text.push(line[1..].trim());
        } else {
            text.push("; ");
            text.push(kept(line));
        }
        text.push("\n");
    }
    Ok(())
}
