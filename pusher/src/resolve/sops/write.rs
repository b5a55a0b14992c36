//! A value that the user's own `sops` writes into its file: it travels on pipes, and no file holds it in clear.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::Secret;
use keys_sops::{Document, Error, Format, Kind};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::process::Command;

use crate::environment;
use crate::failure::Failure;
use crate::program;
use crate::resolve::child::{Ended, Group, Running};
use crate::resolve::sealed::Sealed;
use crate::resolve::vault::Transit;
use crate::resolve::{Run, Settings, blocking, escape::Escape};

use super::{SopsSource, decrypt, explain};

/// How long sops may take. It may ask for a passphrase.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which servers sops may ask; where it is not set, all of them.
const ALLOWED_VAULTS: &str = "SOPS_HC_VAULT_ALLOWLIST";

impl SopsSource {
    /// Returns the value; nothing only where the file or the field is not there.
    pub(crate) async fn find(&self, run: &Arc<Run>) -> Result<Option<Secret>, Failure> {
        self.look(run).await.map_err(|f| f.at(self))
    }

    async fn look(&self, run: &Arc<Run>) -> Result<Option<Secret>, Failure> {
        self.writable()?;
        let (source, path) = (self.clone(), self.path(run));
        let there = blocking(move || {
            let file = Sealed::open(&path)?;
            file.map(|file| source.parse(file.bytes())).transpose()
        });
        match there.await? {
            None => Ok(None),
            Some(document) => self.in_document(document, run).await,
        }
    }

    /// Returns where the file is.
    pub(crate) fn path(&self, run: &Run) -> PathBuf {
        run.settings.path(&self.file)
    }

    /// Writes the value, which is not there yet.
    pub(crate) async fn write(&self, value: &Secret, run: &Arc<Run>) -> Result<(), Failure> {
        let path = self.path(run);
        let json = Escape::Json
            .apply(value.expose())
            .map_err(Failure::source)?;
        let before = Sealed::open(&path)?;
        let written = match &before {
            Some(file) => self.set(file.bytes(), &json, &run.settings).await?,
            None => self.encrypt(&json, &run.settings).await?,
        };
        // What is to be read from now on is read before it replaces anything.
        let document = self.parse(&written)?;
        match self.in_document(document, run).await? {
            Some(found) if found.expose() == value.expose() => {}
            _ => return Err(Failure::source("a bug: sops wrote another value")),
        }
        Sealed::replace(&path, before.as_ref(), &written)
    }

    /// Refuses what cannot be written by itself.
    fn writable(&self) -> Result<(), Failure> {
        let odd =
            |name: &String| name.contains(['"', '\\', '[', ']']) || name.contains(char::is_control);
        if self.key.0.is_empty() || self.key.0.iter().any(odd) || self.format() == Format::Binary {
            return Err(Failure::source(
                "a store is one value of a file, whose name holds no quotes or brackets",
            )
            .hint("`FILE#KEY`, in YAML, JSON, dotenv or ini"));
        }
        Ok(())
    }

    /// Returns the value that a document has, unless it has none.
    async fn in_document(
        &self,
        document: Document,
        run: &Arc<Run>,
    ) -> Result<Option<Secret>, Failure> {
        let plain = decrypt(document, run).await?;
        let last = self.key.0.len();
        for depth in 1..=last {
            match plain.get(&self.key.0[..depth]) {
                Ok(value) if depth < last && value.kind() != Kind::Map => {
                    return Err(Failure::source(
                        "something else than a map is on the way there",
                    ));
                }
                Ok(_) => {}
                Err(Error::NoField { .. }) => return Ok(None),
                Err(error) => return Err(explain(error)),
            }
        }
        self.take(&plain).map(Some)
    }

    /// Has sops put the value into a copy of the file in memory, which it knows as its standard output: a file on disk
    /// would hold the value in clear where the rules of the file do not encrypt it.
    async fn set(
        &self,
        before: &[u8],
        json: &Secret,
        settings: &Settings,
    ) -> Result<Vec<u8>, Failure> {
        let steps: Vec<String> = self
            .key
            .0
            .iter()
            .map(|name| format!("[\"{name}\"]"))
            .collect();
        let mut command = sops(&settings.path(&self.file), settings)?;
        command
            .args([
                "set",
                "--value-stdin",
                "--input-type",
                self.word(),
                "--output-type",
                self.word(),
            ])
            .args(["/dev/stdout", &steps.concat()]);
        exchange(command, before, json.expose()).await
    }

