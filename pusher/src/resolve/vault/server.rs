//! HTTP to one Vault server: TLS always verified, nothing followed elsewhere, everything bounded.
//!
//! vaultrs and rustify describe the endpoints and build the requests; sending is ours, because their errors and `Debug`
//! hold tokens and values, they read answers of any size, and they follow redirects with the token.

use std::error::Error;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keys_protocol::{Secret, printable};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Request, Response, Url};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::sleep;

use crate::failure::Failure;
use crate::resolve::LARGEST;

use super::answer::Answer;
use super::call::{Call, broken};
use super::patience::{Again, Patience, Tried};
use super::reach::Reach;
use super::site::Site;
use super::tunnel::Tunnel;

/// The largest answer: the largest secret, and what is around it.
const LARGEST_ANSWER: u64 = LARGEST + (1 << 20);
/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// One server, and the namespace there.
pub(super) struct Server {
    http: Client,
    url: Url,
    /// How messages call it.
    place: String,
    namespace: Option<HeaderValue>,
    patience: Patience,
    slots: Semaphore,
    /// Once it was too busy, it is asked one thing at a time.
    busy: AtomicBool,
    turn: Mutex<()>,
    tunnel: Option<Tunnel>,
    /// Why the server is given up for this run: nobody waits twice for one that is down.
    lost: OnceLock<Failure>,
}

/// A request that got no answer.
struct Trouble {
    failure: Failure,
    again: Again,
}

impl Server {
    /// Describes the server of a site; nothing is sent yet.
    pub(super) fn new(site: Site<'_>, reach: &Reach) -> Result<Self, Failure> {
        let namespace = reach
            .namespace
            .as_ref()
            .map(|name| HeaderValue::from_str(name.trim_end_matches('/')))
            .transpose()
            .map_err(|_| {
                Failure::source("the Vault namespace holds characters that no namespace has")
            })?;
        let place = format!("vault at {}", reach.address.as_str());
        let tunnel = Tunnel::of(site, &reach.address).map_err(|f| f.at(&place))?;
        let socket = match &tunnel {
            Some(tunnel) => Some(tunnel.socket()),
            None => reach.address.socket.as_deref(),
        };
        // Logging in to the host between may ask the user something.
        let patience = tunnel
            .as_ref()
            .map_or(Duration::ZERO, |_| Duration::from_secs(120));
        Ok(Self {
            http: reach.client(socket, patience)?,
            url: reach.url()?,
            place,
            namespace,
            patience: Patience {
                retries: reach.retries,
                until: Instant::now() + site.settings.wait,
            },
            slots: Semaphore::new(match tunnel {
                // One connection, one login.
                Some(_) => 1,
                None => AT_ONCE,
            }),
            busy: AtomicBool::new(false),
            turn: Mutex::default(),
            tunnel,
            lost: OnceLock::new(),
        })
    }

    /// How messages call this server.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Sends a request, again where that can help, and returns the answer if there is one to judge.
    ///
    /// # Errors
    /// What concerns the server and not the request; every later request fails the same way at once.
    pub(super) async fn send(
        &self,
        call: &Call,
        token: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        if let Some(failure) = self.lost.get() {
            return Err(failure.clone());
        }
        // The semaphore is never closed: without a slot there is only one request too many.
        let _slot = self.slots.acquire().await;
        let answer = match self.patiently(call, token).await {
            Ok(answer) => answer.of_a_server_that_works(),
            Err(failure) => Err(self.through(failure)),
        };
        answer.map_err(|failure| self.lost.get_or_init(|| failure.at(&self.place)).clone())
    }

