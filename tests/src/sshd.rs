//! A host without systemd and without a network: its own root, processes and /run/keys, and an sshd for each session.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Inside, Release, Tree, lab, wait_for};

/// What is at /run/keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// A tmpfs with these options, such as `noswap,size=1m`.
    Tmpfs(&'static str),
    /// A ramfs.
    Ramfs,
    /// A folder on the root file system, which is an overlay.
    Plain,
    /// Nothing.
    Missing,
}

impl Folder {
    /// A tmpfs as the units of the agent make it.
    pub const USUAL: Self = Self::Tmpfs("noswap,nosuid,nodev,noexec");

    /// Returns the line of shell that makes it, in a host's namespaces.
    fn make(self) -> String {
        let mount = match self {
            Self::Tmpfs(options) => format!("mount -t tmpfs -o {options} keys /run/keys"),
            Self::Ramfs => "mount -t ramfs -o nosuid,nodev,noexec keys /run/keys".to_owned(),
            Self::Plain => "mkdir /run-keys; mount --bind /run-keys /run/keys".to_owned(),
            Self::Missing => return "true".to_owned(),
        };
        format!("mkdir /run/keys; {mount}; chown root:keys /run/keys; chmod 0751 /run/keys")
    }
}

/// Becomes the first process of the host: pivots into its root, so that nothing of the machine is to be seen.
const FIRST: &str = r"
set -e
hostname $1
mount --bind $2 $2
cd $2
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs -o mode=0755,nosuid,nodev run run
mkdir -m 0755 run/sshd run/lock
pivot_root . mnt
umount -l /mnt
exec sleep infinity <&- >&-
";

const CONFIG: &str = "\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
";

/// How long a host may take to be there.
const START: Duration = Duration::from_secs(10);

/// Such a host. Ended, with all that runs on it, when dropped.
pub struct Sshd {
    name: String,
    tree: Tree,
    /// Makes the namespaces and waits for the first process in them.
    unshare: Child,
    inside: Inside,
    /// What stands before the sshd of the next sessions.
    before: String,
}

impl Sshd {
    /// Starts a Debian 12 with the usual /run/keys and the agent in its PATH.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::with(name, Release::Bookworm, Folder::USUAL)
    }

    /// Starts a host with the agent in its PATH, and with `folder` at /run/keys.
    #[must_use]
    pub fn with(name: &str, release: Release, folder: Folder) -> Self {
        let tree = Tree::new(name, release);
        tree.group("keys", 96);
        tree.write("/etc/ssh/sshd_lab", CONFIG, 0o600);
        let unshare = Command::new("unshare")
            .args([
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["--propagation", "private", "sh", "-c", FIRST, "sh", name])
            .arg(tree.root())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare starts");
        let first = wait_for("the first process of a host", START, || {
            lab::children(unshare.id())
                .first()
                .copied()
                .filter(|first| lab::runs(*first, "sleep"))
        });
        let inside = Inside::of(name, first);
        let _made = inside.run(&folder.make()).succeeded();
        let agent = lab::binary("keys-agent");
        inside.install(&agent, "/usr/local/bin/keys-agent");
        Self {
            name: name.to_owned(),
            tree,
            unshare,
            inside,
            before: String::new(),
        }
    }

    /// Returns its inside.
    #[must_use]
    pub fn inside(&self) -> &Inside {
        &self.inside
    }

    /// Returns its root file system.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns its name, which is also the alias that an operator who knows it uses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets `mangle` stand between ssh and sshd with these words from now on (`--cut 5000`), or nothing with none.
    pub fn mangle(&mut self, words: &str) {
        self.before = if words.is_empty() {
            String::new()
        } else {
            format!("{} {words} -- ", lab::binary("mangle").display())
        };
    }

    /// Puts a script of bash in the place of the agent, which it can start as `keys-agent.real`.
    pub fn wrap(&self, script: &str) {
        let agent = lab::binary("keys-agent");
        self.inside
            .install(&agent, "/usr/local/bin/keys-agent.real");
        let script = format!("#!/bin/bash\n{script}\n");
        self.inside
            .write("/usr/local/bin/keys-agent", script, 0o755);
    }

    /// Puts lines before the configuration of its sshd.
    pub fn sshd_lines(&self, lines: &str) {
        self.tree
            .write("/etc/ssh/sshd_lab", format!("{lines}\n{CONFIG}"), 0o600);
    }

    /// Returns its paragraph for an `ssh_config`.
    #[must_use]
    pub fn ssh_config(&self) -> String {
        let Self { name, before, .. } = self;
        let enter = self.inside.enter();
        let key = lab::ssh_key().display();
        format!(
            "Host {name}\n  User root\n  IdentityFile {key}\n  \
             ProxyCommand {before}{enter} -- /usr/sbin/sshd -i -f /etc/ssh/sshd_lab\n"
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Its child goes with it (--kill-child), and all of the host with that.
        if let Err(e) = self.unshare.kill().and_then(|()| self.unshare.wait()) {
            eprintln!("{}: {e}", self.name);
        }
    }
}
