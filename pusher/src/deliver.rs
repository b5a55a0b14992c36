//! Hosts side by side: one ssh session each, none waiting for another's failure.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::limits::TEXT;
use keys_protocol::{KeyName, Purpose, Refusal, RefusalCode, WireError, printable};
use nix::errno::Errno;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ending::Ending;
use crate::failure::{Exit, Failure};
use crate::manifest::{Host, SshSettings};
use crate::plan::Push;
use crate::seal::{Seal, seal};
use crate::ssh::{Asking, Incoming, Outgoing, Session, Verb};
use crate::stream::{self, Broken, Inventory, Outcome};
use crate::volatile;

/// What came of one host.
pub(crate) struct Delivery<T> {
    pub(crate) host: Arc<Host>,
    pub(crate) result: Result<T, Failure>,
}

impl<T> Delivery<T> {
    /// Applies `f` to what came, if it came.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Delivery<U> {
        Delivery {
            host: self.host,
            result: self.result.map(f),
        }
    }
}

/// A push and what became of it. The secrets of the push are gone by now.
pub(crate) struct Pushed {
    pub(crate) outcome: Outcome,
    /// The keys whose source failed, and why.
    pub(crate) failed: Vec<(KeyName, Failure)>,
    /// What became of the sealed bundle.
    pub(crate) seal: Seal,
}

/// Streams every push, at most `settings.parallel` at once, in the order of the hosts' names.
pub(crate) async fn pushes(
    pushes: Vec<Push>,
    settings: &Arc<SshSettings>,
) -> Vec<Delivery<Pushed>> {
    let asking = Asking::among(pushes.len());
    let tasks = pushes.into_iter().map(|push| {
        let settings = Arc::clone(settings);
        (Arc::clone(&push.host), async move {
            let purpose = push.manifest.purpose;
            deliver(&Arc::new(push), &settings, asking, purpose).await
        })
    });
    side_by_side(tasks, settings.parallel).await
}

/// Asks every host what it has.
pub(crate) async fn inventories(
    hosts: Vec<Arc<Host>>,
    settings: &Arc<SshSettings>,
) -> Vec<Delivery<Inventory>> {
    let asking = Asking::among(hosts.len());
    let tasks = hosts.into_iter().map(|host| {
        let settings = Arc::clone(settings);
        (Arc::clone(&host), async move {
            let pin = host.host_key.clone();
            let talk = move |incoming, outgoing| stream::ask(incoming, outgoing, pin.as_ref());
            session(&host, &settings, (Verb::Status, asking), talk)
                .await
                .map_err(|lost| lost.into_failure(&host))
        })
    });
    side_by_side(tasks, settings.parallel).await
}

/// Runs a task for each host, at most `parallel` at once, and returns what came of them by the hosts' names.
pub(crate) async fn side_by_side<T: Send + 'static>(
    tasks: impl Iterator<
        Item = (
            Arc<Host>,
            impl Future<Output = Result<T, Failure>> + Send + 'static,
        ),
    >,
    parallel: usize,
) -> Vec<Delivery<T>> {
    let turns = Arc::new(Semaphore::new(parallel));
    let (mut running, mut hosts) = (JoinSet::new(), HashMap::new());
    for (host, task) in tasks {
        let turns = Arc::clone(&turns);
        let running = running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            task.await
        });
        hosts.insert(running.id(), host);
    }
    let mut done = Vec::new();
    while let Some(joined) = running.join_next_with_id().await {
        // One host's panic is one host's failure.
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(error) => (
                error.id(),
                Err(Failure::new(
                    Exit::Failed,
                    format!("internal error: {error}"),
                )),
            ),
        };
        done.extend(hosts.remove(&id).map(|host| Delivery { host, result }));
    }
    done.sort_by(|a, b| a.host.name.cmp(&b.host.name));
    done
}

/// Streams one push, for this purpose.
pub(crate) async fn deliver(
    push: &Arc<Push>,
    settings: &SshSettings,
    asking: Asking,
    purpose: Purpose,
) -> Result<Pushed, Failure> {
    let mut push = Arc::new(seal(Push::clone(push), 0).await?);
    let mut exchanged = exchange(&push, settings, asking, purpose).await;
    if let Err(Lost {
        broken: Broken::Behind(epoch),
        ..
    }) = exchanged
    {
        // The bundle that is there was numbered by a clock that is ahead of ours.
        push = Arc::new(seal(Push::clone(&push), epoch).await?);
        exchanged = exchange(&push, settings, asking, purpose).await;
    }
    let mut outcome = match exchanged {
        Err(Lost {
            broken: Broken::Unknown(error),
            ..
        }) => settle(&push, settings, asking, &error).await?,
        other => other.map_err(|lost| lost.into_failure(&push.host))?,
    };
    volatile::judge(&mut outcome, &push.held, purpose);
    Ok(Pushed {
        outcome,
        failed: push.failed.clone(),
        seal: push.seal.clone(),
    })
}

