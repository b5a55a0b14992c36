//! Where a Vault server may be, and how TLS proves that it is the one.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use keys_protocol::printable;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};

use crate::failure::Failure;

use super::server::reason;

const CONNECT: Duration = Duration::from_secs(10);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// Reads an address: `https` anywhere; `http` only where nothing leaves this machine.
pub(super) fn parse(text: &str) -> Result<Url, Failure> {
    let shown = printable(text, 200);
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

/// Builds what sends requests there; nothing is sent yet.
pub(super) fn client(address: &Url, ca_file: Option<&Path>) -> Result<Client, Failure> {
    // An error says that a provider is installed, and there is only this one.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
    if address.scheme() == "http" {
        // No proxy may see what is not encrypted, and no certificates are needed.
        builder = builder.no_proxy().tls_certs_only(Vec::new());
    } else if let Some(file) = ca_file {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|e| Failure::source(format!("read {shown}: {e}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| Failure::source(format!("no certificates in PEM: {shown}")))?;
        builder = builder.https_only(true).tls_certs_only(certificates);
    } else {
        builder = builder.https_only(true);
    }
    builder
        .build()
        .map_err(|e| Failure::source(format!("prepare TLS: {}", reason(e))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: &str) {
        let found = match parse(address) {
            Ok(url) => url.to_string(),
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
        for address in [
            "http://10.0.0.1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
        ] {
            let shown = format!("the token would cross the network in clear: {address}");
            check(address, &shown);
        }
        check(
            "unix:///run/vault",
            "the Vault address is no https:// URL: unix:///run/vault",
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
}
