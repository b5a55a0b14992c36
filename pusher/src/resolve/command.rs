//! What a program prints.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keys_protocol::{Secret, printable};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, LARGEST, Run, Settings};
use crate::source::{Form, for_host};

/// `["pass", "show", "x"]`, or a table.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "Form<Vec<String>, CommandTable>")]
#[schemars(with = "Form<Vec<String>, CommandTable>")]
pub(crate) struct CommandSource {
    /// The program and its arguments; no shell is involved. Never empty.
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    /// Where it runs, relative to the manifest's folder.
    cwd: String,
    timeout: Duration,
    trim: Trim,
    allow_empty: bool,
    prompts: bool,
}

/// What is taken off the end of what the program prints.
#[derive(
    Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trim {
    /// Nothing: the bytes as they are printed.
    #[default]
    None,
    /// One newline, if there is one.
    Newline,
}

/// The long form of a command.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandTable {
    /// The program and its arguments. A name without `/` is looked up in PATH.
    argv: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Where it runs, if not in the manifest's folder.
    #[serde(default)]
    cwd: String,
    /// How long it may take: `30s`.
    timeout: Option<String>,
    /// What is taken off the end of what it prints.
    #[serde(default)]
    trim: Trim,
    /// Whether nothing at all is a secret, too.
    #[serde(default)]
    allow_empty: bool,
    /// Whether it may ask on the terminal: it then runs in the foreground, one at a time.
    #[serde(default)]
    prompts: bool,
}

/// How long a command may take where the manifest does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a command may take at most.
const LONGEST: Duration = Duration::from_secs(3600);

impl TryFrom<Form<Vec<String>, CommandTable>> for CommandSource {
    type Error = &'static str;

    fn try_from(form: Form<Vec<String>, CommandTable>) -> Result<Self, Self::Error> {
        let table = match form {
            Form::Table(table) => table,
            Form::Short(argv) => CommandTable {
                argv,
                env: BTreeMap::new(),
                cwd: String::new(),
                timeout: None,
                trim: Trim::None,
                allow_empty: false,
                prompts: false,
            },
        };
        if table.argv.first().is_none_or(String::is_empty) {
            return Err("a command names a program");
        }
        let timeout = match &table.timeout {
            Some(text) => duration(text).ok_or("a timeout is a time like `30s`, up to an hour")?,
            None => TIMEOUT,
        };
        Ok(Self {
            argv: table.argv,
            env: table.env,
            cwd: table.cwd,
            timeout,
            trim: table.trim,
            allow_empty: table.allow_empty,
            prompts: table.prompts,
        })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let duration = Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()?;
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

impl Kind for CommandSource {
    fn for_host(&self, host: &str) -> Self {
        let text = |text: &String| for_host(text, host);
        Self {
            argv: self.argv.iter().map(text).collect(),
            env: self
                .env
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            cwd: text(&self.cwd),
            ..self.clone()
        }
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        let _terminal = if self.prompts {
            Some(run.terminal.lock().await)
        } else {
            None
        };
        Ok(vec![self.output(&run.settings).await])
    }
}

impl CommandSource {
    /// Runs the command and returns what it printed.
    pub(crate) async fn output(&self, settings: &Settings) -> Result<Secret, Failure> {
        let mut secret = self.run(settings).await.map_err(|f| f.at(self))?;
        if self.trim == Trim::Newline && secret.expose().ends_with(b"\n") {
            secret.truncate(secret.len() - 1);
        }
        if secret.is_empty() && !self.allow_empty {
            return Err(Failure::source("it printed nothing")
                .at(self)
                .hint("`allow_empty = true` takes that as the secret"));
        }
        Ok(secret)
    }

    async fn run(&self, settings: &Settings) -> Result<Secret, Failure> {
        let folder = settings.path(&self.cwd);
        let mut running = Running::start(self, &folder)?;
        match tokio::time::timeout(self.timeout, running.finish()).await {
            Ok(Ok(secret)) => Ok(secret),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(
                Failure::source(format!("no end after {:?}", self.timeout)).hint(
                    "it was killed; `timeout` gives it more time, `prompts = true` the terminal",
                ),
            ),
        }
    }

    /// Returns the absolute path of the program. The current folder is never searched.
    fn program(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let name = &self.argv[0];
        if name.contains('/') {
            return Ok(folder.join(name));
        }
        let search = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&search)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_program(path))
            .ok_or_else(|| Failure::source(format!("no program `{}` in PATH", printable(name, 80))))
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Variables that hold a secret of ours, which no child needs to see.
const OURS: [&str; 3] = ["VAULT_TOKEN", "BAO_TOKEN", "SOPS_AGE_KEY"];

/// How much of what a failed command printed to its standard error is shown.
const LONGEST_TALK: usize = 4 << 10;

/// A command that runs; it is killed, with its process group, when this goes away before it ended.
struct Running {
    child: Child,
    group: Group,
}

/// Whose process group the command is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Own,
    /// Ours: only the foreground group may read from the terminal.
    Foreground,
}

impl Running {
    fn start(source: &CommandSource, folder: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(source.program(folder)?);
        command
            .args(&source.argv[1..])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for name in OURS {
            command.env_remove(name);
        }
        command.envs(&source.env);
        let group = if source.prompts {
            Group::Foreground
        } else {
            Group::Own
        };
        if group == Group::Own {
            command.process_group(0).stderr(Stdio::piped());
        }
        let child = command
            .spawn()
            .map_err(|e| Failure::source(format!("start: {e}")))?;
        Ok(Self { child, group })
    }

    async fn finish(&mut self) -> Result<Secret, Failure> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (secret, talk) = tokio::join!(all(stdout), tail(stderr));
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Failure::source(e.to_string()))?;
        if !status.success() {
            let failure = Failure::source(status.to_string());
            return Err(match talk.as_str() {
                "" => failure,
                talk => failure.hint(format!("it said: {talk}")),
            });
        }
        secret
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without an id it has ended, and the number may be another's by now.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let (Some(id), Group::Own) = (id, self.group) {
            // It may have ended just now; there is nobody to tell.
            let _gone = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Reads what a command prints.
async fn all(pipe: Option<ChildStdout>) -> Result<Secret, Failure> {
    let mut secret = Secret::with_capacity(CHUNK);
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let Some(mut pipe) = pipe else {
        return Ok(secret);
    };
    loop {
        let read = pipe
            .read(&mut chunk)
            .await
            .map_err(|e| Failure::source(e.to_string()))?;
        if read == 0 {
            return Ok(secret);
        }
        secret.push(&chunk[..read]);
        if secret.len() as u64 > LARGEST {
            return Err(Failure::source(format!(
                "it printed more than {} MiB",
                LARGEST >> 20
            )));
        }
    }
}

const CHUNK: usize = 16 << 10;

/// Reads what a command says, and keeps the end of it.
async fn tail(pipe: Option<ChildStderr>) -> String {
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut chunk = vec![0; LONGEST_TALK];
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        kept.drain(..kept.len().saturating_sub(LONGEST_TALK));
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<String> = text
        .trim()
        .lines()
        .map(|line| printable(line, LONGEST_TALK))
        .collect();
    lines.join(" | ")
}

impl fmt::Display for CommandSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}", self.argv.join(" "))
    }
}
