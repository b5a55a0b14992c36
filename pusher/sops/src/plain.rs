//! A decrypted document: values by path, and the whole of it.

use zeroize::Zeroizing;

use crate::error::{Error, shown, shown_path};
use crate::tree::{Kind, Leaf, Map, Node};
use crate::{Format, dotenv, ini, number, render, yaml};

/// A decrypted document whose MAC is right.
///
/// It holds secrets: it cannot be printed or cloned, and they are wiped when it is dropped.
pub struct Plain {
    pub(crate) format: Format,
    /// At least one; only YAML has more.
    pub(crate) documents: Vec<Map>,
}

impl Plain {
    /// Returns the value at a path: names of fields, and indices in lists, which count comments as sops does.
    ///
    /// Of a YAML file with several documents it is the first that is searched. The keys of an ini file lie below
    /// their section, or `DEFAULT`.
    ///
    /// # Errors
    /// When there is no such field; the error knows the fields that are there.
    pub fn get<S: AsRef<str>>(&self, path: &[S]) -> Result<Value<'_>, Error> {
        let Some((first, rest)) = path.split_first() else {
            return Err(Error::Unsuitable {
                at: shown_path::<S>(&[]),
                found: "a document",
                rule: "name a field",
            });
        };
        let top = self.documents.first();
        let mut node = top
            .and_then(|document| document.get(first.as_ref()))
            .ok_or_else(|| missing(path, 0, &self.fields()))?;
        for (depth, step) in rest.iter().enumerate() {
            node = child(node, step.as_ref())
                .ok_or_else(|| missing(path, depth + 1, &node_names(node)))?;
        }
        Ok(Value {
            node,
            format: self.format,
            path: shown_path(path),
        })
    }

    /// Returns the whole document as `sops decrypt` prints it.
    ///
    /// Dotenv and binary files are the same byte for byte, JSON and ini but for corner cases of Go's writers; YAML is
    /// the same data, without comments.
    ///
    /// # Errors
    /// When the format cannot hold what the values turned out to be.
    pub fn whole(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Some(map) = self.documents.first() else {
            return Ok(Zeroizing::default());
        };
        match self.format {
            Format::Yaml => Ok(yaml::write(&self.documents)),
            Format::Dotenv => dotenv::write(map),
            Format::Ini => ini::write(map),
            Format::Json => render::json_file(map),
            Format::Binary => match map.get("data") {
                Some(Node::Leaf(leaf)) if matches!(leaf.kind, Kind::Str | Kind::Bytes) => {
                    Ok(leaf.text.clone())
                }
                _ => Err("it is no binary file: there is no `data`"),
            },
        }
        .map_err(|rule| Error::Unsuitable {
            at: shown_path::<&str>(&[]),
            found: "a document",
            rule,
        })
    }

    /// Returns the whole document as JSON, as [`Value::json`] does it.
    ///
    /// # Errors
    /// When JSON cannot say it, or there is more than one document.
    pub fn json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &self.documents[..] {
            [map] => render::json_map(map),
            _ => Err("JSON has no streams of documents"),
        }
        .map_err(|rule| Error::Unsuitable {
            at: shown_path::<&str>(&[]),
            found: "a document",
            rule,
        })
    }

    /// Returns whether all of the document is encrypted; see [`Value::is_encrypted`].
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.documents
            .iter()
            .all(|map| map.fields().all(|(_, value)| sealed(value)))
    }

    /// Returns the names at the top of the document, as they are in the file: escape them before a terminal sees them.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        self.documents.first().map(names).unwrap_or_default()
    }

    /// Returns how many documents there are; more than one only in YAML.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.documents.len()
    }
}

fn child<'n>(node: &'n Node, step: &str) -> Option<&'n Node> {
    match node {
        Node::Map(map) => map.get(step),
        Node::List(list) => list.get(index(step)?),
        Node::Leaf(_) => None,
    }
}

/// Reads an index: decimal, without sign or leading zero, so that one item has one name.
fn index(step: &str) -> Option<usize> {
    let index: usize = step.parse().ok()?;
    (index.to_string() == step).then_some(index)
}

