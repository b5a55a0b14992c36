//! What every process of the agent does first: it leaves no core, cannot be looked into, and makes nothing open to others.

use keys_protocol::RefusalCode;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use rustix::mm::{MlockAllFlags, mlockall};

use crate::failure::{Doing as _, Failure};

/// Hardens this process; children inherit all but the dumpable flag, and they are this program again.
pub(crate) fn harden() -> Result<(), Failure> {
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).doing(|| "prctl PR_SET_DUMPABLE".into())?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).doing(|| "setrlimit RLIMIT_CORE".into())?;
    prctl::set_no_new_privs().doing(|| "prctl PR_SET_NO_NEW_PRIVS".into())?;
    stay_in_memory()
}

/// Keeps what passes through this process out of the swap. Where that is not permitted it is the service's sandbox,
/// whose memory is not swapped either (`MemorySwapMax=0`), or a container, which cannot promise more.
fn stay_in_memory() -> Result<(), Failure> {
    match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        Err(Errno::EPERM) => return Ok(()),
        other => other.doing(|| "setrlimit RLIMIT_MEMLOCK".into())?,
    }
    // On fault: what is never touched need not be there.
    let whole = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(whole) {
        // A container may lift the limit and forbid the call.
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => other.doing(|| "mlockall".into()),
    }
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
