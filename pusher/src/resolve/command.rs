//! What a program prints.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::{Form, Kind, for_host};

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
}

impl fmt::Display for CommandSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}", self.argv.join(" "))
    }
}
