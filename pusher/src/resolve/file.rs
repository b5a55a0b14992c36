//! A file below the manifest's folder, as it is.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use keys_protocol::Secret;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, LARGEST, Run};
use crate::source::{for_host, shown};

/// `secrets/x`, relative to the manifest's folder and below it.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct FileSource(String);

impl TryFrom<String> for FileSource {
    type Error = &'static str;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        if path.is_empty() || path.starts_with('/') || path.contains('\0') {
            return Err("the path is relative to the manifest's folder");
        }
        Ok(Self(path))
    }
}

impl Kind for FileSource {
    fn for_host(&self, host: &str) -> Self {
        Self(for_host(&self.0, host))
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        // On the task's own thread: handing a small file to another one costs more than reading it.
        let file = open_below(&run.settings.root, &self.0).map_err(|f| f.at(&self))?;
        Ok(vec![read(&file, LARGEST).map_err(|f| f.at(&self))])
    }
}

impl fmt::Display for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", shown(&self.0))
    }
}

/// Without `O_NONBLOCK` opening a fifo would wait for a writer; what is opened is looked at before it is read.
const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_NONBLOCK);

/// Opens the file `path` below `root`, which no `..` and no link leaves.
fn open_below(root: &Path, path: &str) -> Result<File, Failure> {
    let folder =
        File::open(root).map_err(|e| Failure::source(format!("open {}: {e}", root.display())))?;
    let how = OpenHow::new()
        .flags(READ)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = openat2(&folder, path, how).map_err(|errno| match errno {
        Errno::EXDEV | Errno::ELOOP => Failure::source("leads out of the manifest's folder")
            .hint("a `file` source stays below the folder of the manifest; links may not leave it"),
        errno => Failure::source(io::Error::from(errno).to_string()),
    })?;
    regular(File::from(file))
}

/// Opens the file at `path`, wherever it is.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let file = File::options()
        .read(true)
        .custom_flags(READ.bits())
        .open(path)
        .map_err(|e| Failure::source(e.to_string()))?;
    regular(file)
}

/// Refuses what could block, never end, or be something else at the next look.
fn regular(file: File) -> Result<File, Failure> {
    let about = look(&file)?;
    if about.is_file() {
        return Ok(file);
    }
    Err(Failure::source("not a regular file"))
}

fn look(file: &File) -> Result<Metadata, Failure> {
    file.metadata().map_err(|e| Failure::source(e.to_string()))
}

/// Reads `file` to its end, or fails where it is larger than `limit` or changes meanwhile.
pub(crate) fn read(file: &File, limit: u64) -> Result<Secret, Failure> {
    let before = look(file)?;
    let too_large = || Failure::source(format!("larger than {} MiB", limit >> 20));
    if before.len() > limit {
        return Err(too_large());
    }
    let expected = usize::try_from(before.len()).map_err(|_| too_large())?;
    let secret = Secret::read_sized(&mut &*file, expected, limit).map_err(|e| match e.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        _ => Failure::source(e.to_string()),
    })?;
    let after = look(file)?;
    if stamp(&before) != stamp(&after) || after.len() != secret.len() as u64 {
        return Err(Failure::source("changed while it was read").hint("run it again"));
    }
    Ok(secret)
}

fn stamp(about: &Metadata) -> (u64, i64, i64, i64, i64) {
    (
        about.len(),
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec(),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    fn check(root: &Path, path: &str, found: Result<&[u8], &str>) {
        let read = open_below(root, path).and_then(|file| read(&file, 1 << 20));
        match (&read, found) {
            (Ok(secret), Ok(bytes)) => assert_eq!(secret.expose(), bytes, "{path}"),
            (Err(failure), Err(text)) => assert_eq!(failure.to_string(), text, "{path}"),
            (Ok(_), Err(text)) => panic!("{path} was read, not: {text}"),
            (Err(failure), Ok(_)) => panic!("{path}: {failure}"),
        }
    }

    #[test]
    fn only_regular_files_below_the_folder_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("folder")).unwrap();
        fs::write(outer.path().join("outside"), "no").unwrap();
        fs::write(root.join("folder/key"), b"a\0\xff\r\n").unwrap();
        fs::write(root.join("empty"), "").unwrap();
        fs::write(root.join("large"), vec![0; (1 << 20) + 1]).unwrap();
        symlink("folder/key", root.join("inside")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink(outer.path().join("outside"), root.join("absolute")).unwrap();
        symlink("/proc/self/fd/0", root.join("magic")).unwrap();
        nix::unistd::mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();

        let leaves = Err("leads out of the manifest's folder");
        check(&root, "folder/key", Ok(b"a\0\xff\r\n"));
        check(&root, "folder/../inside", Ok(b"a\0\xff\r\n"));
        check(&root, "empty", Ok(b""));
        check(&root, "../outside", leaves);
        check(&root, "folder/../../outside", leaves);
        check(&root, "out", leaves);
        check(&root, "absolute", leaves);
        check(&root, "magic", leaves);
        check(&root, "fifo", Err("not a regular file"));
        check(&root, "folder", Err("not a regular file"));
        check(&root, "large", Err("larger than 1 MiB"));
        check(&root, "none", Err("No such file or directory (os error 2)"));
    }
}
