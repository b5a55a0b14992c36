//! An age file that is written once, to its recipients.

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use age::armor::{ArmoredWriter, Format};
use age::{Encryptor, Recipient};
use keys_protocol::Secret;

use crate::failure::Failure;
use crate::resolve::sealed::Sealed;
use crate::resolve::{Run, blocking};
use crate::source::shown;

use super::AgeSource;

impl AgeSource {
    /// Returns what is in the file; nothing only where there is no file.
    pub(crate) async fn find(&self, run: &Arc<Run>) -> Result<Option<Secret>, Failure> {
        let (source, run) = (self.clone(), run.clone());
        blocking(move || {
            let found = Sealed::open(&source.path(&run)).and_then(|there| {
                let decrypt = |file: Sealed| source.decrypt_bytes(file.bytes(), &run);
                there.map(decrypt).transpose()
            });
            found.map_err(|f| f.at(&source))
        })
        .await
    }

    /// Returns where the file is.
    pub(crate) fn path(&self, run: &Run) -> PathBuf {
        run.settings.path(&self.file)
    }

    /// Writes the file, which is not there yet.
    pub(crate) async fn write(&self, value: &Secret, run: &Arc<Run>) -> Result<(), Failure> {
        let file = self.encrypt(value)?;
        let (source, run, path) = (self.clone(), run.clone(), self.path(run));
        let found = blocking(move || {
            // What nobody here can open is no secret from then on.
            let found = source.decrypt_bytes(&file, &run)?;
            Sealed::replace(&path, None, &file).map(|()| found)
        });
        if found.await?.expose() == value.expose() {
            return Ok(());
        }
        Err(Failure::source("a bug: another value was written"))
    }

    fn encrypt(&self, value: &Secret) -> Result<Vec<u8>, Failure> {
        let recipients: Vec<Box<dyn Recipient>> = self
            .recipients
            .iter()
            .map(|text| recipient(text))
            .collect::<Result<_, _>>()?;
        let each = recipients.iter().map(AsRef::as_ref);
        let encryptor = Encryptor::with_recipients(each).map_err(|_| {
            Failure::source("no recipients, or ones that do not go together")
                .hint("recipients = [\"age1…\"] names who can open the file")
        })?;
        let mut file = Vec::new();
        let wrap = |file: &mut Vec<u8>| -> std::io::Result<()> {
            let armor = ArmoredWriter::wrap_output(file, Format::AsciiArmor)?;
            let mut writer = encryptor.wrap_output(armor)?;
            writer.write_all(value.expose())?;
            writer.finish()?.finish().map(drop)
        };
        wrap(&mut file).map_err(|_| Failure::source("a bug: it could not be encrypted"))?;
        Ok(file)
    }
}

/// Reads a recipient: of age, or a public key of ssh.
pub(super) fn recipient(text: &str) -> Result<Box<dyn Recipient>, Failure> {
    if let Ok(recipient) = age::x25519::Recipient::from_str(text) {
        return Ok(Box::new(recipient));
    }
    if let Ok(recipient) = age::ssh::Recipient::from_str(text) {
        return Ok(Box::new(recipient));
    }
    Err(Failure::source(format!(
        "no recipient of age or ssh: {}",
        shown(text)
    )))
}
