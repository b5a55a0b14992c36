//! Whether the sealed keys of a host can be sealed: who signs, and to which key of the host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keys_protocol::KeyName;

use super::document::SealingTable;
use super::problem::Problem;
use super::{Host, Key, Offline};
use crate::seal::Sealing;

/// How long a bundle is good, in days.
const EXPIRE_DAYS: u64 = 30;
const LONGEST_DAYS: u64 = 3650;

/// Returns how the bundle of a host is made; none where none of its keys is sealed. A problem is that of a key.
pub(super) fn of(
    host: &Host,
    table: Option<&SealingTable>,
    folder: &Path,
) -> Result<Option<Sealing>, (KeyName, Problem)> {
    let Some(key) = sealed(host).next() else {
        return Ok(None);
    };
    if let Some(volatile) = sealed(host).find(|key| key.source.is_volatile()) {
        let text =
            "its source makes a new value each time, which a bundle would bring back as it was";
        let problem = Problem::new(text).inside("offline");
        return Err((volatile.name.clone(), problem));
    }
    let sealing = new(host, table, folder);
    sealing
        .map(Some)
        .map_err(|problem| (key.name.clone(), problem.inside("offline")))
}

fn sealed(host: &Host) -> impl Iterator<Item = &Arc<Key>> {
    let keys = host.keys.values();
    keys.filter(|key| key.offline == Offline::Sealed)
}

fn new(host: &Host, table: Option<&SealingTable>, folder: &Path) -> Result<Sealing, Problem> {
    let Some(table) = table else {
        let text = "a sealed key needs `[sealing]`: who signs the bundle that the host opens?";
        let hint = "[sealing]\nsign_with = \"~/.ssh/id_ed25519.pub\"";
        return Err(Problem::new(text).hint(Some(hint.to_owned())));
    };
    let pin = host.host_key.as_ref().filter(|pin| pin.is_ed25519());
    let Some(host_key) = pin else {
        let text = format!(
            "a sealed key is encrypted to the ed25519 key of its host, which {} must pin",
            host.name
        );
        let hint = format!(
            "[hosts.{}] host_key = \"ssh-ed25519 AAAA…\", as `ssh-keyscan -t ed25519 {}` prints it; compare it with the host's own",
            host.name,
            host.destination.host()
        );
        return Err(Problem::new(text).hint(Some(hint)));
    };
    let days = table.expire_days.map_or(Ok(EXPIRE_DAYS), u64::try_from);
    let days = days.ok().filter(|days| (1..=LONGEST_DAYS).contains(days));
    let days = days.ok_or_else(|| Problem::new("`[sealing] expire_days` is 1 to 3650"))?;
    if table.sign_with.is_empty() || table.sign_with.contains(char::is_control) {
        return Err(Problem::new(
            "`[sealing] sign_with` is the path of an ssh key",
        ));
    }
    let path = Path::new(&table.sign_with);
    let sign_with = match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(below), Some(home)) => home.join(below),
        _ => folder.join(path),
    };
    Ok(Sealing {
        sign_with,
        lifetime: Duration::from_secs(days * 24 * 3600),
        host_key: host_key.clone(),
    })
}
