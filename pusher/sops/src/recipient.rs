//! A recipient by its name, as sops compares them: those of a document with those of a `.sops.yaml`.

use std::fmt;

use crate::error::shown;
use crate::wrapped::WrappedKey;

/// Who a data key, or a share of one, is encrypted to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    kind: &'static str,
    name: String,
}

impl Recipient {
    pub(crate) fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }

    /// Reads the address of a key of a transit engine, `https://vault:8200/v1/transit/keys/sops`.
    pub(crate) fn transit(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let (place, path) = rest.split_once('/')?;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let [version, engine @ .., _keys, key] = &parts[..] else {
            return None;
        };
        let number = version.strip_prefix('v')?;
        if engine.is_empty() || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let address = format!("{scheme}://{place}");
        Some(Self::transit_key(&address, &engine.join("/"), key))
    }

    fn transit_key(address: &str, engine: &str, key: &str) -> Self {
        Self::new("hc_vault", format!("{address}/v1/{engine}/keys/{key}"))
    }

    /// Returns whether this name, from a `.sops.yaml`, means the recipient of a document. An Azure key without a version
    /// means its newest, which only Azure knows: there any counts.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let any_version = self.kind == "azure_kv" && self.name.ends_with('/');
        self.kind == other.kind
            && (self.name == other.name || any_version && other.name.starts_with(&self.name))
    }
}

impl From<&WrappedKey> for Recipient {
    fn from(key: &WrappedKey) -> Self {
        match key {
            WrappedKey::Age { recipient, .. } => Self::new("age", recipient),
            WrappedKey::Pgp { fingerprint, .. } => Self::new("pgp", fingerprint),
            WrappedKey::Vault {
                address,
                engine_path,
                key_name,
                ..
            } => Self::transit_key(address, engine_path, key_name),
            WrappedKey::Unsupported { service, name } => Self::new(service, name),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, shown(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transit_key_is_read_from_its_address() {
        for (uri, name) in [
            (
                "https://vault:8200/v1/transit/keys/sops",
                Some("hc_vault https://vault:8200/v1/transit/keys/sops"),
            ),
            (
                "http://127.0.0.1/v1/a/b/keys/k/",
                Some("hc_vault http://127.0.0.1/v1/a/b/keys/k"),
            ),
            ("https://vault/transit/keys/sops", None),
            ("https://vault/v1/keys/sops", None),
            ("vault/v1/transit/keys/sops", None),
            ("", None),
        ] {
            let found = Recipient::transit(uri).map(|recipient| recipient.to_string());
            assert_eq!(found.as_deref(), name, "{uri}");
        }
    }

    #[test]
    fn an_azure_key_without_version_means_any() {
        let key = |name: &str| Recipient::new("azure_kv", name);
        let newest = key("https://v/keys/k/");
        assert!(newest.means(&key("https://v/keys/k/1")));
        assert!(!newest.means(&key("https://v/keys/k2/1")));
        assert!(!key("https://v/keys/k/1").means(&key("https://v/keys/k/2")));
        assert!(!Recipient::new("age", "a/").means(&Recipient::new("age", "a/b")));
    }
}
