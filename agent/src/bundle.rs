//! What a push does with the sealed bundle of this host. What is in it nobody here can read: it is kept or removed whole.

use std::collections::BTreeSet;

use keys_protocol::bundle::{self, Kept, Offer};
use keys_protocol::{Digest, KeyName, Kind, Purpose, RefusalCode, limits, printable};
use sha2::{Digest as _, Sha256};

use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::next::{CHANGES, Next};
use crate::push::Push;
use crate::session::Session;
use crate::shelf::Shelf;

/// What becomes of the bundle with this push.
pub(crate) enum Bundle {
    /// Nothing.
    Untouched,
    /// It goes: no key of its manifest is sealed any more.
    Removed(Shelf, Kept),
    /// Another one comes.
    Offered(Shelf, Offer, Kept),
    /// It came, and is on the disk without a name.
    Received(Shelf, Draft, Kept),
}

impl Bundle {
    /// Decides by what the push says and what is here; refuses what would let an old secret come back.
    pub(crate) fn of(push: &Push, next: &Next) -> Result<Self, Failure> {
        let manifest = &push.manifest;
        if let Some(offer) = &manifest.bundle {
            return Self::offered(push, offer);
        }
        let Some(shelf) = Shelf::open()? else {
            return Ok(Self::Untouched);
        };
        let Some(kept) = shelf.kept()?.filter(|kept| !kept.keys.is_empty()) else {
            return Ok(Self::Untouched);
        };
        if !manifest.unsealed {
            guard(push, next, &kept)?;
            return Ok(Self::Untouched);
        }
        if kept.manifest != manifest.id && !manifest.take_over {
            return Ok(Self::Untouched);
        }
        // One above: a copy of the one that is removed must not be let in again.
        let gone = Kept {
            epoch: kept.epoch + 1,
            keys: Vec::new(),
            ..kept
        };
        Ok(Self::Removed(shelf, gone))
    }

    fn offered(push: &Push, offer: &Offer) -> Result<Self, Failure> {
        let refuse = |text: String| Failure::new(RefusalCode::Policy, text);
        let shelf = Shelf::ready()?;
        let before = shelf.kept()?.unwrap_or_default();
        if offer.epoch <= before.epoch || offer.epoch == u64::MAX {
            let text = format!(
                "the sealed bundle has the number {}, and {} was here before",
                offer.epoch, before.epoch
            );
            return Err(refuse(text).hint("send again"));
        }
        let manifest = &push.manifest;
        if before.manifest != manifest.id && !before.keys.is_empty() && !manifest.take_over {
            let other = printable(&before.manifest, 80);
            let text = format!("the sealed bundle here is of the manifest {other}");
            return Err(refuse(text).hint("--take-over replaces it"));
        }
        let kept = Kept {
            epoch: offer.epoch,
            manifest: manifest.id.clone(),
            expires: offer.expires,
            keys: push.sealed().cloned().collect(),
        };
        Ok(Self::Offered(shelf, offer.clone(), kept))
    }

    /// Takes its bytes, which come after those of the keys.
    pub(crate) fn receive(self, session: &mut Session) -> Result<Self, Failure> {
        let Self::Offered(shelf, offer, kept) = self else {
            return Ok(self);
        };
        let mut draft = shelf.draft()?;
        let (mut hash, mut left) = (Sha256::new(), offer.size);
        while left > 0 {
            let frame = session.frame()?;
            if frame.kind != Kind::Body || frame.payload.is_empty() {
                return Err(frame.unexpected("the sealed bundle").into());
            }
            let size = frame.payload.len() as u64;
            left = left
                .checked_sub(size)
                .ok_or_else(|| Failure::breach("the sealed bundle is larger than announced"))?;
            hash.update(frame.payload);
            let written = draft.write(frame.payload);
            written.doing(|| "write the sealed bundle".into())?;
        }
        if Digest(hash.finalize().into()) != offer.digest {
            return Err(Failure::breach(
                "the sealed bundle is not the one announced",
            ));
        }
        Ok(Self::Received(shelf, draft, kept))
    }

    /// Does it. Before the commit: what fails or is cut in between may leave a bundle that is newer than the keys that
    /// are here, and never one that is older.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        match self {
            Self::Received(shelf, draft, kept) => {
                // The bundle first: one whose number is above the one that is remembered is as good.
                shelf.put(draft, bundle::FILE)?;
                shelf.remember(&kept)
            }
            Self::Removed(shelf, gone) => {
                // The number first: it alone makes the bundle worthless.
                shelf.remember(&gone)?;
                shelf.remove()
            }
            Self::Untouched | Self::Offered(..) => Ok(()),
        }
    }
}

/// Refuses a push that says nothing of the bundle and changes a key in it: the next boot would bring the old one back.
fn guard(push: &Push, next: &Next, kept: &Kept) -> Result<(), Failure> {
    if push.manifest.purpose != Purpose::Send {
        return Ok(());
    }
    let sealed: BTreeSet<&KeyName> = kept.keys.iter().collect();
    match next
        .outcomes(&CHANGES)
        .find(|key| sealed.contains(&key.name))
    {
        None => Ok(()),
        Some(key) => {
            let text = format!(
                "key {} is in the sealed bundle of this host, which would keep the old one",
                key.name
            );
            Err(Failure::new(RefusalCode::Policy, text).hint("send all keys of this host"))
        }
    }
}

/// Refuses what no offer may say, before anything is asked of the host.
pub(crate) fn check(offer: &Offer) -> Result<(), Failure> {
    if (1..=limits::BUNDLE_BYTES).contains(&offer.size) {
        return Ok(());
    }
    let most = limits::BUNDLE_BYTES;
    let size = offer.size;
    Err(Failure::breach(format!(
        "a sealed bundle of {size} bytes: 1 to {most} are allowed"
    )))
}
