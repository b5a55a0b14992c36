//! What a program prints.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keys_protocol::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::process::Command;

use crate::failure::Failure;
use crate::program::{self, OURS};
use crate::resolve::child::{Group, Running};
use crate::resolve::{Answers, Kind, LARGEST, Run, Settings, Terminal};
use crate::source::{Form, for_host, shown};

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
    owner: Owner,
}

/// Who wrote the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    /// The manifest: our own secrets are not in its environment.
    Manifest,
    /// The user, in a variable: it gets the environment as it is.
    User,
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
            owner: Owner::Manifest,
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
        Ok(vec![self.output(&run.settings, &run.terminal).await])
    }
}

impl CommandSource {
    /// Makes the command that the user named in a variable: it runs in `folder`, in the foreground, with `told` in its
    /// environment.
    pub(crate) fn of_user(
        words: &[String],
        folder: &str,
        told: Option<(String, String)>,
        timeout: Duration,
    ) -> Self {
        Self {
            argv: words.to_vec(),
            env: told.into_iter().collect(),
            cwd: folder.to_owned(),
            timeout,
            trim: Trim::None,
            allow_empty: true,
            prompts: true,
            owner: Owner::User,
        }
    }

    /// Runs the command and returns what it printed.
    pub(crate) async fn output(
        &self,
        settings: &Settings,
        terminal: &Terminal,
    ) -> Result<Secret, Failure> {
        let _terminal = if self.prompts {
            Some(terminal.lock().await)
        } else {
            None
        };
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

    /// Runs the command and returns what it printed, whatever that is.
    pub(crate) async fn run(&self, settings: &Settings) -> Result<Secret, Failure> {
        let folder = settings.path(&self.cwd);
        let mut running = self.start(&folder)?;
        match tokio::time::timeout(self.timeout, running.finish(&[], LARGEST)).await {
            Ok(Ok(secret)) => Ok(secret),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(
                Failure::source(format!("no end after {:?}", self.timeout)).hint(
                    "it was killed; `timeout` gives it more time, `prompts = true` the terminal",
                ),
            ),
        }
    }

    fn start(&self, folder: &Path) -> Result<Running, Failure> {
        let mut command = Command::new(self.program(folder)?);
        command
            .args(&self.argv[1..])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if self.owner == Owner::Manifest {
            for name in OURS {
                command.env_remove(name);
            }
        }
        command.envs(&self.env);
        if self.prompts {
            return Running::spawn(command, Group::Foreground);
        }
        command.stderr(Stdio::piped());
        Running::spawn(command, Group::Own)
    }

    /// Returns the absolute path of the program. The current folder is never searched.
    fn program(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let name = &self.argv[0];
        if name.contains('/') {
            return Ok(folder.join(name));
        }
        program::find(name)
    }
}

impl fmt::Display for CommandSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}", shown(&self.argv.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(source: &str, expected: Result<&[u8], &str>) {
        let table: BTreeMap<String, CommandSource> = toml::from_str(source).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            root: folder.path().to_owned(),
            ..Settings::default()
        };
        let terminal = Terminal::default();
        match (table["c"].output(&settings, &terminal).await, expected) {
            (Ok(secret), Ok(bytes)) => assert_eq!(secret.expose(), bytes, "{source}"),
            (Err(failure), Err(text)) => {
                let hint = failure.advice().unwrap_or_default();
                assert_eq!(format!("{failure} ({hint})"), text, "{source}");
            }
            (Ok(_), Err(text)) => panic!("{source} ended well, not: {text}"),
            (Err(failure), Ok(_)) => panic!("{source}: {failure}"),
        }
    }

    #[tokio::test]
    async fn what_is_printed_is_the_secret_to_the_last_byte() {
        check(r#"c = ["printf", 'a\0\377\n\n']"#, Ok(b"a\0\xff\n\n")).await;
        check(
            r#"c = { argv = ["printf", 'a\n\n'], trim = "newline" }"#,
            Ok(b"a\n"),
        )
        .await;
        check(r#"c = { argv = ["true"], allow_empty = true }"#, Ok(b"")).await;
        check(
            r#"c = { argv = ["sh", "-c", "printf $X; cat"], env = { X = "y" } }"#,
            Ok(b"y"),
        )
        .await;
    }

    #[tokio::test]
    async fn a_command_that_fails_gives_no_secret() {
        check(
            r#"c = ["true"]"#,
            Err("command true: it printed nothing (`allow_empty = true` takes that as the secret)"),
        )
        .await;
        check(
            r#"c = ["sh", "-c", "echo part; echo no >&2; exit 3"]"#,
            Err("command sh -c echo part; echo no >&2; exit 3: exit status: 3 (it said: no)"),
        )
        .await;
        check(
            r#"c = ["no-such-program"]"#,
            Err("command no-such-program: no program `no-such-program` in PATH ()"),
        )
        .await;
    }

    #[tokio::test]
    async fn a_command_without_end_is_killed_with_its_children() {
        let started = std::time::Instant::now();
        check(
            r#"c = { argv = ["sh", "-c", "sleep 600 & sleep 600"], timeout = "100ms" }"#,
            Err("command sh -c sleep 600 & sleep 600: no end after 100ms \
                 (it was killed; `timeout` gives it more time, `prompts = true` the terminal)"),
        )
        .await;
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