    /// Has sops make a file that holds the value and nothing else, to the recipients that `.sops.yaml` names.
    async fn encrypt(&self, json: &Secret, settings: &Settings) -> Result<Vec<u8>, Failure> {
        let path = settings.path(&self.file);
        let mut document = Secret::with_capacity(json.len() + 64);
        for name in &self.key.0 {
            document.push(format!("{{\"{name}\":").as_bytes());
        }
        document.push(json.expose());
        document.push("}".repeat(self.key.0.len()).as_bytes());
        let mut command = sops(&path, settings)?;
        command
            .args([
                "encrypt",
                "--input-type",
                "json",
                "--output-type",
                self.word(),
            ])
            .arg("--filename-override")
            .arg(path);
        exchange(command, b"", document.expose()).await
    }

    fn word(&self) -> &'static str {
        match self.format() {
            Format::Yaml => "yaml",
            Format::Json => "json",
            Format::Dotenv => "dotenv",
            Format::Ini => "ini",
            Format::Binary => "binary",
        }
    }
}

/// `sops` in the folder from which it looks for `.sops.yaml`, with what it needs of the user's environment: its own
/// variables, and where a Vault is configured, those of Vault.
fn sops(path: &Path, settings: &Settings) -> Result<Command, Failure> {
    let program = program::find("sops").map_err(|f| f.hint("sops itself writes its files"))?;
    let mut command = Command::new(program);
    if let Some(folder) = path.parent() {
        command.current_dir(folder);
    }
    let vault = Transit::configured(settings)?;
    for name in environment::ours() {
        let needed = match name.to_str() {
            Some(text) if text.starts_with("VAULT_") => vault.is_some(),
            Some(text) => text.starts_with("SOPS_"),
            None => false,
        };
        if !needed {
            command.env_remove(name);
        }
    }
    // Left alone, sops sends the user's token to whichever server a file names.
    if std::env::var_os(ALLOWED_VAULTS).is_none_or(|list| list.is_empty()) {
        command.env(ALLOWED_VAULTS, vault.as_deref().unwrap_or("none"));
    }
    Ok(command)
}

/// Runs sops with `value` on its standard input and a file in memory that holds `before` as its standard output, and
/// returns what that holds then.
async fn exchange(mut command: Command, before: &[u8], value: &[u8]) -> Result<Vec<u8>, Failure> {
    let io = |error: std::io::Error| Failure::source(format!("run sops: {error}"));
    let memory = memfd_create("sops", MFdFlags::MFD_CLOEXEC).map_err(|errno| io(errno.into()))?;
    let mut memory = File::from(memory);
    memory
        .write_all(before)
        .and_then(|()| memory.rewind())
        .map_err(io)?;
    command
        .stdin(Stdio::piped())
        .stdout(memory.try_clone().map_err(io)?)
        .stderr(Stdio::piped());
    converse(command, value).await?;
    let mut written = Vec::new();
    memory
        .rewind()
        .and_then(|()| memory.read_to_end(&mut written))
        .map_err(io)?;
    Ok(written)
}

/// Gives sops the value, hears what it has to say, and waits for its success.
async fn converse(command: Command, value: &[u8]) -> Result<(), Failure> {
    // It may ask on the terminal.
    let mut running = Running::spawn(command, Group::Foreground).map_err(|f| f.at("run sops"))?;
    let Ok(ended) = tokio::time::timeout(PATIENCE, running.end(value, 0)).await else {
        return Err(Failure::source(format!(
            "sops has not ended after {PATIENCE:?}; it was killed"
        )));
    };
    let Ended { status, said, .. } = ended.map_err(|f| f.at("run sops"))?;
    if status.success() {
        return Ok(());
    }
    let failure = if said.may_hold(value) {
        Failure::source("it failed, and what it said may hold the value")
    } else {
        Failure::source(said.lines())
    };
    Err(failure.at(format_args!("sops: {status}")))
}
