//! JSON as a tree.
//!
//! `serde_json` tells nobody where a value stands, but it lends out strings without escapes as they are in the text:
//! from such a name follows where its value begins. What has an escape counts as standing where its parent stands.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::problem::Problem;
use super::tree::{Member, Node, TWICE, Value};

/// Reads a JSON document. Names that are there twice are refused; so is, by `serde_json`, nesting beyond 128 levels.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let mut document = serde_json::Deserializer::from_str(text);
    let seed = Seed {
        text,
        at: text.len() - text.trim_start().len(),
    };
    let tree = seed
        .deserialize(&mut document)
        .map_err(|error| syntax(text, &error))?;
    document.end().map_err(|error| syntax(text, &error))?;
    unique(&tree)?;
    Ok(tree)
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    let line_start = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let said = error.to_string();
    let message = said
        .rsplit_once(" at line ")
        .map_or(said.as_str(), |(message, _)| message);
    Problem::syntax(line_start + error.column().saturating_sub(1), message)
}

/// Refuses names that are there twice: `serde_json` would let the last one win.
fn unique(node: &Node) -> Result<(), Problem> {
    match &node.value {
        Value::List(nodes) => nodes.iter().try_for_each(unique),
        Value::Table(members) => {
            let mut sorted: Vec<&Member> = members.iter().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
                return Err(Problem::syntax(pair[1].at, TWICE));
            }
            members.iter().try_for_each(|member| unique(&member.node))
        }
        _ => Ok(()),
    }
}

/// What reads one value: the text it stands in, and where it begins as far as that is known.
#[derive(Clone, Copy)]
struct Seed<'a> {
    text: &'a str,
    at: usize,
}

impl Seed<'_> {
    fn node(self, value: Value) -> Node {
        Node { at: self.at, value }
    }

    /// Where in the text `part` stands, if it was lent from there.
    fn offset(self, part: &str) -> Option<usize> {
        let offset = part
            .as_ptr()
            .addr()
            .checked_sub(self.text.as_ptr().addr())?;
        (offset < self.text.len()).then_some(offset)
    }

    /// Where the value begins whose name ends at `quote`, the closing one.
    fn after(self, quote: usize) -> usize {
        let space = [' ', '\t', '\r', '\n', ':'];
        self.text.get(quote + 1..).map_or(self.at, |rest| {
            self.text.len() - rest.trim_start_matches(space).len()
        })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(self.node(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(self.node(Value::Integer(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        let value = value
            .try_into()
            .map_err(|_| E::custom("the number is too large"))?;
        Ok(self.node(Value::Integer(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(self.node(Value::Float(value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(self.node(Value::Text(text.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(mut self, text: &'de str) -> Result<Node, E> {
        if let Some(offset) = self.offset(text) {
            self.at = offset.saturating_sub(1);
        }
        self.visit_str(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(self.node(Value::List(nodes)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = table.next_key_seed(self)? {
            let Node {
                at,
                value: Value::Text(text),
            } = name
            else {
                return Err(A::Error::custom("a name is a string"));
            };
            let value_at = if at == self.at {
                at
            } else {
                self.after(at + 1 + text.len())
            };
            let node = table.next_value_seed(Seed {
                at: value_at,
                ..self
            })?;
            members.push(Member {
                name: text,
                at,
                node,
            });
        }
        Ok(self.node(Value::Table(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Step;
    use super::*;

    #[test]
    fn everything_without_escapes_knows_where_it_stands() {
        let text = " { \"a\" : [1, \"x\"],\n \"b\":{\"c\\u0041\":true, \"d\":null} }";
        let tree = read(text).unwrap();
        let check = |path: &[Step], name: &str, value: &str| {
            let (at, node) = tree.walk(path);
            assert!(text[at..].starts_with(name), "{path:?}: {}", &text[at..]);
            assert!(
                text[node.at..].starts_with(value),
                "{path:?}: {}",
                &text[node.at..]
            );
        };
        let name = |name: &str| Step::Name(name.to_owned());
        check(&[], "{ \"a", "{ \"a");
        check(&[name("a")], "\"a\"", "[1");
        check(&[name("a"), Step::Index(0)], "[1", "[1");
        check(&[name("a"), Step::Index(1)], "\"x\"", "\"x\"");
        check(&[name("b"), name("cA")], "{\"c", "{\"c");
        check(&[name("b"), name("d")], "\"d\"", "null");
    }
}
