//! The root file system of one host: a cached tree of Debian below, what differs on top of it in memory.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::inside::write;
use crate::{Release, lab};

/// A root file system of its own, gone when dropped.
pub struct Tree {
    /// `up` and `work` of the overlay, and `root`, where it is mounted.
    folder: PathBuf,
    /// The line of `ssh_host_ed25519_key.pub`.
    host_key: String,
}

impl Tree {
    /// Makes one for a host called `name`: with a machine id and an ssh host key of its own, and the lab's key for root.
    pub(crate) fn new(name: &str, release: Release) -> Self {
        Self::over(name, &release.tree())
    }

    /// Makes one on top of this cached tree.
    pub(crate) fn over(name: &str, below: &Path) -> Self {
        let folder = lab::folder().join(format!("{name}-{}", lab::number()));
        for part in ["up", "work", "root"] {
            fs::create_dir_all(folder.join(part)).expect("the lab's folder can be written");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            below.display(),
            folder.join("up").display(),
            folder.join("work").display()
        );
        let root = folder.join("root");
        mount(
            Some("overlay"),
            &root,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap_or_else(|e| panic!("overlay on {}: {e}", root.display()));
        let mut tree = Self {
            folder,
            host_key: String::new(),
        };
        tree.prepare(name);
        tree
    }

    fn prepare(&mut self, name: &str) {
        let machine = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .expect("the kernel gives random ids");
        self.write("/etc/machine-id", machine.replace('-', ""), 0o444);
        self.write("/etc/hostname", format!("{name}\n"), 0o644);
        self.write("/etc/hosts", format!("127.0.0.1 localhost {name}\n"), 0o644);
        let key = fs::read(lab::public_of(lab::ssh_key())).expect("the lab's key was made");
        self.write("/root/.ssh/authorized_keys", key, 0o600);
        for kind in ["rsa", "ecdsa", "ed25519"] {
            for end in ["", ".pub"] {
                let path = self.path(&format!("/etc/ssh/ssh_host_{kind}_key{end}"));
                fs::remove_file(path).expect("Debian's openssh-server made its keys");
            }
        }
        self.host_key = lab::make_ssh_key(&self.path("/etc/ssh/ssh_host_ed25519_key"));
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Returns a folder beside it, for what is about the host and not on it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns where a path of it is for us. Mounts that the host makes, such as its /run, are not seen this way.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Writes a file of it, made with `mode`, and its folders.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        write(&self.path(path), bytes.as_ref(), mode);
    }

    /// Adds a group.
    pub fn group(&self, name: &str, gid: u32) {
        append(&self.path("/etc/group"), &format!("{name}:x:{gid}:\n"));
    }

    /// Adds a user and its group, with the same number and a shell, that cannot log in by password.
    pub fn user(&self, name: &str, uid: u32) {
        self.group(name, uid);
        append(
            &self.path("/etc/passwd"),
            &format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n"),
        );
        // Not `!`: sshd takes that for a locked account.
        append(
            &self.path("/etc/shadow"),
            &format!("{name}:*:19000:0:99999:7:::\n"),
        );
    }

    /// Puts a user into a group of it.
    pub fn join(&self, user: &str, group: &str) {
        let path = self.path("/etc/group");
        let groups = fs::read_to_string(&path).expect("every tree has groups");
        let changed: Vec<String> = groups
            .lines()
            .map(|line| match line.split(':').next() {
                Some(name) if name == group && line.ends_with(':') => format!("{line}{user}\n"),
                Some(name) if name == group => format!("{line},{user}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(&path, changed.concat()).expect("the tree can be written");
    }

    /// Returns the host's public key, as a line for `known_hosts` without the name: type and base64.
    #[must_use]
    pub fn host_key(&self) -> String {
        let words: Vec<&str> = self.host_key.split(' ').take(2).collect();
        words.join(" ")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Lazily: processes of the host may still be on their way out. The memory comes back with the last of them.
        if let Err(e) = umount2(&self.root(), MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {e}", self.root().display());
        }
        if let Err(e) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} stays: {e}", self.folder.display());
        }
    }
}

fn append(path: &Path, line: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.write_all(line.as_bytes())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
