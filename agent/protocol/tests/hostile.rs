//! Hostile streams: whatever bytes come, reading ends in an error or in frames within their limits, and never panics.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::Cursor;

use keys_protocol::{
    Action, Commit, Digest, Done, Frame, Have, Hello, Key, KeyResult, Kind, MAGIC, Manifest,
    Message, Need, Needs, Principal, Progress, Purpose, Refusal, Scope, Stray, Tell, UnitResult,
    Wire, WireError, limits,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

/// Reads everything there is, as whatever it says it is, and returns how it ended.
fn read_all(bytes: &[u8]) -> WireError {
    let mut wire = match Wire::connect(bytes, Vec::new()) {
        Ok(wire) => wire,
        Err(error) => return error,
    };
    loop {
        match wire.frame() {
            Ok(frame) => {
                assert!(
                    frame.payload.len() <= frame.kind.limit(),
                    "{:?} over its limit",
                    frame.kind
                );
                parse(&frame).err();
            }
            Err(error) => return error,
        }
    }
}

fn parse(frame: &Frame<'_>) -> Result<(), WireError> {
    fn read<M: Message>(frame: &Frame<'_>) -> Result<(), WireError> {
        frame.parse::<M>().map(drop)
    }
    match frame.kind {
        Kind::Hello => read::<Hello>(frame),
        Kind::Have => read::<Have>(frame),
        Kind::Stray => read::<Stray>(frame),
        Kind::Manifest => read::<Manifest>(frame),
        Kind::Key => read::<Key>(frame),
        Kind::Tell => read::<Tell>(frame),
        Kind::Needs => read::<Needs>(frame),
        Kind::Need => read::<Need>(frame),
        Kind::Body => Ok(()),
        Kind::Commit => read::<Commit>(frame),
        Kind::KeyResult => read::<KeyResult>(frame),
        Kind::UnitResult => read::<UnitResult>(frame),
        Kind::Progress => read::<Progress>(frame),
        Kind::Done => read::<Done>(frame),
        Kind::Refusal => read::<Refusal>(frame),
    }
}

/// A pusher's half of a session, as bytes.
fn session() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut wire = Wire::accept(Cursor::new(Vec::new()), &mut bytes);
    let mac = Some(Digest([7; 32]));
    let key = Key {
        name: "web/tls".parse().unwrap(),
        action: Action::Send,
        owner: Principal::root(),
        group: "www-data".parse().unwrap(),
        mode: "0440".parse().unwrap(),
        public: false,
        size: 70_000,
        mac,
        units: 0,
        sealed: false,
    };
    let manifest = Manifest {
        protocol: 1,
        requires: String::new(),
        id: "m".into(),
        scope: Scope::Host,
        purpose: Purpose::Send,
        strict: false,
        take_over: false,
        prune_all: false,
        sender: "ann@atlas".into(),
        keys: 1,
        bytes: 70_000,
        unsealed: false,
        bundle: None,
    };
    wire.send(&manifest).unwrap();
    wire.send(&key).unwrap();
    wire.send_body(&vec![b'x'; 70_000]).unwrap();
    wire.send(&Commit {
        keys: 1,
        bytes: 70_000,
        transcript: wire.transcript(),
    })
    .unwrap();
    wire.flush().unwrap();
    bytes
}

/// Mostly headers that nearly make sense, with payloads that nearly do.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![0x01, 0x02, 0x10, 0x11, 0x20, 0x30, 0x31, 0x40, 0x7f])
    ];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[{}\\[\\]\":,a-z0-9\\\\]{0,200}".prop_map(String::into_bytes),
        Just(vec![b'['; limits::CONTROL_FRAME]),
    ];
    let frame = (kind, payload, -2_i64..3).prop_map(|(kind, payload, error)| {
        let length = u32::try_from(i64::try_from(payload.len()).unwrap() + error).unwrap_or(0);
        [&length.to_be_bytes()[..], &[kind], &payload].concat()
    });
    prop::collection::vec(frame, 0..20)
        .prop_map(|frames| [MAGIC.to_vec(), frames.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
        read_all(&[&MAGIC[..], &bytes].concat());
        read_all(&bytes);
    }

    #[test]
    fn frames_that_nearly_make_sense_end_in_an_error(bytes in frames()) {
        read_all(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_leaves_the_transcript_of_the_commit_right(at in 8_usize..70_000, bit in 0_u8..8) {
        let mut bytes = session();
        bytes[at] ^= 1 << bit;
        let mut wire = Wire::connect(&bytes[..], Vec::new()).unwrap();
        while let Ok(frame) = wire.frame() {
            if frame.kind == Kind::Commit {
                let commit: Commit = frame.parse().unwrap();
                assert_ne!(commit.transcript, wire.transcript(), "bit {bit} of byte {at}");
                break;
            }
        }
    }
}

#[test]
fn the_untouched_session_has_the_transcript_of_its_commit() {
    let bytes = session();
    let mut wire = Wire::connect(&bytes[..], Vec::new()).unwrap();
    let commit = loop {
        let frame = wire.frame().unwrap();
        if frame.kind == Kind::Commit {
            break frame.parse::<Commit>().unwrap();
        }
    };
    assert_eq!(commit.transcript, wire.transcript());
}

#[test]
fn a_body_is_cut_at_the_limit_of_its_frames() {
    let bytes = session();
    let mut wire = Wire::connect(&bytes[..], Vec::new()).unwrap();
    let mut lengths = Vec::new();
    while let Ok(frame) = wire.frame() {
        if frame.kind == Kind::Body {
            lengths.push(frame.payload.len());
        }
    }
    assert_eq!(lengths, [limits::BODY_FRAME, 70_000 - limits::BODY_FRAME]);
}
