//! HTTP/1.1 to a server on loopback: as much as Vault's API takes.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body, or null where there is none.
    pub(crate) body: Value,
}

/// Asks `address` for `path` with a token, and a body unless it is null.
pub(crate) fn ask(address: &str, line: (&str, &str), token: &str, body: &Value) -> Answer {
    let (method, path) = line;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Vault-Token: {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let said = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)
    });
    said.unwrap_or_else(|e| panic!("{method} http://{address}{path}: {e}"));
    parse(&answer)
        .unwrap_or_else(|| panic!("{method} {path}: {}", String::from_utf8_lossy(&answer)))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    let body = if chunked {
        joined(body)?
    } else {
        body.to_owned()
    };
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&body).ok()?
    };
    Some(Answer { status, body })
}

/// Joins the chunks of a body: each a line with its length in hexadecimal, then that many bytes.
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length + 2..)?;
    }
}
