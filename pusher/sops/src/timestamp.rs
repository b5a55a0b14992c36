//! Points in time, as Go reads and writes them.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// A date, a time of day and an offset from UTC.
pub(crate) struct Timestamp {
    date: jiff::civil::Date,
    hour: u32,
    minute: u32,
    second: u32,
    nanosecond: u32,
    /// In minutes, positive to the east.
    offset: i64,
}

impl Timestamp {
    /// Reads RFC 3339 and nothing looser.
    pub(crate) fn rfc3339(text: &str) -> Option<Self> {
        let mut cursor = Cursor(text.as_bytes());
        let date = cursor.date(2..=2)?;
        cursor.one_of(b"T")?;
        let mut time = cursor.time(date, 2..=2)?;
        time.offset = cursor.offset()?;
        cursor.end().then_some(time)
    }

    /// Reads what Go's yaml takes for a timestamp: a date, a date and a time, or RFC 3339 with short numbers.
    pub(crate) fn yaml(text: &str) -> Option<Self> {
        let mut cursor = Cursor(text.as_bytes());
        let date = cursor.date(1..=2)?;
        if cursor.end() {
            return Cursor(b"0:0:0").time(date, 1..=2);
        }
        let separator = cursor.one_of(b"Tt ")?;
        let mut time = cursor.time(date, 1..=2)?;
        if separator != b' ' {
            time.offset = cursor.offset()?;
        }
        cursor.end().then_some(time)
    }

    /// Returns it as Go's `RFC3339Nano` has it, which is what sops hashes.
    pub(crate) fn exact(&self) -> String {
        let mut text = self.local();
        if self.nanosecond > 0 {
            let digits = format!("{:09}", self.nanosecond);
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        text + &self.zone()
    }

    /// Returns it as Go's `RFC3339` has it: whole seconds.
    pub(crate) fn seconds(&self) -> String {
        self.local() + &self.zone()
    }

    fn local(&self) -> String {
        let (date, hour, minute, second) = (self.date, self.hour, self.minute, self.second);
        format!("{date}T{hour:02}:{minute:02}:{second:02}")
    }

    fn zone(&self) -> String {
        if self.offset == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs();
        let mut zone = String::new();
        let _infallible = write!(zone, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        zone
    }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn end(&self) -> bool {
        self.0.is_empty()
    }

    fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = set.contains(&first).then_some(rest)?;
        Some(first)
    }

    fn number(&mut self, digits: RangeInclusive<usize>) -> Option<u32> {
        let found = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let length = found.min(*digits.end());
        if length < *digits.start() {
            return None;
        }
        let (number, rest) = self.0.split_at(length);
        self.0 = rest;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    fn date(&mut self, digits: RangeInclusive<usize>) -> Option<jiff::civil::Date> {
        let year = self.number(4..=4)?;
        self.one_of(b"-")?;
        let month = self.number(digits.clone())?;
        self.one_of(b"-")?;
        let day = self.number(digits)?;
        let (year, month, day) = (year.try_into(), month.try_into(), day.try_into());
        jiff::civil::Date::new(year.ok()?, month.ok()?, day.ok()?).ok()
    }

    fn time(
        &mut self,
        date: jiff::civil::Date,
        digits: RangeInclusive<usize>,
    ) -> Option<Timestamp> {
        let hour = self.number(digits.clone())?;
        self.one_of(b":")?;
        let minute = self.number(digits.clone())?;
        self.one_of(b":")?;
        let second = self.number(digits)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Timestamp {
            date,
            hour,
            minute,
            second,
            nanosecond: self.fraction(),
            offset: 0,
        })
    }

    /// Reads a fraction of a second, if there is one; what is finer than nanoseconds is cut off, as in Go.
    fn fraction(&mut self) -> u32 {
        let [b'.', digits @ ..] = self.0 else {
            return 0;
        };
        let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return 0;
        }
        let (fraction, rest) = digits.split_at(length);
        self.0 = rest;
        let nine = fraction.iter().copied().chain(std::iter::repeat(b'0'));
        nine.take(9)
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    }

    fn offset(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Z+-")? {
            b'Z' => return Some(0),
            b'-' => -1,
            _ => 1,
        };
        let hours = self.number(2..=2)?;
        self.one_of(b":")?;
        let minutes = self.number(2..=2)?;
        (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 60 + minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_what_go_yaml_takes_for_them() {
        for (text, exact) in [
            ("2001-12-14", "2001-12-14T00:00:00Z"),
            ("2001-1-2", "2001-01-02T00:00:00Z"),
            ("2001-12-14 21:59:43.10", "2001-12-14T21:59:43.1Z"),
            (
                "2001-12-14t21:59:43.10-05:00",
                "2001-12-14T21:59:43.1-05:00",
            ),
            ("2001-12-14T1:2:3Z", "2001-12-14T01:02:03Z"),
            (
                "2001-12-14T21:59:43.123456789999+00:00",
                "2001-12-14T21:59:43.123456789Z",
            ),
        ] {
            assert_eq!(Timestamp::yaml(text).unwrap().exact(), exact, "{text}");
        }
        for text in [
            "2001",
            "2001-13-01",
            "2001-02-30",
            "2001-12-14 21:59:43Z",
            "2001-12-14T21:59:43",
            "2001-12-14 ",
            "2001-12-14 24:00:00",
            "12001-12-14",
            "",
        ] {
            assert!(Timestamp::yaml(text).is_none(), "{text}");
        }
    }

    #[test]
    fn whole_seconds_drop_the_fraction_and_name_utc_z() {
        let time = Timestamp::rfc3339("2026-11-21T03:44:04.5+00:00").unwrap();
        assert_eq!(time.seconds(), "2026-11-21T03:44:04Z");
        assert!(Timestamp::rfc3339("2026-11-21 03:44:04Z").is_none());
        assert!(Timestamp::rfc3339("2026-11-21").is_none());
    }
}
