//! A mount of the key-value engine: which one holds a path, and of which version it is.

use std::borrow::Cow;

use keys_protocol::printable;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::ReadSecretRequest;

use crate::failure::Failure;

use super::answer::Answer;
use super::call::Call;

/// Where secrets of one engine are mounted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mount {
    /// With a `/` at its end, as Vault writes it.
    pub(super) path: String,
    pub(super) engine: Engine,
}

/// How a key-value mount keeps its secrets.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "u8")]
pub(super) enum Engine {
    /// As they are.
    V1,
    /// In versions, below `data/`.
    V2,
}

impl TryFrom<u8> for Engine {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err("the key-value engine has the versions 1 and 2"),
        }
    }
}

impl JsonSchema for Engine {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "engine".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [1, 2] })
    }
}

impl Mount {
    /// A mount as the manifest has it.
    pub(super) fn of(path: &str, engine: Engine) -> Self {
        Self {
            path: format!("{path}/"),
            engine,
        }
    }

    /// Reads the answer to [`Mount::asked`].
    pub(super) fn parse(answer: &Answer, path: &str) -> Result<Self, Failure> {
        let Body { data } = answer.parse()?;
        let version = data.options.unwrap_or_default().version;
        let engine = match (data.kind.as_str(), version.as_deref()) {
            ("kv", Some("2")) => Engine::V2,
            ("kv" | "generic", _) => Engine::V1,
            (kind, _) => {
                let kind = printable(kind, 40);
                return Err(Failure::source(format!(
                    "the mount is of the type {kind}, not key-value"
                )));
            }
        };
        // The path is cut at it, and other paths are taken for the mount's by it.
        if !data.path.ends_with('/') || !format!("{path}/").starts_with(&data.path) {
            return Err(Failure::source(
                "the mount that Vault names does not hold the path",
            ));
        }
        Ok(Self {
            path: data.path,
            engine,
        })
    }

    /// Asks which mount holds `path`, as anyone may who may use it, and as the `vault` command does.
    pub(super) fn asked(path: &str) -> Call {
        Call::get(format!("sys/internal/ui/mounts/{path}"))
    }

    /// Asks for the secret at `path`.
    pub(super) fn read(&self, path: &str, version: Option<u32>) -> Result<Call, Failure> {
        let mount = self.path.trim_end_matches('/').to_owned();
        let below = path.strip_prefix(&self.path).unwrap_or_default();
        if below.is_empty() {
            return Err(Failure::source("that is a mount, not a secret"));
        }
        let path = below.to_owned();
        match (self.engine, version) {
            (Engine::V2, version) => Call::of(&ReadSecretRequest {
                mount,
                path,
                version: version.map(u64::from),
            }),
            (Engine::V1, None) => Call::of(&GetSecretRequest { mount, path }),
            (Engine::V1, Some(_)) => {
                Err(Failure::source("a KV v1 mount keeps no versions").hint("leave `version` out"))
            }
        }
    }

    /// Returns `path` as policies name it.
    pub(super) fn policy_path(&self, path: &str) -> String {
        match (self.engine, path.strip_prefix(&self.path)) {
            (Engine::V2, Some(below)) => format!("{}data/{below}", self.path),
            _ => path.to_owned(),
        }
    }

    /// Returns why nothing is at `path`, where Vault says so.
    pub(super) fn nothing(&self, path: &str) -> Failure {
        let failure = Failure::source("nothing is there (404)");
        let below = path.strip_prefix(&self.path).unwrap_or_default();
        match below.strip_prefix("data/") {
            Some(below) if self.engine == Engine::V2 => failure.hint(format!(
                "`data/` is added for KV v2: say {}{below}",
                self.path
            )),
            _ => failure.hint(format!(
                "`vault kv list {}` shows what is; a token may also not see it",
                self.path
            )),
        }
    }
}

#[derive(Deserialize)]
struct Body {
    data: MountData,
}

#[derive(Deserialize)]
struct MountData {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Option<MountOptions>,
}

#[derive(Deserialize, Default)]
struct MountOptions {
    version: Option<String>,
}
