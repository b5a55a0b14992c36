//! Names of systemd units that may be told, and patterns of such names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// The name of a `.service` unit, as `systemd.unit(5)` allows it.
///
/// Only services: a manifest must not be able to reboot a host by naming `reboot.target`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// The longest unit name, `UNIT_NAME_MAX` of systemd.
const LONGEST: usize = 255;

impl UnitName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit of a key; the caller escaped it.
    pub(crate) fn of_key(escaped: &str) -> Self {
        Self(format!("{escaped}-key.service"))
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::new("unit", text, rule));
        let Some(stem) = text.strip_suffix(".service") else {
            return refuse("only units whose names end in .service can be told");
        };
        if text.len() > LONGEST {
            return refuse("at most 255 bytes are allowed");
        }
        if stem.is_empty() || stem.starts_with(['-', '.', '@']) {
            return refuse("a name may not be empty or start with `-`, `.` or `@`");
        }
        if !stem.bytes().all(is_allowed) {
            return refuse("only A-Z, a-z, 0-9 and :_.\\@- are allowed");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for UnitName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A unit by its name, or all loaded services whose names match a pattern of `systemctl(1)`: `*`, `?`, `[…]`.
///
/// A pattern starts with what its units start with and ends in `.service`, so that none stands for all services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitPattern(String);

/// What makes a name a pattern.
const SPECIAL: [char; 3] = ['*', '?', '['];

impl UnitPattern {
    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it may stand for several units, or for none.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.0.contains(SPECIAL)
    }
}

impl FromStr for UnitPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::new("unit", text, rule));
        if text.starts_with(SPECIAL) {
            return refuse("a pattern may not start with `*`, `?` or `[`");
        }
        if text.len() > LONGEST {
            return refuse("at most 255 bytes are allowed");
        }
        // As long as the pattern or shorter, and a name exactly if all else in the pattern is allowed in names.
        let Some(example) = example(text) else {
            return refuse("a `[` wants a `]`, and letters, digits or :_.\\@- between them");
        };
        match example.parse::<UnitName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => refuse(error.rule()),
        }
    }
}

/// Returns the pattern with a letter for each part that stands for others; none where a bracket is not as it should be.
fn example(pattern: &str) -> Option<String> {
    let mut example = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(SPECIAL) {
        example.push_str(&rest[..at]);
        example.push('x');
        rest = &rest[at..];
        rest = match rest.strip_prefix('[') {
            None => &rest[1..],
            Some(set) => {
                let (inside, after) = set.split_once(']')?;
                let inside = inside.strip_prefix(['!', '^']).unwrap_or(inside);
                if inside.is_empty() || !inside.bytes().all(is_allowed) {
                    return None;
                }
                after
            }
        };
    }
    example.push_str(rest);
    Some(example)
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte)
}

impl TryFrom<String> for UnitPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<UnitName> for UnitPattern {
    fn from(name: UnitName) -> Self {
        Self(name.0)
    }
}

impl From<UnitPattern> for String {
    fn from(pattern: UnitPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_with_valid_names_are_units() {
        let long = "a".repeat(248) + ".service";
        for bad in [
            "reboot.target",
            "-.mount",
            "-H evil",
            "--root=/x",
            "a;b",
            "../x.service",
            &long,
            "init.scope",
            ".service",
            "a b.service",
            "a/b.service",
            "@.service",
            "-x.service",
            "a.service\n",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?} was accepted");
        }
        for good in [
            "gitea.service",
            "phpfpm-web.service",
            "getty@tty1.service",
            "a\\x2bb.service",
        ] {
            assert!(good.parse::<UnitName>().is_ok(), "{good:?} was refused");
            assert!(!good.parse::<UnitPattern>().unwrap().is_glob());
        }
    }

    #[test]
    fn a_pattern_is_of_services_and_not_of_all() {
        let long = format!("a{}.service", "*".repeat(247));
        let long_set = format!("a[{}].service", "b".repeat(245));
        for bad in [
            "*.service",
            "?.service",
            "[a-z]*.service",
            "a*",
            "a*.target",
            "a*.service*",
            "-*.service",
            "@*.service",
            "a[.service",
            "a[].service",
            "a[!].service",
            "a[[:alpha:]].service",
            "a[b/c].service",
            "a/*.service",
            "a *.service",
            "a{b,c}*.service",
            "a*.service\n",
            "a].service",
            "",
            &long,
            &long_set,
        ] {
            assert!(bad.parse::<UnitPattern>().is_err(), "{bad:?} was accepted");
        }
        for good in [
            "a*.service",
            "github-runner-*.service",
            "web-?.service",
            "web-[0-9].service",
            "web-[!ab]*@*.service",
        ] {
            let pattern: UnitPattern = good.parse().unwrap();
            assert!(pattern.is_glob());
            assert!(good.parse::<UnitName>().is_err(), "{good:?} is no name");
        }
    }
}
