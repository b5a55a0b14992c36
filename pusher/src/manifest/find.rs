//! Finds the manifest, and reads it only if nobody else could have written it.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keys_protocol::printable;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::problem::{LONGEST_PATH, position};
use crate::failure::Failure;

/// The name a manifest is found by.
const NAME: &str = "keys.toml";
/// The largest manifest, in bytes.
const LARGEST: u64 = 4 << 20;

/// Finds `keys.toml` here or in a parent folder: up to the home folder, or outside of it to the root of this
/// filesystem.
pub(super) fn locate() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage(format!("no current folder: {error}")))?;
    // Only a bound to the search, so a HOME that is not there or not ours does no harm.
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    search(&here, home.as_deref())
}

fn search(here: &Path, home: Option<&Path>) -> Result<PathBuf, Failure> {
    let home = home.filter(|home| here.starts_with(home));
    let device = |folder: &Path| folder.metadata().map(|found| found.dev());
    let failed = |folder: &Path, error| Failure::usage(format!("{}: {error}", shown(folder)));
    let filesystem = device(here).map_err(|error| failed(here, error))?;
    let mut last = here;
    for folder in here.ancestors() {
        if home.is_none() && device(folder).map_err(|error| failed(folder, error))? != filesystem {
            break;
        }
        let file = folder.join(NAME);
        match file.symlink_metadata() {
            Ok(_) => return Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound => last = folder,
            Err(error) => return Err(failed(&file, error)),
        }
        if Some(folder) == home {
            break;
        }
    }
    let range = if last == here {
        String::new()
    } else {
        format!(" or above, up to {}", shown(last))
    };
    Err(
        Failure::usage(format!("no {NAME} in {}{range}", shown(here)))
            .hint("name the manifest: -f FILE"),
    )
}

/// Reads a manifest. Returns its real path and its text.
pub(super) fn read(path: &Path) -> Result<(PathBuf, String), Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", shown(path)));
    let file = path.canonicalize().map_err(failed)?;
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(Failure::usage(format!(
            "{}: not a regular file",
            shown(path)
        )));
    };
    // Whoever can write the folder where a link stands decides what it leads to.
    let beside = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    Standing::of(&beside.metadata().map_err(failed)?).check_folder(beside)?;
    // From here on the checks are made on what is open, not on what has the name by then.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(folder, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let root = File::from(root);
    Standing::of(&root.metadata().map_err(failed)?).check_folder(folder)?;
    // Not blocking: the name may be that of a pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = openat(&root, name, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let opened = File::from(opened);
    let found = opened.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(Failure::usage(format!(
            "{}: not a regular file",
            shown(path)
        )));
    }
    Standing::of(&found).check_file(&file)?;
    let text = utf8(&file, bounded(&file, opened)?)?;
    Ok((file, text))
}

/// Who can write something, and who asks.
#[derive(Clone, Copy)]
struct Standing {
    owner: u32,
    mode: u32,
    me: u32,
}

impl Standing {
    fn of(found: &Metadata) -> Self {
        Self {
            owner: found.uid(),
            mode: found.mode() & 0o7777,
            me: geteuid().as_raw(),
        }
    }

    fn check_file(self, file: &Path) -> Result<(), Failure> {
        self.check_owner(file)?;
        if self.mode & 0o022 != 0 {
            return Err(self.writable(file));
        }
        Ok(())
    }

    fn check_folder(self, folder: &Path) -> Result<(), Failure> {
        self.check_owner(folder)?;
        // As /nix/store is, root:nixbld 1775: the sticky bit keeps the group from replacing what is there.
        let sticky_of_root = self.owner == 0 && self.mode & 0o1000 != 0;
        let refused = if sticky_of_root { 0o002 } else { 0o022 };
        if self.mode & refused == 0 {
            return Ok(());
        }
        if self.mode & 0o1000 == 0 {
            return Err(self.writable(folder));
        }
        // Not chmod: this is /tmp or the like.
        Err(self
            .writable(folder)
            .hint("move the manifest into a folder that only you can write"))
    }

