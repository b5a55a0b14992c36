//! Everything that is in the folder of the keys: the committed generation, the visible names, and what strayed in.

use keys_protocol::KeyName;

use crate::failure::Failure;
use crate::folder::Folder;
use crate::generation::{self, Found, Generation, Present};
use crate::place::Place;
use crate::visible::Visible;

/// How often a reader without the lock starts again, because a push committed under its eyes.
const ATTEMPTS: u32 = 5;

/// What is there, judged by what is really there and not by what was left.
pub(crate) struct Inventory {
    pub(crate) generation: Option<Generation>,
    /// Whether there was a generation of which nothing is known any more.
    pub(crate) is_lost: bool,
    pub(crate) visible: Visible,
}

impl Inventory {
    /// Takes stock. Under the lock it is what will be true until the commit.
    pub(crate) fn read(place: &Place) -> Result<Self, Failure> {
        let (generation, is_lost) = match Generation::find(place)? {
            Found::Nothing => (None, false),
            Found::Whole(generation) => (Some(generation), false),
            Found::Lost => (None, true),
        };
        Ok(Self {
            generation,
            is_lost,
            visible: Visible::read(place)?,
        })
    }

    /// Takes stock without the lock: a commit in between would show as damage.
    pub(crate) fn glance(place: &Place) -> Result<Self, Failure> {
        for _ in 1..ATTEMPTS {
            let before = generation::current(place)?;
            let inventory = Self::read(place)?;
            if before == generation::current(place)? {
                return Ok(inventory);
            }
        }
        Self::read(place)
    }

    /// Returns the number of the committed generation; 0 before the first.
    pub(crate) fn number(&self) -> u64 {
        self.generation.as_ref().map_or(0, |found| found.number)
    }

    /// Returns the committed generation's number and folder.
    pub(crate) fn standing(&self) -> (u64, Option<&Folder>) {
        (
            self.number(),
            self.generation.as_ref().map(|found| &found.folder),
        )
    }

    /// Returns all keys, by name.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Present> {
        self.generation.iter().flat_map(|found| found.keys.values())
    }

    /// Returns one key.
    pub(crate) fn key(&self, name: &KeyName) -> Option<&Present> {
        self.generation.as_ref()?.keys.get(name)
    }

    /// Returns whether the file of a key, if there is one, can be reached by its name.
    pub(crate) fn reaches(&self, name: &KeyName) -> bool {
        self.visible.leads_to(name) && self.generation.as_ref().is_some_and(|found| found.intact)
    }

    /// Returns why a key is not as the agent left it, in words; nothing if it is.
    pub(crate) fn damage(&self, present: &Present) -> String {
        let access = present.record.access();
        let Some(file) = present.file else {
            return "missing".into();
        };
        let words = [
            (file.uid != access.uid, "owner"),
            (file.gid != access.gid, "group"),
            (file.mode != access.mode, "mode"),
            (!self.reaches(&present.record.name), "link"),
        ];
        let found: Vec<&str> = words
            .iter()
            .filter_map(|(wrong, word)| wrong.then_some(*word))
            .collect();
        found.join(" ")
    }

    /// Returns the paths of files that no push made.
    pub(crate) fn strays(&self) -> Vec<String> {
        let firsts = self.generation.as_ref().map(Generation::firsts);
        let visible = self.visible.strays(&firsts.unwrap_or_default());
        let inside = self.generation.iter().flat_map(|found| &found.strays);
        visible
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .chain(inside.map(|path| path.to_string_lossy().into_owned()))
            .collect()
    }
}
