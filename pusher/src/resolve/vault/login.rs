//! The token: what the manifest says, else `VAULT_TOKEN`, else `~/.vault-token`.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use keys_protocol::Secret;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::identity::read_private;
use crate::resolve::Settings;

use super::server::Server;
use super::settings::{AppRole, Auth, RoleId, SecretId};

/// The largest token or secret id.
const LARGEST: u64 = 16 << 10;

/// Returns the token, as the header that carries it; the header is marked so that nothing prints it.
pub(super) async fn token(server: &Server, settings: &Settings) -> Result<HeaderValue, Failure> {
    match &settings.vault.auth {
        Some(Auth::TokenFile(file)) => header(&private(&settings.path(file))?),
        Some(Auth::Approle(role)) => approle(server, role, settings).await,
        None => header(&usual(settings)?),
    }
}

fn usual(settings: &Settings) -> Result<Secret, Failure> {
    if let Some(token) = std::env::var_os("VAULT_TOKEN").filter(|token| !token.is_empty()) {
        return Ok(Secret::new(token.into_vec()));
    }
    let file = settings.path("~/.vault-token");
    if file.symlink_metadata().is_ok() {
        return private(&file);
    }
    Err(Failure::source("no Vault token")
        .hint("`vault login`, or set VAULT_TOKEN, or `auth` under [vault]"))
}

fn private(file: &Path) -> Result<Secret, Failure> {
    read_private(file, LARGEST).map_err(|f| f.at(file.display()))
}

fn header(token: &Secret) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::from_bytes(token.expose().trim_ascii())
        .ok()
        .filter(|header| !header.is_empty())
        .ok_or_else(|| {
            Failure::source("the Vault token is empty or holds characters that no token has")
        })?;
    header.set_sensitive(true);
    Ok(header)
}

async fn approle(
    server: &Server,
    role: &AppRole,
    settings: &Settings,
) -> Result<HeaderValue, Failure> {
    let role_id = match &role.role_id {
        RoleId::Given(id) => Secret::new(id.clone().into_bytes()),
        RoleId::File(file) => private(&settings.path(file))?,
    };
    let secret_id = match &role.secret_id {
        SecretId::File(file) => private(&settings.path(file))?,
        SecretId::Command(command) => command.output(settings).await?,
    };
    let login = Login {
        path: format!("auth/{}/login", role.mount),
        role_id: text(&role_id, "role id")?,
        secret_id: text(&secret_id, "secret id")?,
    };
    let place = format!("log in at auth/{}", role.mount);
    let answer = server.send(&login, None).await?;
    if answer.is_refusal() {
        return Err(Failure::source("Vault refused the role id or secret id")
            .at(place)
            .hint("a secret id may have expired or been used up: make a new one"));
    }
    if answer.status != StatusCode::OK {
        return Err(answer.failure("Vault").at(place));
    }
    let LoggedIn { auth } = answer.parse().map_err(|f| f.at(place))?;
    header(&Secret::new(auth.client_token.into_bytes()))
}

fn text<'a>(secret: &'a Secret, what: &str) -> Result<&'a str, Failure> {
    str::from_utf8(secret.expose().trim_ascii())
        .ok()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Failure::source(format!("the {what} is empty or no text")))
}

/// Not the one of vaultrs, which keeps its own copies and cannot read every answer.
#[derive(Serialize)]
struct Login<'a> {
    #[serde(skip)]
    path: String,
    role_id: &'a str,
    secret_id: &'a str,
}

impl Endpoint for Login<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        // Room for all of it, every byte escaped: growing would leave copies behind.
        let mut body = Vec::with_capacity(64 + 6 * (self.role_id.len() + self.secret_id.len()));
        serde_json::to_writer(&mut body, self)
            .map_err(|e| ClientError::DataParseError { source: e.into() })?;
        Ok(Some(body))
    }
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: LoginAuth,
}

#[derive(Deserialize)]
struct LoginAuth {
    client_token: String,
}
