//! Where a Vault server may be.

use std::net::IpAddr;
use std::path::PathBuf;

use keys_protocol::printable;
use reqwest::Url;

use crate::failure::Failure;

/// The address of a server: `https` anywhere; `http` and `unix` only where nothing leaves this machine.
pub(super) struct Address {
    pub(super) url: Url,
    /// The socket that leads there, for `unix`.
    pub(super) socket: Option<PathBuf>,
    /// As it was given.
    shown: String,
}

impl Address {
    /// Reads an address.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let shown = printable(text.trim_end_matches('/'), 200);
        let given = |url, socket| Self {
            url,
            socket,
            shown: shown.clone(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(Failure::source(format!(
                    "a unix:// address holds an absolute path: {shown}"
                )));
            }
            return Url::parse("http://localhost")
                .map(|url| given(url, Some(PathBuf::from(path))))
                .map_err(|e| Failure::source(e.to_string()));
        }
        let url = web(text, &shown)?;
        Ok(given(url, None))
    }

    /// Returns the host and port, as ssh takes them: `[::1]:8200`.
    pub(super) fn endpoint(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(443);
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// Returns the address as messages show it.
    pub(super) fn as_str(&self) -> &str {
        &self.shown
    }

    /// Returns whether TLS proves who answers.
    pub(super) fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

fn web(text: &str, shown: &str) -> Result<Url, Failure> {
    let Ok(url) = Url::parse(text) else {
        return Err(Failure::source(format!(
            "the Vault address is no URL: {shown}"
        )));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::source(
            "the Vault address holds a user or password",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Failure::source(format!(
            "the Vault address holds more than a place: {shown}"
        )));
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(Failure::source(format!(
            "the token would cross the network in clear: {shown}"
        ))
        .hint("use https://; http:// is for 127.0.0.1, ::1 and localhost")),
        _ => Err(Failure::source(format!(
            "the Vault address is no https:// URL: {shown}"
        ))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: &str) {
        let found = match Address::parse(address) {
            Ok(Address {
                socket: Some(socket),
                ..
            }) => socket.display().to_string(),
            Ok(address) => address.url.to_string(),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(found, expected, "{address}");
    }

    #[test]
    fn a_token_crosses_no_network_in_clear() {
        check(
            "https://vault.example.org:8200",
            "https://vault.example.org:8200/",
        );
        check("http://127.0.0.2:8200/", "http://127.0.0.2:8200/");
        check("http://[::1]:8200", "http://[::1]:8200/");
        check("http://localhost", "http://localhost/");
        check("unix:///run/vault.sock", "/run/vault.sock");
        for address in [
            "http://10.0.0.1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
        ] {
            let shown = format!("the token would cross the network in clear: {address}");
            check(address, &shown);
        }
        check(
            "unix://vault.sock",
            "a unix:// address holds an absolute path: unix://vault.sock",
        );
        check(
            "vault:8200",
            "the Vault address is no https:// URL: vault:8200",
        );
        check(
            "https://me:pw@vault",
            "the Vault address holds a user or password",
        );
        check(
            "https://vault?x",
            "the Vault address holds more than a place: https://vault?x",
        );
        check("vault", "the Vault address is no URL: vault");
    }

    #[test]
    fn a_tunnel_is_told_host_and_port() {
        let endpoint = |text| Address::parse(text).ok().map(|address| address.endpoint());
        assert_eq!(endpoint("https://vault").as_deref(), Some("vault:443"));
        assert_eq!(endpoint("http://[::1]:8200").as_deref(), Some("[::1]:8200"));
    }
}
