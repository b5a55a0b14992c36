//! Data keys that the transit engine wrapped, as SOPS files hold them. The file names server, engine and key, and anyone
//! may have written it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{StatusCode, Url};
use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::Settings;
use crate::source::shown;

use super::session::{ReadMount, Session, token_refused, variable};
use super::{Vault, VaultPath};

/// A key of a transit engine, as a file names it.
pub(crate) struct Transit<'a> {
    pub(crate) address: &'a str,
    pub(crate) engine: &'a str,
    pub(crate) key: &'a str,
}

impl Vault {
    /// Decrypts a ciphertext of the transit engine; only if it is one of the server that the operator configured.
    pub(crate) async fn decrypt(
        &self,
        transit: &Transit<'_>,
        ciphertext: &str,
        settings: &Settings,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        transit.check_address(settings)?;
        let path = transit.path()?;
        let session = self.session(settings).await?;
        transit.check_engine(session).await?;
        let decrypt = Decrypt { path, ciphertext };
        let answer = session.get(&decrypt).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN if !session.token_is_good().await => return Err(token_refused()),
            StatusCode::FORBIDDEN => {
                let path = decrypt.path;
                return Err(Failure::source("permission denied (403)")
                    .hint(format!("the token's policies have no `update` on {path}")));
            }
            _ => return Err(answer.failure("Vault")),
        }
        let Decrypted { data } = answer.parse()?;
        let plaintext = BASE64_STANDARD.decode(data.plaintext);
        plaintext
            .map(Zeroizing::new)
            .map_err(|_| Failure::source("an answer that cannot be read"))
    }
}

impl Transit<'_> {
    /// Returns the address of the server that the operator configured.
    pub(crate) fn configured(settings: &Settings) -> Option<String> {
        let ours = settings.vault.address.clone();
        ours.or_else(|| variable("VAULT_ADDR"))
    }

    /// Refuses a server that is not the configured one: a token goes where the operator sends it, never where a file does.
    fn check_address(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(ours) = Self::configured(settings) else {
            return Err(Failure::source("no Vault address is configured").hint(
                "the one in the file is not followed: set `address` under [vault], or VAULT_ADDR",
            ));
        };
        let place = |text: &str| {
            let url = Url::parse(text).ok()?;
            Some(url.as_str().trim_end_matches('/').to_owned())
        };
        match (place(&ours), place(self.address)) {
            (Some(ours), Some(named)) if ours == named => Ok(()),
            _ => {
                let ours = shown(&ours);
                Err(Failure::source(format!(
                    "not the configured Vault, which is {ours}"
                )))
            }
        }
    }

    /// Returns the path that decrypts, which leads nowhere else.
    fn path(&self) -> Result<String, Failure> {
        let plain = |text: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            text.split('/').all(|part| part.chars().all(letter))
        };
        let path = format!("{}/decrypt/{}", self.engine, self.key);
        let odd = || Failure::source("the engine or the key has a name that Vault gives to none");
        if !plain(&path) || self.key.contains('/') {
            return Err(odd());
        }
        VaultPath::parse(&path).map_err(|_| odd())?;
        Ok(path)
    }

    /// Refuses what is no transit engine. The same request stores a secret in a key-value one.
    async fn check_engine(&self, session: &Session) -> Result<(), Failure> {
        let path = self.engine;
        let answer = session.get(&ReadMount { path }).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(session.no_mount(path).await),
            _ => return Err(answer.failure("Vault")),
        }
        let Mount { data } = answer.parse()?;
        if data.kind == "transit" && data.path.strip_suffix('/') == Some(path) {
            return Ok(());
        }
        Err(Failure::source(format!(
            "there is no transit engine at {}/",
            shown(path)
        )))
    }
}

/// Not the one of vaultrs, which sends a context and a nonce, too.
#[derive(Serialize)]
struct Decrypt<'a> {
    #[serde(skip)]
    path: String,
    ciphertext: &'a str,
}

impl Endpoint for Decrypt<'_> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        serde_json::to_vec(self)
            .map(Some)
            .map_err(|e| ClientError::DataParseError { source: e.into() })
    }
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    #[serde(borrow)]
    data: Plaintext<'a>,
}

#[derive(Deserialize)]
struct Plaintext<'a> {
    /// In base64, and borrowed from the answer, which is wiped.
    plaintext: &'a str,
}

#[derive(Deserialize)]
struct Mount {
    data: MountData,
}

#[derive(Deserialize)]
struct MountData {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}
