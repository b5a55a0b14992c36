//! Removing what is no longer, or never was, the committed generation.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::failure::{Doing as _, Failure};
use crate::generation::{self, CURRENT, PREFIX};
use crate::inventory::Inventory;
use crate::place::{PATH, Place};
use crate::visible::DRAFT;

/// How long an old generation stays after the commit: a reader that had just followed `.current` still finds its key.
const GRACE: Duration = Duration::from_millis(250);

/// What a sweep has left, for readers on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swept {
    /// Nothing.
    Clean,
    /// A generation that was committed a moment ago.
    Young,
}

/// Removes the remains of killed runs: under the lock, nobody else is staging.
pub(crate) fn sweep(place: &Place, inventory: &Inventory) -> Result<Swept, Failure> {
    let is_young = committed_within(place, GRACE)?;
    let mut swept = Swept::Clean;
    for number in generation::numbers(place)? {
        if number == inventory.number() {
            continue;
        }
        if is_young && generation::is_finished_at(place, number)? {
            swept = Swept::Young;
        } else {
            remove(place, &format!("{PREFIX}{number}"))?;
        }
    }
    let names = place.folder.names().doing(|| format!("list {PATH}"))?;
    for name in names {
        let is_link = place.folder.target(name.as_os_str());
        let is_draft = name.as_encoded_bytes().starts_with(DRAFT.as_bytes());
        if is_draft && is_link.doing(|| format!("readlink {PATH}"))?.is_some() {
            let done = place.folder.unlink(name.as_os_str());
            done.doing(|| format!("unlink {PATH}/{DRAFT}*"))?;
        }
    }
    Ok(swept)
}

/// Waits until what was young is not, and sweeps again.
pub(crate) fn sweep_all(place: &Place, inventory: &Inventory) -> Result<(), Failure> {
    while sweep(place, inventory)? == Swept::Young {
        sleep(GRACE / 5);
    }
    Ok(())
}

/// Starts a process that removes all generations before `number` in a moment, so that the pusher need not wait for it.
///
/// Should it be killed, the next run removes them.
pub(crate) fn retire_before(place: &Place, number: u64) -> Result<(), Failure> {
    if generation::numbers(place)?
        .first()
        .is_none_or(|first| *first >= number)
    {
        return Ok(());
    }
    Command::new("/proc/self/exe")
        .arg0("keys-agent")
        .args(["retire", &number.to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
        .doing(|| "start `keys-agent retire`".into())
}

/// Removes the generations before `number`, which was committed just now. It needs no lock: no run reads any but the
/// committed one, and none makes one with a lower number.
pub(crate) fn retire(number: u64) -> Result<(), Failure> {
    sleep(GRACE);
    let place = Place::open()?;
    let Some(current) = generation::current(&place)? else {
        return Ok(());
    };
    for old in generation::numbers(&place)? {
        if old < number.min(current) {
            remove(&place, &format!("{PREFIX}{old}"))?;
        }
    }
    Ok(())
}

fn remove(place: &Place, name: &str) -> Result<(), Failure> {
    let done = place.folder.remove_tree(OsStr::new(name));
    done.doing(|| format!("remove {PATH}/{name}"))
}

/// Returns whether the last commit was less than `span` ago: the link is made anew for each.
fn committed_within(place: &Place, span: Duration) -> Result<bool, Failure> {
    let found = place.folder.look_at(CURRENT);
    let Some(stat) = found.doing(|| format!("look at {PATH}/{CURRENT}"))? else {
        return Ok(false);
    };
    let since_1970 = Duration::new(
        stat.st_mtime.try_into().unwrap_or(0),
        stat.st_mtime_nsec.try_into().unwrap_or(0),
    );
    // A clock that was set back makes it look like the future: then it was not just now.
    Ok((SystemTime::UNIX_EPOCH + since_1970)
        .elapsed()
        .is_ok_and(|age| age < span))
}