/// Finds out what became of a push whose answer was lost, by asking what sending it again would do.
async fn settle(
    push: &Arc<Push>,
    settings: &SshSettings,
    asking: Asking,
    error: &WireError,
) -> Result<Outcome, Failure> {
    let lost = |text: String| {
        Failure::new(
            Exit::Unreachable,
            format!("the connection was lost after everything was sent ({error}): {text}"),
        )
    };
    let asked = exchange(push, settings, asking, Purpose::Plan).await;
    let asked = asked.map(|mut outcome| {
        volatile::judge(&mut outcome, &push.held, Purpose::Send);
        outcome
    });
    match asked {
        Ok(outcome) if outcome.is_in_place() && push.seal.is_in(&outcome.inventory.hello) => {
            Ok(outcome)
        }
        Ok(_) => Err(lost(
            "the host had not applied it; nothing was changed".into(),
        )),
        Err(again) => Err(lost(format!(
            "whether it is in place is unknown: {}",
            again.into_failure(&push.host)
        ))
        .hint("`keys plan` says what is missing once the host can be reached")),
    }
}

async fn exchange(
    push: &Arc<Push>,
    settings: &SshSettings,
    asking: Asking,
    purpose: Purpose,
) -> Result<Outcome, Lost> {
    let push = Arc::clone(push);
    let host = Arc::clone(&push.host);
    session(
        &host,
        settings,
        (Verb::Receive, asking),
        move |incoming, outgoing| stream::stream(incoming, outgoing, &push, purpose),
    )
    .await
}

/// One ssh session and the conversation in it.
async fn session<T: Send + 'static>(
    host: &Host,
    settings: &SshSettings,
    (verb, asking): (Verb, Asking),
    talk: impl FnOnce(Incoming, Outgoing) -> Result<T, Broken> + Send + 'static,
) -> Result<T, Lost> {
    let (session, incoming, outgoing) = start(host, settings, verb, asking)
        .await
        .map_err(Lost::at_start)?;
    let talk = tokio::task::spawn_blocking(move || talk(incoming, outgoing));
    match talk.await {
        Ok(Ok(value)) => {
            session.end().await;
            Ok(value)
        }
        Ok(Err(broken)) => Err(Lost {
            broken,
            ending: Some(session.end().await),
        }),
        Err(panic) => Err(Lost::at_start(io::Error::other(panic))),
    }
}

/// How often, and how far apart, ssh is tried again when the machine is out of descriptors or processes: the other
/// hosts' sessions give theirs back.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// Starts ssh, and waits where this machine is short of what that takes.
pub(crate) async fn start(
    host: &Host,
    settings: &SshSettings,
    verb: Verb,
    asking: Asking,
) -> io::Result<(Session, Incoming, Outgoing)> {
    for _ in 1..TRIES {
        match Session::start(host, settings, verb, asking) {
            Err(error) if is_shortage(&error) => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    Session::start(host, settings, verb, asking)
}

fn is_shortage(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    )
}

/// A session that broke, and how ssh ended.
pub(crate) struct Lost {
    pub(crate) broken: Broken,
    pub(crate) ending: Option<Ending>,
}

impl Lost {
    pub(crate) fn at_start(error: io::Error) -> Self {
        Self {
            broken: Broken::Before(WireError::Io(error)),
            ending: None,
        }
    }

    pub(crate) fn into_failure(self, host: &Host) -> Failure {
        let Some(ending) = self.ending else {
            return Failure::new(
                Exit::Failed,
                format!("cannot start ssh: {}", words(&self.broken)),
            );
        };
        match self.broken {
            Broken::Before(WireError::NoMagic(noise)) => ending.failure(host, &noise),
            Broken::Before(WireError::Refused(refusal)) => refused(&refusal),
            Broken::Before(error @ (WireError::Closed | WireError::Cut | WireError::Io(_))) => {
                Failure::new(
                    Exit::Unreachable,
                    format!("{error}, and nothing was changed: {}", ending.last_line()),
                )
            }
            Broken::Stranger(text) => Failure::new(Exit::HostKey, text),
            Broken::Unknown(error) => Failure::new(Exit::Unreachable, error.to_string()),
            Broken::Behind(_) => Failure::new(Exit::Failed, words(&self.broken))
                .hint("another send came in between: send again"),
            Broken::Version(text) => {
                Failure::new(Exit::Failed, text).hint("install the same version on both sides")
            }
            Broken::Before(error) => Failure::new(
                Exit::Failed,
                format!("the agent broke the protocol: {error}"),
            ),
        }
    }
}

fn words(broken: &Broken) -> String {
    match broken {
        Broken::Before(error) | Broken::Unknown(error) => error.to_string(),
        Broken::Stranger(text) | Broken::Version(text) => text.clone(),
        Broken::Behind(epoch) => format!("the sealed bundle there has the number {epoch} already"),
    }
}

fn refused(refusal: &Refusal) -> Failure {
    let exit = match refusal.code {
        RefusalCode::Busy | RefusalCode::Filesystem | RefusalCode::Space | RefusalCode::Policy => {
            Exit::Refused
        }
        RefusalCode::Version | RefusalCode::Protocol | RefusalCode::Io | RefusalCode::Other => {
            Exit::Failed
        }
    };
    let failure = Failure::new(exit, format!("refused by the host: {refusal}"));
    if refusal.hint.is_empty() {
        failure
    } else {
        failure.hint(printable(&refusal.hint, TEXT))
    }
}
