//! Puts the agent's units in place and starts them: what a plain host needs, once, and again after an update.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use keys_protocol::RefusalCode;
use nix::sys::stat::{Mode, umask};

use crate::etc;
use crate::failure::{Doing as _, Failure};
use crate::generator;

/// The program's path as the unit files have it.
const PACKAGED: &str = "/usr/local/bin/keys-agent";
/// What is written where. The units carry on in the tree as they are, for whoever packages them.
const FILES: [(&str, &str); 6] = [
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
        "/etc/systemd/system/keys-refused.service",
        include_str!("../systemd/keys-refused.service"),
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
/// What to do about a program in the wrong place.
const PLACE: &str = "put it at /usr/local/bin/keys-agent, owned by root, mode 0755";
/// Where those are, whatever PATH a login without a shell has.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes the files that differ, and has systemd take them up. Calls `say` for each thing done.
pub(crate) fn install(say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    if !Path::new("/run/systemd/system").exists() {
        let text = "this host was not started by systemd";
        return Err(Failure::new(RefusalCode::Policy, text));
    }
    // The files are for everyone to read, and so are the folders that systemctl makes.
    umask(Mode::from_bits_truncate(0o022));
    let program = program()?;
    for (path, text) in FILES {
        place(Path::new(path), &text.replace(PACKAGED, &program), say)?;
    }
    link_generator(&program, say)?;
    COMMANDS.iter().try_for_each(|command| run(command, say))
}

/// Writes a file, unless it is as it should be.
pub(crate) fn place(path: &Path, text: &str, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let writing = || format!("write {}", path.display());
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => {
            say(&format!("{} is as it should be", path.display()));
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).doing(writing),
        _ => {
            write(path, text).doing(writing)?;
            say(&format!("wrote {}", path.display()));
        }
    }
    Ok(())
}

/// The path of this very program, which must be fit for a unit that runs it as root.
fn program() -> Result<String, Failure> {
    fit(&std::env::current_exe().doing(|| "find this program".into())?)
}

/// Returns the path of a program that a unit may run as root.
pub(crate) fn fit(own: &Path) -> Result<String, Failure> {
    for part in own.ancestors() {
        let about = fs::metadata(part).doing(|| format!("stat {}", part.display()))?;
        if about.uid() != 0 || about.mode() & 0o022 != 0 {
            let text = format!("others than root can write {}", part.display());
            return Err(Failure::new(RefusalCode::Policy, text).hint(PLACE));
        }
    }
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._+-".contains(&c);
    match own.to_str() {
        Some(path) if path.bytes().all(plain) => Ok(path.to_owned()),
        _ => {
            let text = "the path of this program would need quotes in a unit";
            Err(Failure::new(RefusalCode::Policy, text).hint(PLACE))
        }
    }
}

/// Writes one file, and its folder.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    etc::write(path, text.as_bytes(), 0o644)
}

/// Puts this program where systemd looks for generators, by the name it does that work under.
fn link_generator(program: &str, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let link = Path::new(generator::LINK);
    let linking = || format!("link {}", link.display());
    match fs::read_link(link) {
        Ok(there) if there == Path::new(program) => {
            say(&format!("{} is as it should be", link.display()));
            return Ok(());
        }
        // Nothing is there, or something that is no link.
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            return Err(e).doing(linking);
        }
        _ => {}
    }
    let folder = link.parent().unwrap_or(link);
    fs::create_dir_all(folder).doing(linking)?;
    let new = folder.join(".keys-generator.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).doing(linking),
        _ => symlink(program, &new).doing(linking)?,
    }
    fs::rename(&new, link).doing(linking)?;
    say(&format!("wrote {}", link.display()));
    Ok(())
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &[&str], say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let line = command.join(" ");
    let (program, arguments) = command.split_first().unwrap_or((&"", &[]));
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", SEARCH)
        .output();
    let output = output.doing(|| line.clone())?;
    if output.status.success() {
        say(&format!("ran {line}"));
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("{line}: {}: {}", output.status, said.trim());
    Err(Failure::new(RefusalCode::Io, text))
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
