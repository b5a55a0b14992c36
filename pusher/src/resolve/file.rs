//! A file below the manifest's folder, as it is.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::{Kind, for_host};

/// `secrets/x`, relative to the manifest's folder and below it.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct FileSource(String);

impl TryFrom<String> for FileSource {
    type Error = &'static str;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        if path.is_empty() || path.starts_with('/') || path.contains('\0') {
            return Err("the path is relative to the manifest's folder");
        }
        Ok(Self(path))
    }
}

impl Kind for FileSource {
    fn for_host(&self, host: &str) -> Self {
        Self(for_host(&self.0, host))
    }

    fn origin(&self) -> Self {
        self.clone()
    }
}

impl fmt::Display for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.0)
    }
}
