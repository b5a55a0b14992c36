//! An age-encrypted file.

use std::fmt;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, LARGEST, Run, blocking, file};
use crate::source::{Form, for_host};

/// `secrets/x.age`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, AgeTable>")]
#[schemars(with = "Form<String, AgeTable>")]
pub(crate) struct AgeSource {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The identity files to open it with; empty means those of the manifest and the user.
    identities: Vec<PathBuf>,
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
}

impl TryFrom<Form<String, AgeTable>> for AgeSource {
    type Error = &'static str;

    fn try_from(form: Form<String, AgeTable>) -> Result<Self, Self::Error> {
        let AgeTable { file, identities } = match form {
            Form::Table(table) => table,
            Form::Short(file) => AgeTable {
                file,
                identities: Vec::new(),
            },
        };
        if file.is_empty() {
            return Err("a file is wanted");
        }
        Ok(Self { file, identities })
    }
}

impl Kind for AgeSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            file: for_host(&self.file, host),
            identities: self.identities.clone(),
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        blocking(move || Ok(vec![self.decrypt(&run).map_err(|f| f.at(&self.file))])).await
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
        if size > LARGEST_FILE {
            return Err(Failure::source(format!(
                "larger than {} MiB",
                LARGEST_FILE >> 20
            )));
        }
        let armored = ArmoredReader::new(BufReader::new(file));
        let decryptor = Decryptor::new_buffered(armored).map_err(|e| explain(&e))?;
        if decryptor.is_scrypt() {
            return Err(Failure::source(
                "encrypted to a passphrase: not supported yet",
            ));
        }
        let keyring = run.keyrings.get(&self.identities, &run.settings)?;
        let mut plain = decryptor
            .decrypt(keyring.identities())
            .map_err(|error| match error {
                DecryptError::NoMatchingKeys => {
                    Failure::source("no identity opens it").hint(keyring.advice())
                }
                error => explain(&error),
            })?;
        let expected = usize::try_from(size).unwrap_or_default();
        Secret::read_sized(&mut plain, expected, LARGEST).map_err(|e| match e.kind() {
            io::ErrorKind::FileTooLarge => {
                Failure::source(format!("larger than {} MiB", LARGEST >> 20))
            }
            _ => Failure::source("damaged or cut off: its end is not authentic"),
        })
    }
}

/// The largest file: the largest secret in armor, and a header.
const LARGEST_FILE: u64 = 96 << 20;

fn explain(error: &DecryptError) -> Failure {
    Failure::source(match error {
        DecryptError::InvalidHeader => "not an age file".to_owned(),
        DecryptError::UnknownFormat => "an age format that is not known".to_owned(),
        DecryptError::InvalidMac => "damaged: its header is not authentic".to_owned(),
        DecryptError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            "not an age file, or cut off".to_owned()
        }
        DecryptError::Io(e) => format!("not an age file: {e}"),
        _ => "damaged: it cannot be decrypted".to_owned(),
    })
}

impl fmt::Display for AgeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "age {}", self.file)
    }
}
