//! What a host is called, and where ssh finds it.

use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;

use keys_protocol::printable;
use serde::Deserialize;

/// A host name, tag or destination that is not allowed, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}`: {rule}")]
pub(crate) struct HostError {
    what: &'static str,
    found: String,
    rule: &'static str,
}

/// The longest host name, user or tag, in bytes.
const LONGEST: usize = 255;

/// The name of a host in the manifest: 1 to 255 bytes of `[A-Za-z0-9._-]`, beginning with a letter, digit or `_`.
///
/// It takes the place of `{host}` in the paths of sources, so it can be no `..` and holds no `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HostName(String);

/// A word that several hosts share, under the same rules as a [`HostName`]; `@tag` stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Tag(String);

/// What ssh is told to connect to: a host or an alias of `ssh_config`, with a user and a port where they are named.
///
/// Everything here ends up as an argument of ssh, which takes `-oProxyCommand=…` for an option and expands `%h`. So the
/// user and the host are `[A-Za-z0-9._-]` not beginning with `-`, or the host is an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Destination {
    user: Option<String>,
    host: String,
    port: Option<NonZeroU16>,
}

impl HostName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the host is found if the manifest does not say: its own name, for ssh's configuration or DNS to know.
    pub(crate) fn destination(&self) -> Destination {
        Destination {
            user: None,
            host: self.0.clone(),
            port: None,
        }
    }
}

impl Tag {
    /// The tag as text, without an `@`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Destination {
    /// The user to log in as, where the manifest names one.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The host, an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port, where the manifest names one.
    pub(crate) fn port(&self) -> Option<NonZeroU16> {
        self.port
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        label("host name", text).map(Self)
    }
}

impl FromStr for Tag {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        label("tag", text).map(Self)
    }
}

impl FromStr for Destination {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let refuse = |rule| HostError {
            what: "destination",
            found: printable(text, 80),
            rule,
        };
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        if user.is_some_and(|user| !is_argument(user)) {
            return Err(refuse(
                "before the @ only A-Z, a-z, 0-9 and ._- are allowed, not beginning with -",
            ));
        }
        let (host, port) = split(place).map_err(refuse)?;
        Ok(Self {
            user: user.map(str::to_owned),
            host,
            port,
        })
    }
}

/// Checks a host name or a tag.
fn label(what: &'static str, text: &str) -> Result<String, HostError> {
    let refuse = |rule| {
        Err(HostError {
            what,
            found: printable(text, 80),
            rule,
        })
    };
    if text.is_empty() || text.len() > LONGEST {
        return refuse("1 to 255 bytes are allowed");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return refuse("it begins with a letter, a digit or _");
    }
    if !is_argument(text) {
        return refuse("only A-Z, a-z, 0-9 and ._- are allowed");
    }
    Ok(text.to_owned())
}

