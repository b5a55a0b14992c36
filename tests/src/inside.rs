//! The inside of a host: its files, and commands in it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Ran;

/// What sshd gives root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A host as seen through its first process. Valid until that ends: ask the host again after a reboot.
#[derive(Debug, Clone)]
pub struct Inside {
    name: String,
    first: u32,
}

impl Inside {
    pub(crate) fn of(name: &str, first: u32) -> Self {
        Self {
            name: name.to_owned(),
            first,
        }
    }

    /// Returns the host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of its first process, as seen from here.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Returns the words that put a command into its namespaces, for where a command line is wanted.
    #[must_use]
    pub fn enter(&self) -> String {
        format!(
            "nsenter --target {} --mount --uts --ipc --net --pid --root --wd=/",
            self.first
        )
    }

    /// Returns a command in it, with root's environment and nothing of ours.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let words = self.enter();
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().expect("the first word is the program"));
        command.args(words).arg("--").arg(program);
        command.env_clear().env("PATH", PATH).env("HOME", "/root");
        command
    }

    /// Runs a line of shell in it, by root.
    pub fn run(&self, line: &str) -> Ran {
        self.run_with(line, b"")
    }

    /// Runs a line of shell in it, by root, with `input` on its standard input.
    pub fn run_with(&self, line: &str, input: &[u8]) -> Ran {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        Ran::of(command, input).on(vec![self.clone()])
    }

    /// Returns where a path of it is for us. Its absolute symlinks lead astray from here, relative ones do not.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Returns the bytes of a file of it.
    #[must_use]
    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path))
            .unwrap_or_else(|e| panic!("{}:{path}: {e}\n{}", self.name, self.tree("/run/keys")))
    }

    /// Returns whether there is anything at a path of it, be it a dangling link.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Writes a file of it, made with `mode`, and its folders.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        write(&self.path(path), bytes.as_ref(), mode);
    }

    /// Copies a binary of the project to `path` in it.
    pub fn install(&self, binary: &Path, path: &str) {
        // Anew, as the one that is there may be running.
        if self.has(path) {
            fs::remove_file(self.path(path)).expect("the old binary can be removed");
        }
        fs::copy(binary, self.path(path)).unwrap_or_else(|e| panic!("{}:{path}: {e}", self.name));
    }

    /// Returns `user:group 0400` of what a path of it leads to.
    #[must_use]
    pub fn access(&self, path: &str) -> String {
        let meta = fs::metadata(self.path(path))
            .unwrap_or_else(|e| panic!("{}:{path}: {e}\n{}", self.name, self.tree("/run/keys")));
        self.access_of(&meta)
    }

    fn access_of(&self, meta: &fs::Metadata) -> String {
        let owner = self.name_of("/etc/passwd", meta.uid());
        let group = self.name_of("/etc/group", meta.gid());
        format!("{owner}:{group} {:04o}", meta.mode() & 0o7777)
    }

    /// Returns the name that a file of accounts has for a number, or the number.
    fn name_of(&self, file: &str, id: u32) -> String {
        let accounts = fs::read_to_string(self.path(file)).unwrap_or_default();
        let named = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
        });
        named.unwrap_or_else(|| id.to_string())
    }

    /// Returns everything below a folder of it, a line each: access, size or target, path. Never a content.
    #[must_use]
    pub fn tree(&self, folder: &str) -> String {
        let mut lines = String::new();
        self.list(&self.path(folder), &mut lines);
        lines
    }

    fn list(&self, path: &Path, lines: &mut String) {
        let shown = path
            .strip_prefix(self.path("/"))
            .unwrap_or(path)
            .display()
            .to_string();
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            Err(e) => {
                let _infallible = writeln!(lines, "/{shown}: {e}");
                return;
            }
        };
        let what = if meta.is_symlink() {
            fs::read_link(path).map_or_else(|e| e.to_string(), |to| format!("-> {}", to.display()))
        } else if meta.is_dir() {
            "folder".to_owned()
        } else {
            format!(
                "{} bytes, inode {}, {} links",
                meta.len(),
                meta.ino(),
                meta.nlink()
            )
        };
        let _infallible = writeln!(lines, "{:28} /{shown} ({what})", self.access_of(&meta));
        if meta.is_dir() {
            for entry in sorted(path) {
                self.list(&entry, lines);
            }
        }
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

/// Writes a file with `mode`, and its folders.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) {
    let place = || path.display();
    let folder = path.parent().expect("a file is in a folder");
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", place()));
    fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", place()));
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("{}: {e}", place()));
}