    fn check_owner(self, path: &Path) -> Result<(), Failure> {
        if self.owner == self.me || self.owner == 0 {
            return Ok(());
        }
        let text = format!(
            "{}: belongs to user {}; a manifest can run commands, so it and its folder belong to you or root",
            shown(path),
            self.owner
        );
        Err(Failure::usage(text).hint(format!(
            "if you trust what is there: sudo chown {} {}",
            self.me,
            shown(path)
        )))
    }

    fn writable(self, path: &Path) -> Failure {
        let who = if self.mode & 0o002 != 0 {
            "everyone"
        } else {
            "its group"
        };
        let text = format!(
            "{}: {who} can write it (mode {:04o}); a manifest can run commands, so only you and root may",
            shown(path),
            self.mode
        );
        Failure::usage(text).hint(format!("chmod go-w {}", shown(path)))
    }
}

fn bounded(path: &Path, file: File) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", shown(path))))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!(
            "{}: larger than 4 MiB",
            shown(path)
        )));
    }
    Ok(bytes)
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let (line, column) = position(&String::from_utf8_lossy(&error.as_bytes()[..good]), good);
        let wrong = error.as_bytes().get(good).copied().unwrap_or_default();
        Failure::usage(format!(
            "{}:{line}:{column}: byte {wrong:#04x} is not UTF-8",
            shown(path)
        ))
    })
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy(), LONGEST_PATH)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn refusal<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> String {
        let failure = outcome.unwrap_err();
        match failure.advice() {
            Some(hint) => format!("{failure}\n{hint}"),
            None => failure.to_string(),
        }
    }

    #[test]
    fn the_nearest_manifest_is_found_and_none_above_home() {
        let root = folder();
        let root = root.path().canonicalize().unwrap();
        let (home, work) = (root.join("home"), root.join("home/work/deep"));
        fs::create_dir_all(&work).unwrap();
        fs::write(root.join(NAME), "").unwrap();
        let (work_shown, home_shown) = (work.display(), home.display());
        assert_eq!(
            refusal(search(&work, Some(&home))),
            format!(
                "no keys.toml in {work_shown} or above, up to {home_shown}\nname the manifest: -f FILE"
            )
        );
        assert_eq!(
            refusal(search(&home, Some(&home))),
            format!("no keys.toml in {home_shown}\nname the manifest: -f FILE")
        );
        // Outside of home, or without one, the search goes on.
        assert_eq!(
            search(&work, Some(&root.join("elsewhere"))).unwrap(),
            root.join(NAME)
        );
        assert_eq!(search(&work, None).unwrap(), root.join(NAME));
        fs::write(home.join(NAME), "").unwrap();
        assert_eq!(search(&work, Some(&home)).unwrap(), home.join(NAME));
        symlink("nowhere", work.join(NAME)).unwrap();
        assert_eq!(search(&work, Some(&home)).unwrap(), work.join(NAME));
    }

    #[test]
    fn the_search_outside_home_stays_on_its_filesystem() {
        let here = tempfile::tempdir_in("/dev/shm").unwrap();
        let here = here.path().canonicalize().unwrap();
        assert_ne!(
            fs::metadata("/dev/shm").unwrap().dev(),
            fs::metadata("/dev").unwrap().dev(),
            "this test wants /dev/shm to be a filesystem of its own"
        );
        assert_eq!(
            refusal(search(&here, None)),
            format!(
                "no keys.toml in {} or above, up to /dev/shm\nname the manifest: -f FILE",
                here.display()
            )
        );
    }

    /// Owner, mode, and what is said of a file and of a folder `/a` to user 1000.
    const STANDINGS: &[(u32, u32, &str, &str)] = &[
        (1000, 0o600, "", ""),
        (1000, 0o755, "", ""),
        (0, 0o644, "", ""),
        (1001, 0o600, THEIRS, THEIRS),
        (
            1000,
            0o664,
            "its group, 0664, chmod go-w /a",
            "its group, 0664, chmod go-w /a",
        ),
        (
            0,
            0o775,
            "its group, 0775, chmod go-w /a",
            "its group, 0775, chmod go-w /a",
        ),
        (
            1000,
            0o602,
            "everyone, 0602, chmod go-w /a",
            "everyone, 0602, chmod go-w /a",
        ),
        // /nix/store.
        (0, 0o1775, "its group, 1775, chmod go-w /a", ""),
        // /tmp, and a folder that somebody made like it.
        (
            0,
            0o1777,
            "everyone, 1777, chmod go-w /a",
            "everyone, 1777, MOVE",
        ),
        (
            1000,
            0o1775,
            "its group, 1775, chmod go-w /a",
            "its group, 1775, MOVE",
        ),
    ];
    const THEIRS: &str = "/a: belongs to user 1001; a manifest can run commands, so it and its folder belong to you \
                          or root\nif you trust what is there: sudo chown 1000 /a";

    #[test]
    fn what_others_can_write_is_refused() {
        let check = |outcome: Result<(), Failure>, expected: &str| {
            let said = if outcome.is_ok() {
                String::new()
            } else {
                refusal(outcome)
            };
            let expected = match *expected.split(", ").collect::<Vec<_>>() {
                [who, mode, advice] => format!(
                    "/a: {who} can write it (mode {mode}); a manifest can run commands, so only you and root may\n{}",
                    advice.replace(
                        "MOVE",
                        "move the manifest into a folder that only you can write"
                    )
                ),
                _ => expected.to_owned(),
            };
            assert_eq!(said, expected);
        };
        for &(owner, mode, file, folder) in STANDINGS {
            let standing = Standing {
                owner,
                mode,
                me: 1000,
            };
            check(standing.check_file(Path::new("/a")), file);
            check(standing.check_folder(Path::new("/a")), folder);
        }
    }

    #[test]
    fn a_manifest_is_read_through_a_link_only_if_both_folders_are_safe() {
        let root = folder();
        let root = root.path().canonicalize().unwrap();
        let (real, link) = (root.join("real"), root.join("link"));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&link).unwrap();
        let (file, name) = (real.join("x.toml"), link.join(NAME));
        fs::write(&file, "id = 'x'").unwrap();
        symlink(&file, &name).unwrap();
        assert_eq!(read(&name).unwrap(), (file.clone(), "id = 'x'".to_owned()));
        for (path, mode) in [(&link, 0o775), (&real, 0o775), (&file, 0o664)] {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let said = refusal(read(&name));
            assert!(
                said.starts_with(&format!("{}: its group can write it", path.display())),
                "{said}"
            );
            fs::set_permissions(path, before).unwrap();
        }
        assert!(read(&name).is_ok());
    }

    #[test]
    fn what_is_no_text_file_of_a_sane_size_is_refused() {
        let root = folder();
        let file = root.path().canonicalize().unwrap().join(NAME);
        let path = file.display();
        let check = |bytes: &[u8], error: &str| {
            fs::write(&file, bytes).unwrap();
            assert_eq!(refusal(read(&file)), format!("{path}{error}"));
        };
        check(b"a = 1\nb = '\xff'\n", ":2:6: byte 0xff is not UTF-8");
        check(b"\xff\xfei\0d\0", ":1:1: byte 0xff is not UTF-8");
        check(&vec![b'#'; 50 << 20], ": larger than 4 MiB");
        fs::write(&file, vec![b'#'; 4 << 20]).unwrap();
        assert!(read(&file).is_ok());
        fs::remove_file(&file).unwrap();
        assert_eq!(
            refusal(read(&file)),
            format!("{path}: No such file or directory (os error 2)")
        );
        nix::unistd::mkfifo(&file, Mode::S_IRWXU).unwrap();
        assert_eq!(refusal(read(&file)), format!("{path}: not a regular file"));
        let inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        assert_eq!(
            refusal(read(&inner)),
            format!("{}: not a regular file", inner.display())
        );
        assert_eq!(refusal(read(Path::new("/"))), "/: not a regular file");
    }
}
