//! The bytes of one key, on their way into a draft: counted and hashed as they pass, never held whole.

use std::fs::File;

use keys_protocol::{Digest, KeyName, KeyedHash, Kind};
use zeroize::Zeroizing;

use crate::draft::Draft;
use crate::failure::{Doing as _, Failure};
use crate::session::Session;

/// How much of a file is copied at a time.
const CHUNK: u64 = 64 << 10;

/// A draft, with what is promised of its bytes.
pub(crate) struct Body<'a> {
    name: &'a KeyName,
    draft: Draft,
    size: u64,
    mac: Digest,
    hash: KeyedHash,
    written: u64,
}

impl<'a> Body<'a> {
    /// Starts a key of `size` bytes whose digest under `nonce` is to be `mac`.
    pub(crate) fn new(
        name: &'a KeyName,
        draft: Draft,
        (size, mac): (u64, Digest),
        nonce: &Digest,
    ) -> Self {
        Self {
            name,
            draft,
            size,
            mac,
            hash: KeyedHash::new(nonce),
            written: 0,
        }
    }

    /// Takes the bytes from the pusher's Body frames.
    pub(crate) fn receive(mut self, session: &mut Session) -> Result<Draft, Failure> {
        while self.written < self.size {
            let frame = session.frame()?;
            if frame.kind != Kind::Body {
                return Err(frame
                    .unexpected(&format!("the bytes of {}", self.name))
                    .into());
            }
            // An empty frame moves nothing: a peer could send them for ever.
            if frame.payload.is_empty() {
                return Err(Failure::breach(format!(
                    "key {}: an empty frame",
                    self.name
                )));
            }
            self.take(frame.payload)?;
        }
        self.finish()
    }

    /// Takes the bytes from a file of this host.
    pub(crate) fn copy(mut self, file: &File) -> Result<Draft, Failure> {
        let room = usize::try_from(self.size.min(CHUNK)).unwrap_or(0).max(1);
        let mut chunk = Zeroizing::new(vec![0; room]);
        loop {
            let read = nix::unistd::read(file, &mut chunk);
            match read.doing(|| format!("read key {}", self.name))? {
                0 => return self.finish(),
                read => self.take(&chunk[..read])?,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            let (name, size) = (self.name, self.size);
            let text = format!("key {name}: more than the {size} bytes announced");
            return Err(Failure::breach(text));
        }
        self.hash.update(bytes);
        let written = self.draft.write(bytes);
        written.doing(|| format!("write key {}", self.name))
    }

    fn finish(self) -> Result<Draft, Failure> {
        if self.written == self.size && self.hash.finish() == self.mac {
            return Ok(self.draft);
        }
        let text = format!("key {}: its bytes are not those announced", self.name);
        Err(Failure::breach(text))
    }
}
