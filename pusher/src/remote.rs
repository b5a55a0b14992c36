//! A plain command on a host: fixed words, names on its standard input, a few lines from its standard output.

use std::io::{Read as _, Write as _};

use crate::ending::Ending;
use crate::failure::{Exit, Failure};
use crate::manifest::{Host, SshSettings};
use crate::ssh::{Asking, Session, Verb};

/// The most that is read of what a command prints.
const LONGEST: u64 = 1 << 20;

/// What a command printed, and how it ended.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) ending: Ending,
}

/// Runs a command. How it ended is for the caller to judge; ssh's own failures are ours.
pub(crate) async fn run(
    host: &Host,
    settings: &SshSettings,
    (verb, asking): (Verb, Asking),
    input: Vec<u8>,
) -> Result<Answer, Failure> {
    let cannot = |error| Failure::new(Exit::Failed, format!("cannot start ssh: {error}"));
    let (session, incoming, mut outgoing) =
        Session::start(host, settings, verb, asking).map_err(cannot)?;
    let talk = tokio::task::spawn_blocking(move || {
        // A command that ends without reading is judged by how it ended.
        let _unread = outgoing.write_all(&input);
        drop(outgoing);
        let mut text = Vec::new();
        incoming.take(LONGEST).read_to_end(&mut text).map(|_| text)
    });
    let talk = talk.await;
    let ending = session.end().await;
    match talk {
        Ok(Ok(bytes)) => Ok(Answer {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            ending,
        }),
        Ok(Err(error)) => Err(Failure::new(
            Exit::Unreachable,
            format!("{error}: {}", ending.last_line()),
        )),
        Err(panic) => Err(Failure::new(
            Exit::Failed,
            format!("internal error: {panic}"),
        )),
    }
}
