//! Data keys that the transit engine wrapped, as SOPS files hold them. The file names server, engine and key, and anyone
//! may have written it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::{Run, Settings};
use crate::source::shown;

use super::VaultPath;
use super::call::Call;
use super::environment::variable;
use super::mount::Mount;
use super::session::Session;

/// A key of a transit engine, as a file names it.
pub(crate) struct Transit<'a> {
    pub(crate) address: &'a str,
    pub(crate) engine: &'a str,
    pub(crate) key: &'a str,
}

impl Run {
    /// Decrypts a ciphertext of the transit engine; only if it is one of the server that the operator configured.
    pub(crate) async fn unwrap_by_transit(
        &self,
        transit: &Transit<'_>,
        ciphertext: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        transit.check_address(&self.settings)?;
        let path = transit.path()?;
        let session = self.vault(None).await?;
        transit.check_engine(&session).await?;
        let decrypt = Call::post(path.as_str(), &Decrypt { ciphertext })?;
        let answer = session.ask(&decrypt).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(session.refused("update", &path).await),
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
    pub(crate) fn configured(settings: &Settings) -> Result<Option<String>, Failure> {
        match &settings.vault.address {
            None => variable("ADDR"),
            ours => Ok(ours.clone()),
        }
    }

    /// Refuses a server that is not the configured one: a token goes where the operator sends it, never where a file does.
    fn check_address(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(ours) = Self::configured(settings)? else {
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
        let answer = session.ask(&Mount::asked(path)).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(session.no_mount(path).await),
            _ => return Err(answer.failure("Vault")),
        }
        let Mounted { data } = answer.parse()?;
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
    ciphertext: &'a str,
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
struct Mounted {
    data: About,
}

#[derive(Deserialize)]
struct About {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}
