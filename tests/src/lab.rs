//! The lab that `tests/enter` made: where things are, and what all hosts of a run share.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The address of the operator's machine, on the bridge that the hosts are on.
pub const ADDRESS: &str = "10.99.0.1";

/// Returns the folder for the files of this run, in memory, and gone with it.
///
/// # Panics
/// Outside the lab.
#[must_use]
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder =
            env::var_os("KEYS_LAB").expect("cases run inside the lab: start them by tests/run");
        PathBuf::from(folder)
    })
}

/// Returns the folder of root trees and real peers, which outlives runs.
pub(crate) fn cache() -> PathBuf {
    folder()
        .parent()
        .expect("the lab is below the cache")
        .to_owned()
}

/// Returns a real peer: `sops`, `age`, `age-keygen`, `vaultd`.
#[must_use]
pub fn peer(name: &str) -> PathBuf {
    cache().join("bin").join(name)
}

/// Returns a binary of the project: `keys`, `keys-agent`, `keys-restore`, `mangle`, `probe`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("tests are in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "not built: {}", path.display());
    path
}

/// Returns the root of the project's source.
#[must_use]
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is below the root")
}

/// Returns the private key that every host of this run lets in as root; `.pub` beside it.
#[must_use]
pub fn ssh_key() -> &'static Path {
    static KEY: OnceLock<PathBuf> = OnceLock::new();
    KEY.get_or_init(|| {
        let path = folder().join("operator");
        let _public = make_ssh_key(&path);
        path
    })
}

/// Makes an ed25519 key pair at `path` and `path.pub`, and returns the public line.
#[must_use]
pub fn make_ssh_key(path: &Path) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
        .arg(path)
        .status()
        .expect("ssh-keygen starts");
    assert!(made.success(), "ssh-keygen {}: {made}", path.display());
    let line = fs::read_to_string(public_of(path)).expect("ssh-keygen wrote the public key");
    line.trim_end().to_owned()
}

/// Returns where ssh-keygen puts the public half of a key.
#[must_use]
pub fn public_of(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".pub");
    PathBuf::from(path)
}

/// Returns a number that no one else in this run has, from 10.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(10);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns the children of a process, none if it is gone.
pub(crate) fn children(process: u32) -> Vec<u32> {
    // Not from /proc/N/task/N/children: that list has gaps while others come and go.
    let all = fs::read_dir("/proc").expect("the lab has a /proc");
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number| parent(*number) == Some(process))
        .collect()
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything: the state, then the parent.
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
}

/// Returns whether a process is there and runs the program of that name.
pub(crate) fn runs(process: u32, program: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim_end() == program)
}

/// Kills a process of ours; one that is gone is no error.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn kill(process: u32) -> nix::Result<()> {
    let number = i32::try_from(process).expect("process numbers fit");
    match nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(number),
        nix::sys::signal::Signal::SIGKILL,
    ) {
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        other => other,
    }
}
