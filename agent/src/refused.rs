//! Keys that this host refused and of which it has no version: their units go on waiting, and say why.
//!
//! A unit that failed instead would let what only wants it start without the key. So another one fails for all of them,
//! `keys-refused.service`, which `systemctl --failed` shows.

use std::collections::BTreeMap;
use std::io::Read as _;

use keys_protocol::{KeyName, KeyOutcome, RefusalCode, limits, printable};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::file::{Access, Held};
use crate::journal::{Level, note};
use crate::next::Next;
use crate::place::{PATH, Place};
use crate::push::Push;

/// The name of the file that has them.
pub(crate) const NAME: &str = ".refused";
/// The unit that fails while there are any.
pub(crate) const UNIT: &str = "keys-refused.service";
/// The largest that is read: the longest reason for the most keys.
const LARGEST: u64 = 64 << 20;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    /// The manifest that declares it.
    manifest: String,
    why: String,
}

/// All of them.
type Reasons = BTreeMap<KeyName, Refused>;

/// What is to be seen of refused keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// Nothing.
    #[default]
    Nothing,
    /// What was there before.
    Old,
    /// Something else.
    New,
}

/// Writes down what a push found, under the lock.
pub(crate) fn note_down(place: &Place, push: &Push, next: &Next) -> Result<Complaint, Failure> {
    let before = read(place)?;
    let after = after(&before, push, next);
    if after != before {
        write(place, &after)?;
    }
    Ok(if after.is_empty() {
        Complaint::Nothing
    } else if after == before {
        Complaint::Old
    } else {
        Complaint::New
    })
}

/// Returns what there is, when nothing was pushed.
pub(crate) fn standing(place: &Place) -> Result<Complaint, Failure> {
    Ok(if read(place)?.is_empty() {
        Complaint::Nothing
    } else {
        Complaint::Old
    })
}

/// Says each of them, and returns whether there are any.
pub(crate) fn complain() -> Result<bool, Failure> {
    let reasons = read(&Place::open()?)?;
    for (name, refused) in &reasons {
        let text = format!("key {name} was refused: {}", refused.why);
        note(Level::Error, &text);
    }
    Ok(!reasons.is_empty())
}

/// Returns why a key was refused, if it was.
pub(crate) fn reason(place: &Place, name: &KeyName) -> Result<Option<String>, Failure> {
    Ok(read(place)?.remove(name).map(|refused| refused.why))
}

/// What was refused before stays so until the key is declared again, or its manifest declares it no more.
fn after(before: &Reasons, push: &Push, next: &Next) -> Reasons {
    let mut after = before.clone();
    after.retain(|_, refused| !push.drops(&refused.manifest));
    for wanted in &push.keys {
        after.remove(&wanted.key.name);
    }
    let failed = next.outcomes(&[KeyOutcome::Failed]);
    after.extend(failed.map(|result| {
        let refused = Refused {
            manifest: push.manifest.id.clone(),
            why: printable(&result.detail, limits::TEXT),
        };
        (result.name.clone(), refused)
    }));
    after
}

fn read(place: &Place) -> Result<Reasons, Failure> {
    let doing = || format!("read {PATH}/{NAME}");
    let held = match Held::at(&place.folder, NAME) {
        Err(Errno::ENOENT | Errno::ESTALE) => return Ok(Reasons::new()),
        other => other.doing(doing)?,
    };
    let mut text = Vec::new();
    let file = held.read().doing(doing)?;
    file.take(LARGEST).read_to_end(&mut text).doing(doing)?;
    serde_json::from_slice(&text)
        .map_err(|e| Failure::new(RefusalCode::Io, format!("{}: {e}", doing())))
}

fn write(place: &Place, reasons: &Reasons) -> Result<(), Failure> {
    let doing = || format!("write {PATH}/{NAME}");
    place.folder.unlink(NAME).doing(doing)?;
    if reasons.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(reasons)
        .map_err(|e| Failure::new(RefusalCode::Io, format!("{}: {e}", doing())))?;
    let mut draft = Draft::begin(&place.folder, Access::ROOT).doing(doing)?;
    draft.write(&text).doing(doing)?;
    draft.publish(&place.folder, NAME).doing(doing)
}
