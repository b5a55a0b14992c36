//! The token of a run, and its end.

use keys_protocol::Secret;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

use super::answer::Answer;
use super::call::Call;
use super::server::Server;

/// How long a token that was made for a run lives where nothing revokes it.
const CHILD_TTL: &str = "15m";

/// A token as the header that carries it; the header is marked so that nothing prints it.
pub(super) struct Token {
    header: HeaderValue,
    end: End,
}

/// What becomes of a token when the run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is the user's, or cannot be revoked: it stays.
    Stays,
    /// It was made for this run.
    Revoked,
}

impl Token {
    /// Takes over the text of a token.
    pub(super) fn new(text: &Secret, end: End) -> Result<Self, Failure> {
        let mut header = HeaderValue::from_bytes(text.expose().trim_ascii())
            .ok()
            .filter(|header| !header.is_empty())
            .ok_or_else(|| {
                Failure::source("the Vault token is empty or holds characters that no token has")
            })?;
        header.set_sensitive(true);
        Ok(Self { header, end })
    }

    /// Takes the token out of the answer to a login.
    pub(super) fn of_login(answer: &Answer) -> Result<Self, Failure> {
        let LoggedIn { auth } = answer.parse()?;
        if auth.client_token.is_empty() {
            return Err(Failure::source("Vault wants a second factor (MFA)")
                .hint("log in with `vault login`, which asks for it, and leave `auth` out"));
        }
        // A batch token is not stored anywhere, so there is nothing to revoke.
        let end = match auth.token_type.as_deref() {
            Some("batch") => End::Stays,
            _ => End::Revoked,
        };
        Self::new(&Secret::new(auth.client_token.into_bytes()), end)
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Makes a child of a user's token for this run alone; the token itself, where it may not have any.
    pub(super) async fn for_one_run(self, server: &Server) -> Result<Self, Failure> {
        let child = Child {
            ttl: CHILD_TTL,
            explicit_max_ttl: CHILD_TTL,
            renewable: false,
            display_name: "keys",
        };
        let call = Call::post("auth/token/create", &child)?;
        let answer = server.send(&call, Some(&self.header)).await?;
        match answer.status {
            StatusCode::OK => Self::of_login(&answer).map_err(|f| f.at("auth/token/create")),
            // Its policies do not allow it, it is a batch token, or one of few uses.
            status if status.is_client_error() => Ok(self),
            _ => Err(answer.failure("Vault").at("auth/token/create")),
        }
    }

    /// Revokes the token if it was made for this run.
    pub(super) async fn end(&self, server: &Server) -> Result<(), Failure> {
        if self.end == End::Stays {
            return Ok(());
        }
        let call = Call::post("auth/token/revoke-self", &Nothing {})?;
        let answer = server.send(&call, Some(&self.header)).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(answer.failure("Vault").at(server.place())),
        }
    }
}

/// Without policies it has those of its parent, and no more.
#[derive(Serialize)]
struct Child {
    ttl: &'static str,
    explicit_max_ttl: &'static str,
    renewable: bool,
    display_name: &'static str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Deserialize)]
struct LoggedIn {
    auth: LoginAuth,
}

#[derive(Deserialize)]
struct LoginAuth {
    client_token: String,
    token_type: Option<String>,
}
