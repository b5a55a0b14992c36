//! A secret that is made where there is none yet, and kept in a store from then on.

mod crypt;
mod recipe;

use std::fmt;
use std::sync::Arc;

use keys_protocol::{Purpose, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::store::{Store, Written};
use crate::resolve::{Answers, Kind, Run, blocking};
use crate::source::Source;

use recipe::Recipe;

/// A table: what `kind` of secret, and the `store` that keeps it.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "GenerateTable")]
#[schemars(with = "GenerateTable")]
pub(crate) struct GenerateSource {
    recipe: Recipe,
    /// What a hash is the hash of. Asked only if the hash is to be made, or can be checked without asking anybody.
    of: Option<Box<Source>>,
    store: Store,
}

/// What is made.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Characters of `alphabet`, as many as `length` says.
    Password,
    /// Words of the long list of the EFF, as many as `words` says, with `-` between them.
    Diceware,
    /// Bytes in hexadecimal, as many as `length` says.
    Hex,
    /// Bytes in base64, as many as `length` says.
    Base64,
    /// A random UUID (version 4).
    Uuid,
    /// A private key of ssh, as `ssh-keygen -t ed25519` makes it, without a passphrase.
    SshEd25519,
    /// A private key as `wg genkey` prints it.
    Wireguard,
    /// An identity as `age-keygen` makes it.
    Age,
    /// The SHA-512 crypt(5) hash of the password `of`, for /etc/shadow.
    Crypt,
}

/// A secret that is made once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateTable {
    /// What is made.
    kind: What,
    /// Where it is kept: it is made only if nothing is there.
    store: Store,
    /// The number of characters of a password (8 to 4096), or of bytes (16 to 4096). Without it: 32.
    length: Option<u16>,
    /// The characters a password is of, each once. Without it: letters and digits.
    alphabet: Option<String>,
    /// The number of words, 4 to 64. Without it: 6.
    words: Option<u16>,
    /// The password that a hash is made of, a source of its own.
    of: Option<Box<Source>>,
}

impl TryFrom<GenerateTable> for GenerateSource {
    type Error = String;

    fn try_from(table: GenerateTable) -> Result<Self, String> {
        let recipe = Recipe::new(&table)?;
        if table.of.is_some() != (recipe == Recipe::Crypt) {
            return Err("`of` is the password of a `crypt` hash, and of nothing else".into());
        }
        Ok(Self {
            recipe,
            of: table.of,
            store: table.store,
        })
    }
}

impl Kind for GenerateSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            store: self.store.for_host(host),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    fn vault(&self) -> Option<&str> {
        self.store.vault()
    }

    fn parts(&self) -> Vec<&Source> {
        self.of.as_deref().into_iter().collect()
    }

    fn parts_mut(&mut self) -> Vec<&mut Source> {
        self.of.as_deref_mut().into_iter().collect()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        Ok(vec![self.kept(&run).await.map_err(|f| f.at(&self))])
    }
}

impl GenerateSource {
    /// Returns whether it is kept in Vault.
    pub(crate) fn is_in_vault(&self) -> bool {
        matches!(self.store, Store::Vault(_))
    }

    /// Returns what the store has, and has it have something if there is nothing.
    async fn kept(&self, run: &Arc<Run>) -> Result<Secret, Failure> {
        if let Some(secret) = self.store.find(run).await? {
            return self.checked(secret, run).await;
        }
        if run.purpose != Purpose::Send {
            return Err(
                Failure::pending(format!("would be generated and kept in {}", self.store))
                    .hint("`keys send` makes it"),
            );
        }
        let made = self.make(run).await?;
        match self.store.create(&made, run).await? {
            Written::Created => Ok(made),
            // Somebody else made one at the same time; both of us send theirs.
            Written::Lost(secret) => self.checked(secret, run).await,
        }
    }

    async fn make(&self, run: &Arc<Run>) -> Result<Secret, Failure> {
        let recipe = self.recipe.clone();
        match &self.of {
            None => blocking(move || recipe.make()).await,
            Some(of) => {
                let password = run.answer(of).await?;
                blocking(move || crypt::hash(&password)).await
            }
        }
    }

    /// Refuses a hash that is not that of the password: it would let nobody in, or somebody with an old password.
    /// What the user would have to type is not asked for every time.
    async fn checked(&self, secret: Secret, run: &Arc<Run>) -> Result<Secret, Failure> {
        let of = match self.of.as_deref() {
            None | Some(Source::Prompt(_)) => return Ok(secret),
            Some(of) => of,
        };
        let password = run.answer(of).await?;
        let store = self.store.to_string();
        blocking(move || {
            if crypt::verify(&password, &secret)? {
                return Ok(secret);
            }
            Err(
                Failure::source("the hash in the store is that of another password").hint(format!(
                    "remove it from {store}: the next `keys send` makes it anew"
                )),
            )
        })
        .await
    }
}

impl fmt::Display for GenerateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generate {} in {}", self.recipe, self.store)
    }
}
