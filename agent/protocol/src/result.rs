//! What travels in the frames after `Commit`, and the refusal that may come before.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::message;
use crate::{Feature, Features, KeyName, Kind, Message, UnitPattern};

message!(KeyResult, UnitResult, Progress, Done, Refusal);

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
    /// It was started, or would be.
    Started,
    /// It was stopped, or would be.
    Stopped,
    /// It was sent a signal, or would be.
    Signalled,
    /// It runs already, so there was nothing to start.
    Running,
    /// It does not run, so there was nothing to tell.
    NotRunning,
    /// It is still restarting, or whatever it was told to do; systemd goes on without us.
    StillRestarting,
    /// It could not be told, or did not come up again.
    Failed,
}

/// What became of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitResult {
    /// The unit; a pattern where that as a whole is meant.
    pub unit: UnitPattern,
    /// What became of it.
    pub outcome: UnitOutcome,
    /// Why it failed, or empty.
    #[serde(default)]
    pub detail: String,
}

impl UnitResult {
    /// Returns whether a peer with these features can read it.
    #[must_use]
    pub fn is_known_to(&self, features: &Features) -> bool {
        use UnitOutcome::{Running, Signalled, Started, Stopped};
        let is_action = matches!(self.outcome, Started | Stopped | Signalled | Running);
        (!self.unit.is_glob() || features.has(Feature::UnitGlobs))
            && (!is_action || features.has(Feature::UnitActions))
    }
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