/// Returns whether ssh can take `text` for nothing but a name.
fn is_argument(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=LONGEST).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed)
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`.
fn split(place: &str) -> Result<(String, Option<NonZeroU16>), &'static str> {
    if let Some(inner) = place.strip_prefix('[') {
        let (address, rest) = inner
            .split_once(']')
            .ok_or("`[` without a `]` that ends it")?;
        // Zones (`%eth0`) are left to an alias of ssh_config: ssh expands `%`.
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("between brackets stands an IPv6 address");
        }
        let after = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if rest.is_empty() => None,
            None => return Err("after `]` comes nothing or :PORT"),
        };
        return Ok((address.to_owned(), after));
    }
    if place.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address is written in brackets: [::1]:22");
    }
    let (host, after) = match place.split_once(':') {
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => (place, None),
    };
    if !is_argument(host) {
        return Err(
            "a host is 1 to 255 bytes of A-Z, a-z, 0-9 and ._-, not beginning with -, or [IPv6]",
        );
    }
    Ok((host.to_owned(), after))
}

fn port(digits: &str) -> Result<NonZeroU16, &'static str> {
    // `parse` alone would take `+22`.
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let parsed = plain.then(|| digits.parse().ok()).flatten();
    parsed.ok_or("a port is a number from 1 to 65535")
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl TryFrom<String> for Tag {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl TryFrom<String> for Destination {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What attackers and accidents put into names (E4): nothing here may reach ssh.
    const HOSTILE: &[&str] = &[
        "",
        " ",
        "-oProxyCommand=touch x",
        "-oProxyCommand=touch${IFS}x",
        "-F/tmp/x",
        "--",
        "-",
        "a b",
        "a\tb",
        "a\nb",
        "a\r",
        "a\0b",
        " a",
        "a ",
        "$(x)",
        "`x`",
        "${HOME}",
        "a;b",
        "a|b",
        "a&b",
        "a>b",
        "a'b",
        "a\"b",
        "a\\b",
        "a*",
        "a?",
        "a!b",
        "a#b",
        "a,b",
        "a=b",
        "a{b}",
        "a/b",
        "../a",
        "%h",
        "%d/x",
        "a%eth0",
        "~root",
        "a\u{3002}example",
        "a\u{ff0e}example",
        "\u{202e}a",
        "\u{200b}a",
        "ä",
        "a\x1b[31m",
        "\u{feff}a",
    ];

    /// What is wrong only for a destination.
    const MORE_HOSTILE: &[&str] = &[
        "pigeon:0",
        "pigeon:65536",
        "pigeon:-1",
        "pigeon: 22",
        "pigeon:22 ",
        "pigeon:+22",
        "pigeon:000022",
        "pigeon:0x16",
        "pigeon:22:22",
        "a@b@pigeon",
        "root:pw@pigeon",
        "::1",
        "fe80::1:22",
        "[::1",
        "[::1]22",
        "[::1%eth0]",
        "[pigeon]",
        "[127.0.0.1]",
        "[]",
        "[[::1]]",
        "ssh://pigeon",
        "a:b:c",
    ];

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(300);
        let more = ["..", ".a", "::1", "a:22", "a@b", "@a", long.as_str()];
        for bad in HOSTILE.iter().chain(&more) {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?} was accepted");
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} was accepted");
        }
        for good in [
            "pigeon",
            "web1.example.org",
            "_x",
            "9",
            "A-b_c.d",
            &"a".repeat(255),
        ] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn hostile_destinations_are_refused() {
        let refused = |text: &str| {
            assert!(
                text.parse::<Destination>().is_err(),
                "{text:?} was accepted"
            );
        };
        for bad in HOSTILE {
            refused(bad);
            refused(&format!("{bad}@pigeon"));
            refused(&format!("root@{bad}"));
            refused(&format!("root@{bad}:22"));
            refused(&format!("pigeon:{bad}"));
            refused(&format!("[{bad}]"));
            refused(&format!("[::1]:{bad}"));
        }
        for bad in MORE_HOSTILE {
            refused(bad);
        }
        refused(&"a".repeat(300));
        refused(&format!("{}@pigeon", "a".repeat(300)));
    }

    #[test]
    fn a_destination_is_taken_apart() {
        let check = |text: &str, user: Option<&str>, host: &str, port: Option<u16>| {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.user(), user);
            assert_eq!(destination.host(), host);
            assert_eq!(destination.port().map(NonZeroU16::get), port);
            assert_eq!(destination.to_string(), text);
        };
        check("pigeon", None, "pigeon", None);
        check("pigeon:65535", None, "pigeon", Some(65535));
        check(
            "root@pigeon.example.org:5678",
            Some("root"),
            "pigeon.example.org",
            Some(5678),
        );
        check("_ops-1.x@10.0.0.1", Some("_ops-1.x"), "10.0.0.1", None);
        check(
            "root@[2001:db8::1]:22",
            Some("root"),
            "2001:db8::1",
            Some(22),
        );
        check("[::ffff:10.0.0.1]", None, "::ffff:10.0.0.1", None);
    }

    #[test]
    fn the_error_says_what_was_found_and_escapes_it() {
        let error = "root@a\x1b]52;c;x\x07".parse::<Destination>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "destination `root@a\\u{1b}]52;c;x\\u{7}`: a host is 1 to 255 bytes of A-Z, a-z, 0-9 and ._-, \
             not beginning with -, or [IPv6]"
        );
    }
}
