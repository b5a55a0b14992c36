//! A real Nix in a root tree of its own: it evaluates, and neither fetches nor builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};

use crate::{Ran, Tree, lab};

/// What it may do, and that its store is nobody else's.
const CONFIG: &str = "\
build-users-group =
experimental-features = nix-command flakes
substituters =
sandbox = false
";

/// Nix, with the project's source at `/src`.
pub struct Nix {
    tree: Tree,
}

impl Nix {
    /// Makes one with an empty store.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "mounting is no default")]
    pub fn new() -> Self {
        let tree = Tree::over("nix", &lab::cache().join("trees/nix"));
        let nix = Self { tree };
        nix.shows(Path::new("/proc"), "/proc");
        nix.shows(Path::new("/dev"), "/dev");
        nix.shows(lab::source(), "/src");
        nix.tree.write("/etc/nix/nix.conf", CONFIG, 0o644);
        nix
    }

    /// Shows a folder of ours at `path` in it, to be read: nothing that removes the tree reaches into it.
    pub fn shows(&self, folder: &Path, path: &str) {
        let at = self.tree.path(path);
        fs::create_dir_all(&at).expect("the tree can be written");
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for flags in [MsFlags::MS_BIND, read_only] {
            mount(Some(folder), &at, None::<&str>, flags, None::<&str>)
                .unwrap_or_else(|e| panic!("{} at {}: {e}", folder.display(), at.display()));
        }
    }

    /// Returns its root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.tree.root()
    }

    /// Evaluates a file, whose value is a function of what may be left out, to JSON.
    pub fn evaluate(&self, file: &str) -> Ran {
        let mut command = self.command("nix-instantiate");
        command.args(["--eval", "--strict", "--json", "--expr"]);
        command.arg(format!("import {file} {{ }}"));
        Ran::of(command, b"")
    }

    /// Returns a command in it, with root's environment and nothing of ours.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg(self.root()).arg(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/root");
        command
    }
}
