//! The verb `wait`: it ends when a key is there. Each `NAME-key.service` runs one.

use std::thread::sleep;
use std::time::Duration;

use keys_protocol::KeyName;

use crate::bell::{Bell, Heard};
use crate::failure::Failure;
use crate::generation;
use crate::journal::{Level, note};
use crate::place::Place;
use crate::refused;
use crate::visible;

/// How often is looked where nobody tells.
const POLL: Duration = Duration::from_secs(1);

/// Waits for ever, if need be. Only what is there counts: the bell says when to look, and may ring for nothing.
pub(crate) fn wait(name: &KeyName) {
    let mut bell = None;
    let mut said = String::new();
    loop {
        let state = match is_there(name) {
            Ok(true) => return,
            Ok(false) => waiting_for(name),
            Err(failure) => failure.to_string(),
        };
        if state != said {
            said = state;
            say(&said);
        }
        bell = next(bell);
    }
}

/// Waits until it is time to look again: the bell is hung before the look that counts.
fn next(bell: Option<Bell>) -> Option<Bell> {
    let heard = match bell {
        Some(mut bell) => bell.listen().map(|heard| match heard {
            Heard::Look => Some(bell),
            Heard::Gone => None,
        }),
        None => Bell::hang(),
    };
    // That the agent cannot be reached is no reason to give up: it may be starting, and the key is what counts.
    let bell = heard.unwrap_or(None);
    if bell.is_none() {
        sleep(POLL);
    }
    bell
}

/// Whether the key is committed and has its name.
fn is_there(name: &KeyName) -> Result<bool, Failure> {
    let place = Place::open()?;
    Ok(generation::holds(&place, name)? && visible::leads_to(&place, name)?)
}

/// What there is to say while it is not there.
fn waiting_for(name: &KeyName) -> String {
    match Place::open().and_then(|place| refused::reason(&place, name)) {
        Ok(None) => format!("waiting for key {name}"),
        Ok(Some(why)) => format!("key {name} was refused: {why}"),
        Err(failure) => failure.to_string(),
    }
}

/// The text that `systemctl status` shows. Started by hand, there is nobody to tell.
fn say(text: &str) {
    if let Err(e) = systemd::daemon::notify([("STATUS", text)].iter()) {
        note(Level::Warning, &format!("notify systemd: {e}"));
    }
}
