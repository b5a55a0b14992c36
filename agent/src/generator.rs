//! The generator: systemd runs it at boot and whenever it reads its units anew, and gets a unit for each key of the host.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use keys_protocol::RefusalCode;

use crate::failure::{Doing as _, Failure};
use crate::host_manifest::HostManifest;

/// What this program is called where systemd looks for generators.
pub(crate) const NAME: &str = "keys-generator";
/// Where it is put.
pub(crate) const LINK: &str = "/etc/systemd/system-generators/keys-generator";
/// Whose start starts the units of all keys: one call, however many there are.
pub(crate) const LANDED: &str = "keys-landed.target";
/// Where systemd keeps what it made.
const MADE: &str = "/run/systemd/generator";
/// The unit of a key, and the program's path in it.
const KEY: &str = include_str!("../systemd/key.service.in");
const PACKAGED: &str = "/usr/local/bin/keys-agent";
/// What the line of the target starts with that says which keys it was made for.
const STAMP: &str = "# keys ";

/// Writes the units into the folder that systemd gave us. A host without keys gets the target alone.
pub(crate) fn generate(folder: &Path) -> Result<(), Failure> {
    let manifest = HostManifest::find()?.map(|(manifest, _)| manifest);
    let manifest = manifest.unwrap_or_default();
    let own = std::env::current_exe().doing(|| "find this program".into())?;
    let Some(own) = own.to_str() else {
        let text = format!("the path {} would need quotes in a unit", own.display());
        return Err(Failure::new(RefusalCode::Policy, text));
    };
    let mut landed = format!(
        "{STAMP}{}\n[Unit]\nDescription=Units of the keys that are there\nDefaultDependencies=no\n",
        manifest.names()
    );
    for (unit, entry) in &manifest.keys {
        let text = KEY.replace("@KEY@", entry.name.as_str());
        write(folder, unit.as_str(), &text.replace(PACKAGED, own))?;
        let _infallible = writeln!(landed, "Wants={unit}");
    }
    write(folder, LANDED, &landed)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    let doing = || format!("write {}", path.display());
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&path);
    let mut file: File = opened.doing(doing)?;
    file.write_all(text.as_bytes()).doing(doing)?;
    // Whatever the umask: everyone may read units.
    let everyone = fs::Permissions::from_mode(0o644);
    file.set_permissions(everyone).doing(doing)
}

/// What systemd knows of the keys of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knows {
    /// Nothing was generated on this host.
    Nothing,
    /// Other keys.
    Others,
    /// These.
    These,
}

/// Compares what was generated with what would be.
pub(crate) fn knows(manifest: &HostManifest) -> Result<Knows, Failure> {
    let path = Path::new(MADE).join(LANDED);
    let text = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Knows::Nothing),
        read => read.doing(|| format!("read {}", path.display()))?,
    };
    let stamp = text.lines().next().unwrap_or_default();
    let is_same = stamp == format!("{STAMP}{}", manifest.names());
    Ok(if is_same { Knows::These } else { Knows::Others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_key_names_the_program_so_that_its_path_can_be_replaced() {
        let runs: Vec<&str> = KEY
            .lines()
            .filter(|line| line.starts_with("Exec"))
            .collect();
        assert_eq!(runs, [format!("ExecStart={PACKAGED} wait @KEY@")]);
    }
}
