//! Finds the data key of a file by asking whoever can unwrap it: first those who ask nobody.

use std::io::Read as _;
use std::sync::Arc;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, Identity};
use keys_sops::{DataKey, Document, Error, WrappedKey};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::identity::Keyring;
use crate::resolve::vault::Transit;
use crate::resolve::{Run, blocking};

use super::gpg;

/// More than a data key or a share of it has.
const LONGEST_KEY: usize = 64;

/// Finds the data key. Nobody is asked for a passphrase if the file opens without.
pub(super) async fn data_key(
    document: &Document,
    keyring: &Arc<Keyring>,
    run: &Run,
) -> Result<DataKey, Error> {
    let groups = document.metadata().groups();
    let has_pgp = groups
        .iter()
        .flatten()
        .any(|key| matches!(key, WrappedKey::Pgp { .. }));
    let mut search = Search {
        keyring,
        run,
        answered: Vec::new(),
    };
    let quiet = search.attempt(document, Asking::Nobody).await;
    if quiet.is_ok() || !(has_pgp || keyring.has_locked()) {
        return quiet;
    }
    search.attempt(document, Asking::TheUser).await
}

/// Who may be asked for something while a key is unwrapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Nobody,
    TheUser,
}

/// What a wrapped key was unwrapped to, or why it was not.
type Unwrapped = Result<Zeroizing<Vec<u8>>, String>;

struct Search<'a> {
    keyring: &'a Arc<Keyring>,
    run: &'a Run,
    /// What Vault answered, which is asked once for each key.
    answered: Vec<(&'a WrappedKey, Unwrapped)>,
}

impl<'a> Search<'a> {
    async fn attempt(&mut self, document: &'a Document, asking: Asking) -> Result<DataKey, Error> {
        let mut unlock = document.unlock();
        while let Some(key) = unlock.next_key() {
            match self.unwrap(key, asking).await {
                Ok(unwrapped) => unlock.accept(unwrapped),
                Err(reason) => unlock.refuse(reason),
            }
        }
        unlock.finish()
    }

    async fn unwrap(&mut self, key: &'a WrappedKey, asking: Asking) -> Unwrapped {
        match key {
            WrappedKey::Age { recipient, enc } => {
                let (keyring, recipient, enc) =
                    (self.keyring.clone(), recipient.clone(), enc.clone());
                let work = move || Ok(with_age(&recipient, &enc, &keyring, asking));
                blocking(work).await.map_err(|failure| reason(&failure))?
            }
            WrappedKey::Pgp { enc, .. } if asking == Asking::TheUser => {
                let opened = gpg::open(enc, LONGEST_KEY as u64, &self.run.terminal).await;
                let secret = opened.map_err(|failure| format!("gpg: {}", reason(&failure)))?;
                Ok(Zeroizing::new(secret.expose().to_vec()))
            }
            WrappedKey::Pgp { .. } => Err("gpg may ask".to_owned()),
            WrappedKey::Vault { .. } => self.with_vault(key).await,
            _ => Err("not supported".to_owned()),
        }
    }

    async fn with_vault(&mut self, key: &'a WrappedKey) -> Unwrapped {
        let WrappedKey::Vault {
            address,
            engine_path,
            key_name,
            enc,
        } = key
        else {
            return Err("not supported".to_owned());
        };
        if let Some((_, answer)) = self.answered.iter().find(|(asked, _)| *asked == key) {
            return answer.clone();
        }
        let transit = Transit {
            address,
            engine: engine_path,
            key: key_name,
        };
        let answer = self.run.unwrap_by_transit(&transit, enc);
        let answer = answer.await.map_err(|failure| reason(&failure));
        self.answered.push((key, answer.clone()));
        answer
    }
}

/// Opens an age file with the identities that there are for its recipient.
fn with_age(recipient: &str, enc: &str, keyring: &Keyring, asking: Asking) -> Unwrapped {
    let damaged = || "its wrapped key is damaged".to_owned();
    let identities: Vec<&dyn Identity> = match asking {
        Asking::Nobody => keyring.open().collect(),
        Asking::TheUser => keyring.for_recipient(recipient).collect(),
    };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(enc.as_bytes())).map_err(|_| damaged())?;
    let plain = decryptor
        .decrypt(identities.into_iter())
        .map_err(|error| match error {
            DecryptError::NoMatchingKeys => "no identity opens it".to_owned(),
            _ => damaged(),
        })?;
    // Room for what is read and a look past its end: growing would leave copies behind.
    let mut key = Zeroizing::new(Vec::with_capacity(4 * LONGEST_KEY));
    plain
        .take(LONGEST_KEY as u64)
        .read_to_end(&mut key)
        .map_err(|_| damaged())?;
    Ok(key)
}

/// Returns a failure as a part of a sentence.
fn reason(failure: &Failure) -> String {
    match failure.advice() {
        Some(advice) => format!("{failure} ({advice})"),
        None => failure.to_string(),
    }
}
