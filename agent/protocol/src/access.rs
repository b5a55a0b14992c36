//! Who may read a key: owner, group and mode.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// An owner or group, by name or by number. Numbers are 0 to 2^31-1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// A name, looked up on the host.
    Name(String),
    /// A number, taken as it is.
    Id(u32),
}

impl Principal {
    /// Returns the superuser, by name.
    #[must_use]
    pub fn root() -> Self {
        Self::Name("root".to_owned())
    }
}

/// The greatest uid or gid: higher ones include 4294967295, which means «leave it» to chown(2).
const GREATEST_ID: u32 = i32::MAX.unsigned_abs();
/// The longest name, `LOGIN_NAME_MAX` of Linux.
const LONGEST: usize = 256;

impl FromStr for Principal {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::new("owner or group", text, rule));
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse::<u32>() {
                Ok(id) if id <= GREATEST_ID => Ok(Self::Id(id)),
                _ => refuse("numbers are 0 to 2147483647"),
            };
        }
        if text.is_empty() || text.len() > LONGEST {
            return refuse("1 to 256 bytes are allowed");
        }
        if text.starts_with(['-', '.', '@', '\\']) {
            return refuse("a name may not start with `-`, `.`, `@` or `\\`");
        }
        // `@` and `\` for accounts of a domain (sssd, winbind), `$` at the end for those of machines.
        let stem = text.strip_suffix('$').unwrap_or(text);
        if stem.is_empty() {
            return refuse("a name has more than a `$`");
        }
        if !stem
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.@\\-".contains(&b))
        {
            return refuse("only A-Z, a-z, 0-9 and _.@\\- are allowed");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl TryFrom<String> for Principal {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// The permission bits of a key: three octal digits, no write access for others, no setuid, setgid or sticky bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u16);

impl Mode {
    /// What a key has where the manifest says nothing.
    pub const DEFAULT: Self = Self(0o400);

    /// Returns the bits, as `fchmod(2)` takes them.
    #[must_use]
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// Returns whether users that are neither owner nor in the group could read it: only with `public = true`.
    #[must_use]
    pub fn is_public(self) -> bool {
        self.0 & 0o004 != 0
    }
}

impl FromStr for Mode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::new("mode", text, rule));
        let digits = match text.len() {
            3 => text,
            4 if text.starts_with('0') => &text[1..],
            4 => return refuse("no setuid, setgid or sticky bit is allowed"),
            _ => return refuse("three octal digits are wanted, such as 0400"),
        };
        let Some(bits) = octal(digits) else {
            return refuse("three octal digits are wanted, such as 0400");
        };
        if bits & 0o002 != 0 {
            return refuse("a key that others can write is never allowed");
        }
        Ok(Self(bits))
    }
}

fn octal(digits: &str) -> Option<u16> {
    digits
        .bytes()
        .all(|b| (b'0'..=b'7').contains(&b))
        .then(|| u16::from_str_radix(digits, 8).ok())?
}

impl TryFrom<String> for Mode {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documented_modes_are_accepted() {
        for bad in [
            "", "0", "0777", "4755", "2755", "1777", "0666", "u+rwx", "-1", "99999", "0o400", "08",
            "+400", "04000", "0402",
        ] {
            assert!(bad.parse::<Mode>().is_err(), "{bad:?} was accepted");
        }
        for (good, bits) in [
            ("0400", 0o400),
            ("400", 0o400),
            ("0640", 0o640),
            ("000", 0),
            ("0755", 0o755),
        ] {
            assert_eq!(good.parse::<Mode>().unwrap().bits(), bits);
        }
        assert!("0444".parse::<Mode>().unwrap().is_public());
        assert!(!"0440".parse::<Mode>().unwrap().is_public());
    }

    #[test]
    fn owners_are_names_or_small_numbers() {
        for bad in [
            "",
            "4294967295",
            "4294967296",
            "2147483648",
            "a:b",
            "a\n",
            "a b",
            "-x",
            "a/b",
            "$",
            "\u{202e}x",
        ] {
            assert!(bad.parse::<Principal>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("1000".parse::<Principal>().unwrap(), Principal::Id(1000));
        for good in [
            "root",
            "www-data",
            "_x",
            "A",
            "www_data",
            "ann@example.org",
            "EXAMPLE\\ann",
            "machine$",
        ] {
            assert_eq!(
                good.parse::<Principal>().unwrap(),
                Principal::Name(good.to_owned())
            );
        }
    }
}
