//! A field of a key-value secret in Vault or OpenBao.

mod address;
mod answer;
mod login;
mod secret;
mod server;
mod session;
mod settings;
mod transit;

use std::fmt;
use std::sync::Arc;

use keys_protocol::printable;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run, Settings};
use crate::source::{Form, Steps, for_host, shown};

use session::Session;

pub(crate) use settings::VaultSettings;
pub(crate) use transit::Transit;

/// `kv/web#cert`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, VaultTable>")]
#[schemars(with = "Form<String, VaultTable>")]
pub(crate) struct VaultSource {
    /// Mount and path, as `vault kv get` takes them.
    path: VaultPath,
    /// The field; more than one name descends. Empty in an origin.
    field: Steps,
    /// The version of a KV v2 secret; the newest if there is none.
    version: Option<u32>,
}

/// The long form of a Vault source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultTable {
    /// Mount and path, or the path below `mount`.
    path: String,
    /// The field; `a/b` or `["a", "b"]` descends.
    field: Steps,
    /// The mount, where it is not the beginning of `path`.
    mount: Option<String>,
    /// The version of a KV v2 secret.
    version: Option<u32>,
}

impl TryFrom<Form<String, VaultTable>> for VaultSource {
    type Error = String;

    fn try_from(form: Form<String, VaultTable>) -> Result<Self, String> {
        match form {
            Form::Short(text) => {
                let (path, field) = text
                    .rsplit_once('#')
                    .ok_or_else(|| format!("a field is wanted: `{}#FIELD`", shown(&text)))?;
                Ok(Self {
                    field: Steps::parse(field)?,
                    path: VaultPath::parse(path)?,
                    version: None,
                })
            }
            Form::Table(VaultTable {
                path,
                field,
                mount,
                version,
            }) => {
                let path = match mount {
                    Some(mount) => format!("{}/{path}", mount.trim_end_matches('/')),
                    None => path,
                };
                if field.0.is_empty() {
                    return Err(format!("a field is wanted: `{}#FIELD`", shown(&path)));
                }
                Ok(Self {
                    path: VaultPath::parse(&path)?,
                    field,
                    version,
                })
            }
        }
    }
}

impl Kind for VaultSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            path: VaultPath(for_host(&self.path.0, host)),
            field: self.field.for_host(host),
            version: self.version,
        }
    }

    fn origin(&self) -> Self {
        Self {
            field: Steps::default(),
            ..self.clone()
        }
    }

    async fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> Answers {
        let session = run.vault.session(&run.settings).await?;
        let path = &self.path.0;
        let found = session.read(path, self.version).await?;
        let field = |source: &Self| found.field(&source.field.0, path);
        Ok(wanted.iter().map(field).collect())
    }
}

/// The Vault of a run: one login, at the first need.
#[derive(Default)]
pub(crate) struct Vault(OnceCell<Result<Session, Failure>>);

impl Vault {
    async fn session(&self, settings: &Settings) -> Result<&Session, Failure> {
        let session = self.0.get_or_init(|| Session::open(settings)).await;
        session.as_ref().map_err(Clone::clone)
    }
}

impl fmt::Display for VaultSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault {}", self.path.0)?;
        if !self.field.0.is_empty() {
            write!(f, "#{}", shown(&self.field.to_string()))?;
        }
        self.version
            .map_or(Ok(()), |version| write!(f, " (version {version})"))
    }
}

/// Mount and path of a secret: something that can only be read, and only as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct VaultPath(String);

impl VaultPath {
    fn parse(text: &str) -> Result<Self, String> {
        let refuse = |rule: &str| Err(rule.to_owned());
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse("no component of a Vault path may be empty, `.` or `..`");
        }
        if text.contains(['?', '%', '\\']) || printable(text, usize::MAX) != text {
            return refuse(
                "a Vault path is written as it is, without `?`, `%`, `\\` and control characters",
            );
        }
        let Some((mount, _)) = text.split_once('/') else {
            return refuse("a Vault path is a mount and a path: `kv/web`");
        };
        if matches!(mount, "sys" | "auth" | "identity" | "cubbyhole") {
            return Err(format!("`{mount}/` is no place for secrets"));
        }
        Ok(Self(text.to_owned()))
    }
}
