//! The harness: real hosts, servers and peers for the cases in `tests/cases`, one file per thing.
//!
//! From the cheapest to the dearest, all on the same root trees of Debian 12 and 13 ([`Release`]):
//!
//! | what | cost | for |
//! |---|---|---|
//! | [`Session`] | 10 ms | the agent over pipes, frame by frame |
//! | [`Sshd`] with [`Operator`] | 0.3 s a session | `keys` through a real ssh and sshd, without systemd and network |
//! | [`Host`] with [`Operator`] | 1.5 s a boot | a booted host: systemd, sshd on a network, reboots, power cuts |
//!
//! Everything runs inside the lab that `tests/run` enters (`tests/enter`): as root, in namespaces without a way out.
//! The harness fails by panicking, with all there is to know about it: the command, what it said, the tree of /run/keys.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a harness fails where the test is, by panicking, and in a drop by saying so"
)]

mod age;
mod chaos;
mod ended;
mod gpg;
mod host;
mod http;
mod inside;
pub mod lab;
mod nixos;
mod operator;
mod port;
mod processes;
mod push;
mod ran;
mod release;
mod scale;
mod served;
mod session;
mod sops;
mod sopsd;
mod sshd;
mod strace;
mod tap;
mod telling;
mod tree;
mod up;
mod vault;
mod wait;
mod watcher;

pub use age::Age;
pub use chaos::{Chaos, Fault};
pub use ended::{Ended, Report};
pub use gpg::Gpg;
pub use host::Host;
pub use inside::Inside;
pub use nixos::Nix;
pub use operator::Operator;
pub use port::Port;
pub use processes::Process;
pub use push::Push;
pub use ran::Ran;
pub use release::Release;
pub use scale::scaled;
pub use session::Session;
pub use sops::Sops;
pub use sopsd::{Leaf, Opened, Sealed, Sopsd};
pub use sshd::{Folder, Sshd};
pub use strace::{Call, Strace};
pub use tap::Tap;
pub use telling::{Telling, Told};
pub use tree::Tree;
pub use up::Up;
pub use vault::{KvVersion, Vault, vault_manifest};
pub use wait::{LIMIT, wait_for, within};
pub use watcher::Watcher;