fn names(map: &Map) -> Vec<String> {
    map.fields().map(|(name, _)| name.to_owned()).collect()
}

fn node_names(node: &Node) -> Vec<String> {
    match node {
        Node::Map(map) => names(map),
        Node::List(list) => (0..list.len()).map(|index| index.to_string()).collect(),
        Node::Leaf(_) => vec![],
    }
}

fn missing<S: AsRef<str>>(path: &[S], depth: usize, siblings: &[String]) -> Error {
    Error::NoField {
        field: shown(path[depth].as_ref()),
        at: shown_path(&path[..depth]),
        siblings: siblings.iter().map(|name| shown(name)).collect(),
    }
}

/// A value of a decrypted document.
pub struct Value<'p> {
    node: &'p Node,
    format: Format,
    path: String,
}

impl Value<'_> {
    /// Returns what it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.node.kind()
    }

    /// Returns the names of its fields, as they are in the file, or the indices of its items.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        node_names(self.node)
    }

    /// Returns whether the file's rules have it encrypted, and for a map or list all that is in it.
    ///
    /// Where they have not, anyone who can write the file can change the value together with the name of its field
    /// or its neighbours: use such a value as a secret only where the user says so. An empty string at an encrypted
    /// place counts as encrypted, though sops stores it as it is.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        sealed(self.node)
    }

    /// Returns the bytes that `sops decrypt --extract` prints.
    ///
    /// A string is printed as it is. Numbers, truth values and times are printed as the file's format writes them,
    /// which in YAML ends with a newline.
    ///
    /// # Errors
    /// When it is null or a comment, or a map or list and not in JSON.
    pub fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let leaf = match (self.node, self.format) {
            (Node::Leaf(leaf), _) => leaf,
            (Node::Map(_), Format::Json) => {
                let mut text = render::Text::new();
                text.push(self.json()?);
                text.push("\n");
                return Ok(text.finish());
            }
            (Node::List(_), Format::Json) => return self.json(),
            _ => return Err(self.unsuitable("name a field of it, or take it as JSON")),
        };
        match leaf.kind {
            Kind::Str | Kind::Bytes => Ok(leaf.text.clone()),
            Kind::Null | Kind::Comment => Err(self.unsuitable("there is no value")),
            _ if self.format == Format::Yaml => Ok(yaml_scalar(leaf)),
            _ => self.json(),
        }
    }

    /// Returns it as JSON, indented as sops does it, without a newline at the end.
    ///
    /// # Errors
    /// When JSON cannot say it: infinities, NaN, and bytes that are not UTF-8.
    pub fn json(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        render::json(self.node).map_err(|rule| self.unsuitable(rule))
    }

    fn unsuitable(&self, rule: &'static str) -> Error {
        Error::Unsuitable {
            at: self.path.clone(),
            found: match self.kind() {
                Kind::Str => "a string",
                Kind::Int => "an integer",
                Kind::Float => "a float",
                Kind::Bool => "a truth value",
                Kind::Time => "a time",
                Kind::Bytes => "bytes",
                Kind::Null => "null",
                Kind::Comment => "a comment",
                Kind::Map => "a map",
                Kind::List => "a list",
            },
            rule,
        }
    }
}

fn sealed(node: &Node) -> bool {
    match node {
        Node::Map(map) => map.fields().all(|(_, value)| sealed(value)),
        Node::List(list) => list.iter().all(sealed),
        Node::Leaf(leaf) => leaf.sealed || matches!(leaf.kind, Kind::Null | Kind::Comment),
    }
}

fn yaml_scalar(leaf: &Leaf) -> Zeroizing<Vec<u8>> {
    let mut text = render::Text::new();
    match (leaf.kind, leaf.utf8().and_then(|text| text.parse().ok())) {
        (Kind::Float, Some(float)) => text.push(&*Zeroizing::new(number::yaml(float))),
        (Kind::Bool, _) => text.push(&*Zeroizing::new(leaf.text.to_ascii_lowercase())),
        _ => text.push(&*leaf.text),
    }
    text.push("\n");
    text.finish()
}
