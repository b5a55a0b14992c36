//! Values as JSON, byte for byte as sops prints it.

use zeroize::Zeroizing;

use crate::number;
use crate::tree::{Entry, Kind, Leaf, Map, Node};

/// Secret text that grows without leaving copies behind.
pub(crate) struct Text(Zeroizing<Vec<u8>>);

impl Text {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(1 << 10)))
    }

    pub(crate) fn push(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // `extend` would free the old buffer with the secret still in it.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Returns a value as indented JSON, or why it has no such form.
pub(crate) fn json(node: &Node) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Text::new();
    write_node(&mut text, node, 0)?;
    Ok(text.finish())
}

/// Returns a map as indented JSON, or why it has no such form.
pub(crate) fn json_map(map: &Map) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Text::new();
    write_map(&mut text, map, 0)?;
    Ok(text.finish())
}

/// Returns a map as the JSON file that it is in.
pub(crate) fn json_file(map: &Map) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Text::new();
    write_map(&mut text, map, 0)?;
    text.push("\n");
    Ok(text.finish())
}

fn write_node(text: &mut Text, node: &Node, depth: usize) -> Result<(), &'static str> {
    match node {
        Node::Map(map) => write_map(text, map, depth),
        Node::List(list) => write_list(text, list, depth),
        Node::Leaf(leaf) => write_leaf(text, leaf),
    }
}

fn write_map(text: &mut Text, map: &Map, depth: usize) -> Result<(), &'static str> {
    text.push("{");
    let mut separator = "";
    for entry in &map.0 {
        if let Entry::Field(name, value) = entry {
            text.push(separator);
            line(text, depth + 1);
            write_string(text, name);
            text.push(": ");
            write_node(text, value, depth + 1)?;
            separator = ",";
        }
    }
    if !separator.is_empty() {
        line(text, depth);
    }
    text.push("}");
    Ok(())
}

fn write_list(text: &mut Text, list: &[Node], depth: usize) -> Result<(), &'static str> {
    text.push("[");
    let mut separator = "";
    for item in list.iter().filter(|item| item.kind() != Kind::Comment) {
        text.push(separator);
        line(text, depth + 1);
        write_node(text, item, depth + 1)?;
        separator = ",";
    }
    if !separator.is_empty() {
        line(text, depth);
    }
    text.push("]");
    Ok(())
}

fn line(text: &mut Text, depth: usize) {
    text.push("\n");
    for _ in 0..depth {
        text.push("\t");
    }
}

fn write_leaf(text: &mut Text, leaf: &Leaf) -> Result<(), &'static str> {
    let utf8 = leaf
        .utf8()
        .ok_or("JSON holds no bytes that are not UTF-8")?;
    match leaf.kind {
        Kind::Null => text.push("null"),
        Kind::Int => text.push(utf8),
        Kind::Float => {
            let float = utf8.parse().ok().and_then(number::json);
            let float = float.ok_or("JSON has neither infinities nor NaN")?;
            text.push(&*Zeroizing::new(float));
        }
        Kind::Bool => text.push(utf8.to_ascii_lowercase()),
        _ => write_string(text, utf8),
    }
    Ok(())
}

/// Writes a string as Go's encoding/json does, which escapes what HTML would take for markup.
fn write_string(text: &mut Text, string: &str) {
    text.push("\"");
    for c in string.chars() {
        match c {
            '"' => text.push("\\\""),
            '\\' => text.push("\\\\"),
            '\n' => text.push("\\n"),
            '\r' => text.push("\\r"),
            '\t' => text.push("\\t"),
            '\u{8}' => text.push("\\b"),
            '\u{c}' => text.push("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push(format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c.encode_utf8(&mut [0; 4])),
        }
    }
    text.push("\"");
}
