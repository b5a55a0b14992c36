//! The boot mark: a random id, made once after each boot, as /run is emptied then.
//!
//! The kernel's boot id is beside it, but a sandbox or container may show the machine's for the guest's.

use std::io::Read as _;

use keys_protocol::Digest;
use nix::errno::Errno;

use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::file::{Access, Held};
use crate::place::{PATH, Place};
use crate::session::fill_with_random;

/// The name of its file.
pub(crate) const NAME: &str = ".boot";

/// Returns the mark; `None` before the first push of this boot, and if somebody damaged it: a boot that cannot be told
/// from others is a new one.
pub(crate) fn mark(place: &Place) -> Result<Option<Digest>, Failure> {
    let doing = || format!("read {PATH}/{NAME}");
    let held = match Held::at(&place.folder, NAME) {
        Err(Errno::ENOENT | Errno::ESTALE) => return Ok(None),
        other => other.doing(doing)?,
    };
    let mut text = Vec::new();
    let file = held.read().doing(doing)?;
    file.take(65).read_to_end(&mut text).doing(doing)?;
    let text = std::str::from_utf8(&text).ok();
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Makes the mark, unless it is there. Under the lock, so that there is only one.
pub(crate) fn make_mark(place: &Place) -> Result<(), Failure> {
    if mark(place)?.is_some() {
        return Ok(());
    }
    let doing = || format!("make {PATH}/{NAME}");
    let mut id = Digest([0; 32]);
    fill_with_random(&mut id.0)?;
    place.folder.unlink(NAME).doing(doing)?;
    let mut draft = Draft::begin(&place.folder, Access::ROOT).doing(doing)?;
    draft.write(id.to_string().as_bytes()).doing(doing)?;
    draft.publish(&place.folder, NAME).doing(doing)
}

/// Returns the kernel's id of this boot, or nothing where it is hidden.
pub(crate) fn kernel_boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    keys_protocol::printable(text.trim_end(), 64)
}
