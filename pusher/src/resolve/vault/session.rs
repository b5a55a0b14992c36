//! A server and a token: what is read with it, and why something cannot be.

use std::path::PathBuf;

use keys_protocol::printable;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell};
use vaultrs::api::kv1::requests::GetSecretRequest;
use vaultrs::api::kv2::requests::ReadSecretRequest;

use crate::failure::Failure;
use crate::resolve::Settings;

use super::answer::Answer;
use super::login;
use super::secret::Found;
use super::server::Server;

/// A server where we are logged in.
pub(super) struct Session {
    server: Server,
    token: HeaderValue,
    /// The mounts that were met, each asked about once.
    mounts: Mutex<Vec<Mount>>,
    /// Whether the server knows the token, asked at the first refusal.
    token_is_good: OnceCell<bool>,
}

#[derive(Clone)]
struct Mount {
    /// With a `/` at its end, as Vault writes it.
    path: String,
    engine: Engine,
}

/// How a key-value mount keeps its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// As they are.
    V1,
    /// In versions, below `data/`.
    V2,
}

impl Session {
    /// Finds the server and logs in there.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let vault = &settings.vault;
        let address = vault
            .address
            .clone()
            .or_else(|| variable("VAULT_ADDR"))
            .ok_or_else(|| {
                Failure::source("no Vault address")
                    .hint("set `address` under [vault], or VAULT_ADDR")
            })?;
        let namespace = vault
            .namespace
            .clone()
            .or_else(|| variable("VAULT_NAMESPACE"));
        let ca_file = vault
            .ca_file
            .as_ref()
            .map(|file| settings.path(file))
            .or_else(|| variable("VAULT_CACERT").map(PathBuf::from));
        let server = Server::new(&address, namespace.as_deref(), ca_file.as_deref())?;
        let token = login::token(&server, settings).await?;
        Ok(Self {
            server,
            token,
            mounts: Mutex::default(),
            token_is_good: OnceCell::new(),
        })
    }

    /// Reads the secret at `path`, mount and all.
    pub(super) async fn read(&self, path: &str, version: Option<u32>) -> Result<Found, Failure> {
        let mount = self.mount(path).await?;
        let engine = mount.engine;
        let below = path
            .strip_prefix(&mount.path)
            .unwrap_or_default()
            .to_owned();
        if below.is_empty() {
            return Err(Failure::source("that is a mount, not a secret").at(path));
        }
        let answer = match (engine, version) {
            (Engine::V2, version) => self.get(&mount.versioned(below, version)).await?,
            (Engine::V1, None) => self.get(&mount.plain(below)).await?,
            (Engine::V1, Some(_)) => {
                return Err(Failure::source("a KV v1 mount keeps no versions")
                    .at(path)
                    .hint("leave `version` out"));
            }
        };
        let failure = match answer.status {
            StatusCode::OK => return Ok(Found { answer, engine }),
            StatusCode::FORBIDDEN => self.denied(&mount, path).await,
            StatusCode::NOT_FOUND => {
                Found::absent(&answer, path).unwrap_or_else(|| mount.nothing(path))
            }
            _ => answer.failure("Vault"),
        };
        Err(failure.at(path))
    }

    pub(super) async fn get(&self, endpoint: &impl Endpoint) -> Result<Answer, Failure> {
        self.server.send(endpoint, Some(&self.token)).await
    }

    /// Returns the mount that holds `path`. The lock is held while asking: the others mostly want the same mount.
    async fn mount(&self, path: &str) -> Result<Mount, Failure> {
        let mut mounts = self.mounts.lock().await;
        if let Some(mount) = mounts.iter().find(|mount| path.starts_with(&mount.path)) {
            return Ok(mount.clone());
        }
        let answer = self.get(&ReadMount { path }).await?;
        let mount = match answer.status {
            StatusCode::OK => Mount::parse(&answer, path),
            StatusCode::FORBIDDEN => Err(self.no_mount(path).await),
            _ => Err(answer.failure("Vault")),
        };
        let mount = mount.map_err(|failure| failure.at(path))?;
        mounts.push(mount.clone());
        Ok(mount)
    }

    /// Vault answers 403 for a mount that is not there, too.
    pub(super) async fn no_mount(&self, path: &str) -> Failure {
        if !self.token_is_good().await {
            return token_refused();
        }
        let first = path.split('/').next().unwrap_or(path);
        Failure::source(format!("no mount `{first}/`, or none that the token may use (403)"))
            .hint("`vault secrets list` shows the mounts; a namespace goes into `namespace` under [vault]")
    }

    async fn denied(&self, mount: &Mount, path: &str) -> Failure {
        if !self.token_is_good().await {
            return token_refused();
        }
        Failure::source("permission denied (403)").hint(format!(
            "the token's policies have no `read` on {}",
            mount.policy_path(path)
        ))
    }

    /// Asks, once, whether the server knows the token. Where it does not say, the token is not blamed.
    pub(super) async fn token_is_good(&self) -> bool {
        let good = self.token_is_good.get_or_init(async || {
            let answer = self.get(&LookupSelf).await;
            answer.is_ok_and(|answer| answer.status != StatusCode::FORBIDDEN)
        });
        *good.await
    }
}

pub(super) fn token_refused() -> Failure {
    Failure::source("Vault does not know the token: expired, revoked, or from elsewhere (403)")
        .hint("`vault login`, or a new VAULT_TOKEN")
}

impl Mount {
    fn parse(answer: &Answer, path: &str) -> Result<Self, Failure> {
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

    fn bare(&self) -> String {
        self.path.trim_end_matches('/').to_owned()
    }

    fn versioned(&self, path: String, version: Option<u32>) -> ReadSecretRequest {
        ReadSecretRequest {
            mount: self.bare(),
            path,
            version: version.map(u64::from),
        }
    }

    fn plain(&self, path: String) -> GetSecretRequest {
        GetSecretRequest {
            mount: self.bare(),
            path,
        }
    }

    /// Returns `path` as policies name it.
    fn policy_path(&self, path: &str) -> String {
        match (self.engine, path.strip_prefix(&self.path)) {
            (Engine::V2, Some(below)) => format!("{}data/{below}", self.path),
            _ => path.to_owned(),
        }
    }

    fn nothing(&self, path: &str) -> Failure {
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

/// An empty variable is as good as none.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
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

/// Which mount holds a path, for anyone who may use it; what the `vault` command asks, too.
pub(super) struct ReadMount<'a> {
    pub(super) path: &'a str,
}

impl Endpoint for ReadMount<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("sys/internal/ui/mounts/{}", self.path)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}

struct LookupSelf;

impl Endpoint for LookupSelf {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        "auth/token/lookup-self".into()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }
}
