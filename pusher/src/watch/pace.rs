//! How long to wait before the next try: longer each time, and never at the same moment as others.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_secs(1);
/// A watcher may be the only one who brings keys back: it never waits longer than this.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait for a host that is down. It may be up again at any moment, and a knock costs little.
const KNOCK: Duration = Duration::from_secs(30);

/// Returns the pause after so many failures in a row: none after none, then 1 s, 2 s, 4 s … 60 s.
pub(super) fn after(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => spread((FIRST * 2_u32.pow(doublings.min(6))).min(LONGEST)),
    }
}

/// Returns the pause before the next knock at a host that has been down for this long: a tenth of that, as who has just gone
/// is most likely to come back.
pub(super) fn knock(down: Duration) -> Duration {
    spread((down / 10).clamp(FIRST, KNOCK))
}

/// A quarter less or more, so that many do not come at once.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(rand::thread_rng().gen_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_somewhere() {
        let about = |pause: Duration, seconds: f64| {
            let found = pause.as_secs_f64();
            assert!(
                (0.75 * seconds..=1.25 * seconds).contains(&found),
                "{found} s is not about {seconds} s"
            );
        };
        assert_eq!(after(0), Duration::ZERO);
        about(after(1), 1.0);
        about(after(4), 8.0);
        about(after(7), 60.0);
        about(after(u32::MAX), 60.0);
        about(knock(Duration::ZERO), 1.0);
        about(knock(Duration::from_secs(100)), 10.0);
        about(knock(Duration::from_secs(100_000)), 30.0);
    }
}
