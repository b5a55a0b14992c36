//! Several secrets in one text.

mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::escape::Escape;
use crate::resolve::file::FileSource;
use crate::resolve::{Answers, Kind, LARGEST, Outcome, Resolved, Run};
use crate::source::{Source, shown};

use text::Piece;

/// A table with `text` or `file`, and the `values` that are put into it.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "TemplateTable")]
#[schemars(with = "TemplateTable")]
pub(crate) struct TemplateSource {
    body: Body,
    values: BTreeMap<String, Source>,
    /// The host's name, where the text may name it and no value has that name.
    host: Option<String>,
}

/// Where the text is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Body {
    /// In the manifest; its names were checked there.
    Inline(String),
    /// In a file below the manifest's folder.
    File(Box<Source>),
}

/// A template.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateTable {
    /// The text: `{{ name }}` stands for a value, `{{ name | json }}` for its bytes as a string of JSON, and so on.
    text: Option<String>,
    /// A file that holds the text, relative to the manifest's folder and below it.
    file: Option<FileSource>,
    /// The values by the names that the text has for them.
    #[serde(default)]
    values: BTreeMap<String, Source>,
}

/// The name that stands for the host's.
const HOST: &str = "host";

impl TryFrom<TemplateTable> for TemplateSource {
    type Error = String;

    fn try_from(table: TemplateTable) -> Result<Self, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        if let Some(name) = table
            .values
            .keys()
            .find(|name| name.is_empty() || !name.chars().all(named))
        {
            let name = shown(name);
            return Err(format!(
                "the name of a value is of A-Z a-z 0-9 _ - . /, not `{name}`"
            ));
        }
        let body = match (table.text, table.file) {
            (Some(text), None) => Body::Inline(text),
            (None, Some(file)) => Body::File(Box::new(Source::File(file))),
            _ => return Err("a template has either `text` or `file`".into()),
        };
        let source = Self {
            body,
            values: table.values,
            host: None,
        };
        if let Body::Inline(text) = &source.body {
            source.pieces(text)?;
        }
        Ok(source)
    }
}

impl Kind for TemplateSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            host: self.names_host().then(|| host.to_owned()),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    fn parts(&self) -> Vec<&Source> {
        let file = match &self.body {
            Body::File(file) => Some(file.as_ref()),
            Body::Inline(_) => None,
        };
        self.values.values().chain(file).collect()
    }

    fn parts_mut(&mut self) -> Vec<&mut Source> {
        let file = match &mut self.body {
            Body::File(file) => Some(file.as_mut()),
            Body::Inline(_) => None,
        };
        self.values.values_mut().chain(file).collect()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        Ok(vec![self.render(&run).await.map_err(|f| f.at(&self))])
    }
}

impl TemplateSource {
    /// Returns whether the text may hold the host's name: a file is not read before it is needed.
    fn names_host(&self) -> bool {
        let is_host =
            |piece: &Piece<'_>| matches!(piece, Piece::Value { name, .. } if *name == HOST);
        !self.values.contains_key(HOST)
            && match &self.body {
                Body::File(_) => true,
                Body::Inline(text) => self.pieces(text).is_ok_and(|all| all.iter().any(is_host)),
            }
    }

    fn pieces<'t>(&self, text: &'t str) -> Result<Vec<Piece<'t>>, String> {
        let mut known: Vec<&str> = self.values.keys().map(String::as_str).collect();
        if !known.contains(&HOST) {
            known.push(HOST);
        }
        text::parse(text, &known)
    }

    async fn render(&self, run: &Arc<Run>) -> Result<Secret, Failure> {
        let answers = run.answers(self.parts()).await;
        let file;
        let text: &str = match &self.body {
            Body::Inline(text) => text,
            Body::File(source) => {
                file = taken(&answers, source)?;
                std::str::from_utf8(file.expose()).map_err(|_| Failure::source("not UTF-8"))?
            }
        };
        let pieces = self.pieces(text).map_err(Failure::source)?;
        let mut values = self.values(&answers)?;
        if let Some(host) = &self.host {
            values.insert(HOST, Arc::new(Secret::new(host.clone().into_bytes())));
        }
        let mut rendered = Secret::with_capacity(text.len());
        for piece in &pieces {
            match piece {
                Piece::Plain(plain) => rendered.push(plain.as_bytes()),
                Piece::Value { name, escapes } => {
                    let value = escaped(values.get(name), escapes);
                    rendered.push(value.map_err(|f| at_value(f, name))?.expose());
                }
            }
            if rendered.len() as u64 > LARGEST {
                let limit = LARGEST >> 20;
                return Err(Failure::source(format!("larger than {limit} MiB")));
            }
        }
        Ok(rendered)
    }

    /// Returns every value, or says what failed of all of them.
    fn values(&self, answers: &Resolved) -> Result<BTreeMap<&str, Arc<Secret>>, Failure> {
        let mut values = BTreeMap::new();
        let mut failures = Vec::new();
        for (name, source) in &self.values {
            match taken(answers, source) {
                Ok(value) => {
                    values.insert(name.as_str(), value);
                }
                Err(failure) => failures.push(at_value(failure, name)),
            }
        }
        match Failure::together(failures) {
            None => Ok(values),
            Some(failure) => Err(failure),
        }
    }
}

fn taken(answers: &Resolved, source: &Source) -> Outcome {
    let missing = || Err(Failure::source("a bug: it was not asked"));
    answers.get(source).cloned().unwrap_or_else(missing)
}

fn escaped(value: Option<&Arc<Secret>>, escapes: &[Escape]) -> Outcome {
    let mut value = value
        .cloned()
        .ok_or_else(|| Failure::source("a bug: no such value"))?;
    for escape in escapes {
        let written = escape.apply(value.expose()).map_err(Failure::source)?;
        value = Arc::new(written);
    }
    Ok(value)
}

fn at_value(failure: Failure, name: &str) -> Failure {
    failure.at(format_args!("value `{name}`"))
}

impl fmt::Display for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::File(file) => write!(f, "template {file}"),
            Body::Inline(_) => {
                let names: Vec<&str> = self.values.keys().map(String::as_str).collect();
                write!(f, "template of {}", shown(&names.join(", ")))
            }
        }
    }
}
