//! Bytes written so that JSON, a shell, a URL or an environment file reads the same bytes back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keys_protocol::Secret;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// A string of JSON, in its quotes.
    Json,
    /// One word of a POSIX shell.
    Shell,
    /// One part of a URL: everything is escaped that is not unreserved in RFC 3986.
    Url,
    /// A value of a systemd `EnvironmentFile=`, which a POSIX shell reads the same way.
    Env,
    Base64,
    /// Without the newlines at its end.
    Trim,
}

/// The names in templates.
pub(super) const NAMES: [(&str, Escape); 6] = [
    ("json", Escape::Json),
    ("shell", Escape::Shell),
    ("url", Escape::Url),
    ("env", Escape::Env),
    ("base64", Escape::Base64),
    ("trim", Escape::Trim),
];

impl Escape {
    /// Returns `bytes` written this way, or why they cannot be.
    pub(super) fn apply(self, bytes: &[u8]) -> Result<Secret, &'static str> {
        match self {
            Self::Json => json(bytes),
            Self::Shell => shell(bytes),
            Self::Url => Ok(url(bytes)),
            Self::Env => env(bytes),
            Self::Base64 => Ok(Secret::new(STANDARD.encode(bytes).into_bytes())),
            Self::Trim => {
                let end = bytes.iter().rposition(|b| !b"\r\n".contains(b));
                Ok(Secret::copy_of(&bytes[..end.map_or(0, |last| last + 1)]))
            }
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "not UTF-8")
}

fn json(bytes: &[u8]) -> Result<Secret, &'static str> {
    let mut out = Secret::with_capacity(bytes.len() + 2);
    out.push(b"\"");
    for c in text(bytes)?.chars() {
        match c {
            '"' => out.push(b"\\\""),
            '\\' => out.push(b"\\\\"),
            '\n' => out.push(b"\\n"),
            '\r' => out.push(b"\\r"),
            '\t' => out.push(b"\\t"),
            '\0'..='\x1f' | '\x7f' => out.push(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.push(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b"\"");
    Ok(out)
}

fn shell(bytes: &[u8]) -> Result<Secret, &'static str> {
    let mut out = Secret::with_capacity(bytes.len() + 2);
    out.push(b"'");
    for byte in bytes {
        match byte {
            0 => return Err("a shell has no NUL"),
            b'\'' => out.push(b"'\\''"),
            byte => out.push(&[*byte]),
        }
    }
    out.push(b"'");
    Ok(out)
}

fn url(bytes: &[u8]) -> Secret {
    let mut out = Secret::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(&[*byte]);
        } else {
            out.push(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// In double quotes systemd and a shell agree on what a backslash takes the meaning of; in single quotes, or without
/// any, they do not.
fn env(bytes: &[u8]) -> Result<Secret, &'static str> {
    // systemd drops a variable that is not UTF-8.
    let text = text(bytes)?;
    let mut out = Secret::with_capacity(text.len() + 2);
    out.push(b"\"");
    for byte in text.bytes() {
        match byte {
            0 => return Err("an environment has no NUL"),
            b'"' | b'\\' | b'$' | b'`' => out.push(&[b'\\', byte]),
            byte => out.push(&[byte]),
        }
    }
    out.push(b"\"");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(escape: Escape, bytes: &[u8], expected: Result<&str, &str>) {
        let found = escape.apply(bytes);
        let found = found
            .as_ref()
            .map(|secret| std::str::from_utf8(secret.expose()).unwrap());
        assert_eq!(found.map_err(|why| *why), expected, "{escape:?} {bytes:?}");
    }

    #[test]
    fn what_means_something_is_escaped() {
        let odd = "a\"b'c\\d$e`f\ng h%/ü".as_bytes();
        check(Escape::Json, odd, Ok(r#""a\"b'c\\d$e`f\ng h%/ü""#));
        check(Escape::Json, b"\x01\x7f\t", Ok(r#""\u0001\u007f\t""#));
        check(Escape::Json, b"\xff", Err("not UTF-8"));
        check(Escape::Shell, odd, Ok("'a\"b'\\''c\\d$e`f\ng h%/ü'"));
        check(Escape::Shell, b"a\0", Err("a shell has no NUL"));
        check(
            Escape::Url,
            odd,
            Ok("a%22b%27c%5Cd%24e%60f%0Ag%20h%25%2F%C3%BC"),
        );
        check(Escape::Env, odd, Ok("\"a\\\"b'c\\\\d\\$e\\`f\ng h%/ü\""));
        check(Escape::Env, b"\xff", Err("not UTF-8"));
        check(Escape::Env, b"a\0", Err("an environment has no NUL"));
        check(Escape::Base64, b"\xff\0", Ok("/wA="));
        check(Escape::Trim, b"\na\n\r\n", Ok("\na"));
        check(Escape::Trim, b"\n", Ok(""));
    }
}
