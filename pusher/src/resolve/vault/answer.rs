//! What Vault answers: each status means one thing.

use std::time::Duration;

use keys_protocol::{Secret, printable};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::failure::Failure;

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// When to ask again, where the server said so.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Secret,
}

/// What Vault says besides a status.
#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Answer {
    /// Reads the body of a success. The error holds the place, not the text: that may be a value.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(self.body.expose()).map_err(|e| {
            Failure::source(format!(
                "an answer that cannot be read (line {}, column {})",
                e.line(),
                e.column()
            ))
            .hint("is it Vault that answers at this address?")
        })
    }

    /// Returns the answer, or why the server cannot answer anything now.
    pub(super) fn of_a_server_that_works(self) -> Result<Self, Failure> {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE if self.is_sealed() => Err(Failure::source(
                "it is sealed (503)",
            )
            .hint(
                "unseal it (`keys unseal`), then run this again; `--wait SECONDS` waits for that",
            )),
            StatusCode::TOO_MANY_REQUESTS => Err(Failure::source("it stays too busy (429)")
                .hint("a rate limit quota is in force there")),
            StatusCode::PRECONDITION_FAILED => {
                Err(Failure::source("this node lags behind (412)").hint("run it again"))
            }
            status if status.is_server_error() && self.says("active cluster node not found") => {
                let status = status.as_u16();
                Err(
                    Failure::source(format!("it is a standby without an active node ({status})"))
                        .hint("one is elected soon: `--wait SECONDS` waits for that"),
                )
            }
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let status = self.status.as_u16();
                Err(
                    Failure::source(format!("nothing answers behind it ({status})")).hint(
                        match self.said().as_str() {
                            "" => "is the server up? `--wait SECONDS` waits for it".into(),
                            said => format!("it said: {said}"),
                        },
                    ),
                )
            }
            _ => Ok(self),
        }
    }

    /// Returns whether the server cannot open its own storage. It is 503, as is a server that is not there; only Vault
    /// says why.
    pub(super) fn is_sealed(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE && self.says("sealed")
    }

    /// Returns whether Vault judged what it was given. Its AppRole method says so with 500.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
            || self.said().starts_with("invalid ")
    }

    /// Returns a failure that names the status and what `who` said.
    pub(super) fn failure(&self, who: &str) -> Failure {
        let failure = Failure::source(format!("{who} answers {}", self.status.as_u16()));
        match self.said().as_str() {
            "" => failure,
            said => failure.hint(format!("it said: {said}")),
        }
    }

    /// Returns whether Vault used these words.
    pub(super) fn says(&self, words: &str) -> bool {
        self.said().contains(words)
    }

    fn said(&self) -> String {
        let body: Errors = serde_json::from_slice(self.body.expose()).unwrap_or_default();
        printable(body.errors.join("; ").trim(), 300)
    }
}
