//! Staging: the next generation, in a folder that only root can enter, complete before anything leads to it.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use keys_protocol::{Digest, RefusalCode, Tell};

use crate::body::Body;
use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::file::{Access, Held, Inode};
use crate::folder::Folder;
use crate::generation::{self, CURRENT, Generation, PENDING, PREFIX, folders_of};
use crate::next::{Make, Next, Step};
use crate::place::{PATH, Place};
use crate::record::{self, Origin, Record};
use crate::session::{Received, Session};
use crate::visible;

/// The generation that is committed now.
pub(crate) struct Committed {
    pub(crate) number: u64,
    pub(crate) folder: Folder,
}

/// A generation being made. Unless it is committed, dropping it removes it.
pub(crate) struct Stage<'a> {
    place: &'a Place,
    number: u64,
    folder: Folder,
    is_committed: bool,
}

impl<'a> Stage<'a> {
    /// Makes the folder, and those in it.
    pub(crate) fn begin(place: &'a Place, next: &Next) -> Result<Self, Failure> {
        let last = generation::numbers(place)?.last().copied().unwrap_or(0);
        let number = last + 1;
        let doing = || format!("make {PATH}/{PREFIX}{number}");
        let folder = place.folder.make(name_of(number).as_str(), place.group);
        let stage = Self {
            place,
            number,
            folder: folder.doing(doing)?,
            is_committed: false,
        };
        let names = next.steps.iter().map(|step| &step.record.name);
        // Sorted, so that each comes after the one it is in.
        for path in names.flat_map(folders_of).collect::<BTreeSet<_>>() {
            let make = |parent: &Folder, leaf: &str| parent.make(leaf, place.group)?.let_pass();
            stage.folder.within(&path, make).doing(doing)?;
        }
        Ok(stage)
    }

    /// Puts every key in it: what is here first, while the bodies travel; then those, in the order they come.
    pub(crate) fn fill(
        &self,
        next: &Next,
        old: Option<&Generation>,
        session: &mut Session,
    ) -> Result<Received, Failure> {
        for step in &next.steps {
            self.reuse(old, step, session.nonce())?;
        }
        let mut received = Received::default();
        for Step { record, make } in &next.steps {
            if let Make::Body { size, mac, .. } = *make {
                let draft = self.draft(record)?;
                let body = Body::new(&record.name, draft, (size, mac), session.nonce());
                self.publish(body.receive(session)?, record)?;
                received.keys += 1;
                received.bytes += size;
            }
        }
        Ok(received)
    }

    /// Takes over a key that is here.
    fn reuse(&self, old: Option<&Generation>, step: &Step, nonce: &Digest) -> Result<(), Failure> {
        let record = &step.record;
        match (step.make, old) {
            (Make::Link(file), Some(old)) => {
                let link = hold(old, record, file)?.link(&self.folder, record.name.as_str());
                link.doing(|| format!("link key {}", record.name))
            }
            (Make::Copy { file, mac }, Some(old)) => {
                let held = hold(old, record, file)?.read();
                let open = held.doing(|| format!("open key {}", record.name))?;
                let draft = self.draft(record)?;
                let body = Body::new(&record.name, draft, (file.size, mac), nonce);
                self.publish(body.copy(&open)?, record)
            }
            _ => Ok(()),
        }
    }

    fn draft(&self, record: &Record) -> Result<Draft, Failure> {
        Draft::begin(&self.folder, record.access()).doing(|| format!("make key {}", record.name))
    }

    fn publish(&self, draft: Draft, record: &Record) -> Result<(), Failure> {
        draft
            .publish(&self.folder, record.name.as_str())
            .doing(|| format!("make key {}", record.name))
    }

    /// Writes down what is in it and which units are to be told, and lets it be passed.
    pub(crate) fn finish(&self, next: &Next, origin: &Origin) -> Result<(), Failure> {
        let records = next.steps.iter().map(|step| &step.record);
        let text = record::write(origin, records)
            .map_err(|e| Failure::new(RefusalCode::Io, format!("write .meta: {e}")))?;
        self.own_file(&self.folder, record::NAME, &text)?;
        self.note_pending(&next.tell)?;
        let passable = self.folder.let_pass();
        passable.doing(|| format!("chmod {PATH}/{PREFIX}{}", self.number))
    }

    fn note_pending(&self, tell: &BTreeSet<Tell>) -> Result<(), Failure> {
        if tell.is_empty() {
            return Ok(());
        }
        let pending = self.folder.make(PENDING, self.place.group);
        let pending = pending.doing(|| format!("make {PATH}/{PREFIX}{}/{PENDING}", self.number))?;
        tell.iter().try_for_each(|tell| {
            let text = generation::pending_text(tell)
                .map_err(|e| Failure::new(RefusalCode::Io, format!("write {PENDING}: {e}")))?;
            self.own_file(&pending, &generation::pending_name(tell), &text)
        })
    }

    fn own_file(&self, folder: &Folder, name: &str, text: &[u8]) -> Result<(), Failure> {
        let doing = || format!("write {PATH}/{PREFIX}{}/**/{name}", self.number);
        let mut draft = Draft::begin(folder, Access::ROOT).doing(doing)?;
        draft.write(text).doing(doing)?;
        draft.publish(folder, name).doing(doing)
    }

    /// Commits it: one rename, after which every reader sees all of it and none of the old.
    pub(crate) fn commit(mut self) -> Result<Committed, Failure> {
        let folder = self.folder.enter(".");
        let committed = Committed {
            number: self.number,
            folder: folder.doing(|| format!("open {PATH}/{PREFIX}{}", self.number))?,
        };
        self.place.check_again()?;
        visible::turn(self.place, CURRENT, &name_of(self.number))?;
        self.is_committed = true;
        Ok(committed)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if !self.is_committed {
            let name = name_of(self.number);
            // If it cannot be removed now, the next run does it before anything else.
            let _left_to_the_next_run = self.place.folder.remove_tree(OsStr::new(&name));
        }
    }
}

/// Takes hold of the very inode that was compared.
fn hold(old: &Generation, record: &Record, file: Inode) -> Result<Held, Failure> {
    let name = &record.name;
    let held = Held::at(&old.folder, name.as_str()).doing(|| format!("open key {name}"))?;
    if held.inode == file {
        return Ok(held);
    }
    let text = format!("key {name} was changed on the host by somebody else meanwhile");
    Err(Failure::new(RefusalCode::Io, text).hint("send again"))
}

fn name_of(number: u64) -> String {
    format!("{PREFIX}{number}")
}
