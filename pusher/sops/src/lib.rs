//! Reads documents that [SOPS](https://getsops.io) encrypted: YAML, JSON, dotenv, ini and binary.
//!
//! The crate does no I/O and runs nothing. The caller brings the file's bytes and unwraps the data key, which is the one
//! thing that needs identities, agents or servers; groups, Shamir shares, decryption and the MAC are done here. What
//! comes out is byte for byte what `sops decrypt --extract` of sops 3.13.3 prints, or an error.
//!
//! ```no_run
//! use keys_sops::{Document, Format, WrappedKey};
//! # use zeroize::Zeroizing;
//! # fn age_decrypt(_: &str) -> Result<Zeroizing<Vec<u8>>, String> { Err(String::new()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = "secrets.yaml";
//! let document = Document::parse(&std::fs::read(name)?, Format::of_name(name))?;
//! let key = document.data_key(|wrapped| match wrapped {
//!     WrappedKey::Age { enc, .. } => age_decrypt(enc),
//!     _ => Err("not tried".to_owned()),
//! })?;
//! let plain = document.decrypt(&key)?;
//! let value = plain.get(&["database", "password"])?;
//! if value.is_encrypted() {
//!     let secret: Zeroizing<Vec<u8>> = value.bytes()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked
//!
//! Before any value is handed out, all are decrypted and the MAC is compared. A value that the rules want encrypted and
//! that is not, is refused; so are values that were moved to another field. What sops itself does not authenticate is
//! the metadata, the *type* of an encrypted value (`42` may become a string), and the *names* of fields whose values are not
//! encrypted or are empty; see [`Value::is_encrypted`].
//!
//! # What is refused
//!
//! On purpose, and different from sops: files over [`limits`], two fields of one name (in JSON, and in any document of
//! a YAML file), what YAML has and sops does not write (anchors, aliases, directives, the line breaks that only YAML 1.1
//! knows, comments out of line with the list they are in), text after an encrypted value or after the JSON object,
//! files that are not UTF-8 (encrypted values may be any bytes), regexes that do not compile, and the extraction of
//! `null`, of comments, and of maps and lists other than as JSON.

mod cipher;
mod compare;
mod config;
mod decrypt;
mod document;
mod dotenv;
mod error;
mod flat;
mod format;
mod ini;
mod json;
pub mod limits;
mod metadata;
mod number;
mod plain;
mod recipient;
mod render;
mod rule;
mod shamir;
mod timestamp;
mod tree;
mod unlock;
mod wrapped;
mod yaml;

pub use cipher::DataKey;
pub use compare::Comparison;
pub use config::{Config, CreationRule};
pub use document::Document;
pub use error::Error;
pub use format::Format;
pub use metadata::{KeyGroup, Metadata};
pub use plain::{Plain, Value};
pub use recipient::Recipient;
pub use tree::Kind;
pub use unlock::Unlock;
pub use wrapped::WrappedKey;
