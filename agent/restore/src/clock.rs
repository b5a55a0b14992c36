//! Whether a bundle is the newest, and still good: a clock that is wrong neither keeps a good one closed nor revives one.

use std::time::SystemTime;

use keys_protocol::bundle::{Head, Seen};

use crate::refused::Refused;

/// Returns the time of this host's clock, in seconds since 1970; 0 before that.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Refuses a bundle whose number is below the one that is remembered, or whose time is over. Returns the time that counts:
/// the latest of the clock, of the moment it was made, and of those at which it was looked at before.
pub(crate) fn check(head: &Head, least: u64, seen: Option<Seen>, now: u64) -> Result<u64, Refused> {
    if head.epoch < least {
        let text = format!(
            "rolled back: it has the number {}, and {least} was here",
            head.epoch
        );
        return Err(Refused::new(text));
    }
    let before = seen.filter(|seen| seen.epoch == head.epoch);
    let at = now.max(head.made_at).max(before.map_or(0, |seen| seen.at));
    if at < head.expires {
        return Ok(at);
    }
    let text = format!("expired: it was good until second {}", head.expires);
    Err(Refused::expired(text, at))
}

#[cfg(test)]
mod tests {
    use keys_protocol::Digest;

    use super::*;

    const MADE: u64 = 1000;
    const EXPIRES: u64 = 2000;

    /// What becomes of the bundle number 5: the time that counts, or the beginning of why not.
    fn checked(least: u64, seen: Option<(u64, u64)>, now: u64) -> Result<u64, String> {
        let head = Head {
            host: Digest([0; 32]),
            epoch: 5,
            made_at: MADE,
            expires: EXPIRES,
            manifest: String::new(),
            sender: String::new(),
            keys: 0,
            bytes: 0,
        };
        let seen = seen.map(|(epoch, at)| Seen { epoch, at });
        check(&head, least, seen, now).map_err(|refused| {
            let text = refused.to_string();
            text.split(':').next().unwrap().to_owned()
        })
    }

    #[test]
    fn a_number_below_the_one_that_is_remembered_is_rolled_back() {
        assert_eq!(checked(4, None, 1500), Ok(1500));
        assert_eq!(checked(5, None, 1500), Ok(1500));
        assert_eq!(checked(6, None, 1500), Err("rolled back".into()));
    }

    #[test]
    fn a_clock_of_1970_opens_what_is_good_and_revives_nothing() {
        assert_eq!(checked(5, None, 0), Ok(MADE));
        assert_eq!(checked(5, Some((5, 1999)), 0), Ok(1999));
        assert_eq!(checked(5, Some((5, 2000)), 0), Err("expired".into()));
        assert_eq!(checked(5, None, EXPIRES), Err("expired".into()));
        assert_eq!(checked(5, None, EXPIRES - 1), Ok(EXPIRES - 1));
    }

    #[test]
    fn what_was_seen_of_another_bundle_does_not_count() {
        assert_eq!(checked(5, Some((4, 9999)), 1500), Ok(1500));
    }

    #[test]
    fn the_time_of_an_end_is_remembered() {
        let refused = Refused::expired("expired", 7);
        assert_eq!(refused.seen, Some(7));
        assert_eq!(Refused::new("rolled back").seen, None);
    }
}
