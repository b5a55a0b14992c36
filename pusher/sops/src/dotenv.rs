//! Reads and writes `NAME=value` lines as sops does, which is simpler than any shell: no quotes, no blanks cut off.

use zeroize::Zeroizing;

use crate::Format;
use crate::error::Error;
use crate::render::Text;
use crate::tree::{Budget, Entry, Kind, Leaf, Map, Node};

/// What the names of metadata start with.
const METADATA: &str = "sops_";

/// Reads a file into its fields and its flat metadata. Two lines of one name stay two fields, as in sops.
pub(crate) fn read(text: &str) -> Result<(Map, Map), Error> {
    let mut budget = Budget::new();
    let mut fields = Map::default();
    let mut metadata = Map::default();
    for (number, line) in text.split('\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        budget.spend(2)?;
        if let Some(comment) = line.strip_prefix('#') {
            let comment = Leaf::new(Kind::Comment, comment);
            fields.0.push(Entry::Comment(comment));
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| Error::syntax(Format::Dotenv, number + 1, "`=` is wanted"))?;
        let value = Node::Leaf(Leaf::new(Kind::Str, value.replace("\\n", "\n")));
        match name.strip_prefix(METADATA) {
            Some(name) => metadata.0.push(Entry::Field(name.to_owned(), value)),
            None => fields.0.push(Entry::Field(name.to_owned(), value)),
        }
    }
    Ok((fields, metadata))
}

/// Writes the file as `sops decrypt` does, or says why it cannot be.
pub(crate) fn write(map: &Map) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut text = Text::new();
    for entry in &map.0 {
        match entry {
            Entry::Comment(comment) => {
                text.push("#");
                text.push(&*comment.text);
            }
            Entry::Field(name, Node::Leaf(leaf)) if leaf.kind == Kind::Str => {
                text.push(name);
                text.push("=");
                for (count, line) in leaf.text.split(|byte| *byte == b'\n').enumerate() {
                    text.push(if count == 0 { "" } else { "\\n" });
                    text.push(line);
                }
            }
            Entry::Field(..) => return Err("a dotenv file holds strings only"),
        }
        text.push("\n");
    }
    Ok(text.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cut_off_or_unquoted() {
        let (map, metadata) =
            read("#c\n\nA=1=2\n B =\" x\" \r\nC=a\\nb\nsops_mac=m\\n\nA=\n").unwrap();
        let fields: Vec<_> = map
            .fields()
            .map(|(name, value)| match value {
                Node::Leaf(leaf) => (name, leaf.utf8().unwrap()),
                _ => panic!("{name}"),
            })
            .collect();
        assert_eq!(
            fields,
            [("A", "1=2"), (" B ", "\" x\" \r"), ("C", "a\nb"), ("A", "")]
        );
        assert!(matches!(metadata.get("mac"), Some(Node::Leaf(leaf)) if *leaf.text == b"m\n"));
        assert_eq!(
            *write(&map).unwrap(),
            b"#c\nA=1=2\n B =\" x\" \r\nC=a\\nb\nA=\n"
        );
    }

    #[test]
    fn a_line_without_a_sign_is_refused_and_not_shown() {
        let error = read("A=1\nsecret").err().unwrap().to_string();
        assert_eq!(error, "not dotenv that sops reads: line 2: `=` is wanted");
    }
}
