//! The seal of a server: how far it is from being open, and the key shares that open it.

use keys_protocol::Secret;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::resolve::{Settings, Terminal};
use crate::source::Source;

use super::answer::Answer;
use super::call::Call;
use super::login::text;
use super::reach::Reach;
use super::server::Server;
use super::site::Site;

/// A server that may be sealed. Nobody is logged in there.
pub(crate) struct Sealed(Server);

/// How far a server is from being open.
#[derive(Deserialize)]
pub(crate) struct Seal {
    pub(crate) sealed: bool,
    /// How many key shares open it.
    #[serde(rename = "t")]
    pub(crate) threshold: u32,
    /// How many it was given.
    pub(crate) progress: u32,
    initialized: Option<bool>,
}

impl Settings {
    /// Returns the key shares of a Vault.
    pub(crate) fn shares(&self, name: Option<&str>) -> Result<&[Source], Failure> {
        let table = self.table(name)?;
        table
            .unseal
            .as_ref()
            .map(|unseal| unseal.shares.as_slice())
            .ok_or_else(|| {
                let table = name.map_or("[vault".into(), |name| format!("[vaults.{name}"));
                Failure::usage("the manifest names no key shares").hint(format!(
                    "{table}.unseal] shares = [{{ command = [\"pass\", \"vault/share\"] }}]"
                ))
            })
    }
}

impl Sealed {
    /// Finds the server; nothing is sent yet.
    pub(crate) fn find(name: Option<&str>, settings: &Settings) -> Result<Self, Failure> {
        let site = Site {
            name,
            vault: settings.table(name)?,
            settings,
            terminal: &Terminal::default(),
        };
        Server::new(site, &Reach::of(site)?).map(Self)
    }

    /// How messages call it.
    pub(crate) fn place(&self) -> &str {
        self.0.place()
    }

    /// Asks how far it is.
    pub(crate) async fn ask(&self) -> Result<Seal, Failure> {
        let answer = self.0.send(&Call::get("sys/seal-status"), None).await?;
        self.read(&answer)
    }

    /// Gives it a key share.
    pub(crate) async fn give(&self, share: &Secret) -> Result<Seal, Failure> {
        let key = text(share, "key share")?;
        let call = Call::post("sys/unseal", &Share { key })?;
        let answer = self.0.send(&call, None).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            // What it says could be about the share itself.
            return Err(Failure::source("it refused the key shares (400)")
                .at(self.place())
                .hint("one of them is not of this server, or no key share: all have to be given again"));
        }
        self.read(&answer)
    }

    fn read(&self, answer: &Answer) -> Result<Seal, Failure> {
        if answer.status != StatusCode::OK {
            return Err(answer.failure("it").at(self.place()));
        }
        let seal: Seal = answer.parse().map_err(|f| f.at(self.place()))?;
        if seal.initialized == Some(false) {
            return Err(Failure::source("it is not initialised: it has no keys yet")
                .at(self.place())
                .hint("`vault operator init` makes them"));
        }
        Ok(seal)
    }
}

#[derive(Serialize)]
struct Share<'a> {
    key: &'a str,
}
