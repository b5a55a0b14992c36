//! One conversation with a pusher: frames, each with its deadline.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use keys_protocol::{
    Commit, Digest, Features, Frame, Message, Refusal, Wire, WireError, limits, printable,
};

use crate::deadline::{Clock, Input, Output};
use crate::failure::{Doing as _, Failure};

/// How much of a refusal's message and hint is said, in bytes; in JSON each may take two.
const QUOTED: usize = 900;
/// How long a refusal may take to be written.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How many bodies came, and how many bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) keys: u32,
    pub(crate) bytes: u64,
}

/// The agent's side of the wire.
pub(crate) struct Session {
    wire: Wire<Input, Output>,
    clock: Rc<Clock>,
    /// Keys the digests of secrets, so that none can be used outside this session.
    nonce: Digest,
    /// What the peer is known to understand.
    features: Features,
}

impl Session {
    /// Starts a conversation on a pair of descriptors.
    pub(crate) fn start(input: OwnedFd, output: OwnedFd) -> Result<Self, Failure> {
        let clock = Clock::start().doing(|| "signalfd".into())?;
        let mut nonce = Digest([0; 32]);
        fill_with_random(&mut nonce.0)?;
        Ok(Self {
            wire: Wire::accept(
                Input::new(input, Rc::clone(&clock)),
                Output::new(output, Rc::clone(&clock)),
            ),
            clock,
            nonce,
            features: Features::default(),
        })
    }

    pub(crate) fn nonce(&self) -> &Digest {
        &self.nonce
    }

    /// Notes what the peer understands.
    pub(crate) fn speak_with(&mut self, features: Features) {
        self.features = features;
    }

    /// Returns what the peer understands.
    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    /// Lengthens the session by what `bytes` take.
    pub(crate) fn allow_for(&self, bytes: u64) {
        self.clock.allow_for(bytes);
    }

    /// Waits for the next frame.
    pub(crate) fn frame(&mut self) -> Result<Frame<'_>, WireError> {
        self.clock.expect_within(limits::IDLE);
        self.wire.frame()
    }

    /// Waits for the next frame, which is to be an `M`.
    pub(crate) fn receive<M: Message>(&mut self) -> Result<M, WireError> {
        self.frame()?.parse()
    }

    pub(crate) fn send<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        self.wire.send(message)
    }

    pub(crate) fn flush(&mut self) -> Result<(), WireError> {
        self.wire.flush()
    }

    /// Waits, unless a signal comes.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Failure> {
        self.clock.pause(time).map_err(|e| WireError::Io(e).into())
    }

    /// Waits for the Commit frame. Only with it, and only if it says what came, anything changes.
    pub(crate) fn expect_commit(&mut self, received: Received) -> Result<(), Failure> {
        let commit: Commit = self.receive()?;
        let said = Received {
            keys: commit.keys,
            bytes: commit.bytes,
        };
        if said != received {
            return Err(Failure::breach("the Commit frame counts otherwise"));
        }
        if commit.transcript != self.wire.transcript() {
            return Err(Failure::breach("the two sides did not hear the same"));
        }
        self.expect_silence()
    }

    /// Makes sure that nothing came after the last frame. The peer may have closed its side; it need not.
    fn expect_silence(&mut self) -> Result<(), Failure> {
        self.clock.expect_within(Duration::ZERO);
        let silent = match self.wire.frame() {
            Err(WireError::Closed) => true,
            Err(WireError::Io(e)) if e.kind() == io::ErrorKind::TimedOut => !self.wire.holds_more(),
            Err(WireError::Io(e)) => return Err(WireError::Io(e).into()),
            Ok(_) | Err(_) => false,
        };
        if silent {
            return Ok(());
        }
        Err(Failure::breach("something came after the Commit frame"))
    }

    /// Tells the peer that nothing was changed, and why. It may not be there to hear it.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) -> Result<(), WireError> {
        self.clock.expect_within(LAST_WORD);
        self.wire.send(&shortened(refusal))?;
        self.wire.flush()
    }
}

/// Fills `bytes` from the kernel's generator.
pub(crate) fn fill_with_random(bytes: &mut [u8]) -> Result<(), Failure> {
    let read = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty());
    // Up to 256 bytes are never given short, says getrandom(2); a short answer is refused all the same.
    match read.doing(|| "getrandom".into())? {
        whole if whole == bytes.len() => Ok(()),
        short => Err(Failure::breach(format!("getrandom gave {short} bytes"))),
    }
}

/// A refusal that fits into its frame whatever it quotes.
fn shortened(refusal: &Refusal) -> Refusal {
    let cut = |text: &str| {
        let mut room = QUOTED;
        let whole = printable(text, QUOTED);
        let fits = |c: &char| {
            room = room.saturating_sub(c.len_utf8());
            room > 0
        };
        whole.chars().take_while(fits).collect()
    };
    Refusal {
        code: refusal.code,
        message: cut(&refusal.message),
        hint: cut(&refusal.hint),
    }
}

#[cfg(test)]
mod tests {
    use keys_protocol::RefusalCode;

    use super::*;

    #[test]
    fn a_refusal_fits_into_its_frame_whatever_it_quotes() {
        for text in ["\u{1b}", "\u{10ffff}", "\\", "\"", "x"] {
            let refusal = shortened(&Refusal {
                code: RefusalCode::Policy,
                message: text.repeat(10_000),
                hint: text.repeat(10_000),
            });
            let size = serde_json::to_vec(&refusal).unwrap().len();
            assert!(size <= limits::CONTROL_FRAME, "{text:?}: {size}");
        }
    }
}
