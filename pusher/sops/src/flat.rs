//! Metadata of flat formats: `age__list_0__map_enc` is `age[0].enc`.

use std::collections::BTreeMap;

use crate::error::{Error, shown};
use crate::limits;
use crate::tree::{Entry, Leaf, Map, Node};

/// Rebuilds nested metadata from fields with flattened names; comments between them are dropped.
pub(crate) fn unflatten(flat: Map) -> Result<Map, Error> {
    let mut top = Branch::Map(BTreeMap::new());
    for entry in flat.0 {
        let Entry::Field(name, value) = entry else {
            continue;
        };
        let placed = match value {
            Node::Leaf(leaf) => steps(&name).and_then(|steps| top.place(&steps, leaf)),
            Node::Map(_) | Node::List(_) => None,
        };
        placed.ok_or_else(|| {
            let name = shown(&name);
            Error::Metadata(format!("`{name}` does not fit the names around it"))
        })?;
    }
    match top.into_node() {
        Some(Node::Map(map)) => Ok(map),
        _ => Err(Error::Metadata("a list is not complete".to_owned())),
    }
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// Splits a name; none if an index is no number or there are too many parts.
fn steps(name: &str) -> Option<Vec<Step<'_>>> {
    const MAP: &str = "__map_";
    const LIST: &str = "__list_";
    let mut steps = Vec::new();
    let (mut start, mut is_index) = (0, false);
    // Every place a separator may be at, and the end.
    let places = name.match_indices('_').map(|(at, _)| at);
    for at in places.chain([name.len()]) {
        let rest = &name[at..];
        let (separator, index_follows) = match () {
            () if at < start => continue,
            () if rest.starts_with(MAP) => (MAP, false),
            () if rest.starts_with(LIST) => (LIST, true),
            () if rest.is_empty() => ("", false),
            () => continue,
        };
        let part = &name[start..at];
        steps.push(if is_index {
            Step::Index(part.parse().ok()?)
        } else {
            Step::Field(part)
        });
        if steps.len() > limits::DEPTH {
            return None;
        }
        (start, is_index) = (at + separator.len(), index_follows);
    }
    Some(steps)
}

/// A tree that is still growing.
enum Branch {
    Leaf(Leaf),
    Map(BTreeMap<String, Branch>),
    List(BTreeMap<usize, Branch>),
}

impl Branch {
    /// Puts a leaf at the end of `steps`; none if something else is there or on the way.
    fn place(&mut self, steps: &[Step<'_>], leaf: Leaf) -> Option<()> {
        let (first, rest) = steps.split_first()?;
        let grown = || match rest.first() {
            Some(Step::Field(_)) => Self::Map(BTreeMap::new()),
            Some(Step::Index(_)) => Self::List(BTreeMap::new()),
            None => Self::Leaf(Leaf::null()),
        };
        let mut is_new = false;
        let mut grow = || {
            is_new = true;
            grown()
        };
        let next = match (self, first) {
            (Self::Map(map), Step::Field(name)) => {
                map.entry((*name).to_owned()).or_insert_with(&mut grow)
            }
            (Self::List(list), Step::Index(index)) => list.entry(*index).or_insert_with(&mut grow),
            _ => return None,
        };
        match next {
            Self::Leaf(old) if is_new => *old = leaf,
            Self::Leaf(_) => return None,
            next => next.place(rest, leaf)?,
        }
        Some(())
    }

    /// Returns the finished tree; none if an item of a list is missing.
    fn into_node(self) -> Option<Node> {
        match self {
            Self::Leaf(leaf) => Some(Node::Leaf(leaf)),
            Self::Map(map) => map
                .into_iter()
                .map(|(name, branch)| Some(Entry::Field(name, branch.into_node()?)))
                .collect::<Option<_>>()
                .map(|entries| Node::Map(Map(entries))),
            Self::List(list) => list
                .into_iter()
                .enumerate()
                .map(|(due, (index, branch))| (due == index).then(|| branch.into_node())?)
                .collect::<Option<_>>()
                .map(Node::List),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render;

    fn check(fields: &[(&str, &str)]) -> Result<String, Error> {
        let leaf = |text: &str| Node::Leaf(Leaf::new(crate::Kind::Str, text));
        let entries = fields
            .iter()
            .map(|(name, value)| Entry::Field((*name).to_owned(), leaf(value)));
        let map = Node::Map(unflatten(Map(entries.collect()))?);
        let json = String::from_utf8(render::json(&map).unwrap().to_vec()).unwrap();
        Ok(json.replace(['\n', '\t'], ""))
    }

    #[test]
    fn names_grow_into_maps_and_lists() {
        let fields = [
            ("mac", "m"),
            ("key_groups__list_1__map_age__list_0__map_enc", "b"),
            ("key_groups__list_0__map_age__list_0__map_enc", "a"),
            ("key_groups__list_0__map_age__list_0__map_recipient", "r"),
        ];
        assert_eq!(
            check(&fields).unwrap(),
            r#"{"key_groups": [{"age": [{"enc": "a","recipient": "r"}]},{"age": [{"enc": "b"}]}],"mac": "m"}"#
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for bad in [
            &[("a", "1"), ("a", "2")][..],
            &[("a", "1"), ("a__map_b", "2")],
            &[("a__map_b", "2"), ("a", "1")],
            &[("a__map_b", "2"), ("a__list_0", "1")],
            &[("a__list_1", "1")],
            &[("a__list_x", "1")],
            &[("a__list_-1", "1")],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&[(&"a__map_".repeat(100_000), "1")]).is_err());
    }
}
