//! The maxima of a document, each checked before memory is spent on it.

/// The largest file, in bytes.
pub const BYTES: usize = 16 << 20;
/// The largest YAML file, in bytes: YAML takes ten times as long to read as the other formats.
pub const YAML_BYTES: usize = 8 << 20;
/// The deepest nesting of maps and lists, the document itself included.
pub const DEPTH: usize = 200;
/// The most maps, lists, values and comments of a file: a hostile file is refused before its tree fills the memory.
pub const NODES: usize = 100_000;
/// The longest path to a value or comment, in bytes: it is hashed anew for each.
pub const PATH: usize = 16 << 10;
/// The most key groups, which is what one byte of a Shamir share can count.
pub const GROUPS: usize = 255;
/// The largest `.sops.yaml`, in bytes.
pub const CONFIG_BYTES: usize = 1 << 20;
