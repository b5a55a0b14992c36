//! The `[vault]` table: which server, and how it is reached.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::host::Destination;
use crate::host_key::HostKey;
use crate::source::Source;

use super::auth::Auth;

/// The `[vault]` table. What is not there is taken from the environment, as the `vault` command does.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VaultSettings {
    /// Where the server is, `https://` or `unix://`; else `VAULT_AGENT_ADDR`, else `VAULT_ADDR`.
    pub(super) address: Option<String>,
    /// The namespace; else `VAULT_NAMESPACE`.
    pub(super) namespace: Option<String>,
    /// The certificates that sign the server's, in PEM; else `VAULT_CACERT` or `VAULT_CAPATH`, else the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Our own certificate, in PEM; else `VAULT_CLIENT_CERT`.
    pub(super) client_cert_file: Option<PathBuf>,
    /// Its key, in PEM; else `VAULT_CLIENT_KEY`.
    pub(super) client_key_file: Option<PathBuf>,
    /// The name that the server's certificate has, if not the one in `address`; else `VAULT_TLS_SERVER_NAME`.
    pub(super) tls_server_name: Option<String>,
    /// A host that can reach the address, as ssh finds it: `operator@bastion.example.org`.
    #[schemars(with = "Option<String>")]
    pub(super) tunnel: Option<Destination>,
    /// The public host key of that host. Without it, the key must be in the user's `known_hosts`.
    #[schemars(with = "Option<String>")]
    pub(super) tunnel_host_key: Option<HostKey>,
    /// How we log in; else `VAULT_TOKEN`, else the token helper or `~/.vault-token`.
    pub(super) auth: Option<Auth>,
    /// What `keys unseal` gives this server.
    pub(crate) unseal: Option<Unseal>,
}

/// What `keys unseal` gives a server.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "UnsealTable")]
#[schemars(with = "UnsealTable")]
pub(crate) struct Unseal {
    /// Different ones, at least one, none from Vault.
    pub(crate) shares: Vec<Source>,
}

/// `unseal = { shares = [{ command = ["pass", "vault/share"] }] }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UnsealTable {
    /// The key shares, each from a source that is not Vault.
    #[schemars(length(min = 1))]
    shares: Vec<Source>,
}

impl TryFrom<UnsealTable> for Unseal {
    type Error = &'static str;

    fn try_from(UnsealTable { shares }: UnsealTable) -> Result<Self, Self::Error> {
        if shares.is_empty() {
            return Err("a key share at least is wanted");
        }
        if shares.iter().any(Source::is_from_vault) {
            return Err("a key share cannot come from Vault, which may be sealed");
        }
        if shares.iter().collect::<BTreeSet<_>>().len() < shares.len() {
            return Err("the same key share is there twice");
        }
        Ok(Self { shares })
    }
}

impl VaultSettings {
    /// Returns what a table lacks that has to do without the environment.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match (&self.address, &self.auth) {
            (None, _) => Some("address"),
            (_, None) => Some("auth"),
            _ => None,
        }
    }
}
