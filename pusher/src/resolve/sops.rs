//! A value of a SOPS file, or the whole file.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run};
use crate::source::{Form, Steps, for_host};

/// `hosts/pigeon.yaml#db/password`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, SopsTable>")]
#[schemars(with = "Form<String, SopsTable>")]
pub(crate) struct SopsSource {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The way to the value; empty for the whole file, and in an origin.
    key: Steps,
    /// The format, where the name does not say it.
    format: Option<SopsFormat>,
    /// Whether the value may be one that the file holds in clear.
    allow_unencrypted: bool,
}

/// The format of a SOPS file.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SopsFormat {
    Yaml,
    Json,
    Dotenv,
    Ini,
    Binary,
}

/// The long form of a SOPS source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SopsTable {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The way to the value, `a/b` or `["a", "b"]`; without it the whole file is meant.
    #[serde(default)]
    key: Steps,
    /// The format, where the name does not say it.
    format: Option<SopsFormat>,
    /// Whether the value may be one that the file holds in clear.
    #[serde(default)]
    allow_unencrypted: bool,
}

impl TryFrom<Form<String, SopsTable>> for SopsSource {
    type Error = String;

    fn try_from(form: Form<String, SopsTable>) -> Result<Self, String> {
        let SopsTable {
            file,
            key,
            format,
            allow_unencrypted,
        } = match form {
            Form::Table(table) => table,
            Form::Short(text) => {
                let (file, key) = match text.rsplit_once('#') {
                    Some((file, key)) => (file.to_owned(), Steps::parse(key)?),
                    None => (text, Steps::default()),
                };
                SopsTable {
                    file,
                    key,
                    format: None,
                    allow_unencrypted: false,
                }
            }
        };
        if file.is_empty() {
            return Err("a file is wanted: `FILE#KEY`".into());
        }
        Ok(Self {
            file,
            key,
            format,
            allow_unencrypted,
        })
    }
}

impl Kind for SopsSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            file: for_host(&self.file, host),
            key: self.key.for_host(host),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        Self {
            key: Steps::default(),
            allow_unencrypted: false,
            ..self.clone()
        }
    }

    async fn ask(self, _: Vec<Self>, _: Arc<Run>) -> Answers {
        Err(Failure::source("sops is not read yet").at(self))
    }
}

impl fmt::Display for SopsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sops {}", self.file)?;
        if self.key.0.is_empty() {
            Ok(())
        } else {
            write!(f, "#{}", self.key)
        }
    }
}
