//! The compile-time maxima of the wire, each checked before anything is allocated for it.

use std::time::Duration;

/// The longest component of a key name, in bytes.
pub const NAME_COMPONENT: usize = 128;
/// The most components of a key name.
pub const NAME_DEPTH: usize = 8;
/// The longest key name, in bytes.
pub const NAME: usize = 255;
/// The most keys one push may declare, and one host may report.
pub const KEYS: u32 = 20_000;
/// The most units one key may tell.
pub const UNITS_PER_KEY: u32 = 64;
/// The most units one pattern may stand for.
pub const UNITS_PER_GLOB: usize = 256;
/// The largest key, in bytes.
pub const KEY_BYTES: u64 = 64 << 20;
/// The largest push, in bytes.
pub const PUSH_BYTES: u64 = 512 << 20;
/// The largest sealed bundle, in bytes.
pub const BUNDLE_BYTES: u64 = 64 << 20;
/// The largest control or per-key frame, in bytes of payload.
pub const CONTROL_FRAME: usize = 4 << 10;
/// The largest body frame, in bytes of payload.
pub const BODY_FRAME: usize = 64 << 10;
/// How much noise of a login shell is skipped before the magic bytes.
pub const NOISE: usize = 64 << 10;
/// The longest text field (manifest id, sender, reason), in bytes.
pub const TEXT: usize = 1024;
/// The longest silence between two frames.
pub const IDLE: Duration = Duration::from_secs(10);
/// The longest session, before the allowance for its bytes.
pub const SESSION: Duration = Duration::from_secs(300);
/// The slowest transfer a session is extended for, in bytes a second.
pub const SLOWEST: u64 = 256 << 10;
/// The longest wait for another push to end.
pub const LOCK_WAIT: Duration = Duration::from_secs(30);
/// The longest wait for a place among the sessions of a host, before the agent's first byte.
pub const ROOM_WAIT: Duration = Duration::from_secs(20);
/// The shortest time between the beginnings of two answers to a watcher.
pub const WATCH_PACE: Duration = Duration::from_secs(1);
/// The longest silence of a watcher.
pub const WATCH_SILENCE: Duration = Duration::from_secs(600);
/// How often the agent reports that units are still restarting.
pub const PROGRESS: Duration = Duration::from_secs(5);
/// The longest wait for units to restart.
pub const UNITS_WAIT: Duration = Duration::from_secs(25);
