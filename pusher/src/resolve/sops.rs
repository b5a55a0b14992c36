//! A value of a SOPS file, or the whole file.

mod gpg;
mod unlock;
mod write;

use std::fmt;
use std::mem;
use std::sync::Arc;

use keys_protocol::Secret;
use keys_sops::{Document, Error, Format, Plain, WrappedKey, limits};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::identity::Keyring;
use crate::resolve::{Answers, Kind, Run, Settings, blocking, file};
use crate::source::{Form, Steps, for_host, shown};

/// `hosts/pigeon.yaml#db/password`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<String, SopsTable>")]
#[schemars(with = "Form<String, SopsTable>")]
pub(crate) struct SopsSource {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The way to the value; empty for the whole file, and in an origin.
    key: Steps,
    /// The format, where the name does not say it.
    format: Option<SopsFormat>,
    /// Whether the value may be one that the file holds in clear.
    allow_unencrypted: bool,
    /// Whether a map is given in JSON, and not in the format of the file.
    json: bool,
}

/// The format of a SOPS file.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SopsFormat {
    Yaml,
    Json,
    Dotenv,
    Ini,
    Binary,
}

/// The long form of a SOPS source.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SopsTable {
    /// The file, relative to the manifest's folder.
    file: String,
    /// The way to the value, `a/b` or `["a", "b"]`; without it the whole file is meant.
    #[serde(default)]
    key: Steps,
    /// The format, where the name does not say it.
    format: Option<SopsFormat>,
    /// Whether the value may be one that the file holds in clear.
    #[serde(default)]
    allow_unencrypted: bool,
}

impl TryFrom<Form<String, SopsTable>> for SopsSource {
    type Error = String;

    fn try_from(form: Form<String, SopsTable>) -> Result<Self, String> {
        let SopsTable {
            file,
            key,
            format,
            allow_unencrypted,
        } = match form {
            Form::Table(table) => table,
            Form::Short(text) => {
                let (file, key) = match text.rsplit_once('#') {
                    Some((file, key)) => (file.to_owned(), Steps::parse(key)?),
                    None => (text, Steps::default()),
                };
                SopsTable {
                    file,
                    key,
                    format: None,
                    allow_unencrypted: false,
                }
            }
        };
        if file.is_empty() {
            return Err("a file is wanted: `FILE#KEY`".into());
        }
        Ok(Self {
            file,
            key,
            format,
            allow_unencrypted,
            json: false,
        })
    }
}

impl Kind for SopsSource {
    fn for_host(&self, host: &str) -> Self {
        Self {
            file: for_host(&self.file, host),
            key: self.key.for_host(host),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        Self {
            key: Steps::default(),
            allow_unencrypted: false,
            json: false,
            ..self.clone()
        }
    }

    fn into_json(self) -> Self {
        Self { json: true, ..self }
    }

    async fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> Answers {
        let at = self.clone();
        let answers = async {
            let of = run.clone();
            let document = blocking(move || self.read(&of.settings)).await?;
            let plain = decrypt(document, &run).await?;
            blocking(move || {
                let take = |source: &Self| source.take(&plain).map_err(|f| f.at(source));
                Ok(wanted.iter().map(take).collect())
            })
            .await
        };
        answers.await.map_err(|failure| failure.at(at))
    }
}

impl SopsSource {
    /// Returns the file, relative to the manifest's folder.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Reads the file, of which everything is still encrypted.
    pub(crate) fn read(&self, settings: &Settings) -> Result<Document, Failure> {
        let file = file::open(&settings.path(&self.file))?;
        let text = file::read(&file, limits::BYTES as u64)?;
        self.parse(text.expose())
    }

    fn parse(&self, text: &[u8]) -> Result<Document, Failure> {
        Document::parse(text, self.format()).map_err(explain)
    }

    fn format(&self) -> Format {
        self.format
            .map_or_else(|| Format::of_name(&self.file), Format::from)
    }

    /// Takes out what this source names: a value, or the whole document.
    fn take(&self, plain: &Plain) -> Result<Secret, Failure> {
        let encrypted = if self.key.0.is_empty() {
            plain.is_encrypted()
        } else {
            plain.get(&self.key.0).map_err(explain)?.is_encrypted()
        };
        if !encrypted && !self.allow_unencrypted {
            return Err(Failure::source("the file holds it in clear, or a part of it").hint(
                "anyone who writes the file can change that; `allow_unencrypted = true` takes it all the same",
            ));
        }
        let bytes = match (self.key.0.as_slice(), self.json) {
            ([], true) => plain.json(),
            ([], false) => plain.whole(),
            (key, true) => plain.get(key).and_then(|value| value.json()),
            (key, false) => plain.get(key).and_then(|value| value.bytes()),
        };
        Ok(Secret::new(mem::take(&mut *bytes.map_err(explain)?)))
    }
}

/// Finds the data key of a document and decrypts it, whose MAC is right then.
async fn decrypt(document: Document, run: &Arc<Run>) -> Result<Plain, Failure> {
    let of = run.clone();
    let keyring = blocking(move || of.keyrings.get(&[], &of.settings)).await?;
    let key = unlock::data_key(&document, &keyring, run).await;
    let key = key.map_err(|error| locked(error, &document, &keyring))?;
    blocking(move || document.decrypt(&key).map_err(explain)).await
}

/// Says why nobody could unwrap the data key, and what may help.
fn locked(error: Error, document: &Document, keyring: &Keyring) -> Failure {
    let failure = explain(error);
    let groups = document.metadata().groups();
    let any = |kind: fn(&WrappedKey) -> bool| groups.iter().flatten().any(kind);
    if any(|key| matches!(key, WrappedKey::Age { .. })) {
        failure.hint(keyring.advice())
    } else if any(|key| matches!(key, WrappedKey::Unsupported { .. })) {
        failure.hint("of a sops file's recipients, age, pgp and hc_vault ones are used: add one with `sops updatekeys`")
    } else {
        failure
    }
}

fn explain(error: Error) -> Failure {
    let failure = Failure::source(error.to_string());
    match (error.hint(), error) {
        (Some(hint), _) => failure.hint(hint),
        (None, Error::NotEncrypted) => {
            failure.hint("`sops encrypt --in-place` encrypts it; a plain file is a `file` source")
        }
        (None, _) => failure,
    }
}

impl From<SopsFormat> for Format {
    fn from(format: SopsFormat) -> Self {
        match format {
            SopsFormat::Yaml => Self::Yaml,
            SopsFormat::Json => Self::Json,
            SopsFormat::Dotenv => Self::Dotenv,
            SopsFormat::Ini => Self::Ini,
            SopsFormat::Binary => Self::Binary,
        }
    }
}

impl fmt::Display for SopsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sops {}", shown(&self.file))?;
        if self.key.0.is_empty() {
            Ok(())
        } else {
            write!(f, "#{}", shown(&self.key.to_string()))
        }
    }
}
