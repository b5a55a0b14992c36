//! Asks every source once, side by side.

pub(crate) mod age;
mod child;
pub(crate) mod command;
mod escape;
pub(crate) mod fields;
pub(crate) mod file;
pub(crate) mod generate;
pub(crate) mod key;
mod once;
pub(crate) mod prompt;
pub(crate) mod public;
mod sealed;
pub(crate) mod shape;
pub(crate) mod sops;
mod store;
pub(crate) mod template;
pub(crate) mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{Purpose, Secret, limits};
use tokio::sync::Mutex;

use crate::failure::Failure;
use crate::identity::{AgeSettings, Keyrings};
use crate::manifest::SshSettings;
use crate::resolve::once::Origins;
use crate::resolve::vault::{VaultSettings, Vaults};
use crate::source::Source;

pub(crate) use vault::secret_id as vault_secret_id;

/// The largest secret, in bytes: what a key may have.
pub(crate) const LARGEST: u64 = limits::KEY_BYTES;

/// What the manifest says about all sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The manifest's folder, which relative paths start from.
    pub(crate) root: PathBuf,
    /// The `[vault]` table.
    pub(crate) vault: VaultSettings,
    /// The `[vaults]` tables, by name.
    pub(crate) vaults: BTreeMap<String, VaultSettings>,
    /// How hosts are reached: a tunnel leads through one.
    pub(crate) ssh: SshSettings,
    /// How long a Vault that is down or sealed is waited for (`--wait`).
    pub(crate) wait: Duration,
    /// The `[age]` table.
    pub(crate) age: AgeSettings,
}

/// What a source came to: its secret, which everything that takes it shares, or why there is none.
pub(crate) type Outcome = Result<Arc<Secret>, Failure>;

/// Each source with what it came to.
pub(crate) type Resolved = BTreeMap<Source, Outcome>;

/// Asks every origin of `sources` once, and reports every failure, not only the first. Only for a send is anything
/// made that is not there yet.
pub(crate) async fn resolve(
    sources: &BTreeSet<Source>,
    settings: &Settings,
    purpose: Purpose,
) -> Resolved {
    let run = Arc::new(Run::new(settings.clone(), sources, purpose));
    let resolved = run.answers(sources).await;
    // Nothing more is asked: no token of this run is needed while its keys are on their way.
    vault::farewell().await;
    resolved
}

/// What an origin answers: one answer for each source that was wanted of it, in order.
pub(crate) type Answers = Result<Vec<Result<Secret, Failure>>, Failure>;

/// What every kind of source can do. Its `Display` is what a user would recognise, and shows no value.
pub(crate) trait Kind: Clone + fmt::Display + Send + Sync + 'static {
    /// Returns this source with `{host}` replaced, but for its parts.
    fn for_host(&self, host: &str) -> Self;

    /// Returns what is asked once for all sources that share it: the file or path without the field.
    fn origin(&self) -> Self;

    /// Returns this source as it gives a map in JSON, where it has another form for that.
    fn into_json(self) -> Self {
        self
    }

    /// Returns which of `[vaults]` it asks or writes to, where it names one.
    fn vault(&self) -> Option<&str> {
        None
    }

    /// Returns whether asking makes a value that there never was before. Such a source is not asked to find out what
    /// has changed: only where its key is missing, or on request.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Returns the sources that this one takes from, if it does: [`Run::answers`] has what they came to.
    fn parts(&self) -> Vec<&Source> {
        Vec::new()
    }

    /// Returns [`Kind::parts`] to be changed: `{host}` is put into them, and keys for their names.
    fn parts_mut(&mut self) -> Vec<&mut Source> {
        Vec::new()
    }

    /// Asks this origin once, and takes what each of `wanted` names out of the answer.
    fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> impl Future<Output = Answers> + Send;
}

/// What the sources of one run share: each thing in it is made at the first need, once.
pub(crate) struct Run {
    settings: Settings,
    purpose: Purpose,
    origins: Origins,
    keyrings: Keyrings,
    vaults: Vaults,
    /// Held by whoever asks the user something.
    terminal: Terminal,
    /// Held by whoever writes a secret to where it is kept.
    writing: Mutex<()>,
}

/// The terminal: one question at a time.
pub(crate) type Terminal = Arc<Mutex<()>>;

impl Run {
    fn new(settings: Settings, sources: &BTreeSet<Source>, purpose: Purpose) -> Self {
        let terminal = Terminal::default();
        Self {
            settings,
            purpose,
            origins: Origins::of(sources),
            keyrings: Keyrings::new(terminal.clone()),
            vaults: Vaults::default(),
            terminal,
            writing: Mutex::default(),
        }
    }
}

impl Settings {
    /// Returns these, with a Vault that is down or sealed waited for.
    pub(crate) fn waiting(&self, wait: Duration) -> Self {
        Self {
            wait,
            ..self.clone()
        }
    }

    /// Returns `path` as seen from the manifest's folder; `~/` is the user's home.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match (path.strip_prefix("~"), std::env::home_dir()) {
            (Ok(below), Some(home)) => home.join(below),
            _ => self.root.join(path),
        }
    }
}

/// Runs `work`, which waits for disks or computes, beside the tasks that wait for the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(broken(&error)),
    }
}

/// A panic or an abort. What it says is not shown: it may hold a value.
fn broken(error: &tokio::task::JoinError) -> Failure {
    let what = if error.is_panic() {
        "a bug: it panicked"
    } else {
        "it was given up"
    };
    Failure::source(format!("resolving a source: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> BTreeSet<Source> {
        let mut table: BTreeMap<String, BTreeSet<Source>> = toml::from_str(text).unwrap();
        table.remove("sources").unwrap()
    }

    #[tokio::test]
    async fn each_source_has_its_own_answer_and_every_failure_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one").unwrap();
        let settings = Settings {
            root: folder.path().to_owned(),
            ..Settings::default()
        };
        let wanted = sources(
            r#"sources = [{ file = "a" }, { file = "b" }, { command = ["printf", "two"] }, { command = ["false"] }]"#,
        );
        let resolved = resolve(&wanted, &settings, Purpose::Plan).await;
        let lines: Vec<String> = resolved
            .iter()
            .map(|(source, answer)| match answer {
                Ok(secret) => format!("{source} = {}", String::from_utf8_lossy(secret.expose())),
                Err(failure) => failure.to_string(),
            })
            .collect();
        assert_eq!(
            lines,
            [
                "file a = one",
                "file b: No such file or directory (os error 2)",
                "command false: exit status: 1",
                "command printf two = two",
            ]
        );
    }

    #[tokio::test]
    async fn an_origin_is_asked_once_and_its_failure_is_that_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            root: folder.path().to_owned(),
            ..Settings::default()
        };
        let wanted = sources(r#"sources = [{ sops = "x.yaml#a" }, { sops = "x.yaml#b" }]"#);
        let resolved = resolve(&wanted, &settings, Purpose::Plan).await;
        let failures: BTreeSet<String> = resolved
            .into_values()
            .map(|answer| answer.err().unwrap().to_string())
            .collect();
        assert_eq!(
            failures.into_iter().collect::<Vec<_>>(),
            ["sops x.yaml: No such file or directory (os error 2)"]
        );
    }
}
