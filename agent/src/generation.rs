//! The generation that is committed, as it is on the host: what the agent left, and what is really there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use keys_protocol::{Digest, KeyName, RefusalCode, Tell, limits};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::Gid;

use crate::failure::{Doing as _, Failure};
use crate::file::{Held, Inode};
use crate::folder::Folder;
use crate::place::{PATH, Place};
use crate::record::{self, Origin, Record};

/// The link whose target is the committed generation. Turning it is the commit.
pub(crate) const CURRENT: &str = ".current";
/// What the name of a generation's folder starts with; its number follows.
pub(crate) const PREFIX: &str = ".gen.";
/// The folder in a generation that has one file for each thing still to be told.
pub(crate) const PENDING: &str = ".pending";

/// One key of the generation.
pub(crate) struct Present {
    /// As the agent left it.
    pub(crate) record: Record,
    /// The file that is there; `None` if there is none, or something that is not a file.
    pub(crate) file: Option<Inode>,
}

impl Present {
    /// Returns whether owner, group and mode are those that were given.
    pub(crate) fn is_as_left(&self) -> bool {
        let access = self.record.access();
        self.file.is_some_and(|file| {
            (file.uid, file.gid, file.mode) == (access.uid, access.gid, access.mode)
        })
    }
}

/// What is committed on a host.
pub(crate) enum Found {
    /// Nothing yet.
    Nothing,
    /// A generation.
    Whole(Generation),
    /// One that somebody damaged so that it cannot be known which keys it had, and whose.
    Lost,
}

/// A committed generation.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) folder: Folder,
    pub(crate) origin: Origin,
    pub(crate) keys: BTreeMap<KeyName, Present>,
    /// Paths below the folder that no push made. Folders among them are not looked into.
    pub(crate) strays: Vec<PathBuf>,
    /// What is still to be told.
    pub(crate) pending: BTreeSet<Tell>,
    /// Whether `.current` leads here, and all folders are as the agent left them.
    pub(crate) intact: bool,
}

impl Generation {
    /// Reads what is committed.
    pub(crate) fn find(place: &Place) -> Result<Found, Failure> {
        let Some((number, folder, is_attached)) = newest(place)? else {
            return Ok(Found::Nothing);
        };
        // Never an older one instead: its keys may have been replaced because they were known to somebody.
        let Some(mut generation) = Self::open(place, number, folder)? else {
            return Ok(Found::Lost);
        };
        generation.intact &= is_attached;
        Ok(Found::Whole(generation))
    }

    /// Reads what is in `folder`; `None` if it was damaged beyond knowing what was in it.
    fn open(place: &Place, number: u64, folder: Folder) -> Result<Option<Self>, Failure> {
        let Some((origin, records)) = read_records(&folder)? else {
            return Ok(None);
        };
        let mut generation = Self {
            number,
            origin,
            keys: records
                .into_iter()
                .map(|(name, record)| (name, Present { record, file: None }))
                .collect(),
            strays: Vec::new(),
            pending: BTreeSet::new(),
            intact: true,
            folder,
        };
        generation
            .look_around(place.group)
            .doing(|| format!("read {PATH}/{PREFIX}{number}"))?;
        generation.read_pending()?;
        Ok(Some(generation))
    }

    /// Finds the file of each key, and what else there is.
    fn look_around(&mut self, group: Gid) -> nix::Result<()> {
        let folders: BTreeSet<String> = self.keys.keys().flat_map(folders_of).collect();
        for path in std::iter::once("").chain(folders.iter().map(String::as_str)) {
            let inner = match path {
                "" => self.folder.enter("."),
                _ => self.folder.enter(path),
            };
            let inner = match inner {
                // Not a folder any more: the keys in it are missing.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => continue,
                other => other?,
            };
            self.intact &= inner.is_as_made(group)?;
            for name in inner.names()? {
                let Some(stat) = inner.look_at(name.as_os_str())? else {
                    continue;
                };
                let path = Path::new(path).join(name);
                let text = path.to_str();
                let key: Option<KeyName> = text.and_then(|text| text.parse().ok());
                if let Some(present) = key.and_then(|key| self.keys.get_mut(&key)) {
                    present.file = Inode::regular(&stat);
                } else if !text.is_some_and(|text| is_own(text) || folders.contains(text)) {
                    self.strays.push(path);
                }
            }
        }
        Ok(())
    }

    fn read_pending(&mut self) -> Result<(), Failure> {
        let doing = || format!("read {PATH}/{PREFIX}{}/{PENDING}", self.number);
        let folder = match self.folder.enter(PENDING) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.doing(doing)?,
        };
        for name in folder.names().doing(doing)? {
            let Some(name) = name.to_str() else {
                continue;
            };
            let held = match Held::at(&folder, name) {
                Err(Errno::ESTALE) => continue,
                other => other.doing(doing)?,
            };
            let mut text = Vec::new();
            let mut read = held.read().doing(doing)?.take(limits::CONTROL_FRAME as u64);
            read.read_to_end(&mut text).doing(doing)?;
            // Only what the agent wrote has the name that goes with it.
            let tell = serde_json::from_slice(&text).ok();
            self.pending
                .extend(tell.filter(|tell| pending_name(tell) == name));
        }
        Ok(())
    }

    /// Returns the first components of its keys.
    pub(crate) fn firsts(&self) -> BTreeSet<&str> {
        self.keys.keys().map(KeyName::first).collect()
    }
}

