//! What Vault answers: each status means one thing.

use keys_protocol::{Secret, printable};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::failure::Failure;

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
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

    /// Returns what the answer means where it is not a success, and has no meaning of its own for this request.
    pub(super) fn failure(&self) -> Failure {
        let said = self.errors();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE if said.contains("sealed") => {
                Failure::source("Vault is sealed (503)").hint("unseal it, then run this again")
            }
            StatusCode::TOO_MANY_REQUESTS => Failure::source("Vault stays too busy (429)")
                .hint("a rate limit quota is in force there"),
            StatusCode::PRECONDITION_FAILED => {
                Failure::source("this node of Vault lags behind (412)").hint("run it again")
            }
            StatusCode::FORBIDDEN => Failure::source("permission denied (403)"),
            StatusCode::NOT_FOUND => Failure::source("nothing is there (404)"),
            status => {
                let failure = Failure::source(format!("Vault answers {}", status.as_u16()));
                if said.is_empty() {
                    failure
                } else {
                    failure.hint(format!("it said: {said}"))
                }
            }
        }
    }

    fn errors(&self) -> String {
        let body: Errors = serde_json::from_slice(self.body.expose()).unwrap_or_default();
        printable(body.errors.join("; ").trim(), 300)
    }
}
