//! The age and ssh identities that open files, from the places where a user expects them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// The `[age]` table.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgeSettings {
    /// Identity files, age or ssh, tried before those of the user.
    pub(crate) identities: Vec<PathBuf>,
}
