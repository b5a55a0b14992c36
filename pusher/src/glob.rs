//! Patterns for names: `*`, `?` and `[a-z]`.

use std::fmt;
use std::str::FromStr;

use keys_protocol::printable;

/// A pattern that matches whole names. `*` also crosses the `/` of a key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Exactly(char),
    One,
    Any,
    /// The ranges of `[…]`, and whether being in one of them is wanted (`[!…]` wants the others).
    Among(Vec<(char, char)>, Wanted),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Inside,
    Outside,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    #[error("an empty pattern matches nothing")]
    Empty,
    #[error("pattern `{0}`: `[` without a `]` that ends it")]
    Open(String),
}

impl Glob {
    /// Returns whether the whole of `name` matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on when what follows the last `*` does not fit: one character further. One star is enough to
        // remember, so the time is bounded by the product of the lengths.
        let mut retry = None;
        while at < name.len() {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((part + 1, at));
                    part += 1;
                }
                Some(wanted) if wanted.takes(name[at]) => {
                    part += 1;
                    at += 1;
                }
                _ => {
                    let Some((after_star, from)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, from + 1));
                    (part, at) = (after_star, from + 1);
                }
            }
        }
        self.parts[part..].iter().all(|part| *part == Part::Any)
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Exactly(wanted) => *wanted == c,
            Self::One => true,
            Self::Any => false,
            Self::Among(ranges, wanted) => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                inside == (*wanted == Wanted::Inside)
            }
        }
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '[' => {
                    let (part, after) =
                        class(rest).ok_or_else(|| GlobError::Open(printable(text, 80)))?;
                    rest = after;
                    part
                }
                _ => Part::Exactly(c),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

/// Reads what follows a `[`; as in a shell, a `]` that comes first is meant literally.
fn class(text: &str) -> Option<(Part, &str)> {
    let (wanted, inner) = match text.strip_prefix(['!', '^']) {
        Some(inner) => (Wanted::Outside, inner),
        None => (Wanted::Inside, text),
    };
    let first = inner.chars().next()?.len_utf8();
    let end = first + inner[first..].find(']')?;
    let members: Vec<char> = inner[..end].chars().collect();
    let mut ranges = Vec::new();
    let mut left = members.as_slice();
    while let [low, after @ ..] = left {
        let (high, after) = match after {
            ['-', high, after @ ..] => (high, after),
            _ => (low, after),
        };
        ranges.push((*low, *high));
        left = after;
    }
    Some((Part::Among(ranges, wanted), &inner[end + 1..]))
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.text, 80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern: &str, name: &str| pattern.parse::<Glob>().unwrap().matches(name);
        for (pattern, name) in [
            ("pigeon", "pigeon"),
            ("*", ""),
            ("*", "web/tls.key"),
            ("p*n", "pigeon"),
            ("p*g*n", "pigeon"),
            ("p?geon", "pigeon"),
            ("web[0-9]", "web7"),
            ("web[!0-9]", "webx"),
            ("web[^ab]*", "webcab"),
            ("[]x]", "]"),
            ("a[-x]b", "a-b"),
            ("**a", "bba"),
        ] {
            assert!(check(pattern, name), "{pattern} should match {name}");
        }
        for (pattern, name) in [
            ("pigeon", "pigeons"),
            ("pigeon", "Pigeon"),
            ("p?geon", "pgeon"),
            ("web[0-9]", "webx"),
            ("web[!0-9]", "web7"),
            ("*a", "ab"),
            ("a.b", "axb"),
            ("web[9-0]", "web5"),
        ] {
            assert!(!check(pattern, name), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_not_slow() {
        let pattern: Glob = ("*a".repeat(100) + "b").parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(2_000)));
    }

    #[test]
    fn empty_and_open_patterns_are_refused() {
        for (text, error) in [
            ("", "an empty pattern matches nothing"),
            (
                "web[0-9",
                "pattern `web[0-9`: `[` without a `]` that ends it",
            ),
            ("[]", "pattern `[]`: `[` without a `]` that ends it"),
            ("[", "pattern `[`: `[` without a `]` that ends it"),
        ] {
            assert_eq!(text.parse::<Glob>().unwrap_err().to_string(), error);
        }
    }
}
