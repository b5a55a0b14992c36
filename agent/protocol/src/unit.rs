//! Names of systemd units that may be told.

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
        if !stem
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":_.\\@-".contains(&b))
        {
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
        }
    }
}
