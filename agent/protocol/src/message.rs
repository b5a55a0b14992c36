//! What travels in the frames up to `Commit`, in the order of a session. `docs/protocol.md` says when each is due.

use serde::{Deserialize, Serialize};

use crate::bundle::{Offer, Standing};
use crate::frame::message;
use crate::{Digest, How, KeyName, Kind, Message, Mode, Principal, UnitPattern};

message!(Hello, Have, Stray, Manifest, Key, Tell, Needs, Need, Commit);

/// The agent's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest protocol version it speaks.
    pub protocol_min: u32,
    /// The highest protocol version it speaks.
    pub protocol_max: u32,
    /// Features the pusher must know, separated by spaces; one it does not know is a refusal.
    #[serde(default)]
    pub requires: String,
    /// Features it has, separated by spaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// The agent's version.
    pub agent: String,
    /// SHA-256 of the host's ed25519 public key blob, if it has one.
    #[serde(default)]
    pub host_id: Option<Digest>,
    /// The fingerprints of the host's public keys as `ssh-keygen -l` prints them, separated by spaces.
    #[serde(default)]
    pub host_keys: String,
    /// A random id that the agent makes at the first push of a boot; empty before that.
    pub boot: String,
    /// The kernel's boot id.
    #[serde(default)]
    pub boot_id: String,
    /// The generation that is committed; 0 before the first.
    pub generation: u64,
    /// The epoch of the sealed bundle; 0 without one.
    #[serde(default)]
    pub epoch: u64,
    /// How the sealed bundle stands; none where there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Standing>,
    /// Who is said to have sent the generation, `user@machine`.
    #[serde(default)]
    pub sent_by: String,
    /// When, in seconds since 1970.
    #[serde(default)]
    pub sent_at: u64,
    /// Random bytes of this session, under which digests of secrets are keyed.
    pub nonce: Digest,
    /// How many [`Have`] frames follow.
    pub keys: u32,
    /// How many [`Stray`] frames follow those.
    pub strays: u32,
}

/// One key that is on the host, as it is there. Never a digest of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Its name.
    pub name: KeyName,
    /// Its owner: the name, or the number where the host knows none.
    pub owner: String,
    /// Its owner's number.
    pub uid: u32,
    /// Its group, likewise.
    pub group: String,
    /// Its group's number.
    pub gid: u32,
    /// Its permission bits in octal, which may be ones that no push would set.
    pub mode: String,
    /// The id of the manifest it came from.
    pub manifest: String,
    /// Why it is not as the agent left it (owner, mode, link), or empty.
    #[serde(default)]
    pub damage: String,
    /// How many units are still to be told of it.
    #[serde(default)]
    pub pending: u32,
}

/// A file in the folder of the keys that no push made. It is never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Its name, printable.
    pub name: String,
}

/// What the keys of this session are: all that the manifest has for this host, or some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All: keys there from the same manifest that are not among them are removed.
    Host,
    /// Some: others stay.
    Part,
}

/// What the session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Put the keys in place.
    Send,
    /// Say what would be done; change nothing.
    Plan,
    /// Add what is missing; neither replace nor remove.
    Reseed,
}

/// The pusher's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch by itself, as it stands on the wire"
)]
pub struct Manifest {
    /// The protocol version the pusher chose.
    pub protocol: u32,
    /// Features the agent must know, separated by spaces.
    #[serde(default)]
    pub requires: String,
    /// The id of the manifest: a key is removed only by the manifest it came from.
    pub id: String,
    /// Whether these are all keys of the host.
    pub scope: Scope,
    /// What to do with them.
    pub purpose: Purpose,
    /// Whether one key that fails refuses them all.
    #[serde(default)]
    pub strict: bool,
    /// Whether keys of other manifests are taken over.
    #[serde(default)]
    pub take_over: bool,
    /// Whether a host may be left without keys.
    #[serde(default)]
    pub prune_all: bool,
    /// Who sends, `user@machine`. A remark, not an authentication.
    #[serde(default)]
    pub sender: String,
    /// How many [`Key`] frames follow.
    pub keys: u32,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Whether no key of this manifest is sealed any more: the bundle of it goes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsealed: bool,
    /// The sealed bundle that follows the bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Offer>,
}

/// What the pusher has of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its bytes.
    Send,
    /// Nothing, as its source failed: the host keeps the version it has.
    Keep,
}

/// One key of the push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: KeyName,
    /// Whether its bytes can be had.
    pub action: Action,
    /// Its owner.
    pub owner: Principal,
    /// Its group.
    pub group: Principal,
    /// Its permission bits.
    pub mode: Mode,
    /// Whether the manifest says that everyone on the host may read it.
    #[serde(default)]
    pub public: bool,
    /// Its size in bytes.
    pub size: u64,
    /// HMAC-SHA-256 of its bytes under the nonce; none for [`Action::Keep`].
    #[serde(default)]
    pub mac: Option<Digest>,
    /// How many [`Tell`] frames follow.
    #[serde(default)]
    pub units: u32,
    /// Whether it is in the sealed bundle of this push.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sealed: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde calls"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// A unit to tell when the key before this frame comes, changes or goes, or a pattern of such units.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tell {
    /// The unit.
    pub unit: UnitPattern,
    /// How.
    pub how: How,
}

/// How many bodies the agent lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// How many [`Need`] frames follow.
    pub keys: u32,
}

/// One key whose body the agent lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Its place among the [`Key`] frames, from 0. Needs come in rising order, and so do the bodies.
    pub index: u32,
}

/// The pusher's last frame. Only with it anything changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// How many bodies were sent.
    pub keys: u32,
    /// The sum of their sizes.
    pub bytes: u64,
    /// SHA-256 over both directions, from the magic bytes to the last byte before this frame.
    pub transcript: Digest,
}
