//! Frames: `u32` big-endian length of the payload, `u8` type, payload.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{WireError, limits};

/// The type of a frame, with its byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Agent: who it is and what it speaks.
    Hello = 0x01,
    /// Agent: one key that is there.
    Have = 0x02,
    /// Agent: one file that is there and that no push made.
    Stray = 0x03,
    /// Pusher: what is coming.
    Manifest = 0x10,
    /// Pusher: one key.
    Key = 0x11,
    /// Pusher: one unit of the key before it.
    Tell = 0x12,
    /// Agent: how many bodies it lacks.
    Needs = 0x20,
    /// Agent: one key whose body it lacks.
    Need = 0x21,
    /// Pusher: raw bytes of a key.
    Body = 0x30,
    /// Pusher: everything was sent.
    Commit = 0x31,
    /// Agent: what became of one key.
    KeyResult = 0x40,
    /// Agent: what became of one unit.
    UnitResult = 0x41,
    /// Agent: still waiting for units.
    Progress = 0x42,
    /// Agent: the end.
    Done = 0x43,
    /// Either: nothing was changed, and why.
    Refusal = 0x7f,
}

impl Kind {
    /// The length of a frame's header.
    pub const HEADER: usize = 5;

    /// Every type, by its byte.
    const ALL: [Self; 15] = [
        Self::Hello,
        Self::Have,
        Self::Stray,
        Self::Manifest,
        Self::Key,
        Self::Tell,
        Self::Needs,
        Self::Need,
        Self::Body,
        Self::Commit,
        Self::KeyResult,
        Self::UnitResult,
        Self::Progress,
        Self::Done,
        Self::Refusal,
    ];

    /// Returns the greatest length of a payload of this type.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Body => limits::BODY_FRAME,
            _ => limits::CONTROL_FRAME,
        }
    }

    /// Parses a header into type and length, refusing lengths before anyone allocates for them.
    pub(crate) fn parse(header: [u8; Self::HEADER]) -> Result<(Self, usize), WireError> {
        let [a, b, c, d, byte] = header;
        let kind = Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(WireError::UnknownKind(byte))?;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let limit = kind.limit();
        if length > limit {
            return Err(WireError::TooLong {
                kind,
                length,
                limit,
            });
        }
        Ok((kind, length))
    }

    /// Writes a header for `length` bytes of payload.
    pub(crate) fn header(self, length: usize) -> Result<[u8; Self::HEADER], WireError> {
        let limit = self.limit();
        match u32::try_from(length) {
            Ok(length) if length as usize <= limit => {
                let [a, b, c, d] = length.to_be_bytes();
                Ok([a, b, c, d, self as u8])
            }
            _ => Err(WireError::TooLong {
                kind: self,
                length,
                limit,
            }),
        }
    }
}

/// A payload of JSON and the type of frame it travels in. Unknown fields are ignored: that is how later versions add
/// optional ones; what must not be ignored is named in `requires`.
pub trait Message: Serialize + DeserializeOwned {
    /// The type of frame.
    const KIND: Kind;
}

/// Gives each message the type of frame of the same name.
macro_rules! message {
    ($($name:ident),*) => { $(impl Message for $name { const KIND: Kind = Kind::$name; })* };
}
pub(crate) use message;

/// A frame as it came, still in the reader's buffer.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The type.
    pub kind: Kind,
    /// The payload: JSON, or raw bytes of a body.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Parses the payload.
    ///
    /// # Errors
    /// When it is of another type, or its JSON cannot be read; the error holds no value of it.
    pub fn parse<M: Message>(&self) -> Result<M, WireError> {
        if self.kind != M::KIND {
            return Err(self.unexpected(&format!("{:?}", M::KIND)));
        }
        serde_json::from_slice(self.payload).map_err(|e| WireError::Malformed {
            kind: self.kind,
            detail: crate::printable(&e.to_string(), 200),
        })
    }

    /// Returns the error for a frame that was not due.
    #[must_use]
    pub fn unexpected(&self, wanted: &str) -> WireError {
        WireError::Unexpected {
            found: self.kind,
            wanted: wanted.to_owned(),
        }
    }
}
