//! A field that is written where there is none: of two who do so at once, one wins, and both know.

use std::collections::BTreeMap;

use keys_protocol::Secret;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::resolve::Run;
use crate::resolve::store::Written;

use super::VaultSource;
use super::call::Call;
use super::mount::{Engine, Mount};
use super::secret::{Body, Found, Table, Versioned, table, unreadable};
use super::session::{Looked, Session};

/// How often a write is tried again after another one came in between.
const ATTEMPTS: u32 = 5;

impl VaultSource {
    /// Reads the secret. Nothing means that the path or the field is not there, as Vault itself says; whatever else
    /// keeps it from being read, a deleted version among it, is a failure.
    pub(crate) async fn find(&self, run: &Run) -> Result<Option<Secret>, Failure> {
        let name = self.writable()?;
        let session = run.vault(self.from.as_deref()).await?;
        match session.look(self).await? {
            Looked::Nothing(_) => Ok(None),
            Looked::Found(found) => self.in_found(&found, name),
        }
    }

    /// Writes `value` if nothing is there; other fields of the path and its metadata stay as they are.
    pub(crate) async fn create(&self, value: &Secret, run: &Run) -> Result<Written, Failure> {
        let name = self.writable()?;
        let text = str::from_utf8(value.expose())
            .map_err(|_| Failure::source("the value is no text").at(self))?;
        let session = run.vault(self.from.as_deref()).await?;
        for _ in 0..ATTEMPTS {
            let looked = session.look(self).await?;
            let (mount, found) = match &looked {
                Looked::Nothing(mount) => (mount, None),
                Looked::Found(found) => (&found.mount, Some(found)),
            };
            if let Some(found) = found
                && let Some(existing) = self.in_found(found, name)?
            {
                return Ok(Written::Lost(existing));
            }
            let call = self.write(mount, found, (name, text))?;
            if session.write(&call, mount, &self.path.0).await? == Write::Done {
                return Ok(Written::Created);
            }
        }
        Err(Failure::source("others keep writing there").at(&self.path.0))
    }

    /// Returns the one field that can be written by itself.
    fn writable(&self) -> Result<&str, Failure> {
        match (self.field.0.as_slice(), self.version) {
            ([name], None) => Ok(name),
            _ => Err(Failure::source(
                "only a field by itself, and of the newest version, can be written",
            )
            .at(self)),
        }
    }

    fn in_found(&self, found: &Found, name: &str) -> Result<Option<Secret>, Failure> {
        let there = found.has(name).map_err(|f| f.at(&self.path.0))?;
        there.then(|| self.take(found)).transpose()
    }

    fn write(
        &self,
        mount: &Mount,
        found: Option<&Found>,
        (name, text): (&str, &str),
    ) -> Result<Call, Failure> {
        if mount.engine == Engine::V1 {
            return Err(Failure::source("a KV v1 mount cannot say who wrote first")
                .at(&self.path.0)
                .hint(format!(
                    "`vault kv enable-versioning {}` makes it version 2",
                    mount.path
                )));
        }
        let kept = found.map(Found::fields).transpose()?.unwrap_or_default();
        let kept = kept.into_iter().filter(|(field, _)| field != name);
        let mut data: BTreeMap<String, Value<'_>> = kept
            .map(|(field, value)| (field, Value::Kept(value)))
            .collect();
        data.insert(name.to_owned(), Value::New(text));
        let cas = found.map_or(Ok(0), Found::version)?;
        let body = Next {
            options: Options { cas },
            data,
        };
        Call::post(mount.policy_path(&self.path.0), &body)
    }
}

impl Found {
    /// Returns whether there is a field of that name.
    fn has(&self, name: &str) -> Result<bool, Failure> {
        let fields = self.fields()?;
        Ok(fields.get(name).is_some_and(|value| value.get() != "null"))
    }

    /// Returns all fields, as Vault wrote them.
    fn fields(&self) -> Result<Table<'_>, Failure> {
        table(self.data()?).ok_or_else(unreadable)
    }

    /// Returns the number of this version of a KV v2 secret.
    fn version(&self) -> Result<u64, Failure> {
        let body: Body<'_> = self.answer.parse()?;
        let found: Versioned<'_> =
            serde_json::from_str(body.data.get()).map_err(|_| unreadable())?;
        Ok(found.metadata.version)
    }
}

/// Whether a write was taken.
#[derive(PartialEq, Eq)]
enum Write {
    Done,
    /// There is another version than the one that was seen.
    Outrun,
}

impl Session {
    async fn write(&self, call: &Call, mount: &Mount, path: &str) -> Result<Write, Failure> {
        let answer = self.ask(call).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(Write::Done),
            StatusCode::BAD_REQUEST if answer.says("check-and-set parameter did not match") => {
                Ok(Write::Outrun)
            }
            StatusCode::FORBIDDEN => Err(self.denied(mount, path, "create` and `update").await),
            _ => Err(answer.failure("Vault")),
        }
        .map_err(|failure| failure.at(path))
    }
}

/// What KV v2 takes: all fields of the next version, and the version that it follows.
#[derive(Serialize)]
struct Next<'a> {
    options: Options,
    data: BTreeMap<String, Value<'a>>,
}

#[derive(Serialize)]
struct Options {
    /// 0 where there is nothing yet.
    cas: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    /// As Vault wrote it.
    Kept(&'a RawValue),
    New(&'a str),
}
