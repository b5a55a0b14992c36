//! The boot mark: a random id, made once after each boot, as /run is emptied then.
//!
//! The kernel's boot id is beside it, but a sandbox or container may show the machine's for the guest's.

use std::io::Read as _;

use keys_protocol::{Digest, RefusalCode};
use nix::errno::Errno;

use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::file::{Access, Held};
use crate::place::{PATH, Place};
use crate::session::fill_with_random;

const NAME: &str = ".boot";

/// Returns the mark; `None` before the first push of this boot.
pub(crate) fn mark(place: &Place) -> Result<Option<Digest>, Failure> {
    let damaged = || {
        let text = format!("{PATH}/{NAME} is not what the agent left there");
        Failure::new(RefusalCode::Filesystem, text).hint(format!("rm -r {PATH}/{NAME}"))
    };
    let held = match Held::at(&place.folder, NAME) {
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ESTALE | Errno::ELOOP) => return Err(damaged()),
        other => other.doing(|| format!("open {PATH}/{NAME}"))?,
    };
    let mut text = String::new();
    let read = held.read().doing(|| format!("open {PATH}/{NAME}"))?;
    read.take(65)
        .read_to_string(&mut text)
        .doing(|| format!("read {PATH}/{NAME}"))?;
    text.parse().map(Some).map_err(|_| damaged())
}

/// Makes the mark, unless it is there. Under the lock, so that there is only one.
pub(crate) fn make_mark(place: &Place) -> Result<(), Failure> {
    if mark(place)?.is_some() {
        return Ok(());
    }
    let mut id = Digest([0; 32]);
    fill_with_random(&mut id.0)?;
    let mut draft =
        Draft::begin(&place.folder, Access::ROOT).doing(|| format!("make {PATH}/{NAME}"))?;
    draft
        .write(id.to_string().as_bytes())
        .doing(|| format!("write {PATH}/{NAME}"))?;
    draft
        .publish(&place.folder, NAME)
        .doing(|| format!("make {PATH}/{NAME}"))
}

/// Returns the kernel's id of this boot, or nothing where it is hidden.
pub(crate) fn kernel_boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    keys_protocol::printable(text.trim_end(), 64)
}
