//! Waiting with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long a case waits for anything that should be quick.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long between two looks, at first; each is twice as far from the last, up to the greatest.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const GREATEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks until `check` returns something, and panics with `what` when it does not within `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, check: impl FnMut() -> Option<T>) -> T {
    within(limit, check).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Looks until `check` returns something, at most for `limit`.
pub fn within<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(found) = check() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(GREATEST_PAUSE);
    }
}
