//! How a server is reached, as manifest and environment say together: address, TLS, proxy, patience.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{Secret, printable};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, Url};

use crate::failure::Failure;
use crate::identity::read_private;

use super::address::Address;
use super::environment;
use super::patience::RETRIES;
use super::server::reason;
use super::site::Site;

const CONNECT: Duration = Duration::from_secs(10);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// The largest file of certificates, or with a key.
const LARGEST: u64 = 1 << 20;

/// Where a server is and how it is talked to.
pub(super) struct Reach {
    pub(super) address: Address,
    pub(super) namespace: Option<String>,
    pub(super) agent: Agent,
    pub(super) retries: u32,
    /// What signs the server's certificate; none is what the system trusts.
    roots: Option<Vec<Certificate>>,
    identity: Option<Identity>,
    server_name: Option<String>,
    proxy: Option<String>,
    timeout: Duration,
}

/// Whether what answers is the server or an agent before it, which may add a token of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    No,
    Yes,
}

impl Reach {
    /// Puts together what is known of a site; nothing is sent yet.
    pub(super) fn of(site: Site<'_>) -> Result<Self, Failure> {
        environment::refused()?;
        let vault = site.vault;
        let (address, agent) = address(site)?;
        let namespace = match &vault.namespace {
            Some(namespace) => Some(namespace.clone()),
            None => site.variable("NAMESPACE")?,
        };
        let server_name = match &vault.tls_server_name {
            Some(name) => Some(name.clone()),
            None => site.variable("TLS_SERVER_NAME")?,
        };
        let encrypted = address.is_encrypted();
        Ok(Self {
            namespace,
            agent,
            retries: environment::retries()?.unwrap_or(RETRIES),
            roots: if encrypted { roots(site)? } else { None },
            identity: if encrypted { identity(site)? } else { None },
            server_name: server_name.filter(|_| encrypted),
            proxy: environment::proxy()?,
            timeout: environment::request_timeout()?.unwrap_or(REQUEST),
            address,
        })
    }

    /// Returns where requests go. Its host is the one that the certificate must have.
    pub(super) fn url(&self) -> Result<Url, Failure> {
        let mut url = self.address.url.clone();
        if let Some(name) = &self.server_name {
            let wrong = || {
                let shown = printable(name, 100);
                Failure::source(format!("the TLS server name is no host name: {shown}"))
            };
            url.set_host(Some(name)).map_err(|_| wrong())?;
            url.domain().ok_or_else(wrong)?;
        }
        Ok(url)
    }

    /// Builds what sends requests, through `socket` where there is one, which may take longer by `more`.
    pub(super) fn client(&self, socket: Option<&Path>, more: Duration) -> Result<Client, Failure> {
        // An error says that a provider is installed, and there is only this one.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let encrypted = self.address.is_encrypted();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT + more)
            .timeout(self.timeout + more)
            .https_only(encrypted)
            .user_agent(concat!("keys/", env!("CARGO_PKG_VERSION")));
        builder = match &self.roots {
            Some(roots) => builder.tls_certs_only(roots.clone()),
            None if encrypted => builder,
            // None are needed.
            None => builder.tls_certs_only(Vec::new()),
        };
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        self.by_way(builder, socket)?
            .build()
            .map_err(|e| Failure::source(format!("prepare TLS: {}", reason(e))))
    }

