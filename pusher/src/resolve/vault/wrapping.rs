//! Response wrappings: answers that wait in Vault for whoever opens them first.

use keys_protocol::{Secret, printable};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

use super::answer::Answer;
use super::auth::AppRole;
use super::call::Call;
use super::login::text;
use super::server::Server;
use super::token::{End, Token};

/// Opens a wrapping, which can be done once.
pub(super) async fn open(server: &Server, wrapping: &Secret) -> Result<Answer, Failure> {
    let token = Token::new(wrapping, End::Stays)?;
    let call = Call::post("sys/wrapping/unwrap", &Nothing {})?;
    let answer = server.send(&call, Some(token.header())).await?;
    match answer.status {
        StatusCode::OK => Ok(answer),
        status if status.is_client_error() => Err(Failure::source(
            "the wrapping token was opened before, or has expired",
        )
        .hint(
            "if it was not you, somebody else has what was in it: revoke that; then make a new one",
        )),
        _ => Err(answer.failure("Vault").at("sys/wrapping/unwrap")),
    }
}

/// Opens the wrapping of a secret id, if it is one: what else is wrapped was not made by the AppRole method.
pub(super) async fn secret_id(
    server: &Server,
    role: &AppRole,
    wrapping: &Secret,
) -> Result<Secret, Failure> {
    let body = Lookup {
        token: text(wrapping, "wrapping token")?,
    };
    let answer = server
        .send(&Call::post("sys/wrapping/lookup", &body)?, None)
        .await?;
    if answer.status == StatusCode::OK {
        let Wrapping { data } = answer.parse()?;
        let made_at = data.creation_path;
        let ours = format!("auth/{}/role/", role.mount);
        if !(made_at.starts_with(&ours) && made_at.ends_with("/secret-id")) {
            let made_at = printable(&made_at, 100);
            return Err(Failure::source(format!(
                "the wrapping token holds no secret id: it was made at {made_at}"
            ))
            .hint("it was not opened; find out who put it there"));
        }
    }
    let answer = open(server, wrapping).await?;
    let Unwrapped { data } = answer.parse()?;
    Ok(Secret::new(data.secret_id.into_bytes()))
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Lookup<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
struct Wrapping {
    data: WrappingData,
}

#[derive(Deserialize)]
struct WrappingData {
    creation_path: String,
}

#[derive(Deserialize)]
struct Unwrapped {
    data: UnwrappedData,
}

#[derive(Deserialize)]
struct UnwrappedData {
    secret_id: String,
}
