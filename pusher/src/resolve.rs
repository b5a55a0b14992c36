//! Asks every source once, side by side.

pub(crate) mod age;
pub(crate) mod command;
pub(crate) mod file;
pub(crate) mod sops;
pub(crate) mod vault;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{Secret, limits};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::identity::{AgeSettings, Keyrings};
use crate::manifest::SshSettings;
use crate::resolve::vault::{VaultSettings, Vaults};
use crate::source::Source;

/// How many origins are asked at once.
const AT_ONCE: usize = 16;

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

/// Each source with its secret, or why there is none.
pub(crate) type Resolved = BTreeMap<Source, Result<Arc<Secret>, Failure>>;

/// Asks every origin of `sources` once, at most 16 at a time, and reports every failure, not only the first.
pub(crate) async fn resolve(sources: &BTreeSet<Source>, settings: &Settings) -> Resolved {
    let mut origins: BTreeMap<Source, Vec<Source>> = BTreeMap::new();
    for source in sources {
        origins
            .entry(source.origin())
            .or_default()
            .push(source.clone());
    }
    let run = Arc::new(Run::new(settings.clone()));
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    let mut waiting = HashMap::new();
    for (origin, wanted) in origins {
        let (run, slots, names) = (run.clone(), slots.clone(), wanted.clone());
        let task = asking.spawn(async move {
            // The semaphore is never closed: without a slot there is only one task too many.
            let _slot = slots.acquire_owned().await;
            origin.ask(names, run).await
        });
        waiting.insert(task.id(), wanted);
    }
    let mut resolved = Resolved::new();
    while let Some(joined) = asking.join_next_with_id().await {
        let (task, answers) = match joined {
            Ok((task, answers)) => (task, answers),
            Err(error) => (error.id(), Err(broken(&error))),
        };
        let wanted = waiting.remove(&task).unwrap_or_default();
        resolved.extend(share(wanted, answers));
    }
    // Nothing more is asked: no token of this run is needed while its keys are on their way.
    vault::farewell().await;
    resolved
}

/// Gives each of `wanted` its answer; a failed origin is the failure of all of them.
fn share(wanted: Vec<Source>, answers: Answers) -> Resolved {
    match answers {
        Ok(answers) => wanted
            .into_iter()
            .zip(answers.into_iter().map(|answer| answer.map(Arc::new)))
            .collect(),
        Err(failure) => wanted
            .into_iter()
            .map(|source| (source, Err(failure.clone())))
            .collect(),
    }
}

/// What an origin answers: one answer for each source that was wanted of it, in order.
pub(crate) type Answers = Result<Vec<Result<Secret, Failure>>, Failure>;

/// What every kind of source can do. Its `Display` is what a user would recognise, and shows no value.
pub(crate) trait Kind: Clone + fmt::Display + Send + Sync + 'static {
    /// Returns this source with `{host}` replaced.
    fn for_host(&self, host: &str) -> Self;

    /// Returns what is asked once for all sources that share it: the file or path without the field.
    fn origin(&self) -> Self;

    /// Returns which of `[vaults]` it asks, where it names one.
    fn vault(&self) -> Option<&str> {
        None
    }

    /// Returns whether asking makes a value that there never was before. Such a source is not asked to find out what
    /// has changed: only where its key is missing, or on request.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Asks this origin once, and takes what each of `wanted` names out of the answer.
    fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> impl Future<Output = Answers> + Send;
}

/// What the sources of one run share: each thing in it is made at the first need, once.
pub(crate) struct Run {
    settings: Settings,
    keyrings: Keyrings,
    vaults: Vaults,
    /// Held by whoever asks the user something.
    terminal: Terminal,
}

/// The terminal: one question at a time.
pub(crate) type Terminal = Arc<Mutex<()>>;

impl Run {
    fn new(settings: Settings) -> Self {
        let terminal = Terminal::default();
        Self {
            settings,
            keyrings: Keyrings::new(terminal.clone()),
            vaults: Vaults::default(),
            terminal,
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
        let resolved = resolve(&wanted, &settings).await;
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
        let resolved = resolve(&wanted, &settings).await;
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
