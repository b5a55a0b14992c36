//! Where a secret that was made is written, so that it is the same from then on: one that is there is never replaced.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::age::AgeSource;
use crate::resolve::sealed::Sealed;
use crate::resolve::sops::SopsSource;
use crate::resolve::vault::VaultSource;
use crate::resolve::{Kind as _, Run};

/// The sources that can be written.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Store {
    /// A value of a SOPS file, which the `sops` in PATH writes.
    Sops(SopsSource),
    /// An age-encrypted file, written to its `recipients`.
    Age(AgeSource),
    /// A field of a version 2 key-value secret; other fields of the path stay.
    Vault(VaultSource),
}

/// What became of a value that was offered.
pub(crate) enum Written {
    /// It is there now.
    Created,
    /// Another one was there first: this one.
    Lost(Secret),
}

impl Store {
    /// Returns this store with `{host}` replaced.
    pub(crate) fn for_host(&self, host: &str) -> Self {
        match self {
            Self::Sops(source) => Self::Sops(source.for_host(host)),
            Self::Age(source) => Self::Age(source.for_host(host)),
            Self::Vault(source) => Self::Vault(source.for_host(host)),
        }
    }

    /// Returns which of `[vaults]` keeps it, where one is named.
    pub(crate) fn vault(&self) -> Option<&str> {
        match self {
            Self::Vault(source) => source.vault(),
            Self::Sops(_) | Self::Age(_) => None,
        }
    }

    /// Returns what is there; nothing only where it is certain that nothing is.
    pub(crate) async fn find(&self, run: &Arc<Run>) -> Result<Option<Secret>, Failure> {
        match self {
            Self::Sops(source) => source.find(run).await,
            Self::Age(source) => source.find(run).await,
            Self::Vault(source) => source.find(run).await,
        }
    }

    /// Writes `value` if nothing is there.
    pub(crate) async fn create(&self, value: &Secret, run: &Arc<Run>) -> Result<Written, Failure> {
        // One at a time: most of them write to the same place.
        let _writing = run.writing.lock().await;
        match self {
            Self::Sops(source) => {
                let path = source.path(run);
                self.alone(&path, run, source.write(value, run)).await
            }
            Self::Age(source) => {
                let path = source.path(run);
                self.alone(&path, run, source.write(value, run)).await
            }
            // Vault itself tells two writers apart.
            Self::Vault(source) => source.create(value, run).await,
        }
    }

    /// Has `write` done if nothing is there, while no other `keys` writes in the folder of the file at `path`.
    async fn alone(
        &self,
        path: &Path,
        run: &Arc<Run>,
        write: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Written, Failure> {
        let alone = Sealed::lock(path).await;
        let _alone = alone.map_err(|f| f.at(self))?;
        if let Some(secret) = self.find(run).await? {
            return Ok(Written::Lost(secret));
        }
        write.await.map_err(|f| f.at(self))?;
        Ok(Written::Created)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sops(source) => source.fmt(f),
            Self::Age(source) => source.fmt(f),
            Self::Vault(source) => source.fmt(f),
        }
    }
}
