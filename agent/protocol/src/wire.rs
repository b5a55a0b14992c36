//! A conversation: frames both ways over any reader and writer, with a running digest of all that was said.

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Digest, Frame, Kind, Message, Refusal, WireError, limits};

/// What the agent says first. Not text, so that no banner or shell noise can be taken for it.
pub const MAGIC: [u8; 8] = *b"\x89KEYS\r\n\x1a";

/// The room for one frame of the largest kind.
const ROOM: usize = Kind::HEADER + limits::BODY_FRAME;

/// Both directions of one session.
///
/// Strictly half-duplex: one side speaks until the other's turn, and [`Wire::flush`] ends a turn. So the order of all
/// frames is defined, and both sides reach the same transcript digest.
pub struct Wire<R, W> {
    reader: R,
    writer: W,
    /// Bytes read and not yet taken: `inbox[start..end]`, with `start <= end <= ROOM`. Wiped on drop.
    inbox: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    /// Bytes not yet written, never more than `ROOM`, so that it never grows and leaves copies.
    outbox: Zeroizing<Vec<u8>>,
    transcript: Sha256,
}

impl<R: Read, W: Write> Wire<R, W> {
    /// Starts as the agent: the magic bytes go out with the first flush.
    #[must_use]
    pub fn accept(reader: R, writer: W) -> Self {
        let mut wire = Self::over(reader, writer);
        wire.outbox.extend_from_slice(&MAGIC);
        wire
    }

    /// Starts as the pusher: skips up to 64 KiB of noise until the magic bytes.
    ///
    /// # Errors
    /// [`WireError::NoMagic`] with what came instead, when the stream ends or the noise does not.
    pub fn connect(reader: R, writer: W) -> Result<Self, WireError> {
        let mut wire = Self::over(reader, writer);
        let mut noise = Vec::new();
        while !noise.ends_with(&MAGIC) {
            if noise.len() > limits::NOISE {
                return Err(WireError::NoMagic(noise));
            }
            match wire.fill(1) {
                Err(WireError::Closed | WireError::Cut) => return Err(WireError::NoMagic(noise)),
                other => other?,
            }
            noise.push(wire.inbox[wire.start]);
            wire.start += 1;
        }
        Ok(wire)
    }

    fn over(reader: R, writer: W) -> Self {
        let mut transcript = Sha256::new();
        transcript.update(MAGIC);
        Self {
            reader,
            writer,
            inbox: Zeroizing::new(vec![0; ROOM]),
            start: 0,
            end: 0,
            outbox: Zeroizing::new(Vec::with_capacity(ROOM)),
            transcript,
        }
    }

    /// Returns the digest of all that was said so far, both ways; [`Kind::Commit`] frames are not part of it.
    #[must_use]
    pub fn transcript(&self) -> Digest {
        Digest(self.transcript.clone().finalize().into())
    }