/// Returns whether the committed generation has a file for the key.
pub(crate) fn holds(place: &Place, key: &KeyName) -> Result<bool, Failure> {
    let Some(number) = current(place)? else {
        return Ok(false);
    };
    // Gone where another was committed meanwhile: whoever waits is told of that one, too.
    let Some(folder) = enter(place, number)? else {
        return Ok(false);
    };
    match folder.within(key.as_str(), Folder::look_at) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(false),
        found => {
            let stat = found.doing(|| format!("look at key {key}"))?;
            Ok(stat.is_some_and(|stat| Inode::regular(&stat).is_some()))
        }
    }
}

/// Returns the number of the generation that `.current` leads to, if it leads to one.
///
/// A link to elsewhere is as good as none. Anything but a link is refused: it cannot be turned, and is not ours to remove.
pub(crate) fn current(place: &Place) -> Result<Option<u64>, Failure> {
    let doing = || format!("readlink {PATH}/{CURRENT}");
    let target = place.folder.target(CURRENT).doing(doing)?;
    if target.is_none() && place.folder.look_at(CURRENT).doing(doing)?.is_some() {
        let text = format!("{PATH}/{CURRENT} is not a link: keys did not make it");
        return Err(Failure::new(RefusalCode::Filesystem, text).hint("move it away"));
    }
    Ok(target.as_deref().and_then(number_of))
}

/// Returns the numbers of all generations there are remains of, in rising order.
pub(crate) fn numbers(place: &Place) -> Result<Vec<u64>, Failure> {
    let names = place.folder.names().doing(|| format!("list {PATH}"))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the number in the name of a generation's folder.
pub(crate) fn number_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix(PREFIX)?;
    let number: u64 = digits.parse().ok()?;
    // Only as the agent writes it: no sign, no leading zero, and with room for those to come.
    (digits == number.to_string() && number < u64::MAX / 2).then_some(number)
}

/// Returns the generation that `.current` leads to; if somebody turned or removed that link, the newest that was
/// finished: it was the committed one, or would have been in the next instant.
fn newest(place: &Place) -> Result<Option<(u64, Folder, bool)>, Failure> {
    if let Some(number) = current(place)?
        && let Some(folder) = enter(place, number)?
    {
        return Ok(Some((number, folder, true)));
    }
    for number in numbers(place)?.into_iter().rev() {
        if let Some(folder) = enter(place, number)?
            && is_finished(&folder)?
        {
            return Ok(Some((number, folder, false)));
        }
    }
    Ok(None)
}

fn enter(place: &Place, number: u64) -> Result<Option<Folder>, Failure> {
    let name = format!("{PREFIX}{number}");
    match place.folder.enter(name.as_str()) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(None),
        other => other.doing(|| format!("open {PATH}/{name}")).map(Some),
    }
}

/// Returns whether the generation of that number was finished.
pub(crate) fn is_finished_at(place: &Place, number: u64) -> Result<bool, Failure> {
    enter(place, number)?.map_or(Ok(false), |folder| is_finished(&folder))
}

/// Returns whether staging had come to its end: only then others may pass.
fn is_finished(folder: &Folder) -> Result<bool, Failure> {
    let stat = fstat(folder).doing(|| format!("fstat {PATH}/{PREFIX}*"))?;
    Ok(stat.st_uid == 0 && stat.st_mode & 0o001 != 0)
}

/// The text of the file that stands for something still to be told.
pub(crate) fn pending_text(tell: &Tell) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(tell)
}

/// The name of that file: as a digest, as a unit's name and more may be too long for one.
pub(crate) fn pending_name(tell: &Tell) -> String {
    // Text and words always can be written.
    pending_text(tell).map_or_else(|_| String::new(), |text| Digest::of(&text).to_string())
}

fn is_own(path: &str) -> bool {
    path == record::NAME || path == PENDING
}

fn read_records(folder: &Folder) -> Result<Option<(Origin, record::Records)>, Failure> {
    let doing = || format!("read {PATH}/{PREFIX}*/{}", record::NAME);
    let held = match Held::at(folder, record::NAME) {
        Err(Errno::ENOENT | Errno::ESTALE) => return Ok(None),
        other => other.doing(doing)?,
    };
    if held.inode.size > record::LARGEST || held.inode.uid != 0 {
        return Ok(None);
    }
    let mut text = Vec::new();
    held.read()
        .doing(doing)?
        .take(record::LARGEST)
        .read_to_end(&mut text)
        .doing(doing)?;
    Ok(std::str::from_utf8(&text).ok().and_then(record::read))
}

/// Returns the folders that a key is in, outermost first.
pub(crate) fn folders_of(key: &KeyName) -> impl Iterator<Item = String> + '_ {
    let path = key.as_str();
    path.match_indices('/').map(|(at, _)| path[..at].to_owned())
}