    fn by_way(
        &self,
        builder: ClientBuilder,
        socket: Option<&Path>,
    ) -> Result<ClientBuilder, Failure> {
        let proxied = self.proxy.as_ref();
        if let Some(socket) = socket {
            return Ok(builder.no_proxy().unix_socket(socket));
        }
        if !self.address.is_encrypted() {
            // No proxy may see what is not encrypted.
            return match proxied {
                None => Ok(builder.no_proxy()),
                Some(_) => Err(Failure::source(
                    "VAULT_PROXY_ADDR is set, and the proxy would see the token: the address is no https://",
                )),
            };
        }
        if self.server_name.is_some() {
            let host = self.address.url.host_str().unwrap_or_default();
            let elsewhere = Elsewhere(host.trim_matches(['[', ']']).into());
            if proxied.is_some() {
                return Err(Failure::source(
                    "a TLS server name and VAULT_PROXY_ADDR do not go together",
                ));
            }
            return Ok(builder.no_proxy().dns_resolver(elsewhere));
        }
        let Some(proxy) = proxied else {
            return Ok(builder);
        };
        let wrong = || {
            let shown = printable(proxy, 100);
            Failure::source(format!(
                "VAULT_PROXY_ADDR is no address of a proxy: {shown}"
            ))
        };
        let proxy = Proxy::all(proxy).map_err(|_| wrong())?;
        Ok(builder.no_proxy().proxy(proxy))
    }
}

fn address(site: Site<'_>) -> Result<(Address, Agent), Failure> {
    if let Some(address) = &site.vault.address {
        return Ok((Address::parse(address)?, Agent::No));
    }
    if let Some(agent) = site.variable("AGENT_ADDR")? {
        return Ok((Address::parse(&agent)?, Agent::Yes));
    }
    let address = site.variable("ADDR")?.ok_or_else(|| {
        Failure::source("no Vault address").hint("set `address` under [vault], or VAULT_ADDR")
    })?;
    Ok((Address::parse(&address)?, Agent::No))
}

/// In the order of the `vault` command.
fn roots(site: Site<'_>) -> Result<Option<Vec<Certificate>>, Failure> {
    if let Some(file) = site.file(site.vault.ca_file.as_ref(), "CACERT")? {
        return authorities(&file).map(Some);
    }
    if let Some(pem) = site.variable("CACERT_BYTES")? {
        return certificates(pem.as_bytes(), "VAULT_CACERT_BYTES").map(Some);
    }
    let Some(folder) = site.file(None, "CAPATH")? else {
        return Ok(None);
    };
    let shown = folder.display();
    let unread = |e: io::Error| Failure::source(format!("read {shown}: {e}"));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.is_file() {
            all.extend(authorities(&path)?);
        }
    }
    if all.is_empty() {
        return Err(Failure::source(format!("no certificates in PEM: {shown}")));
    }
    Ok(Some(all))
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, Failure> {
    let shown = file.display().to_string();
    let pem = std::fs::read(file).map_err(|e| Failure::source(format!("read {shown}: {e}")))?;
    certificates(&pem, &shown)
}

fn certificates(pem: &[u8], place: &str) -> Result<Vec<Certificate>, Failure> {
    Certificate::from_pem_bundle(pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| Failure::source(format!("no certificates in PEM: {place}")))
}

fn identity(site: Site<'_>) -> Result<Option<Identity>, Failure> {
    let vault = site.vault;
    let certificate = site.file(vault.client_cert_file.as_ref(), "CLIENT_CERT")?;
    let key = site.file(vault.client_key_file.as_ref(), "CLIENT_KEY")?;
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => {
            return Err(Failure::source("a client certificate and its key go together").hint(
                "`client_cert_file` and `client_key_file`, or VAULT_CLIENT_CERT and VAULT_CLIENT_KEY",
            ));
        }
    };
    let unread = |path: &PathBuf, e: &dyn std::fmt::Display| {
        Failure::source(format!("read {}: {e}", path.display()))
    };
    let public = std::fs::read(&certificate).map_err(|e| unread(&certificate, &e))?;
    let private = read_private(&key, LARGEST).map_err(|f| f.at(key.display()))?;
    let mut both = Secret::with_capacity(private.len() + public.len() + 1);
    both.push(private.expose());
    both.push(b"\n");
    both.push(&public);
    Identity::from_pem(both.expose()).map(Some).map_err(|_| {
        Failure::source(format!(
            "no client certificate and key in PEM: {}, {}",
            certificate.display(),
            key.display()
        ))
    })
}

/// Finds the server where it is, whatever name its certificate has.
struct Elsewhere(Arc<str>);

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}
