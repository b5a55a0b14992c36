//! An age-encrypted file.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::{Form, Kind, for_host};

/// `secrets/x.age`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, AgeTable>")]
#[schemars(with = "Form<String, AgeTable>")]
pub(crate) struct AgeSource {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The identity files to open it with; empty means those of the manifest and the user.
    identities: Vec<PathBuf>,
}

/// The long form of an age source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgeTable {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The identity files to open it with, instead of those of `[age]` and the user.
    #[serde(default)]
    identities: Vec<PathBuf>,
}

impl TryFrom<Form<String, AgeTable>> for AgeSource {
    type Error = &'static str;

    fn try_from(form: Form<String, AgeTable>) -> Result<Self, Self::Error> {
        let AgeTable { file, identities } = match form {
            Form::Table(table) => table,
            Form::Short(file) => AgeTable {
                file,
                identities: Vec::new(),
            },
        };
        if file.is_empty() {
            return Err("a file is wanted");
        }
        Ok(Self { file, identities })
    }
}

impl Kind for AgeSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            file: for_host(&self.file, host),
            identities: self.identities.clone(),
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }
}

impl fmt::Display for AgeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "age {}", self.file)
    }
}
