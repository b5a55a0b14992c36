//! The wire format between `keys`, the pusher, and `keys-agent` on the host, and the words both sides share.
//!
//! This crate knows only [`Read`](std::io::Read) and [`Write`](std::io::Write): no sockets, no files, no clock. The
//! format is specified in `docs/protocol.md`; where that text and this code differ, one of them is wrong.
//!
//! Every value that crosses the wire is parsed into a type that cannot hold a wrong one ([`KeyName`], [`Mode`],
//! [`Principal`], [`UnitName`]), on both sides: the agent never trusts that the pusher checked.

mod access;
pub mod bundle;
mod digest;
mod error;
mod feature;
mod frame;
mod how;
pub mod limits;
mod message;
mod name;
mod result;
mod secret;
mod text;
mod unit;
mod wire;

pub use access::{Mode, Principal};
pub use digest::{Digest, KeyedHash};
pub use error::{NameError, WireError};
pub use feature::{Feature, Features};
pub use frame::{Frame, Kind, Message};
pub use how::{How, Signal};
pub use message::{
    Action, Commit, Have, Hello, Key, Manifest, Need, Needs, Purpose, Scope, Stray, Tell,
};
pub use name::{Conflict, KeyName};
pub use result::{
    Done, KeyOutcome, KeyResult, Progress, Refusal, RefusalCode, UnitOutcome, UnitResult,
};
pub use secret::Secret;
pub use text::printable;
pub use unit::{UnitName, UnitPattern};
pub use wire::{MAGIC, Wire};

/// The protocol version this crate speaks.
pub const VERSION: u32 = 1;
