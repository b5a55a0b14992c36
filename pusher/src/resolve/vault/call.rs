//! One request to Vault, apart from who makes it and to which server.

use std::io;

use keys_protocol::Secret;
use rustify::Endpoint;
use rustify::enums::RequestMethod;
use serde::Serialize;

use crate::failure::Failure;

/// A request that can be made again: its body is wiped when it goes.
pub(super) struct Call {
    pub(super) method: RequestMethod,
    /// Below `v1/`, not encoded.
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// JSON, or empty.
    pub(super) body: Secret,
    /// How long the answer may wait in a wrapping of its own.
    pub(super) wrap_ttl: Option<String>,
}

impl Call {
    /// Reads what is at `path`.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: RequestMethod::GET,
            path: path.into(),
            query: None,
            body: Secret::with_capacity(0),
            wrap_ttl: None,
        }
    }

    /// Writes `body` to `path`.
    pub(super) fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Failure> {
        let mut bytes = Bytes(Secret::with_capacity(1 << 10));
        // Its error could quote what it could not write.
        serde_json::to_writer(&mut bytes, body).map_err(|_| broken())?;
        Ok(Self {
            method: RequestMethod::POST,
            body: bytes.0,
            ..Self::get(path)
        })
    }

    /// Takes a request that vaultrs describes. Its errors are not shown: they may hold a body.
    pub(super) fn of(endpoint: &impl Endpoint) -> Result<Self, Failure> {
        let body = endpoint.body().map_err(|_| broken())?;
        Ok(Self {
            method: endpoint.method(),
            query: endpoint.query().map_err(|_| broken())?,
            body: Secret::new(body.unwrap_or_default()),
            ..Self::get(endpoint.path().trim_start_matches('/'))
        })
    }

    /// Asks for the answer in a wrapping that can be opened once, within `ttl`.
    pub(super) fn wrapped(self, ttl: &str) -> Self {
        Self {
            wrap_ttl: Some(ttl.to_owned()),
            ..self
        }
    }

    /// Returns whether making it twice is the same as making it once.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.method, RequestMethod::GET)
    }
}

pub(super) fn broken() -> Failure {
    Failure::source("a request to Vault could not be built")
}

/// A writer whose bytes are wiped wherever they were.
struct Bytes(Secret);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
