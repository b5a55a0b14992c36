//! An age-encrypted file.

mod write;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;

use age::Identity;
use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::age_file::AgeFile;
use crate::failure::Failure;
use crate::identity::Passphrase;
use crate::resolve::{Answers, Kind, LARGEST, Run, blocking, file};
use crate::source::{Form, for_host, shown};

/// `secrets/x.age`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, AgeTable>")]
#[schemars(with = "Form<String, AgeTable>")]
pub(crate) struct AgeSource {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The identity files to open it with; empty means those of the manifest and the user.
    identities: Vec<PathBuf>,
    /// Who can open it when it is written: of age, or public keys of ssh.
    recipients: Vec<String>,
}

/// The long form of an age source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgeTable {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The identity files to open it with, instead of those of `[age]` and the user.
    #[serde(default)]
    identities: Vec<PathBuf>,
    /// Who can open it when a `generate` source writes it: `age1…`, or public keys of ssh.
    #[serde(default)]
    recipients: Vec<String>,
}

impl TryFrom<Form<String, AgeTable>> for AgeSource {
    type Error = String;

    fn try_from(form: Form<String, AgeTable>) -> Result<Self, Self::Error> {
        let table = match form {
            Form::Table(table) => table,
            Form::Short(file) => AgeTable {
                file,
                identities: Vec::new(),
                recipients: Vec::new(),
            },
        };
        if table.file.is_empty() {
            return Err("a file is wanted".into());
        }
        for text in &table.recipients {
            write::recipient(text).map_err(|failure| failure.to_string())?;
        }
        Ok(Self {
            file: table.file,
            identities: table.identities,
            recipients: table.recipients,
        })
    }
}

impl Kind for AgeSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            file: for_host(&self.file, host),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        blocking(move || Ok(vec![self.decrypt(&run).map_err(|f| f.at(&self))])).await
    }
}

impl AgeSource {
    /// Decrypts the whole file: nothing of it is handed on before its end is authenticated.
    fn decrypt(&self, run: &Run) -> Result<Secret, Failure> {
        let file = file::open(&run.settings.path(&self.file))?;
        let size = file
            .metadata()
            .map_err(|e| Failure::source(e.to_string()))?
            .len();
        self.decrypt_from(BufReader::new(file), size, run)
    }

    /// Decrypts what was read of the file.
    fn decrypt_bytes(&self, file: &[u8], run: &Run) -> Result<Secret, Failure> {
        self.decrypt_from(file, file.len() as u64, run)
    }

    /// Decrypts what `file` gives, of about this size.
    fn decrypt_from(&self, file: impl BufRead, size: u64, run: &Run) -> Result<Secret, Failure> {
        if size > LARGEST_FILE {
            return Err(Failure::source(format!(
                "larger than {} MiB",
                LARGEST_FILE >> 20
            )));
        }
        let expected = usize::try_from(size).unwrap_or_default();
        let file = AgeFile::open(file)?;
        if file.is_for_passphrase() {
            let name = shown(&self.file);
            let passphrase = Passphrase::new(&name, &run.terminal);
            let identities = iter::once(&passphrase as &dyn Identity);
            let secret = file.decrypt(identities, expected, LARGEST)?;
            return secret.ok_or_else(|| Failure::source(passphrase.why_not()));
        }
        let keyring = run.keyrings.get(&self.identities, &run.settings)?;
        let secret = file.decrypt(keyring.identities(), expected, LARGEST)?;
        secret.ok_or_else(|| Failure::source("no identity opens it").hint(keyring.advice()))
    }
}

/// The largest file: the largest secret in armor, and a header.
const LARGEST_FILE: u64 = 96 << 20;

impl fmt::Display for AgeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "age {}", shown(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use age::Encryptor;
    use age::secrecy::ExposeSecret as _;
    use keys_protocol::Purpose;

    use crate::resolve::Settings;

    use super::*;

    /// Decrypts `file` with the identity file `me`, both in `folder`.
    fn decrypt(folder: &Path, file: &str) -> Result<Secret, Failure> {
        let settings = Settings {
            root: folder.to_owned(),
            ..Settings::default()
        };
        let source = AgeSource {
            file: file.to_owned(),
            identities: vec!["me".into()],
            recipients: Vec::new(),
        };
        source.decrypt(&Run::new(settings, &BTreeSet::new(), Purpose::Plan))
    }

    fn identity(folder: &Path) -> age::x25519::Identity {
        let identity = age::x25519::Identity::generate();
        let file = folder.join("me");
        fs::write(&file, identity.to_string().expose_secret()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        identity
    }

    fn encrypted(to: &age::x25519::Recipient, plain: &[u8]) -> Vec<u8> {
        let recipients = [to as &dyn age::Recipient];
        let mut file = Vec::new();
        let encryptor = Encryptor::with_recipients(recipients.into_iter()).unwrap();
        let mut writer = encryptor.wrap_output(&mut file).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn nothing_of_a_file_that_is_cut_or_longer_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let plain: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let file = encrypted(&identity(folder.path()).to_public(), &plain);
        fs::write(folder.path().join("whole"), &file).unwrap();
        assert_eq!(decrypt(folder.path(), "whole").unwrap().expose(), plain);

        let header = file.len() - plain.len() - 16 - 4 * 16;
        let edges = (0..4).map(|chunk| header + 16 + chunk * ((64 << 10) + 16));
        let cuts = edges.flat_map(|edge| [edge - 1, edge, edge + 1]).chain([
            0,
            1,
            header / 2,
            file.len() - 1,
        ]);
        for cut in cuts {
            fs::write(folder.path().join("cut"), &file[..cut]).unwrap();
            assert!(decrypt(folder.path(), "cut").is_err(), "cut to {cut} bytes");
        }
        for more in [1, 17, 1 << 16] {
            let longer = [&file[..], &vec![0; more]].concat();
            fs::write(folder.path().join("longer"), longer).unwrap();
            assert!(
                decrypt(folder.path(), "longer").is_err(),
                "{more} bytes longer"
            );
        }
    }

    #[test]
    fn a_file_for_others_names_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        let other = age::x25519::Identity::generate();
        identity(folder.path());
        fs::write(folder.path().join("x"), encrypted(&other.to_public(), b"x")).unwrap();
        let failure = decrypt(folder.path(), "x").err().unwrap();
        assert_eq!(failure.to_string(), "no identity opens it");
        let tried = format!("tried: {}", folder.path().join("me").display());
        assert_eq!(failure.advice(), Some(tried.as_str()));
    }

    #[test]
    fn an_identity_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let me = identity(folder.path());
        fs::write(folder.path().join("x"), encrypted(&me.to_public(), b"x")).unwrap();
        let file = folder.path().join("me");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = decrypt(folder.path(), "x").err().unwrap();
        let file = file.display();
        assert_eq!(
            failure.to_string(),
            format!("{file}: others may read it (mode 0640)")
        );
        assert_eq!(failure.advice(), Some(format!("chmod 600 {file}").as_str()));
    }
}
