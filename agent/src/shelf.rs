//! The folder that the administrator declared for the sealed bundle: on a disk, and root's alone to write.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use keys_protocol::bundle::{self, Kept, Opened, Seen, Standing};
use keys_protocol::{RefusalCode, printable};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use serde::de::DeserializeOwned;

use crate::at_rest::AtRest;
use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::file::{Access, Held};
use crate::folder::Folder;
use crate::place::RAMFS_MAGIC;

/// The largest of our own files that is read: the names of the most keys.
const LARGEST: u64 = 8 << 20;
/// How much of what `keys-restore` says is passed on.
const DETAIL: usize = 300;

/// The folder, open.
pub(crate) struct Shelf {
    folder: Folder,
    path: String,
}

impl Shelf {
    /// Opens the declared folder; none where it does not exist.
    pub(crate) fn open() -> Result<Option<Self>, Failure> {
        let path = declared()?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(AT_FDCWD, path.as_str(), how) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            other => {
                let fd = other.doing(|| format!("open {path}"))?;
                let folder = Folder::new(fd);
                Ok(Some(Self { folder, path }))
            }
        }
    }

    /// Opens it to keep a bundle in: where the administrator named signers, and what is in it stays over a reboot.
    pub(crate) fn ready() -> Result<Self, Failure> {
        if !Path::new(bundle::SIGNERS).exists() {
            let text = format!(
                "this host takes no sealed bundle: there is no {}",
                bundle::SIGNERS
            );
            return Err(Failure::new(RefusalCode::Policy, text)
                .hint("docs/how-to/survive-reboots.md says how to let it"));
        }
        let Some(shelf) = Self::open()? else {
            let text = format!(
                "{}, the folder of the sealed bundle, is not there",
                declared()?
            );
            return Err(Failure::new(RefusalCode::Filesystem, text));
        };
        shelf.accept()?;
        Ok(shelf)
    }

    /// Refuses a folder that others can write, and memory: a mount that did not come leaves such a folder behind.
    fn accept(&self) -> Result<(), Failure> {
        let path = &self.path;
        let refuse = |what: String| {
            let text = format!("{path}, the folder of the sealed bundle, {what}");
            Err(Failure::new(RefusalCode::Filesystem, text)
                .hint(format!("{} declares another one", bundle::FOLDER_CONF)))
        };
        let stat = fstat(&self.folder).doing(|| format!("fstat {path}"))?;
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            let (uid, mode) = (stat.st_uid, stat.st_mode & 0o7777);
            return refuse(format!(
                "is uid {uid}'s with mode {mode:04o}: root's alone is wanted"
            ));
        }
        let kind = fstatfs(&self.folder).doing(|| format!("fstatfs {path}"))?;
        match kind.filesystem_type() {
            TMPFS_MAGIC | RAMFS_MAGIC => refuse("is in memory: a reboot would empty it".into()),
            _ => Ok(()),
        }
    }

    /// Returns what is remembered of the bundle.
    pub(crate) fn kept(&self) -> Result<Option<Kept>, Failure> {
        self.read(bundle::KEPT)
    }

    /// Starts a file that is to be there over a reboot.
    pub(crate) fn draft(&self) -> Result<Draft, Failure> {
        Draft::begin(&self.folder, Access::ROOT).doing(|| format!("write in {}", self.path))
    }

    /// Puts a draft at `name`, whatever was there, so that a power cut leaves the one or the other.
    pub(crate) fn put(&self, draft: Draft, name: &str) -> Result<(), Failure> {
        let doing = || format!("write {}/{name}", self.path);
        let new = format!("{name}.new");
        draft.sync().doing(doing)?;
        self.folder.unlink(new.as_str()).doing(doing)?;
        draft.publish(&self.folder, &new).doing(doing)?;
        self.folder.replace(&new, name).doing(doing)?;
        self.folder.sync().doing(doing)
    }

    /// Writes down what is there from now on.
    pub(crate) fn remember(&self, kept: &Kept) -> Result<(), Failure> {
        let text = serde_json::to_vec(kept)
            .map_err(|e| Failure::new(RefusalCode::Io, format!("write {}: {e}", bundle::KEPT)))?;
        let mut draft = self.draft()?;
        let written = draft.write(&text);
        written.doing(|| format!("write {}/{}", self.path, bundle::KEPT))?;
        self.put(draft, bundle::KEPT)
    }

    /// Removes the bundle itself.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        let doing = || format!("remove {}/{}", self.path, bundle::FILE);
        self.folder.unlink(bundle::FILE).doing(doing)?;
        self.folder.sync().doing(doing)
    }

    /// Says how the bundle stands; nothing where there never was one. What cannot be read is no reason to say nothing
    /// else: the next push that would have to know is refused.
    pub(crate) fn standing(&self) -> Result<Option<(Kept, Standing)>, Failure> {
        let kept = match self.kept() {
            Ok(None) if !self.holds_bundle()? => return Ok(None),
            Ok(None) => Err(format!("{} is not beside it", bundle::KEPT)),
            Ok(Some(kept)) => Ok(kept),
            Err(Failure::Refused(refusal)) => Err(refusal.message),
            Err(other) => return Err(other),
        };
        let (state, detail) = match &kept {
            Ok(kept) => self.state(kept)?,
            Err(why) => ("refused".into(), why.clone()),
        };
        let kept = kept.unwrap_or_default();
        let standing = Standing {
            state,
            detail: printable(&detail, DETAIL),
            expires: kept.expires,
            at_rest: AtRest::of(&self.folder)?.word().to_owned(),
        };
        Ok(Some((kept, standing)))
    }

    /// What is here now counts more than what was opened at the boot.
    fn state(&self, kept: &Kept) -> Result<(String, String), Failure> {
        if kept.keys.is_empty() {
            return Ok(("none".into(), "the last one was removed".into()));
        }
        if !self.holds_bundle()? {
            return Ok(("refused".into(), "the bundle itself is gone".into()));
        }
        let opened: Option<Opened> = match fs::read(bundle::OPENED) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => {
                let text = other.doing(|| format!("read {}", bundle::OPENED))?;
                serde_json::from_slice(&text).ok()
            }
        };
        let seen: Option<Seen> = self.read(bundle::SEEN)?;
        match opened {
            // It was this very bundle, and not the one before it.
            Some(opened) if opened.epoch == kept.epoch => Ok((opened.state, opened.detail)),
            _ if seen.is_some_and(|seen| seen.epoch == kept.epoch) => {
                Ok(("stored".into(), "it was opened at an earlier boot".into()))
            }
            _ => Ok(("stored".into(), String::new())),
        }
    }

    fn holds_bundle(&self) -> Result<bool, Failure> {
        let there = self.folder.look_at(bundle::FILE);
        let there = there.doing(|| format!("look at {}/{}", self.path, bundle::FILE))?;
        Ok(there.is_some())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let path = format!("{}/{name}", self.path);
        let doing = || format!("read {path}");
        let held = match Held::at(&self.folder, name) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.doing(doing)?,
        };
        let mut text = Vec::new();
        let file = held.read().doing(doing)?;
        file.take(LARGEST).read_to_end(&mut text).doing(doing)?;
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            // Never taken for nothing: a number that goes down would let an older bundle in.
            let text = format!("{path} cannot be read: {e}");
            Failure::new(RefusalCode::Policy, text)
                .hint("remove it, and send all keys of this host again")
        })
    }
}

/// Returns the path that the administrator declared, or the default.
pub(crate) fn declared() -> Result<String, Failure> {
    let conf = match fs::read_to_string(bundle::FOLDER_CONF) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.doing(|| format!("read {}", bundle::FOLDER_CONF))?),
    };
    bundle::folder(conf.as_deref()).map_err(|e| Failure::new(RefusalCode::Policy, e.to_string()))
}
