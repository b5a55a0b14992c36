//! HTTP to one Vault server: TLS always verified, nothing followed elsewhere, everything bounded.
//!
//! vaultrs and rustify describe the endpoints and build the requests; sending is ours, because their errors and `Debug`
//! hold tokens and values, they read answers of any size, and they follow redirects with the token.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use keys_protocol::{Secret, printable};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Request, Response, StatusCode, Url};
use rustify::Endpoint;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::resolve::LARGEST;

use super::answer::Answer;

const CONNECT: Duration = Duration::from_secs(10);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(60);
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
}

impl Server {
    /// Describes the server at `address`; nothing is sent yet.
    pub(super) fn new(
        address: &str,
        namespace: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let address = parse_address(address)?;
        let namespace = namespace
            .map(|name| HeaderValue::from_str(name.trim_end_matches('/')))
            .transpose()
            .map_err(|_| {
                Failure::usage("the Vault namespace holds characters that no namespace has")
            })?;
        Ok(Self {
            http: client(&address, ca_file)?,
            address,
            namespace,
        })
    }

    /// Returns the address without anything that could be secret.
    pub(super) fn name(&self) -> &str {
        self.address.as_str().trim_end_matches('/')
    }

    /// Sends a request, again where that can help, and returns the answer whatever its status is.
    pub(super) async fn send(
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
                Err(error) if safe || error.is_connect() => Some(Pause::backoff(attempt)),
                Err(_) => None,
            };
            match pause.filter(|pause| pause.fits(attempt, started.elapsed())) {
                Some(pause) => sleep(pause.length).await,
                None => return self.finish(outcome).await,
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
        let base = format!("{}/v1", self.name());
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

    async fn finish(&self, outcome: reqwest::Result<Response>) -> Result<Answer, Failure> {
        let lost = |error: reqwest::Error| {
            Failure::source(format!("vault at {}: {}", self.name(), reason(error))).hint(
                "is the address right, and the server up? (`address` under [vault], or VAULT_ADDR)",
            )
        };
        let mut response = outcome.map_err(lost)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(self.redirected(response.headers()));
        }
        let mut body = Secret::with_capacity(16 << 10);
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            body.push(&chunk);
            if body.len() as u64 > LARGEST_ANSWER {
                return Err(Failure::source(format!(
                    "vault at {}: an answer of more than {} MiB",
                    self.name(),
                    LARGEST_ANSWER >> 20
                )));
            }
        }
        Ok(Answer { status, body })
    }

    /// A redirect is followed nowhere: the token belongs to the server that was named.
    fn redirected(&self, headers: &HeaderMap) -> Failure {
        let place = headers
            .get("location")
            .and_then(|place| place.to_str().ok())
            .unwrap_or("?");
        Failure::source(format!(
            "vault at {}: it points to {}, and the token goes nowhere else",
            self.name(),
            printable(place, 200)
        ))
        .hint("set `address` under [vault] to the active node or to what stands before the cluster")
    }
}

const X_VAULT_TOKEN: reqwest::header::HeaderName =
    reqwest::header::HeaderName::from_static("x-vault-token");
const X_VAULT_NAMESPACE: reqwest::header::HeaderName =
    reqwest::header::HeaderName::from_static("x-vault-namespace");

/// `https` anywhere; `http` only where nothing leaves this machine.
fn parse_address(text: &str) -> Result<Url, Failure> {
    let shown = printable(text, 200);
    let Ok(url) = Url::parse(text) else {
        return Err(Failure::usage(format!(
            "the Vault address is no URL: {shown}"
        )));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage("the Vault address holds a user or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Failure::usage(format!(
            "the Vault address holds more than a place: {shown}"
        )));
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Failure::usage(format!(
            "the token would cross the network in clear: {shown}"
        ))
        .hint("use https://; http:// is for 127.0.0.1, ::1 and localhost")),
        _ => Err(Failure::usage(format!(
            "the Vault address is no https:// URL: {shown}"
        ))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

fn client(address: &Url, ca_file: Option<&Path>) -> Result<Client, Failure> {
    // An error says that a provider is installed, and there is only this one.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
    if address.scheme() == "http" {
        // No proxy may see what is not encrypted, and no certificates are needed.
        builder = builder.no_proxy().tls_certs_only(Vec::new());
    } else if let Some(file) = ca_file {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|e| Failure::source(format!("read {shown}: {e}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| Failure::source(format!("no certificates in PEM: {shown}")))?;
        builder = builder.https_only(true).tls_certs_only(certificates);
    } else {
        builder = builder.https_only(true);
    }
    builder
        .build()
        .map_err(|e| Failure::source(format!("prepare TLS: {}", reason(e))))
}

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
fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string(), 300)
}
