//! Logging in: what the manifest says, else `VAULT_TOKEN`, else the token helper or `~/.vault-token`.

use keys_protocol::{Secret, printable};
use reqwest::StatusCode;
use serde::Serialize;

use crate::failure::Failure;
use crate::identity::read_private;
use crate::terminal;

use super::auth::{AppRole, Auth, Cert, Jwt, Proof, RoleId, SecretId, UserPass};
use super::call::Call;
use super::reach::{Agent, Reach};
use super::server::Server;
use super::site::Site;
use super::token::{End, Token};
use super::token_helper;
use super::wrapping;

/// The largest token, secret id, JWT or password.
pub(super) const LARGEST: u64 = 16 << 10;

/// Returns the token for this run; none where an agent has its own.
pub(super) async fn token(
    server: &Server,
    site: Site<'_>,
    reach: &Reach,
) -> Result<Option<Token>, Failure> {
    let token = match &site.vault.auth {
        Some(Auth::TokenFile(file)) => given(&proof(&Proof::File(file.clone()), site, "").await?)?,
        Some(Auth::TokenCommand(command)) => {
            given(&command.output(site.settings, site.terminal).await?)?
        }
        Some(Auth::WrappedTokenFile(file)) => {
            let wrapping = proof(&Proof::File(file.clone()), site, "").await?;
            let answer = wrapping::open(server, &wrapping).await?;
            return Token::of_login(&answer).map(Some);
        }
        Some(Auth::Approle(role)) => return approle(server, role, site).await.map(Some),
        Some(Auth::Jwt(jwt)) => return by_jwt(server, jwt, site).await.map(Some),
        Some(Auth::Cert(cert)) => return by_certificate(server, cert).await.map(Some),
        Some(Auth::Userpass(user)) => return by_password(server, user, site).await.map(Some),
        None => match usual(site).await? {
            Some(token) => given(&token)?,
            None if reach.agent == Agent::Yes => return Ok(None),
            None => return Err(no_token(site)),
        },
    };
    if reach.agent == Agent::Yes || reach.namespace.is_some() {
        // A child would belong to the namespace of the request, and its policies be other ones of the same names.
        return Ok(Some(token));
    }
    token.for_one_run(server).await.map(Some)
}

fn given(token: &Secret) -> Result<Token, Failure> {
    Token::new(token, End::Stays)
}

/// As the `vault` command finds it.
async fn usual(site: Site<'_>) -> Result<Option<Secret>, Failure> {
    if site.name.is_some() {
        return Ok(None);
    }
    match site.token()? {
        None => token_helper::token(site).await,
        token => Ok(token),
    }
}

fn no_token(site: Site<'_>) -> Failure {
    let failure = Failure::source("no Vault token");
    match site.name {
        None => failure.hint("`vault login`, or set VAULT_TOKEN, or `auth` under [vault]"),
        Some(_) => failure.hint(format!(
            "set `auth` under {}: VAULT_TOKEN is for [vault] alone",
            site.table()
        )),
    }
}

/// Fetches what a login takes.
async fn proof(proof: &Proof, site: Site<'_>, what: &str) -> Result<Secret, Failure> {
    match proof {
        Proof::File(file) => {
            let file = site.settings.path(file);
            read_private(&file, LARGEST).map_err(|f| f.at(file.display()))
        }
        Proof::Command(command) => command.output(site.settings, site.terminal).await,
        Proof::Prompt => prompt(site, what).await,
    }
}

async fn prompt(site: Site<'_>, what: &str) -> Result<Secret, Failure> {
    let _terminal = site.terminal.lock().await;
    let question = format!("{what}: ");
    crate::resolve::blocking(move || {
        terminal::ask(&question)
            .map(|text| Secret::copy_of(text.as_bytes()))
            .map_err(|e| {
                Failure::source(format!("cannot ask for the password: {e}"))
                    .hint("without a terminal: `password_file` or `password_command`")
            })
    })
    .await
}

