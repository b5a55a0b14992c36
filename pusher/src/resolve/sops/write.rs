//! A value that the user's own `sops` writes into its file: it travels on pipes, and no file holds it in clear.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{Secret, printable};
use keys_sops::{Error, Format, Kind, Plain};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::failure::Failure;
use crate::program;
use crate::resolve::sealed::Sealed;
use crate::resolve::{Run, blocking, escape::Escape};

use super::{SopsSource, explain};

/// How long sops may take. It may ask for a passphrase.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of what sops says about a failure is read, in bytes.
const LONGEST_TALK: u64 = 4 << 10;

impl SopsSource {
    /// Returns the value; nothing only where the file or the field is not there.
    pub(crate) async fn find(&self, run: &Arc<Run>) -> Result<Option<Secret>, Failure> {
        let (source, run) = (self.clone(), run.clone());
        blocking(move || {
            let path = source.path(&run);
            let found = source.writable().and_then(|()| match Sealed::open(&path)? {
                None => Ok(None),
                Some(file) => source.in_file(file.bytes(), &run),
            });
            found.map_err(|f| f.at(&source))
        })
        .await
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
            Some(file) => self.set(file.bytes(), &json, &path).await?,
            None => self.encrypt(&json, &path).await?,
        };
        // What is to be read from now on is read before it replaces anything.
        match self.in_file(&written, run)? {
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

    /// Returns the value that a file has, unless it has none.
    fn in_file(&self, text: &[u8], run: &Run) -> Result<Option<Secret>, Failure> {
        let plain: Plain = self.decrypt_text(text, run)?;
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
    async fn set(&self, before: &[u8], json: &Secret, path: &Path) -> Result<Vec<u8>, Failure> {
        let steps: Vec<String> = self
            .key
            .0
            .iter()
            .map(|name| format!("[\"{name}\"]"))
            .collect();
        let mut command = sops(path)?;
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
    async fn encrypt(&self, json: &Secret, path: &Path) -> Result<Vec<u8>, Failure> {
        let mut document = Secret::with_capacity(json.len() + 64);
        for name in &self.key.0 {
            document.push(format!("{{\"{name}\":").as_bytes());
        }
        document.push(json.expose());
        document.push("}".repeat(self.key.0.len()).as_bytes());
        let mut command = sops(path)?;
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

/// `sops` with the user's environment, in the folder from which it looks for `.sops.yaml`.
fn sops(path: &Path) -> Result<Command, Failure> {
    let program = program::find("sops").map_err(|f| f.hint("sops itself writes its files"))?;
    let mut command = Command::new(program);
    if let Some(folder) = path.parent() {
        command.current_dir(folder);
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
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(memory.try_clone().map_err(io)?)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(io)?;
    converse(&mut child, value).await?;
    let mut written = Vec::new();
    memory
        .rewind()
        .and_then(|()| memory.read_to_end(&mut written))
        .map_err(io)?;
    Ok(written)
}

/// Gives sops the value, hears what it has to say, and waits for its success.
async fn converse(child: &mut Child, value: &[u8]) -> Result<(), Failure> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let talk = async {
        let mut said = Vec::new();
        if let Some(pipe) = stderr {
            // Where reading fails, only words are lost: the exit status decides.
            let _read = pipe.take(LONGEST_TALK).read_to_end(&mut said).await;
        }
        said
    };
    let give = async {
        if let Some(mut pipe) = stdin {
            // One that does not read to the end says why.
            let _given = pipe.write_all(value).await;
        }
    };
    let ended = async { tokio::join!(give, talk, child.wait()) };
    let Ok(((), said, status)) = tokio::time::timeout(PATIENCE, ended).await else {
        return Err(Failure::source(format!(
            "sops has not ended after {PATIENCE:?}; it was killed"
        )));
    };
    let status = status.map_err(|error| Failure::source(format!("run sops: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(refused(&said, value).at(format_args!("sops: {status}")))
}

/// What sops said, unless it repeats the value.
fn refused(said: &[u8], value: &[u8]) -> Failure {
    let inner = value.trim_ascii();
    if inner.len() > 2 && said.windows(inner.len()).any(|part| part == inner) {
        return Failure::source("it failed, and what it said holds the value");
    }
    let said = String::from_utf8_lossy(said);
    let lines: Vec<String> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| printable(line.trim(), 300))
        .collect();
    Failure::source(lines.join(" | "))
}
