//! One host, followed over one long connection: asked what it has, and seen to when that is not all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use crate::deliver::{self, Lost};
use crate::failure::{Exit, Failure};
use crate::manifest::{Host, SshSettings};
use crate::output::{Form, Output};
use crate::ssh::{Asking, Incoming, Outgoing, Session, Verb};
use crate::stream::{self, Broken, Inventory};
use crate::watch::board::Board;
use crate::watch::missing::missing;
use crate::watch::pace;
use crate::watch::reseed::Wanted;

/// What is needed to follow a host.
pub(super) struct Follower {
    pub(super) host: Arc<Host>,
    pub(super) settings: Arc<SshSettings>,
    pub(super) every: Duration,
    /// Held while a login is under way.
    pub(super) logins: Arc<Semaphore>,
    pub(super) board: Arc<Board>,
    pub(super) wanted: Sender<Wanted>,
}

/// A boot, and how often in a row it was reseeded and still lacked something.
#[derive(Default)]
struct Tries {
    boot: String,
    failures: u32,
}

/// A connection, and what is said over it.
struct Line {
    session: Session,
    pipes: (Incoming, Outgoing),
}

impl Follower {
    /// Follows it for ever, from one connection to the next.
    pub(super) async fn follow(self) {
        let mut tries = Tries::default();
        let mut answered = Instant::now();
        loop {
            let failure = self.connection(&mut tries, &mut answered).await;
            if self.board.lost(&self.host.name, &failure) {
                Output::new(Form::Text).failure(&failure.at(&self.host.name));
            }
            sleep(pace::knock(answered.elapsed())).await;
        }
    }

    /// Follows it for as long as one connection lasts, and returns why that ended.
    async fn connection(&self, tries: &mut Tries, answered: &mut Instant) -> Failure {
        let (mut line, mut inventory) = match self.log_in().await {
            Ok(begun) => begun,
            Err(failure) => return failure,
        };
        loop {
            *answered = Instant::now();
            let again = match self.see_to(&inventory, tries, &mut line.session).await {
                Ok(()) => self.ask(line, Turn::Again).await,
                Err(lost) => Err(lost),
            };
            (line, inventory) = match again {
                Ok(answer) => answer,
                Err(failure) => return failure,
            };
        }
    }

    async fn log_in(&self) -> Result<(Line, Inventory), Failure> {
        let _turn = self.logins.acquire().await;
        let (session, incoming, outgoing) =
            deliver::start(&self.host, &self.settings, Verb::Watch, Asking::Never)
                .await
                .map_err(|error| Lost::at_start(error).into_failure(&self.host))?;
        self.board.logged_in(&self.host.name);
        let line = Line {
            session,
            pipes: (incoming, outgoing),
        };
        self.ask(line, Turn::First).await
    }

    /// Hears what the host has: at the first turn it says so by itself.
    async fn ask(&self, line: Line, turn: Turn) -> Result<(Line, Inventory), Failure> {
        let Line { session, pipes } = line;
        let pin = self.host.host_key.clone();
        let talk = tokio::task::spawn_blocking(move || {
            let (mut incoming, mut outgoing) = pipes;
            if turn == Turn::Again {
                ask_again(&mut outgoing)?;
            }
            stream::ask(&mut incoming, &mut outgoing, pin.as_ref())
                .map(|inventory| (inventory, (incoming, outgoing)))
        });
        match talk.await {
            Ok(Ok((inventory, pipes))) => Ok((Line { session, pipes }, inventory)),
            Ok(Err(broken)) => {
                let ending = Some(session.end().await);
                Err(Lost { broken, ending }.into_failure(&self.host))
            }
            Err(panic) => Err(Failure::new(
                Exit::Failed,
                format!("internal error: {panic}"),
            )),
        }
    }

    /// Has the host reseeded if it lacks a key, and returns when it is to be asked again, or when the connection is lost.
    async fn see_to(
        &self,
        inventory: &Inventory,
        tries: &mut Tries,
        session: &mut Session,
    ) -> Result<(), Failure> {
        let (name, boot) = (&self.host.name, &inventory.hello.boot);
        let missing = missing(&self.host, inventory);
        if self.board.answered(name, boot, &missing) {
            let text = match missing.len() {
                0 => "every key is there".to_owned(),
                count => format!("{count} of {} keys are missing", self.host.keys.len()),
            };
            Output::new(Form::Text).remark(format_args!("{name}: {text}"));
        }
        if tries.boot != *boot {
            *tries = Tries {
                boot: boot.clone(),
                // Its own first reseed gives a boot its mark.
                failures: if tries.boot.is_empty() {
                    tries.failures
                } else {
                    0
                },
            };
        }
        if missing.is_empty() {
            tries.failures = 0;
            return rest(session, self.every).await;
        }
        rest(session, pace::after(tries.failures)).await?;
        tries.failures = tries.failures.saturating_add(1);
        self.reseed().await;
        Ok(())
    }

    /// Waits until the host's keys were sent, or could not be.
    async fn reseed(&self) {
        let (done, heard) = oneshot::channel();
        let wanted = Wanted {
            host: self.host.name.clone(),
            done,
        };
        // Neither can fail but at the end of the watcher, which ends this, too.
        if self.wanted.send(wanted).await.is_ok() {
            let _ended = heard.await;
        }
    }
}

/// Waits, unless the connection ends: that is how a host that goes down is noticed at once.
async fn rest(session: &mut Session, pause: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = sleep(pause) => Ok(()),
        ended = session.lost() => Err(match ended {
            Ok(()) => Failure::new(Exit::Unreachable, "the connection was lost"),
            Err(error) => Failure::new(Exit::Failed, format!("wait for ssh: {error}")),
        }),
    }
}

/// Whether the agent speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Again,
}

fn ask_again(outgoing: &mut Outgoing) -> Result<(), Broken> {
    use std::io::Write as _;
    let asked = outgoing.write_all(b"\n").and_then(|()| outgoing.flush());
    asked.map_err(|error| Broken::Before(error.into()))
}
