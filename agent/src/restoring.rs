//! Installs what opens the sealed bundle at boot: only where the administrator asks for it, and names a folder.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use keys_protocol::RefusalCode;
use keys_protocol::bundle::{FOLDER, FOLDER_CONF, SIGNERS};

use crate::failure::{Doing as _, Failure};
use crate::install::{self, fit, place, run};

/// The program's path as the unit file has it.
const PACKAGED: &str = "/usr/local/bin/keys-restore";
const UNIT: &str = "/etc/systemd/system/keys-restore.service";
const TEXT: &str = include_str!("../systemd/keys-restore.service");
/// What lets the agent write to another folder than its own.
const DROP_IN: &str = "/etc/systemd/system/keys-agent.service.d/bundle.conf";
/// Enabled and not started: a bundle is opened when the host boots.
const COMMANDS: [&[&str]; 3] = [
    &["systemctl", "daemon-reload"],
    &["systemctl", "enable", "keys-restore.service"],
    &["systemctl", "try-restart", "keys-agent.service"],
];

/// Installs the agent, and then `keys-restore` with `folder` for the bundle.
pub(crate) fn install(folder: &str, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    if !is_plain(folder) {
        let text = "the folder of the bundle is an absolute path that needs no quotes in a unit";
        return Err(Failure::new(RefusalCode::Policy, text));
    }
    let own = std::env::current_exe().doing(|| "find this program".into())?;
    let program = own.with_file_name("keys-restore");
    if !program.exists() {
        let text = format!("{} is not there", program.display());
        return Err(Failure::new(RefusalCode::Policy, text).hint("put it beside keys-agent"));
    }
    let program = fit(&program)?;
    install::install(say)?;
    if folder != FOLDER || Path::new(FOLDER_CONF).exists() {
        declare(folder, say)?;
    }
    let text = TEXT.replace(PACKAGED, &program).replace(FOLDER, folder);
    place(Path::new(UNIT), &text, say)?;
    COMMANDS.iter().try_for_each(|command| run(command, say))?;
    if !Path::new(SIGNERS).exists() {
        say(&format!(
            "{SIGNERS} is not there: until it names a key (PRINCIPAL ssh-ed25519 AAAA…), this host takes no bundle"
        ));
    }
    Ok(())
}

/// Makes the folder, and lets the agent write to it.
fn declare(folder: &str, say: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.doing(|| format!("make {folder}"))?;
    place(Path::new(FOLDER_CONF), &format!("{folder}\n"), say)?;
    let text =
        format!("[Unit]\nRequiresMountsFor={folder}\n\n[Service]\nReadWritePaths={folder}\n");
    place(Path::new(DROP_IN), &text, say)
}

fn is_plain(folder: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/._+-".contains(&c);
    folder.starts_with('/') && folder.bytes().all(plain) && !folder.contains("/../")
}
