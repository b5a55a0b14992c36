//! A key-value secret in Vault or OpenBao: one field, or all.

mod address;
mod answer;
mod auth;
mod call;
mod environment;
mod farewell;
mod login;
mod mount;
mod patience;
mod reach;
mod seal;
mod secret;
pub(crate) mod secret_id;
mod server;
mod session;
mod settings;
mod site;
mod token;
mod token_helper;
mod transit;
mod tunnel;
mod wrapping;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keys_protocol::{Secret, printable};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run};
use crate::source::{Form, Steps, for_host, shown};

use mount::{Engine, Mount};
use secret::Found;
use session::Session;
use site::Site;

pub(crate) use farewell::farewell;
pub(crate) use seal::{Seal, Sealed};
pub(crate) use settings::VaultSettings;
pub(crate) use transit::Transit;

/// `kv/web#cert`, `kv/web` for all fields as JSON, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, VaultTable>")]
#[schemars(with = "Form<String, VaultTable>")]
pub(crate) struct VaultSource {
    /// Mount and path, as `vault kv get` takes them.
    path: VaultPath,
    /// The field; more than one name descends. Empty for all fields, and in an origin.
    field: Steps,
    /// The version of a KV v2 secret; the newest if there is none.
    version: Option<u32>,
    /// The mount, where the manifest says all about it: Vault is not asked.
    mount: Option<Mount>,
    /// Which of `[vaults]`; none is `[vault]`.
    from: Option<String>,
}

/// The long form of a Vault source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultTable {
    /// Mount and path, or the path below `mount`. Without `field`, as in the short form: `kv/web#cert`.
    path: String,
    /// The field; `a/b` or `["a", "b"]` descends.
    field: Option<Steps>,
    /// The mount, where it is not the beginning of `path`.
    mount: Option<String>,
    /// The version of a KV v2 secret.
    version: Option<u32>,
    /// The version of the engine, 1 or 2, where Vault shall not be asked for it. The mount is `mount`, or the first
    /// component of `path`.
    engine: Option<Engine>,
    /// Which of `[vaults.NAME]`, if not `[vault]`.
    from: Option<String>,
}

impl TryFrom<Form<String, VaultTable>> for VaultSource {
    type Error = String;

    fn try_from(form: Form<String, VaultTable>) -> Result<Self, String> {
        let table = match form {
            Form::Table(table) => table,
            Form::Short(path) => VaultTable {
                path,
                field: None,
                mount: None,
                version: None,
                engine: None,
                from: None,
            },
        };
        let (below, field) = match (table.field, table.path.rsplit_once('#')) {
            (Some(field), _) => (table.path.as_str(), field),
            (None, Some((path, field))) => (path, Steps::parse(field)?),
            (None, None) => (table.path.as_str(), Steps::default()),
        };
        let mount = table
            .mount
            .as_deref()
            .map(|mount| mount.trim_end_matches('/'));
        let path = match mount {
            Some(mount) => VaultPath::parse(&format!("{mount}/{below}"))?,
            None => VaultPath::parse(below)?,
        };
        let mount = mount.unwrap_or_else(|| path.first());
        Ok(Self {
            mount: table.engine.map(|engine| Mount::of(mount, engine)),
            path,
            field,
            version: table.version,
            from: table.from,
        })
    }
}

impl Kind for VaultSource {
    fn for_host(&self, host: &str) -> Self {
        let mount = self.mount.clone().map(|mount| Mount {
            path: for_host(&mount.path, host),
            ..mount
        });
        Self {
            path: VaultPath(for_host(&self.path.0, host)),
            field: self.field.for_host(host),
            mount,
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        Self {
            field: Steps::default(),
            ..self.clone()
        }
    }

    fn vault(&self) -> Option<&str> {
        self.from.as_deref()
    }

    async fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> Answers {
        let session = run.vault(self.from.as_deref()).await?;
        let found = session.read(&self).await?;
        Ok(wanted.iter().map(|source| source.take(&found)).collect())
    }
}

impl VaultSource {
    /// Takes the secret out of what is at the path.
    fn take(&self, found: &Found) -> Result<Secret, Failure> {
        let path = &self.path.0;
        if self.field.0.is_empty() {
            return found.whole().map_err(|f| f.at(path));
        }
        found.field(&self.field.0, path)
    }
}

/// The Vaults of a run by their names, none for `[vault]`: one login each, at the first need.
#[derive(Default)]
pub(crate) struct Vaults(Mutex<BTreeMap<Option<String>, Arc<Opened>>>);

type Opened = OnceCell<Result<Arc<Session>, Failure>>;

impl Run {
    /// Logs in to a Vault, or returns the session that there is.
    async fn vault(&self, name: Option<&str>) -> Result<Arc<Session>, Failure> {
        let opened = {
            let mut vaults = self.vaults.0.lock().await;
            Arc::clone(vaults.entry(name.map(str::to_owned)).or_default())
        };
        let open = async || Session::open(Site::find(name, self)?).await;
        opened.get_or_init(open).await.clone()
    }
}

impl fmt::Display for VaultSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault {}", self.path.0)?;
        if !self.field.0.is_empty() {
            write!(f, "#{}", shown(&self.field.to_string()))?;
        }
        if let Some(version) = self.version {
            write!(f, " (version {version})")?;
        }
        self.from
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " from {}", shown(name)))
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

    /// Returns the first component, a mount unless the mount's name has several.
    fn first(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }
}