    async fn patiently(&self, call: &Call, token: Option<&HeaderValue>) -> Result<Answer, Failure> {
        let mut turn = None;
        let mut tried = Tried {
            attempt: 1,
            started: Instant::now(),
        };
        loop {
            if turn.is_none() && self.busy.load(Ordering::Relaxed) {
                turn = Some(self.turn.lock().await);
                // Waiting for the others is not waiting for the server.
                tried.started = Instant::now();
            }
            let outcome = self.once(self.request(call, token)?).await;
            let again = match &outcome {
                Ok(answer) => Again::after(answer),
                Err(trouble) => trouble.again,
            };
            if matches!(again, Again::Busy(_)) {
                self.busy.store(true, Ordering::Relaxed);
            }
            match self.patience.pause(again, call.is_safe(), tried) {
                Some(pause) => sleep(pause).await,
                None => return outcome.map_err(|trouble| trouble.failure),
            }
            tried.attempt += 1;
        }
    }

    fn request(&self, call: &Call, token: Option<&HeaderValue>) -> Result<Request, Failure> {
        // What rustify says is not shown: it may hold a body. The path was checked when it was read.
        let base = format!("{}/v1", self.url.as_str().trim_end_matches('/'));
        let request = rustify::http::build_request(
            &base,
            &call.path,
            call.method.clone(),
            call.query.clone(),
            Some(call.body.expose().to_vec()),
        );
        let mut request: Request = request
            .map_err(|_| broken())?
            .try_into()
            .map_err(|_| broken())?;
        let ttl = call.wrap_ttl.as_deref().map(HeaderValue::from_str);
        let ttl = ttl.transpose().map_err(|_| broken())?;
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert("X-Vault-Request", HeaderValue::from_static("true"));
        headers.extend(ttl.map(|ttl| (X_VAULT_WRAP_TTL, ttl)));
        headers.extend(self.namespace.clone().map(|name| (X_VAULT_NAMESPACE, name)));
        headers.extend(token.map(|token| (X_VAULT_TOKEN, token.clone())));
        Ok(request)
    }

    async fn once(&self, request: Request) -> Result<Answer, Trouble> {
        let mut response = self.http.execute(request).await.map_err(unreachable)?;
        if response.status().is_redirection() {
            return Err(Trouble::last(redirected(response.headers())));
        }
        let (status, retry_after) = (response.status(), retry_after(&response));
        let mut body = Secret::with_capacity(16 << 10);
        while let Some(chunk) = response.chunk().await.map_err(cut_off)? {
            body.push(&chunk);
            if body.len() as u64 > LARGEST_ANSWER {
                let limit = LARGEST_ANSWER >> 20;
                let failure = Failure::source(format!("an answer of more than {limit} MiB"));
                return Err(Trouble::last(failure));
            }
        }
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }

    /// Where a tunnel is what failed, says so instead.
    fn through(&self, failure: Failure) -> Failure {
        let tunnel = self.tunnel.as_ref();
        tunnel.and_then(Tunnel::complaint).unwrap_or(failure)
    }
}

impl Trouble {
    fn last(failure: Failure) -> Self {
        Self {
            failure,
            again: Again::Never,
        }
    }
}

fn unreachable(error: reqwest::Error) -> Trouble {
    if is_certificate(&error) {
        let failure = Failure::source(reason(error)).hint(
            "the certificate is always checked: `ca_file` under [vault] or VAULT_CACERT names who signs it",
        );
        return Trouble::last(failure);
    }
    let again = if error.is_connect() {
        Again::Soon
    } else if error.is_timeout() {
        Again::Never
    } else {
        Again::SoonIfSafe
    };
    let hint = "is the address right, and the server up? (`address` under [vault], or VAULT_ADDR)";
    Trouble {
        failure: Failure::source(reason(error)).hint(hint),
        again,
    }
}

/// The answer began and did not end: none of it is used.
fn cut_off(error: reqwest::Error) -> Trouble {
    let hint = "does something stand before Vault that ends connections?";
    Trouble {
        failure: Failure::source(format!("the answer was cut off: {}", reason(error))).hint(hint),
        again: Again::SoonIfSafe,
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
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
const X_VAULT_WRAP_TTL: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

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
