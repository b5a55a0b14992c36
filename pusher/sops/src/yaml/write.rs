//! Writes trees as YAML that reads back as the same data: block style, strings in double quotes unless they are simple.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::number;
use crate::render::Text;
use crate::tree::{Kind, Leaf, Map, Node};

use super::scalar::Scalar;

/// Writes a stream of documents, without their comments.
pub(crate) fn write(documents: &[Map]) -> Zeroizing<Vec<u8>> {
    let mut text = Text::new();
    for (index, map) in documents.iter().enumerate() {
        if index > 0 {
            text.push("---\n");
        }
        if map.fields().next().is_none() {
            text.push("{}\n");
        }
        write_map(&mut text, map, 0);
    }
    text.finish()
}

/// Writes the fields of a map, each on lines of its own; the first stands where the text has got to.
fn write_map(text: &mut Text, map: &Map, indent: usize) {
    for (count, (name, value)) in map.fields().enumerate() {
        if count > 0 {
            text.push(" ".repeat(indent));
        }
        write_string(text, name);
        text.push(":");
        match value {
            Node::Map(map) if map.fields().next().is_some() => {
                text.push("\n");
                text.push(" ".repeat(indent + 4));
                write_map(text, map, indent + 4);
            }
            Node::List(list) if items(list).next().is_some() => {
                text.push("\n");
                text.push(" ".repeat(indent + 4));
                write_list(text, list, indent + 4);
            }
            small => {
                text.push(" ");
                write_small(text, small);
            }
        }
    }
}

fn items(list: &[Node]) -> impl Iterator<Item = &Node> {
    list.iter().filter(|item| item.kind() != Kind::Comment)
}

fn write_list(text: &mut Text, list: &[Node], indent: usize) {
    for (count, item) in items(list).enumerate() {
        if count > 0 {
            text.push(" ".repeat(indent));
        }
        text.push("- ");
        match item {
            Node::Map(map) if map.fields().next().is_some() => write_map(text, map, indent + 2),
            Node::List(list) if items(list).next().is_some() => write_list(text, list, indent + 2),
            small => write_small(text, small),
        }
    }
}

/// Writes what fits on a line.
fn write_small(text: &mut Text, node: &Node) {
    match node {
        Node::Map(_) => text.push("{}"),
        Node::List(_) => text.push("[]"),
        Node::Leaf(leaf) => write_leaf(text, leaf),
    }
    text.push("\n");
}

fn write_leaf(text: &mut Text, leaf: &Leaf) {
    match (leaf.kind, leaf.utf8()) {
        (Kind::Null, _) => text.push("null"),
        (Kind::Float, Some(utf8)) => {
            let number = number::yaml(utf8.parse().unwrap_or(f64::NAN));
            text.push(&*Zeroizing::new(number));
        }
        (Kind::Bool, _) => text.push(leaf.text.to_ascii_lowercase()),
        (Kind::Int | Kind::Time, _) => text.push(&*leaf.text),
        (_, Some(utf8)) => write_string(text, utf8),
        (_, None) => {
            text.push("!!binary ");
            text.push(&*Zeroizing::new(STANDARD.encode(&*leaf.text)));
        }
    }
}

fn write_string(text: &mut Text, string: &str) {
    if is_simple(string) {
        text.push(string);
        return;
    }
    text.push("\"");
    for c in string.chars() {
        match c {
            '"' => text.push("\\\""),
            '\\' => text.push("\\\\"),
            '\n' => text.push("\\n"),
            '\t' => text.push("\\t"),
            ' ' => text.push(" "),
            // What YAML calls not printable, and what some of its versions take for a line break.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                text.push(format!("\\u{:04x}", u32::from(c)));
            }
            '\u{fffe}' | '\u{ffff}' => text.push(format!("\\u{:04x}", u32::from(c))),
            c => text.push(c.encode_utf8(&mut [0; 4])),
        }
    }
    text.push("\"");
}

/// Returns whether every version of YAML reads `string` as itself without quotes.
fn is_simple(string: &str) -> bool {
    /// What YAML 1.1 takes for truth values.
    const OLD_BOOLS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let scalar = Scalar {
        text: string,
        plain: true,
        tag: None,
    };
    let lower = string.to_ascii_lowercase();
    string.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/')
        && !string.ends_with(' ')
        && string
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" _-./+=@".contains(&b))
        && !OLD_BOOLS.contains(&&*lower)
        && scalar.resolve().is_ok_and(|leaf| leaf.kind == Kind::Str)
}

#[cfg(test)]
mod tests {
    use crate::render;
    use crate::yaml;

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let source = r#"
a: {b: [1, [2, {c: x, d: []}], {}, {e: 'yes', f: null}]}
g: |-
  x
    y
'true': "a\u0001\u0085\u2028 \"b\\\t "
h: 1e21
i: 2001-12-14
'': ''
j: '  x '
k: '# no'
l: 'a: b'
m: '- x'
n: '1'
o: -0.5
'p q': r s
---
---
z: 1
"#;
        let first = yaml::read(source).unwrap();
        let text = String::from_utf8(yaml::write(&first).to_vec()).unwrap();
        let second = yaml::read(&text).unwrap();
        assert_eq!(first.len(), second.len());
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(
                render::json_map(first).unwrap(),
                render::json_map(second).unwrap(),
                "{text}"
            );
        }
    }
}
