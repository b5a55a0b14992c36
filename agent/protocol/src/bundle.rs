//! The sealed bundle: the keys that a host can bring back by itself after a reboot. `docs/bundle.md` is its specification.
//!
//! Here is what both ends must agree on: the signed container, the plain text that is encrypted, and the files beside it.
//! Signing, verifying, encrypting and decrypting are done by the programs that do them.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Conflict, Digest, KeyName, Mode, Principal, Secret, Tell, limits, printable};

/// The namespace of its SSHSIG signature.
pub const NAMESPACE: &str = "keys-bundle@v1";
/// What the container begins with: what it is, and its version.
const MAGIC: &[u8] = b"keys-bundle@v1\n";
/// What every version begins with.
const FAMILY: &[u8] = b"keys-bundle@";
/// The longest signature, in bytes: those of RSA keys of 16384 bits are below 6,000.
const SIGNATURE: usize = 16 << 10;
/// The largest JSON text in a container: an entry with 64 units of 255 bytes is below 20,000.
const TEXT: usize = 64 << 10;

/// The encrypted bundle, in the declared folder of the host.
pub const FILE: &str = "bundle";
/// What the agent remembers of it, beside it: [`Kept`].
pub const KEPT: &str = "bundle.json";
/// The latest time at which it was opened or found expired, beside it: [`Seen`].
pub const SEEN: &str = "bundle.seen";
/// Where the folder is, unless the administrator says otherwise.
pub const FOLDER: &str = "/var/lib/keys";
/// Where the administrator says otherwise: one absolute path on a line.
pub const FOLDER_CONF: &str = "/etc/keys/bundle.conf";
/// Whose signatures count: `allowed_signers` of ssh-keygen(1).
pub const SIGNERS: &str = "/etc/keys/signers";
/// What became of the bundle at this boot: [`Opened`].
pub const OPENED: &str = "/run/keys-restore/state";

/// What the whole bundle says of itself. Signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The host it is for: SHA-256 of its ed25519 public key blob.
    pub host: Digest,
    /// Its number: one that is not above the one before is refused.
    pub epoch: u64,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// When it ends, likewise.
    pub expires: u64,
    /// The id of the manifest its keys came from.
    pub manifest: String,
    /// Who made it, `user@machine`: a remark.
    #[serde(default)]
    pub sender: String,
    /// How many keys follow.
    pub keys: u32,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// What it says of one key. Signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: KeyName,
    /// Its owner.
    pub owner: Principal,
    /// Its group.
    pub group: Principal,
    /// Its permission bits.
    pub mode: Mode,
    /// Whether everyone on the host may read it.
    #[serde(default)]
    pub public: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Whom to tell of it.
    #[serde(default)]
    pub units: Vec<Tell>,
}

/// What a Manifest frame says of the bundle that comes after the bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its number.
    pub epoch: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// Its size in bytes, encrypted.
    pub size: u64,
    /// The SHA-256 of these bytes.
    pub digest: Digest,
}

/// What Hello says of the bundle that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `stored`, `opened`, `refused`, or `none` where the last one was removed; words of later versions are as good.
    pub state: String,
    /// Why it was refused, or what was done.
    #[serde(default)]
    pub detail: String,
    /// When it ends, in seconds since 1970.
    #[serde(default)]
    pub expires: u64,
    /// What protects it on the disk: `none`, `luks`, `tpm2`.
    #[serde(default)]
    pub at_rest: String,
}

/// What the agent remembers of the bundle, beside it. Nothing in it is secret but the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The number below which no bundle is accepted any more. Never goes down.
    pub epoch: u64,
    /// The manifest that the bundle is of.
    pub manifest: String,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// The keys in it; none where it was removed.
    pub keys: Vec<KeyName>,
}

/// The latest time at which a bundle was looked at, so that a clock that goes back does not revive it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The bundle's number.
    pub epoch: u64,
    /// In seconds since 1970.
    pub at: u64,
}

/// What became of the bundle at this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The number that [`Kept`] had then; 0 where it could not be read.
    pub epoch: u64,
    /// `opened`, `refused` or `none`.
    pub state: String,
    /// What was found.
    pub detail: String,
}

