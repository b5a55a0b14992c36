//! The folder of the bundle, as far as opening it goes, and the one file that says what became of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use keys_protocol::bundle::{self, FILE, FOLDER_CONF, KEPT, Kept, OPENED, Opened, SEEN, Seen};
use keys_protocol::limits;

use crate::refused::{Refused, Trying as _};

/// The folder.
pub(crate) struct Shelf(PathBuf);

impl Shelf {
    /// Finds the folder that is declared; none where it is not there.
    pub(crate) fn open() -> Result<Option<Self>, Refused> {
        let conf =
            there(fs::read_to_string(FOLDER_CONF)).trying(|| format!("read {FOLDER_CONF}"))?;
        let path = bundle::folder(conf.as_deref()).trying(|| "the folder of the bundle".into())?;
        let path = PathBuf::from(path);
        Ok(path.is_dir().then_some(Self(path)))
    }

    /// Returns the bytes of the bundle; none where there is none, also none that was removed.
    pub(crate) fn bundle(&self) -> Result<Option<Vec<u8>>, Refused> {
        let path = self.0.join(FILE);
        let reading = || format!("read {}", path.display());
        let Some(file) = there(File::open(&path)).trying(reading)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.take(limits::BUNDLE_BYTES + 1).read_to_end(&mut bytes);
        match read.trying(reading)? as u64 {
            0..=limits::BUNDLE_BYTES => Ok(Some(bytes)),
            _ => Err(Refused::new("damaged: it is larger than any bundle")),
        }
    }

    /// Returns the number below which no bundle counts any more.
    pub(crate) fn number(&self) -> Result<u64, Refused> {
        let kept: Option<Kept> = self.read(KEPT)?;
        kept.map(|kept| kept.epoch).ok_or_else(|| {
            // Never 0 instead: whoever removes that file could then put back any older bundle.
            Refused::new(format!(
                "rolled back: {KEPT} is not beside it, which knows the last number"
            ))
        })
    }

    /// Returns when a bundle was last looked at.
    pub(crate) fn seen(&self) -> Result<Option<Seen>, Refused> {
        self.read(SEEN)
    }

    /// Remembers when it was looked at.
    pub(crate) fn note(&self, seen: Seen) -> Result<(), Refused> {
        let path = self.0.join(SEEN);
        let writing = || format!("write {}", path.display());
        let text = serde_json::to_vec(&seen).trying(writing)?;
        write(&path, &text).trying(writing)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refused> {
        let path = self.0.join(name);
        let reading = || format!("read {}", path.display());
        let Some(text) = there(fs::read(&path)).trying(reading)? else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).trying(reading)
    }
}

/// Says what became of the bundle, for `keys status`.
pub(crate) fn tell(opened: &Opened) -> Result<(), Refused> {
    let path = Path::new(OPENED);
    let writing = || format!("write {OPENED}");
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).trying(writing)?;
    }
    let text = serde_json::to_vec(opened).trying(writing)?;
    write(path, &text).trying(writing)
}

/// Writes beside the file and renames, so that a power cut leaves the one or the other.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Takes what is not there for nothing, and nothing else.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
