//! What every process of the agent does first: it leaves no core, cannot be looked into, and makes nothing open to others.

use keys_protocol::RefusalCode;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::failure::{Doing as _, Failure};

/// Hardens this process; children inherit all but the dumpable flag, and they are this program again.
pub(crate) fn harden() -> Result<(), Failure> {
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).doing(|| "prctl PR_SET_DUMPABLE".into())?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).doing(|| "setrlimit RLIMIT_CORE".into())?;
    prctl::set_no_new_privs().doing(|| "prctl PR_SET_NO_NEW_PRIVS".into())?;
    Ok(())
}

/// Refuses anyone but root: only root can give keys to their owners.
pub(crate) fn require_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(
        Failure::new(RefusalCode::Policy, "only root can write to /run/keys")
            .hint("log in as root, or start keys-agent.socket and be a user it allows"),
    )
}
