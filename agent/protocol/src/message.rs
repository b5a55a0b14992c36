//! What travels in the frames, in the order of a session. `docs/protocol.md` says when each is due.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, KeyName, Kind, Message, Mode, Principal, UnitName};

macro_rules! message {
    ($($name:ident),*) => { $(impl Message for $name { const KIND: Kind = Kind::$name; })* };
}

message!(
    Hello, Have, Stray, Manifest, Key, Tell, Needs, Need, Commit, KeyResult, UnitResult, Progress,
    Done, Refusal
);

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
    /// The agent's version.
    pub agent: String,
    /// SHA-256 of the host's ed25519 public key blob, if it has one.
    #[serde(default)]
    pub host_id: Option<Digest>,
    /// The fingerprints of the host's public keys as `ssh-keygen -l` prints them, separated by spaces.
    #[serde(default)]
    pub host_keys: String,
    /// A random id made once a boot, by the agent.
    pub boot: String,
    /// The kernel's boot id.
    #[serde(default)]
    pub boot_id: String,
    /// The generation that is committed; 0 before the first.
    pub generation: u64,
    /// The epoch of the sealed bundle; 0 without one.
    #[serde(default)]
    pub epoch: u64,
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
}

/// How a unit is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Reloaded if it runs and can; restarted if it runs and cannot.
    Reload,
    /// Restarted if it runs. Wins where one unit is to be both.
    Restart,
}

/// A unit to tell when the key before this frame is new or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// The unit.
    pub unit: UnitName,
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

/// What became of a key, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOutcome {
    /// It was not there.
    New,
    /// Its bytes, owner, group or mode are others now.
    Changed,
    /// It is as it was.
    Unchanged,
    /// It is gone.
    Removed,
    /// Its source failed; the version that was there stays.
    Kept,
    /// It was refused; an older version stays.
    FailedKept,
    /// It was refused, and there is none.
    Failed,
    /// It belongs to another manifest and was left alone.
    Foreign,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyResult {
    /// The key.
    pub name: KeyName,
    /// What became of it.
    pub outcome: KeyOutcome,
    /// What changed («content», «owner», «group», «mode», «repaired»), separated by spaces, or why it failed.
    #[serde(default)]
    pub detail: String,
}

/// What became of a unit, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitOutcome {
    /// It was restarted, or would be.
    Restarted,
    /// It was reloaded, or would be.
    Reloaded,
    /// It does not run, so there was nothing to tell.
    NotRunning,
    /// It is still restarting; systemd goes on without us.
    StillRestarting,
    /// It could not be told, or did not come up again.
    Failed,
}

/// What became of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitResult {
    /// The unit.
    pub unit: UnitName,
    /// What became of it.
    pub outcome: UnitOutcome,
    /// Why it failed, or empty.
    #[serde(default)]
    pub detail: String,
}

/// The keys are committed and units are still restarting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many units.
    pub units: u32,
}

/// The agent's last frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The generation that is committed now.
    pub generation: u64,
}

/// Why nothing was changed, by class: the pusher makes its exit code from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Another push holds the lock, or too many sessions are open.
    Busy,
    /// The folder is not on memory that cannot be swapped, or not safely owned.
    Filesystem,
    /// No space or no inodes.
    Space,
    /// A rule of the host or of this session (strict, prune, take over).
    Policy,
    /// The peers do not speak the same version.
    Version,
    /// The pusher broke the protocol.
    Protocol,
    /// A system call failed.
    Io,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

/// Nothing was changed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The class.
    pub code: RefusalCode,
    /// What was found.
    pub message: String,
    /// What to do, or empty.
    #[serde(default)]
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::printable(&self.message, crate::limits::TEXT))
    }
}
