//! How often a server is asked again, and after how long.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use super::answer::Answer;

/// How often a request is tried again where `VAULT_MAX_RETRIES` does not say.
pub(super) const RETRIES: u32 = 3;
/// How long a request is tried again while the server says that it is too busy (429).
const BUSY: Duration = Duration::from_secs(90);
/// The longest pause while a server is waited for.
const LONGEST: Duration = Duration::from_secs(3);

/// Whether another attempt can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    Never,
    /// The server did nothing with the request, and a moment later may.
    Soon,
    /// The server may have done something: only what can be done twice is tried again.
    SoonIfSafe,
    /// It is sealed: somebody has to do something, which is waited for only where that was asked for.
    Later,
    /// It is too busy, and may have said for how long.
    Busy(Option<Duration>),
}

impl Again {
    /// Judges an answer.
    pub(super) fn after(answer: &Answer) -> Self {
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Self::Busy(answer.retry_after),
            // A replica that has not seen our login yet.
            StatusCode::PRECONDITION_FAILED => Self::Soon,
            StatusCode::SERVICE_UNAVAILABLE if answer.is_sealed() => Self::Later,
            status if status.is_server_error() => Self::SoonIfSafe,
            _ => Self::Never,
        }
    }
}

/// How much is waited for one server in one run.
pub(super) struct Patience {
    pub(super) retries: u32,
    /// Until when a server that is down or sealed is waited for (`--wait`).
    pub(super) until: Instant,
}

impl Patience {
    /// Returns how long to wait before the next attempt at a request, or that it was the last.
    pub(super) fn pause(&self, again: Again, safe: bool, tried: Tried) -> Option<Duration> {
        let backoff = tried.backoff();
        let in_time = Instant::now() + backoff.min(LONGEST) < self.until;
        match again {
            Again::Busy(said) => {
                let pause = said.unwrap_or(backoff);
                (tried.started.elapsed() + pause <= BUSY).then_some(pause)
            }
            Again::SoonIfSafe if !safe => None,
            Again::Soon | Again::SoonIfSafe if tried.attempt <= self.retries => Some(backoff),
            Again::Soon | Again::SoonIfSafe | Again::Later => {
                in_time.then_some(backoff.min(LONGEST))
            }
            Again::Never => None,
        }
    }
}

/// What was tried of one request.
#[derive(Clone, Copy)]
pub(super) struct Tried {
    pub(super) attempt: u32,
    pub(super) started: Instant,
}

impl Tried {
    /// 0.2 s, 0.4 s, 0.8 s, …
    fn backoff(self) -> Duration {
        Duration::from_millis(100) * 2_u32.pow(self.attempt.min(6))
    }
}