/// Why bytes are no bundle. Holds no value of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// They begin otherwise.
    #[error("it is no bundle")]
    Foreign,
    /// They are of another version of the format.
    #[error("it is a bundle of another version than keys-bundle@v1")]
    Version,
    /// They end too early, or go on.
    #[error("it is cut off or damaged")]
    Cut,
    /// A text in them is not what is due.
    #[error("what it says of {0} cannot be read")]
    Malformed(&'static str),
    /// More than is allowed.
    #[error("it is larger than allowed")]
    TooLarge,
    /// Two of its keys exclude each other.
    #[error("{0}")]
    Conflict(#[from] Conflict),
}

/// Writes the container that is signed.
///
/// # Errors
/// When there is more in it than a push may have.
pub fn write<'a>(
    head: &Head,
    keys: impl Iterator<Item = (&'a Entry, &'a Secret)> + Clone,
) -> Result<Secret, BundleError> {
    let mut texts = vec![text(head, "itself")?];
    for (entry, _) in keys.clone() {
        texts.push(text(entry, "a key")?);
    }
    let bytes: usize = keys.clone().map(|(_, secret)| secret.len()).sum();
    let room = MAGIC.len() + bytes + texts.iter().map(|text| 4 + text.len()).sum::<usize>();
    if room as u64 > limits::BUNDLE_BYTES {
        return Err(BundleError::TooLarge);
    }
    let mut container = Secret::with_capacity(room);
    container.push(MAGIC);
    for text in &texts {
        container.push(&length(text.len())?);
        container.push(text);
    }
    keys.for_each(|(_, secret)| container.push(secret.expose()));
    Ok(container)
}

/// Reads a container whose signature was verified: to the last byte, and nothing after it.
///
/// # Errors
/// With what is wrong with it.
pub fn read(container: &[u8]) -> Result<(Head, Vec<(Entry, Secret)>), BundleError> {
    let mut rest = match container.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None if container.starts_with(FAMILY) => return Err(BundleError::Version),
        None => return Err(BundleError::Foreign),
    };
    let head: Head = take_text(&mut rest, "itself")?;
    if head.keys > limits::KEYS {
        return Err(BundleError::TooLarge);
    }
    let mut entries = Vec::new();
    for _ in 0..head.keys {
        entries.push(take_text::<Entry>(&mut rest, "a key")?);
    }
    if let Some(conflict) = Conflict::among(entries.iter().map(|entry| &entry.name)) {
        return Err(conflict.into());
    }
    let mut keys = Vec::new();
    for entry in entries {
        let size = usize::try_from(entry.size).map_err(|_| BundleError::Cut)?;
        let bytes = take(&mut rest, size)?;
        keys.push((entry, Secret::new(bytes.to_vec())));
    }
    let sum: u64 = keys.iter().map(|(entry, _)| entry.size).sum();
    if !rest.is_empty() || sum != head.bytes {
        return Err(BundleError::Cut);
    }
    Ok((head, keys))
}

/// Returns the text that is signed for a container: its SHA-256, so that no other program sees its bytes.
#[must_use]
pub fn signed_text(container: &Secret) -> String {
    Digest::of(container.expose()).to_string()
}

/// Puts the signature before the container: this is what is encrypted.
///
/// # Errors
/// When the signature is longer than any.
pub fn join(signature: &str, container: &Secret) -> Result<Secret, BundleError> {
    if signature.len() > SIGNATURE {
        return Err(BundleError::TooLarge);
    }
    let mut plain = Secret::with_capacity(4 + signature.len() + container.len());
    plain.push(&length(signature.len())?);
    plain.push(signature.as_bytes());
    plain.push(container.expose());
    Ok(plain)
}

/// Takes the signature and the container apart.
///
/// # Errors
/// When it is cut before the container begins.
pub fn split(plain: &[u8]) -> Result<(&str, &[u8]), BundleError> {
    let mut rest = plain;
    let size = take_length(&mut rest)?;
    if size > SIGNATURE {
        return Err(BundleError::Foreign);
    }
    let signature = take(&mut rest, size)?;
    let signature = std::str::from_utf8(signature).map_err(|_| BundleError::Foreign)?;
    Ok((signature, rest))
}

/// Returns the folder that `conf`, the text of [`FOLDER_CONF`], declares; the default where there is none.
///
/// # Errors
/// With what was found instead of one absolute path.
pub fn folder(conf: Option<&str>) -> Result<String, FolderError> {
    let Some(conf) = conf else {
        return Ok(FOLDER.to_owned());
    };
    let lines: Vec<&str> = conf
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match lines[..] {
        [path] if path.starts_with('/') && !path.contains(char::is_control) => Ok(path.to_owned()),
        _ => Err(FolderError(printable(&lines.join(" "), 80))),
    }
}

/// A declaration that declares no folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderError(String);

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FOLDER_CONF}: one absolute path is wanted: {}", self.0)
    }
}

impl std::error::Error for FolderError {}