    /// Queues one message.
    ///
    /// # Errors
    /// When it is too long for its type, or the queue was full and writing failed.
    pub fn send<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        let payload = serde_json::to_vec(message).map_err(|e| WireError::Malformed {
            kind: M::KIND,
            detail: e.to_string(),
        })?;
        self.send_frame(M::KIND, &payload)
    }

    /// Queues raw bytes of a key, in as many frames as they need.
    ///
    /// # Errors
    /// When the queue was full and writing failed.
    pub fn send_body(&mut self, body: &[u8]) -> Result<(), WireError> {
        body.chunks(limits::BODY_FRAME)
            .try_for_each(|chunk| self.send_frame(Kind::Body, chunk))
    }

    fn send_frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), WireError> {
        let header = kind.header(payload.len())?;
        if kind != Kind::Commit {
            self.transcript.update(header);
            self.transcript.update(payload);
        }
        if self.outbox.len() + header.len() + payload.len() > ROOM {
            self.write_outbox()?;
        }
        self.outbox.extend_from_slice(&header);
        self.outbox.extend_from_slice(payload);
        Ok(())
    }

    fn write_outbox(&mut self) -> Result<(), WireError> {
        self.writer.write_all(&self.outbox)?;
        self.outbox.clear();
        Ok(())
    }

    /// Ends a turn: writes what is queued.
    ///
    /// # Errors
    /// When writing fails.
    pub fn flush(&mut self) -> Result<(), WireError> {
        self.write_outbox()?;
        self.writer.flush()?;
        Ok(())
    }

    /// Reads the next frame. A [`Refusal`] is an error, whenever it comes.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end of the stream, [`WireError::Cut`] inside a frame, and whatever is wrong with it.
    pub fn frame(&mut self) -> Result<Frame<'_>, WireError> {
        self.fill(Kind::HEADER)?;
        let mut header = [0; Kind::HEADER];
        header.copy_from_slice(&self.inbox[self.start..self.start + Kind::HEADER]);
        let (kind, length) = Kind::parse(header)?;
        self.fill(Kind::HEADER + length).map_err(|e| {
            if matches!(e, WireError::Closed) {
                WireError::Cut
            } else {
                e
            }
        })?;
        let begin = self.start;
        self.start += Kind::HEADER + length;
        let whole = &self.inbox[begin..self.start];
        if kind != Kind::Commit {
            self.transcript.update(whole);
        }
        let frame = Frame {
            kind,
            payload: &whole[Kind::HEADER..],
        };
        if kind == Kind::Refusal {
            return Err(WireError::Refused(frame.parse::<Refusal>()?));
        }
        Ok(frame)
    }

    /// Reads the next frame as an `M`.
    ///
    /// # Errors
    /// As [`Wire::frame`] and [`Frame::parse`].
    pub fn receive<M: Message>(&mut self) -> Result<M, WireError> {
        self.frame()?.parse()
    }

    /// Returns whether bytes came that no frame was made of yet: after [`Kind::Commit`] none may.
    #[must_use]
    pub fn holds_more(&self) -> bool {
        self.start < self.end
    }

    /// Makes `inbox[start..end]` hold `wanted` bytes, at most `ROOM`.
    fn fill(&mut self, wanted: usize) -> Result<(), WireError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + wanted > ROOM {
            self.inbox.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            match self.reader.read(&mut self.inbox[self.end..]) {
                Ok(0) if self.end == self.start => return Err(WireError::Closed),
                Ok(0) => return Err(WireError::Cut),
                Ok(read) => self.end += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Commit, Done, Need, Needs, RefusalCode};

    type Both = Wire<std::io::Cursor<Vec<u8>>, Vec<u8>>;

    fn said(by: impl FnOnce(&mut Both)) -> Vec<u8> {
        let mut wire = Wire::accept(std::io::Cursor::new(Vec::new()), Vec::new());
        by(&mut wire);
        wire.flush().unwrap();
        wire.writer
    }

    fn heard(bytes: &[u8]) -> Result<Wire<&[u8], Vec<u8>>, WireError> {
        Wire::connect(bytes, Vec::new())
    }

    #[test]
    fn what_is_sent_is_received_and_both_sides_agree_on_the_transcript() {
        let body: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut sent = None;
        let bytes = said(|wire| {
            wire.send(&Needs { keys: 2 }).unwrap();
            wire.send_body(&body).unwrap();
            sent = Some(wire.transcript());
            wire.send(&Commit {
                keys: 1,
                bytes: 200_000,
                transcript: wire.transcript(),
            })
            .unwrap();
        });
        let mut wire = heard(&bytes).unwrap();
        assert_eq!(wire.receive::<Needs>().unwrap(), Needs { keys: 2 });
        let mut whole = Vec::new();
        while whole.len() < body.len() {
            let frame = wire.frame().unwrap();
            assert_eq!(frame.kind, Kind::Body);
            whole.extend_from_slice(frame.payload);
        }
        assert!(whole == body, "the body came back changed");
        let commit: Commit = wire.receive().unwrap();
        assert_eq!(
            (Some(commit.transcript), sent),
            (sent, Some(wire.transcript()))
        );
        assert!(matches!(wire.frame(), Err(WireError::Closed)));
    }

    #[test]
    fn noise_before_the_magic_bytes_is_skipped_up_to_a_limit() {
        let hello = said(|wire| wire.send(&Done { generation: 7 }).unwrap());
        let after = |noise: usize| [vec![b'\x89'; noise], hello.clone()].concat();
        let noisy = after(limits::NOISE - MAGIC.len());
        let mut wire = heard(&noisy).unwrap();
        assert_eq!(wire.receive::<Done>().unwrap().generation, 7);
        assert!(matches!(
            heard(&after(limits::NOISE + 1)),
            Err(WireError::NoMagic(_))
        ));
        assert!(
            matches!(heard(b"bash: keys-agent: command not found\n"), Err(WireError::NoMagic(n)) if n.starts_with(b"bash"))
        );
    }

    #[test]
    fn a_stream_cut_at_any_byte_is_never_a_whole_message() {
        let bytes = said(|wire| wire.send(&Need { index: 3 }).unwrap());
        for cut in MAGIC.len()..bytes.len() {
            let got = heard(&bytes[..cut]).unwrap().receive::<Need>();
            let closed = cut == MAGIC.len();
            assert!(
                matches!(got, Err(WireError::Closed) if closed)
                    || matches!(got, Err(WireError::Cut) if !closed),
                "cut at {cut}: {got:?}"
            );
        }
    }

    #[test]
    fn a_length_over_the_limit_of_its_type_is_refused_at_the_header() {
        for (kind, limit) in [
            (Kind::Hello, limits::CONTROL_FRAME),
            (Kind::Body, limits::BODY_FRAME),
        ] {
            for (length, accepted) in [
                (limit - 1, true),
                (limit, true),
                (limit + 1, false),
                (u32::MAX as usize, false),
            ] {
                let header = [
                    u32::try_from(length).unwrap().to_be_bytes().as_slice(),
                    &[kind as u8],
                ]
                .concat();
                let got = heard(&[&MAGIC[..], &header].concat())
                    .unwrap()
                    .frame()
                    .map(|_| ());
                let refused = matches!(got, Err(WireError::TooLong { .. }));
                assert_eq!(refused, !accepted, "{kind:?} of {length}: {got:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_an_error_whenever_it_comes() {
        let refusal = Refusal {
            code: RefusalCode::Busy,
            message: "busy".into(),
            hint: String::new(),
        };
        let bytes = said(|wire| wire.send(&refusal).unwrap());
        assert!(
            matches!(heard(&bytes).unwrap().receive::<Needs>(), Err(WireError::Refused(r)) if r == refusal)
        );
    }

    #[test]
    fn an_unknown_refusal_code_and_unknown_fields_are_read() {
        let json = br#"{"code":"from_the_future","message":"m","new_field":1}"#;
        let frame = Frame {
            kind: Kind::Refusal,
            payload: json,
        };
        assert_eq!(frame.parse::<Refusal>().unwrap().code, RefusalCode::Other);
    }
}
