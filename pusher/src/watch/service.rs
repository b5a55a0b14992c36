//! What systemd is told of a watcher: that it is ready, that it lives, and how its hosts are.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::{Exit, Failure};
use crate::watch::board::Board;
use crate::watch::page;

/// How often without a watchdog.
const USUAL: Duration = Duration::from_secs(10);

/// Reports for ever; that systemd cannot be told is a failure, as it would end the service by and by.
pub(super) async fn report(board: &Board) -> Failure {
    let cannot = |error| Failure::new(Exit::Failed, format!("cannot tell systemd: {error}"));
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        return cannot(error);
    }
    let _stopping = Stopping;
    let half = sd_notify::watchdog_enabled().map_or(USUAL, |limit| limit / 2);
    let mut ticks = interval(half.clamp(Duration::from_millis(100), USUAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let line = page::line(&board.view());
        let state = [NotifyState::Watchdog, NotifyState::Status(&line)];
        if let Err(error) = sd_notify::notify(&state) {
            return cannot(error);
        }
    }
}

/// Says so when the watcher is being stopped.
struct Stopping;

impl Drop for Stopping {
    fn drop(&mut self) {
        // systemd sees the end by itself.
        let _unheard = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
