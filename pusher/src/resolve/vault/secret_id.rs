//! A secret id of the AppRole method, made for a service that logs in to Vault by itself: a new one each time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keys_protocol::Secret;
use reqwest::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run};
use crate::source::{for_host, shown};

use super::auth::{component, mounted};
use super::call::Call;

/// How long a wrapping may wait for the service where the manifest does not say.
const WRAP_TTL: Duration = Duration::from_secs(600);

/// A secret id in a response wrapping: what the service gets is a token that can be opened once, and soon.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "SecretIdTable")]
#[schemars(with = "SecretIdTable")]
pub(crate) struct SecretIdSource {
    role: String,
    mount: String,
    wrap_ttl: Duration,
    ttl: Option<Duration>,
    num_uses: Option<u32>,
    cidrs: Vec<String>,
    /// Which of `[vaults]`; none is `[vault]`.
    from: Option<String>,
    /// For whom it is made: no two hosts share one.
    host: String,
}

/// `source = { vault_secret_id = { role = "web" } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretIdTable {
    /// The role that the service logs in with.
    role: String,
    /// Where the AppRole method is mounted, if not at `approle`.
    mount: Option<String>,
    /// How long the wrapping waits to be opened. Without it: `"10m"`.
    wrap_ttl: Option<String>,
    /// How long the secret id is good for, if not as long as its role says.
    ttl: Option<String>,
    /// How often it can be used, if not as often as its role says.
    num_uses: Option<u32>,
    /// The addresses that it, and the tokens it gives, can be used from: `["10.0.0.0/24"]`.
    #[serde(default)]
    cidrs: Vec<String>,
    /// Which of `[vaults.NAME]`, if not `[vault]`.
    from: Option<String>,
}

impl TryFrom<SecretIdTable> for SecretIdSource {
    type Error = &'static str;

    fn try_from(table: SecretIdTable) -> Result<Self, Self::Error> {
        let wrap_ttl = table.wrap_ttl.as_deref().map(duration).transpose()?;
        Ok(Self {
            role: component(table.role).ok_or("a role is one component of a path")?,
            mount: mounted(table.mount, "approle")?,
            wrap_ttl: wrap_ttl.unwrap_or(WRAP_TTL),
            ttl: table.ttl.as_deref().map(duration).transpose()?,
            num_uses: table.num_uses,
            cidrs: table.cidrs,
            from: table.from,
            host: String::new(),
        })
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| time.as_secs() > 0 && time.subsec_nanos() == 0)
        .ok_or("a time in whole seconds is expected, such as `90s` or `10m`")
}

impl Kind for SecretIdSource {
    fn for_host(&self, host: &str) -> Self {
        let text = |text: &String| for_host(text, host);
        Self {
            role: text(&self.role),
            mount: text(&self.mount),
            cidrs: self.cidrs.iter().map(text).collect(),
            host: host.to_owned(),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    fn vault(&self) -> Option<&str> {
        self.from.as_deref()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        Ok(vec![self.make(&run).await.map_err(|f| f.at(&self))])
    }
}

impl SecretIdSource {
    async fn make(&self, run: &Run) -> Result<Secret, Failure> {
        let session = run.vault(self.from.as_deref()).await?;
        let path = format!("auth/{}/role/{}/secret-id", self.mount, self.role);
        let cidrs = self.cidrs.join(",");
        let body = Body {
            // A text that holds JSON: that is how the method takes it. It is in the server's audit log.
            metadata: serde_json::json!({ "host": self.host, "by": "keys" }).to_string(),
            cidr_list: &cidrs,
            token_bound_cidrs: &cidrs,
            ttl: self.ttl.map(|ttl| ttl.as_secs()),
            num_uses: self.num_uses,
        };
        let ttl = self.wrap_ttl.as_secs().to_string();
        let call = Call::post(path.clone(), &body)?.wrapped(&ttl);
        let answer = session.ask(&call).await?;
        match answer.status {
            StatusCode::OK => {
                let Wrapped { wrap_info } = answer.parse()?;
                Ok(Secret::new(wrap_info.token.into_bytes()))
            }
            StatusCode::FORBIDDEN => Err(session.refused("update", &path).await),
            StatusCode::NOT_FOUND => Err(Failure::source("no such role (404)").hint(format!(
                "`vault list auth/{}/role` shows the roles",
                self.mount
            ))),
            _ => Err(answer.failure("Vault")),
        }
    }
}

impl fmt::Display for SecretIdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault secret id of {}", shown(&self.role))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    metadata: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    cidr_list: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    token_bound_cidrs: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_uses: Option<u32>,
}

/// Where the answer is not wrapped there is no such part, and it is not read.
#[derive(Deserialize)]
struct Wrapped {
    wrap_info: WrapInfo,
}

#[derive(Deserialize)]
struct WrapInfo {
    token: String,
}
