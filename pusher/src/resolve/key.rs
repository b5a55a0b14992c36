//! The secret of another key of the same host.

use std::fmt;
use std::sync::Arc;

use keys_protocol::KeyName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run};

/// The name of a key. The manifest puts that key's source in its place, so that it is asked once for both.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(transparent)]
#[schemars(with = "String")]
pub(crate) struct KeySource(pub(crate) KeyName);

impl Kind for KeySource {
    fn for_host(&self, _: &str) -> Self {
        self.clone()
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, _: Arc<Run>) -> Answers {
        Err(Failure::source("a bug: its source was not put in its place").at(&self))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.0)
    }
}
