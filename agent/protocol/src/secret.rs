//! The one type that secret bytes live in.

use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

/// Secret bytes: wiped on drop, and with no way to print, clone or serialise them.
///
/// ```compile_fail
/// let secret = keys_protocol::Secret::new(b"x".to_vec());
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = keys_protocol::Secret::new(b"x".to_vec());
/// let copy = secret.clone();
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

/// How much is read at first where the size is not known.
const FIRST_READ: usize = 4 << 10;

impl Secret {
    /// Takes over `bytes`. They must not have been reallocated while they grew: that leaves copies behind.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns an empty secret with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// Copies `bytes`, into room of their size.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut secret = Self::with_capacity(bytes.len());
        secret.push(bytes);
        secret
    }

    /// Reads to the end of `reader`, or fails with `FileTooLarge` past `limit`.
    ///
    /// # Errors
    /// When reading fails, or more than `limit` bytes come.
    pub fn read_to_end(reader: &mut impl Read, limit: u64) -> io::Result<Self> {
        Self::read_sized(reader, FIRST_READ, limit)
    }

    /// As [`Secret::read_to_end`], with room for `expected` bytes from the start.
    ///
    /// # Errors
    /// When reading fails, or more than `limit` bytes come.
    pub fn read_sized(reader: &mut impl Read, expected: usize, limit: u64) -> io::Result<Self> {
        // One byte more: the end is seen without growing. Each byte of room is made once, however little a read gives.
        let mut secret = Self::new(vec![0; expected + 1]);
        let mut filled = 0;
        loop {
            if filled == secret.0.len() {
                secret.grow(filled * 2);
                secret.0.resize(filled * 2, 0);
            }
            filled += match reader.read(&mut secret.0[filled..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Ok(0) => {
                    secret.0.truncate(filled);
                    return Ok(secret);
                }
                other => other?,
            };
            if filled as u64 > limit {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("more than {limit} bytes"),
                ));
            }
        }
    }

    /// Appends `bytes`; where room lacks, the old buffer is wiped after its bytes moved.
    pub fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            self.grow(needed.max(self.0.capacity() * 2));
        }
        self.0.extend_from_slice(bytes);
    }

    fn grow(&mut self, capacity: usize) {
        let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
        larger.extend_from_slice(&self.0);
        self.0 = larger;
    }

    /// Drops the bytes past `length`.
    pub fn truncate(&mut self, length: usize) {
        if let Some(tail) = self.0.get_mut(length..) {
            tail.zeroize();
        }
        self.0.truncate(length);
    }

    /// Returns the bytes. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_keeps_every_byte_and_stops_at_the_limit() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let read = Secret::read_to_end(&mut &bytes[..], 100_000).unwrap();
        assert_eq!(read.expose(), bytes);
        let refused = Secret::read_to_end(&mut &bytes[..], 99_999).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn pushing_past_the_capacity_keeps_what_was_there() {
        let mut secret = Secret::with_capacity(2);
        secret.push(b"ab");
        secret.push(b"cdef");
        secret.truncate(5);
        assert_eq!(secret.expose(), b"abcde");
    }
}
