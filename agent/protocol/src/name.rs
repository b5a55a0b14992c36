//! Names of keys, and the unit that each of them is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, UnitName, limits};

/// The name of a key: its path below `/run/keys`.
///
/// 1 to 8 components by `/`, each 1 to 128 bytes of `[A-Za-z0-9._+@-]` that do not start with `.` or `-`; at most 255
/// bytes in all. No component can therefore be `.`, `..` or one of the agent's own files, which start with `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Returns the first component: the name that shows in `/run/keys`.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// Returns the unit that others wait on: `/` becomes `-`, `+` becomes `\x2b`, the rest stays.
    ///
    /// Not `systemd-escape(1)`, which would turn `pgsql-password` into `pgsql\x2dpassword`: NixOps and Colmena users
    /// have `pgsql-password-key.service` in their units.
    #[must_use]
    pub fn unit(&self) -> UnitName {
        UnitName::of_key(&self.0.replace('/', "-").replace('+', "\\x2b"))
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::new("key name", text, rule));
        if text.is_empty() || text.len() > limits::NAME {
            return refuse("1 to 255 bytes are allowed");
        }
        if text.split('/').count() > limits::NAME_DEPTH {
            return refuse("at most 8 components by `/` are allowed");
        }
        for part in text.split('/') {
            if part.is_empty() || part.len() > limits::NAME_COMPONENT {
                return refuse("each component has 1 to 128 bytes");
            }
            if part.starts_with(['.', '-']) {
                return refuse("no component may start with `.` or `-`");
            }
            if !part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._+@-".contains(&b))
            {
                return refuse(
                    "only A-Z, a-z, 0-9 and ._+@- are allowed, and / between components",
                );
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for KeyName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Two keys that cannot be on one host together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The same name twice.
    #[error("key {0} is there twice")]
    Twice(KeyName),
    /// One would be a file where the other needs a directory.
    #[error("key {0} is a file, and key {1} needs a directory of that name")]
    FileAndDirectory(KeyName, KeyName),
    /// Both would be the same unit.
    #[error("keys {0} and {1} would both be the unit {2}")]
    SameUnit(KeyName, KeyName, UnitName),
}

impl Conflict {
    /// Returns the first conflict among the keys of one host.
    #[must_use]
    pub fn among<'a>(names: impl IntoIterator<Item = &'a KeyName>) -> Option<Self> {
        let mut sorted: Vec<&KeyName> = names.into_iter().collect();
        // Component by component, so that `a/b` comes right after `a` and before `a-b`.
        sorted.sort_by(|a, b| a.components().cmp(b.components()));
        for pair in sorted.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            if a == b {
                return Some(Self::Twice(a.clone()));
            }
            if b.as_str()
                .strip_prefix(a.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
            {
                return Some(Self::FileAndDirectory(a.clone(), b.clone()));
            }
        }
        let mut units = BTreeMap::new();
        for name in sorted {
            if let Some(other) = units.insert(name.unit(), name) {
                return Some(Self::SameUnit(other.clone(), name.clone(), name.unit()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    #[test]
    fn names_outside_the_allow_list_are_refused() {
        let long = "a".repeat(129);
        let deep = "a/".repeat(8) + "a";
        let sum = format!("{0}/{0}", "a".repeat(128));
        for bad in [
            "", ".", "..", "a/../b", "/a", "a/", "a//b", ".a", "-a", "a b", "a\n", "ä", "a\0",
            "a%", &long, &deep, &sum,
        ] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "A.b_c+d@e-f", &"a".repeat(128), "a/b/c/d/e/f/g/h"] {
            assert!(good.parse::<KeyName>().is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn units_keep_their_dashes() {
        assert_eq!(
            name("pgsql-password").unit().as_str(),
            "pgsql-password-key.service"
        );
        assert_eq!(
            name("web/tls+cert").unit().as_str(),
            "web-tls\\x2bcert-key.service"
        );
    }

    #[test]
    fn keys_that_exclude_each_other_are_found() {
        let check = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| name(n)).collect();
            Conflict::among(&names).map(|c| c.to_string())
        };
        assert_eq!(check(&["a", "b", "a-c", "a.d"]), None);
        assert_eq!(check(&["a", "a-b", "a"]).unwrap(), "key a is there twice");
        assert_eq!(
            check(&["a/b", "a-", "a"]).unwrap(),
            "key a is a file, and key a/b needs a directory of that name"
        );
        assert_eq!(
            check(&["a/b", "a-b"]).unwrap(),
            "keys a/b and a-b would both be the unit a-b-key.service"
        );
    }
}
