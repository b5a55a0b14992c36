//! The end of a run: tokens that were made for it are revoked, whatever ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::failure::Failure;
use crate::output::{Form, Output};

use super::session::Session;

/// How long revoking may take. After that the token ends by itself, within its 15 minutes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sessions of this process. A static, because a signal ends a run from outside, and drops all that the run holds.
static OPEN: Mutex<Vec<Arc<Session>>> = Mutex::new(Vec::new());

/// Notes a session that is to be ended.
pub(super) fn expect(session: &Arc<Session>) {
    open().push(Arc::clone(session));
}

fn open() -> MutexGuard<'static, Vec<Arc<Session>>> {
    // A panic while it was held left the list as it was.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all sessions, and says what could not be revoked: that is worth knowing, and takes nothing back.
pub(crate) async fn farewell() {
    let sessions = std::mem::take(&mut *open());
    for session in sessions {
        let failure = match timeout(PATIENCE, session.end()).await {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::source("no answer in time").at(session.place()),
        };
        let failure = failure
            .at("the token of this run was not revoked")
            .hint("it ends by itself when its time is up: after 15 minutes, or as its role says");
        Output::new(Form::Text).failure(&failure);
    }
}
