//! The one who reseeds: another `keys` for the hosts that came back together, few at once, and none in vain.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keys_protocol::limits::TEXT;
use keys_protocol::printable;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::failure::{Exit, Failure};
use crate::host::HostName;
use crate::output::{Form, Output};
use crate::watch::board::Board;
use crate::watch::pace;

/// How long hosts are waited for that come back with the first.
const TOGETHER: Duration = Duration::from_millis(300);
/// The most hosts of one run.
const MOST: usize = 64;
/// The most runs at once: one may be waiting for a host that hangs.
const RUNS: usize = 2;
/// The longest a run may take.
const LONGEST: Duration = Duration::from_secs(900);

/// A host that lacks keys.
pub(super) struct Wanted {
    pub(super) host: HostName,
    /// Told when its run is over, however that ended.
    pub(super) done: oneshot::Sender<()>,
}

/// What starts the runs.
pub(super) struct Reseeder {
    queue: mpsc::Receiver<Wanted>,
    run: Arc<Run>,
}

/// What all runs share.
struct Run {
    program: PathBuf,
    manifest: PathBuf,
    board: Arc<Board>,
    /// Runs in a row in which a source failed: all the others would meet it, too.
    failures: AtomicU32,
}

impl Reseeder {
    pub(super) fn new(
        manifest: &Path,
        board: &Arc<Board>,
    ) -> Result<(Self, mpsc::Sender<Wanted>), Failure> {
        let cannot = |error: io::Error| {
            Failure::new(Exit::Failed, format!("cannot find this program: {error}"))
        };
        let run = Run {
            program: std::env::current_exe().map_err(cannot)?,
            manifest: manifest.to_owned(),
            board: Arc::clone(board),
            failures: AtomicU32::new(0),
        };
        let (wanted, queue) = mpsc::channel(MOST);
        let run = Arc::new(run);
        Ok((Self { queue, run }, wanted))
    }

    /// Runs for ever; returns only what no next run could get over.
    pub(super) async fn run(mut self) -> Failure {
        let places = Arc::new(Semaphore::new(RUNS));
        let (fatal, mut ended) = mpsc::channel(1);
        loop {
            let batch = tokio::select! {
                batch = self.batch() => batch,
                Some(failure) = ended.recv() => return failure,
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Failure::new(Exit::Failed, "internal error: no more runs");
            };
            sleep(pace::after(self.run.failures.load(Ordering::Relaxed))).await;
            let (run, fatal) = (Arc::clone(&self.run), fatal.clone());
            tokio::spawn(async move {
                let hosts = batch.iter().map(|wanted| &wanted.host).collect::<Vec<_>>();
                if let Err(failure) = run.reseed(&hosts).await {
                    // Full means that another one is already there to end the watcher.
                    let _one_is_enough = fatal.try_send(failure);
                }
                for wanted in batch {
                    // Its connection may have ended meanwhile.
                    let _unheard = wanted.done.send(());
                }
                drop(place);
            });
        }
    }

    /// Waits for a host, and a moment for others.
    async fn batch(&mut self) -> Vec<Wanted> {
        let mut batch = Vec::new();
        self.queue.recv_many(&mut batch, MOST).await;
        sleep(TOGETHER).await;
        while batch.len() < MOST
            && let Ok(wanted) = self.queue.try_recv()
        {
            batch.push(wanted);
        }
        batch
    }
}

impl Run {
    /// Has another `keys` send what these hosts lack.
    async fn reseed(&self, hosts: &[&HostName]) -> Result<(), Failure> {
        self.board.note(|view| {
            view.runs += 1;
            view.running += 1;
        });
        let said = self.send(hosts).await;
        self.board.note(|view| view.running -= 1);
        let report = match said {
            Ok(report) => report,
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Err(failure) => Report {
                is_source: true,
                troubles: hosts
                    .iter()
                    .map(|host| (host.as_str().to_owned(), failure.to_string()))
                    .collect(),
            },
        };
        if report.is_source {
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.board.note(|view| view.source_failures += 1);
        } else {
            self.failures.store(0, Ordering::Relaxed);
        }
        for host in hosts {
            let trouble = report.troubles.get(host.as_str()).cloned();
            self.board.reseeded(host, trouble);
        }
        Ok(())
    }

    async fn send(&self, hosts: &[&HostName]) -> Result<Report, Failure> {
        let mut keys = Command::new(&self.program);
        keys.arg("send")
            .args(["--reseed", "--keep-going", "--json", "--file"])
            .arg(&self.manifest)
            .arg("--include")
            .args(hosts.iter().map(|host| host.as_str()))
            // It is not the service.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let failed = |text: String| Failure::new(Exit::Failed, text);
        let output = match timeout(LONGEST, keys.output()).await {
            Ok(output) => output.map_err(|e| failed(format!("cannot start keys send: {e}")))?,
            Err(_) => {
                let text = format!("keys send took longer than {} s", LONGEST.as_secs());
                return Err(failed(text));
            }
        };
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let line = line.strip_prefix("keys: ").unwrap_or(line);
            Output::new(Form::Text).remark(format_args!("{line}"));
        }
        if output.status.code() == Some(Exit::Usage as i32) {
            return Err(Failure::usage(
                "keys send did not take the manifest: has it changed?",
            ));
        }
        let ended = || failed(format!("keys send ended with {}", output.status));
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|_| ended())?;
        Ok(Report::of(&report))
    }
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    /// Whether a source failed.
    is_source: bool,
    /// What went wrong, by host.
    troubles: BTreeMap<String, String>,
}

impl Report {
    /// Reads the document of `keys send --json`.
    fn of(document: &Value) -> Self {
        let mut report = Self {
            is_source: false,
            troubles: BTreeMap::new(),
        };
        for host in list(&document["hosts"]) {
            let source = list(&host["sources"]).find_map(|one| one["error"].as_str());
            let failed = list(&host["keys"]).find(|key| key["outcome"] == "failed");
            let key = failed.and_then(|key| key["detail"].as_str());
            report.is_source |= source.is_some();
            let trouble = host["error"].as_str().or(source).or(key);
            if let (Some(name), Some(trouble)) = (host["host"].as_str(), trouble) {
                report
                    .troubles
                    .insert(name.to_owned(), printable(trouble, TEXT));
            }
        }
        report
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_says_which_hosts_are_in_trouble_and_whether_a_source_is_why() {
        let check = |host: Value, is_source: bool, trouble: Option<&str>| {
            let report = Report::of(&json!({ "exit": 3, "hosts": [host] }));
            assert_eq!(report.is_source, is_source);
            assert_eq!(report.troubles.get("a").map(String::as_str), trouble);
        };
        check(
            json!({"host": "a", "keys": [{"name": "k", "outcome": "new"}], "sources": []}),
            false,
            None,
        );
        check(
            json!({"host": "a", "error": "no route"}),
            false,
            Some("no route"),
        );
        check(
            json!({"host": "a", "keys": [{"name": "k", "outcome": "failed", "detail": "no user x"}]}),
            false,
            Some("no user x"),
        );
        check(
            json!({"host": "a", "sources": [{"key": "k", "error": "403"}]}),
            true,
            Some("403"),
        );
        check(
            json!({"host": "a", "sources": [{"key": "k", "pending": "would be generated"}]}),
            false,
            None,
        );
    }
}
