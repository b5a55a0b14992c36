//! One host's turn: down, up, its keys, its units; and how long each took.

use std::sync::Arc;
use std::time::Duration;

use keys_protocol::{Hello, Purpose};
use tokio::time::{Instant, sleep};

use crate::deliver::{self, Pushed};
use crate::failure::{Exit, Failure};
use crate::manifest::{Host, SshSettings};
use crate::reboot::dependents::{self, States};
use crate::reboot::loss::{self, Loss};
use crate::remote;
use crate::ssh::Verb;

/// How long between two knocks.
const PAUSE: Duration = Duration::from_secs(1);

/// A host that is to be rebooted.
pub(crate) struct Turn {
    loss: Loss,
    settings: Arc<SshSettings>,
    timeout: Duration,
}

/// A host that is back.
pub(crate) struct Rebooted {
    /// From the order to reboot to the first answer of the next boot.
    pub(crate) back: Duration,
    pub(crate) sent: Duration,
    /// From the last key to the last unit.
    pub(crate) active: Duration,
    pub(crate) pushed: Pushed,
    pub(crate) before: States,
    pub(crate) now: States,
}

impl Turn {
    pub(crate) fn new(loss: Loss, settings: &Arc<SshSettings>, timeout: Duration) -> Self {
        Self {
            loss,
            settings: Arc::clone(settings),
            timeout,
        }
    }

    pub(crate) fn host(&self) -> Arc<Host> {
        Arc::clone(&self.loss.push.host)
    }

    /// Takes it: each step starts when the one before it is done.
    pub(crate) async fn take(self) -> Result<Rebooted, Failure> {
        let start = Instant::now();
        self.order().await?;
        self.back(start + self.timeout).await?;
        let back = Instant::now();
        let pushed = self.send(back + self.timeout).await?;
        let sent = Instant::now();
        let now = self.units(sent + self.timeout).await?;
        Ok(Rebooted {
            back: back - start,
            sent: sent - back,
            active: sent.elapsed(),
            pushed,
            before: self.loss.units,
            now,
        })
    }

    /// Has the host reboot. A connection that ends before the answer is what a host that goes down quickly looks like.
    async fn order(&self) -> Result<(), Failure> {
        let (host, asking) = (self.host(), self.loss.asking);
        let answer = remote::run(&host, &self.settings, (Verb::Reboot, asking), Vec::new()).await?;
        match answer.ending.code() {
            Some(0 | 255) => Ok(()),
            None => Err(answer.ending.failure(&host, b"")),
            Some(code) => {
                let said = answer.ending.last_line();
                let text = format!("it would not reboot (exit status {code}): {said}");
                Err(Failure::new(Exit::Refused, text).hint(
                    "the login must be allowed to run `systemctl --no-block reboot`, with `sudo -n` before it if `sudo = true`",
                ))
            }
        }
    }

    /// Waits until the host answers from another boot.
    async fn back(&self, until: Instant) -> Result<(), Failure> {
        let before = &self.loss.plan.outcome.inventory.hello;
        loop {
            sleep(PAUSE).await;
            let mut asked = deliver::inventories(vec![self.host()], &self.settings).await;
            let last = match asked.pop().map(|one| one.result) {
                Some(Ok(now)) if is_another_boot(before, &now.hello) => return Ok(()),
                Some(Err(failure)) if failure.exit == Exit::HostKey => return Err(failure),
                Some(Err(failure)) => failure.to_string(),
                Some(Ok(_)) | None => "it has not gone down".to_owned(),
            };
            if Instant::now() >= until {
                let text = format!(
                    "not back {} s after it was told to reboot: {last}",
                    self.timeout.as_secs()
                );
                return Err(Failure::new(Exit::Unreachable, text)
                    .hint("`keys send` gives it its keys once it is back"));
            }
        }
    }

    /// Sends its keys; a connection that a host loses while it still boots is made again.
    async fn send(&self, until: Instant) -> Result<Pushed, Failure> {
        loop {
            let (push, asking) = (&self.loss.push, self.loss.asking);
            let sent = deliver::deliver(push, &self.settings, asking, Purpose::Send).await;
            let lost = matches!(&sent, Err(failure) if failure.exit == Exit::Unreachable);
            if !lost || Instant::now() >= until {
                return sent;
            }
            sleep(PAUSE).await;
        }
    }

    async fn units(&self, until: Instant) -> Result<States, Failure> {
        let units = loss::told(&self.loss.push);
        let (host, asking) = (self.host(), self.loss.asking);
        let look = || dependents::states(&host, &self.settings, asking, &units);
        dependents::again(&self.loss.units, until, look).await
    }
}

/// By the mark that the agent makes once a boot. The kernel's boot id counts where there was no mark before: a sandbox or
/// container may show the machine's for the guest's.
fn is_another_boot(before: &Hello, now: &Hello) -> bool {
    if before.boot.is_empty() {
        before.boot_id != now.boot_id
    } else {
        before.boot != now.boot
    }
}