async fn approle(server: &Server, role: &AppRole, site: Site<'_>) -> Result<Token, Failure> {
    let role_id = match &role.role_id {
        RoleId::Given(id) => Secret::new(id.clone().into_bytes()),
        RoleId::File(file) => proof(&Proof::File(file.clone()), site, "").await?,
    };
    let secret_id = match &role.secret_id {
        SecretId::Plain(plain) => proof(plain, site, "").await?,
        SecretId::Wrapped(wrapped) => {
            let wrapping = proof(wrapped, site, "").await?;
            wrapping::secret_id(server, role, &wrapping).await?
        }
    };
    let body = AppRoleLogin {
        role_id: text(&role_id, "role id")?,
        secret_id: text(&secret_id, "secret id")?,
    };
    let call = Call::post(format!("auth/{}/login", role.mount), &body)?;
    let refused = Refused {
        what: "the role id or secret id",
        hint: "a secret id may have expired or been used up: make a new one",
    };
    log_in(server, &call, &refused).await
}

async fn by_jwt(server: &Server, jwt: &Jwt, site: Site<'_>) -> Result<Token, Failure> {
    let token = proof(&jwt.token, site, "").await?;
    let body = JwtLogin {
        role: jwt.role.as_deref(),
        jwt: text(&token, "JWT")?,
    };
    let call = Call::post(format!("auth/{}/login", jwt.mount), &body)?;
    let refused = Refused {
        what: "the JWT or the role",
        hint: "a JWT may have expired, be for another audience, or not be what the role wants",
    };
    log_in(server, &call, &refused).await
}

async fn by_certificate(server: &Server, cert: &Cert) -> Result<Token, Failure> {
    let body = CertLogin {
        name: cert.role.as_deref(),
    };
    let call = Call::post(format!("auth/{}/login", cert.mount), &body)?;
    let refused = Refused {
        what: "the client certificate",
        hint: "`client_cert_file` and `client_key_file` under [vault] say which one is shown",
    };
    log_in(server, &call, &refused).await
}

async fn by_password(server: &Server, user: &UserPass, site: Site<'_>) -> Result<Token, Failure> {
    let what = format!(
        "password of {} for {}",
        printable(&user.username, 80),
        server.place()
    );
    let password = proof(&user.password, site, &what).await?;
    let body = PasswordLogin {
        password: text(&password, "password")?,
    };
    let path = format!("auth/{}/login/{}", user.mount, user.username);
    let refused = Refused {
        what: "the user name or password",
        hint: "is the method mounted there?",
    };
    log_in(server, &Call::post(path, &body)?, &refused).await
}

/// What to say of a login that is refused.
struct Refused {
    what: &'static str,
    hint: &'static str,
}

async fn log_in(server: &Server, call: &Call, refused: &Refused) -> Result<Token, Failure> {
    let method = call.path.split("/login").next().unwrap_or(&call.path);
    let place = format!("log in at {method}");
    let answer = server.send(call, None).await?;
    if answer.is_refusal() {
        return Err(Failure::source(format!("Vault refused {}", refused.what))
            .at(place)
            .hint(refused.hint));
    }
    if answer.status != StatusCode::OK {
        return Err(answer.failure("Vault").at(place));
    }
    Token::of_login(&answer).map_err(|f| f.at(place))
}

/// Returns what a login takes as text.
pub(super) fn text<'a>(secret: &'a Secret, what: &str) -> Result<&'a str, Failure> {
    str::from_utf8(secret.expose().trim_ascii())
        .ok()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Failure::source(format!("the {what} is empty or no text")))
}

// Not the logins of vaultrs, which keep their own copies and cannot read every answer.

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct JwtLogin<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    jwt: &'a str,
}

#[derive(Serialize)]
struct CertLogin<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct PasswordLogin<'a> {
    password: &'a str,
}