fn text<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, BundleError> {
    let text = serde_json::to_vec(value).map_err(|_| BundleError::Malformed(what))?;
    if text.len() > TEXT {
        return Err(BundleError::TooLarge);
    }
    Ok(text)
}

fn take_text<T: DeserializeOwned>(rest: &mut &[u8], what: &'static str) -> Result<T, BundleError> {
    let size = take_length(rest)?;
    if size > TEXT {
        return Err(BundleError::TooLarge);
    }
    serde_json::from_slice(take(rest, size)?).map_err(|_| BundleError::Malformed(what))
}

fn length(size: usize) -> Result<[u8; 4], BundleError> {
    let size = u32::try_from(size).map_err(|_| BundleError::TooLarge)?;
    Ok(size.to_be_bytes())
}

fn take_length(rest: &mut &[u8]) -> Result<usize, BundleError> {
    let (length, after) = rest.split_first_chunk().ok_or(BundleError::Cut)?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BundleError::Cut)
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], BundleError> {
    let (taken, after) = rest.split_at_checked(size).ok_or(BundleError::Cut)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64) -> Entry {
        Entry {
            name: name.parse().unwrap(),
            owner: Principal::root(),
            group: Principal::root(),
            mode: Mode::DEFAULT,
            public: false,
            size,
            units: Vec::new(),
        }
    }

    fn head(keys: u32, bytes: u64) -> Head {
        Head {
            host: Digest([7; 32]),
            epoch: 5,
            made_at: 1,
            expires: 2,
            manifest: "m".into(),
            sender: String::new(),
            keys,
            bytes,
        }
    }

    fn container() -> Secret {
        let keys = [
            (entry("a", 3), Secret::new(b"one".to_vec())),
            (entry("b/c", 2), Secret::new(b"\0\xff".to_vec())),
        ];
        write(
            &head(2, 5),
            keys.iter().map(|(entry, bytes)| (entry, bytes)),
        )
        .unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_no_part_of_it_is() {
        let container = container();
        let (read_head, keys) = read(container.expose()).unwrap();
        assert_eq!(read_head, head(2, 5));
        let keys: Vec<_> = keys
            .iter()
            .map(|(entry, bytes)| (entry.name.as_str(), bytes.expose()))
            .collect();
        assert_eq!(keys, [("a", &b"one"[..]), ("b/c", b"\0\xff")]);
        for cut in 0..container.len() {
            assert!(read(&container.expose()[..cut]).is_err(), "cut at {cut}");
        }
        let more = [container.expose(), b"x"].concat();
        assert_eq!(read(&more).err(), Some(BundleError::Cut));
    }

    #[test]
    fn a_container_that_lies_is_refused() {
        let check = |head: &Head, entries: &[Entry], expected: BundleError| {
            let bytes = Secret::new(b"one".to_vec());
            let keys = entries.iter().map(|entry| (entry, &bytes));
            let written = write(head, keys).unwrap();
            assert_eq!(read(written.expose()).err(), Some(expected));
        };
        check(&head(1, 4), &[entry("a", 3)], BundleError::Cut);
        check(&head(1, 2), &[entry("a", 2)], BundleError::Cut);
        check(
            &head(1, u64::MAX),
            &[entry("a", u64::MAX)],
            BundleError::Cut,
        );
        check(&head(20_001, 3), &[entry("a", 3)], BundleError::TooLarge);
        let twice = [entry("a", 3), entry("a", 3)];
        let conflict = Conflict::Twice("a".parse().unwrap());
        check(&head(2, 6), &twice, conflict.into());
        let other = [
            &b"keys-bundle@v0\n"[..],
            &container().expose()[MAGIC.len()..],
        ]
        .concat();
        assert_eq!(read(&other).err(), Some(BundleError::Version));
        assert_eq!(read(b"hello").err(), Some(BundleError::Foreign));
    }

    #[test]
    fn signature_and_container_come_apart_as_they_were_joined() {
        let container = container();
        let plain = join("signature", &container).unwrap();
        let (signature, rest) = split(plain.expose()).unwrap();
        assert_eq!((signature, rest), ("signature", container.expose()));
        for cut in 0..13 {
            assert!(split(&plain.expose()[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(split(&[0xff; 40]).err(), Some(BundleError::Foreign));
    }

    #[test]
    fn a_folder_is_one_absolute_path() {
        assert_eq!(folder(None).unwrap(), "/var/lib/keys");
        assert_eq!(
            folder(Some("# here\n\n /persist/keys \n")).unwrap(),
            "/persist/keys"
        );
        for bad in ["", "persist", "/a\n/b", "/a\x1b"] {
            assert!(folder(Some(bad)).is_err(), "{bad:?} was accepted");
        }
    }
}
