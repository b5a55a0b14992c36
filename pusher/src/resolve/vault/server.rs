//! HTTP to one Vault server: TLS always verified, nothing followed elsewhere, everything bounded.
//!
//! vaultrs and rustify describe the endpoints and build the requests; sending is ours, because their errors and `Debug`
//! hold tokens and values, they read answers of any size, and they follow redirects with the token.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use keys_protocol::{Secret, printable};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use rustify::Endpoint;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::resolve::LARGEST;

use super::address;
use super::answer::Answer;

/// How long a request is tried again while the server says that it is too busy (429).
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a request is tried where the server failed or was not there.
const ATTEMPTS: u32 = 4;
/// The largest answer: the largest secret, and what is around it.
const LARGEST_ANSWER: u64 = LARGEST + (1 << 20);

/// One server, and the namespace there.
pub(super) struct Server {
    http: Client,
    address: Url,
    namespace: Option<HeaderValue>,
    /// Why the server is given up for this run: nobody waits twice for one that is down.
    lost: OnceLock<Failure>,
}

impl Server {
    /// Describes the server at `address`; nothing is sent yet.
    pub(super) fn new(
        address: &str,
        namespace: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let address = address::parse(address)?;
        let namespace = namespace
            .map(|name| HeaderValue::from_str(name.trim_end_matches('/')))
            .transpose()
            .map_err(|_| {
                Failure::source("the Vault namespace holds characters that no namespace has")
            })?;
        Ok(Self {
            http: address::client(&address, ca_file)?,
            address,
            namespace,
            lost: OnceLock::new(),
        })
    }

    fn place(&self) -> String {
        format!("vault at {}", self.address.as_str().trim_end_matches('/'))
    }

    /// Sends a request, again where that can help, and returns the answer if there is one to judge.
    ///
    /// # Errors
    /// What concerns the server and not the request; every later request fails the same way at once.
    pub(super) async fn send(
        &self,
        endpoint: &impl Endpoint,
        token: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        if let Some(failure) = self.lost.get() {
            return Err(failure.clone());
        }
        let answer = match self.attempt(endpoint, token).await {
            Ok(answer) => answer.of_a_server_that_works(),
            Err(failure) => Err(failure),
        };
        answer.map_err(|failure| self.lost.get_or_init(|| failure.at(self.place())).clone())
    }

    async fn attempt(
        &self,
        endpoint: &impl Endpoint,
        token: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let request = self.request(endpoint, token)?;
            let safe = request.method() == Method::GET;
            let outcome = self.http.execute(request).await;
            let pause = match &outcome {
                Ok(response) => pause_after(response, safe, attempt),
                Err(error) if is_certificate(error) => None,
                Err(error) if error.is_connect() => Some(Pause::backoff(attempt)),
                Err(error) if safe && !error.is_timeout() => Some(Pause::backoff(attempt)),
                Err(_) => None,
            };
            match pause.filter(|pause| pause.fits(attempt, started.elapsed())) {
                Some(pause) => sleep(pause.length).await,
                None => return receive(outcome).await,
            }
            attempt += 1;
        }
    }

    fn request(
        &self,
        endpoint: &impl Endpoint,
        token: Option<&HeaderValue>,
    ) -> Result<Request, Failure> {
        // What rustify says is not shown: it may hold a body. The path was checked when it was read.
        let broken = || Failure::source("a request to Vault could not be built");
        let base = format!("{}/v1", self.address.as_str().trim_end_matches('/'));
        let path = endpoint.path();
        let request = rustify::http::build_request(
            &base,
            path.trim_start_matches('/'),
            endpoint.method(),
            endpoint.query().map_err(|_| broken())?,
            endpoint.body().map_err(|_| broken())?,
        );
        let mut request: Request = request
            .map_err(|_| broken())?
            .try_into()
            .map_err(|_| broken())?;
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert("X-Vault-Request", HeaderValue::from_static("true"));
        headers.extend(self.namespace.clone().map(|name| (X_VAULT_NAMESPACE, name)));
        headers.extend(token.map(|token| (X_VAULT_TOKEN, token.clone())));
        Ok(request)
    }
}

async fn receive(outcome: reqwest::Result<Response>) -> Result<Answer, Failure> {
    let mut response = outcome.map_err(unreachable)?;
    let status = response.status();
    if status.is_redirection() {
        return Err(redirected(response.headers()));
    }
    let mut body = Secret::with_capacity(16 << 10);
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.push(&chunk);
        if body.len() as u64 > LARGEST_ANSWER {
            let limit = LARGEST_ANSWER >> 20;
            return Err(Failure::source(format!(
                "an answer of more than {limit} MiB"
            )));
        }
    }
    Ok(Answer { status, body })
}

fn unreachable(error: reqwest::Error) -> Failure {
    let hint = if is_certificate(&error) {
        "the certificate is always checked: `ca_file` under [vault] or VAULT_CACERT names who signs it"
    } else {
        "is the address right, and the server up? (`address` under [vault], or VAULT_ADDR)"
    };
    Failure::source(reason(error)).hint(hint)
}

/// Returns whether the server could not prove who it is, which no second attempt changes.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(this) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = this.downcast_ref() {
            return true;
        }
        // An error of I/O does not count what it wraps among its sources, but that one's.
        cause = match this
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => this.source(),
        };
    }
    false
}

/// A redirect is followed nowhere: the token belongs to the server that was named.
fn redirected(headers: &HeaderMap) -> Failure {
    let place = headers
        .get(LOCATION)
        .and_then(|place| place.to_str().ok())
        .unwrap_or("?");
    let place = printable(place, 200);
    Failure::source(format!(
        "it points to {place}, and the token goes nowhere else"
    ))
    .hint("set `address` under [vault] to the active node or to what stands before the cluster")
}

const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// How long to wait before the next attempt, and how long that may go on.
struct Pause {
    length: Duration,
    busy: bool,
}

impl Pause {
    /// 0.2 s, 0.4 s, 0.8 s, …
    fn backoff(attempt: u32) -> Self {
        let length = Duration::from_millis(100) * 2_u32.pow(attempt.min(6));
        Self {
            length,
            busy: false,
        }
    }

    fn fits(&self, attempt: u32, elapsed: Duration) -> bool {
        if self.busy {
            elapsed + self.length <= PATIENCE
        } else {
            attempt < ATTEMPTS
        }
    }
}

/// Returns how long to wait where another attempt can help.
fn pause_after(response: &Response, safe: bool, attempt: u32) -> Option<Pause> {
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header.and_then(|after| after.to_str().ok()?.parse().ok());
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(Pause {
            length: seconds.map_or(Pause::backoff(attempt).length, Duration::from_secs),
            busy: true,
        }),
        // A replica that has not seen our login yet.
        StatusCode::PRECONDITION_FAILED => Some(Pause::backoff(attempt)),
        // A sealed Vault is 503, too, and stays so; it is told apart by its JSON.
        StatusCode::SERVICE_UNAVAILABLE if is_json(response) => None,
        status if status.is_server_error() && safe => Some(Pause::backoff(attempt)),
        _ => None,
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response
        .headers()
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// Returns the innermost cause: «connection refused», «invalid peer certificate», …
pub(super) fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let error = error.without_url();
    let mut innermost: &dyn Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string(), 300)
}
