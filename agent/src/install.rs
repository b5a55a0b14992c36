//! Puts the agent's units in place and starts them: what a plain host needs, once, and again after an update.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, umask};

/// The program's path as the unit files have it.
const PACKAGED: &str = "/usr/local/bin/keys-agent";
/// What is written where. The units carry on in the tree as they are, for whoever packages them.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/systemd/system/keys-mount.service",
        include_str!("../systemd/keys-mount.service"),
    ),
    (
        "/etc/systemd/system/keys-agent.socket",
        include_str!("../systemd/keys-agent.socket"),
    ),
    (
        "/etc/systemd/system/keys-agent.service",
        include_str!("../systemd/keys-agent.service"),
    ),
    (
        "/etc/sysusers.d/keys.conf",
        include_str!("../systemd/keys-sysusers.conf"),
    ),
    (
        "/etc/tmpfiles.d/zz-keys.conf",
        include_str!("../systemd/zz-keys-tmpfiles.conf"),
    ),
];
/// What is run then, in this order. The service is restarted only where it runs, so that it takes up a new program.
const COMMANDS: [&[&str]; 4] = [
    &["systemd-sysusers", "/etc/sysusers.d/keys.conf"],
    &["systemctl", "daemon-reload"],
    &[
        "systemctl",
        "enable",
        "--now",
        "keys-mount.service",
        "keys-agent.socket",
    ],
    &["systemctl", "try-restart", "keys-agent.service"],
];
/// Where those are, whatever PATH a login without a shell has.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why it is not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Not started by systemd, or not at all.
    #[error("this host was not started by systemd")]
    NoSystemd,
    /// A unit would run it as root, and somebody else could change it.
    #[error("not only root can write {0}")]
    Loose(PathBuf),
    /// A path that would need quoting in a unit file.
    #[error("the path of this program has characters other than A-Z, a-z, 0-9 and /._+-: {0}")]
    OddPath(PathBuf),
    /// A command ended with something else than 0; it said why.
    #[error("`{0}` failed: {1}")]
    Command(String, String),
    /// A system call failed.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// Writes the files that differ, and has systemd take them up. Calls `say` for each thing done.
pub(crate) fn install(say: &mut dyn FnMut(&str)) -> Result<(), InstallError> {
    if !Path::new("/run/systemd/system").exists() {
        return Err(InstallError::NoSystemd);
    }
    // The files are for everyone to read, and so are the folders that systemctl makes.
    umask(Mode::from_bits_truncate(0o022));
    let program = program()?;
    for (path, text) in FILES {
        let path = Path::new(path);
        let text = text.replace(PACKAGED, &program);
        let failed = |e| InstallError::Io(format!("write {}", path.display()), e);
        match fs::read(path) {
            Ok(there) if there == text.as_bytes() => {
                say(&format!("{} is as it should be", path.display()));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {
                write(path, &text).map_err(failed)?;
                say(&format!("wrote {}", path.display()));
            }
        }
    }
    for command in COMMANDS {
        run(command)?;
        say(&format!("ran {}", command.join(" ")));
    }
    Ok(())
}

/// The path of this very program, which must be fit for a unit that runs it as root.
fn program() -> Result<String, InstallError> {
    let own = std::env::current_exe();
    let own = own.map_err(|e| InstallError::Io("find this program".to_owned(), e))?;
    for part in own.ancestors() {
        let about = fs::metadata(part);
        let about =
            about.map_err(|e| InstallError::Io(format!("look at {}", part.display()), e))?;
        if about.uid() != 0 || about.mode() & 0o022 != 0 {
            return Err(InstallError::Loose(part.to_owned()));
        }
    }
    let plain = |text: &&str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b))
    };
    own.to_str()
        .filter(plain)
        .map(str::to_owned)
        .ok_or(InstallError::OddPath(own))
}

/// Writes beside the file and renames: a unit file is never half there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn run(command: &[&str]) -> Result<(), InstallError> {
    let failed = |why| InstallError::Command(command.join(" "), why);
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| failed("nothing to run".to_owned()))?;
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", SEARCH)
        .output();
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_that_runs_the_program_names_it_so_that_its_path_can_be_replaced() {
        for (path, text) in FILES {
            let runs = text.lines().filter(|line| line.starts_with("ExecStart="));
            for line in runs {
                assert!(
                    line.starts_with(&format!("ExecStart={PACKAGED} ")),
                    "{path}: {line}"
                );
            }
        }
    }
}
