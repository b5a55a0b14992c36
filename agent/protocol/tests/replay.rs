//! A recorded session of version 1, replayed by both sides: each reads and writes every byte as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use keys_protocol::{
    Commit, Done, Have, Hello, Key, KeyResult, Kind, MAGIC, Manifest, Message, Need, Needs, Stray,
    Tell, UnitResult, Wire,
};

const RECORDING: &str = include_str!("../../../tests/data/session-v1.txt");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Agent,
    Pusher,
}

/// A frame of the recording.
struct Said {
    by: Side,
    kind: u8,
    payload: Vec<u8>,
}

impl Said {
    fn read(line: &str) -> Self {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let [by, kind, payload] = words[..] else {
            panic!("who, type and payload: {line}")
        };
        let kind = u8::from_str_radix(kind, 16).unwrap();
        let payload = if kind == Kind::Body as u8 {
            let digits = payload
                .as_bytes()
                .chunks(2)
                .map(|two| std::str::from_utf8(two).unwrap());
            digits
                .map(|two| u8::from_str_radix(two, 16).unwrap())
                .collect()
        } else {
            payload.as_bytes().to_vec()
        };
        let by = match by {
            "agent" => Side::Agent,
            "pusher" => Side::Pusher,
            other => panic!("neither side: {other}"),
        };
        Self { by, kind, payload }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap();
        [&length.to_be_bytes()[..], &[self.kind], &self.payload].concat()
    }
}

/// Returns the frames after the magic bytes, in the order they were said.
fn recorded() -> Vec<Said> {
    let mut lines = RECORDING.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("agent magic 894b4559530d0a1a"));
    lines.map(Said::read).collect()
}

/// Returns all that one side said.
fn half(frames: &[Said], side: Side) -> Vec<u8> {
    let said = frames
        .iter()
        .filter(|frame| frame.by == side)
        .flat_map(Said::bytes);
    let magic = if side == Side::Agent { &MAGIC[..] } else { &[] };
    magic.iter().copied().chain(said).collect()
}

type Ours<'a> = Wire<&'a [u8], &'a mut Vec<u8>>;

/// Says a recorded frame anew: read as a message, and written as one.
fn say(wire: &mut Ours<'_>, frame: &Said) {
    fn through<M: Message>(wire: &mut Ours<'_>, frame: &Said) -> M {
        assert_eq!(M::KIND as u8, frame.kind);
        let message: M = serde_json::from_slice(&frame.payload).unwrap();
        wire.send(&message).unwrap();
        message
    }
    let due = wire.transcript();
    match frame.kind {
        0x01 => drop(through::<Hello>(wire, frame)),
        0x02 => drop(through::<Have>(wire, frame)),
        0x03 => drop(through::<Stray>(wire, frame)),
        0x10 => drop(through::<Manifest>(wire, frame)),
        0x11 => drop(through::<Key>(wire, frame)),
        0x12 => drop(through::<Tell>(wire, frame)),
        0x20 => assert!(through::<Needs>(wire, frame).keys > 0),
        0x21 => assert!(through::<Need>(wire, frame).index > 0),
        0x30 => wire.send_body(&frame.payload).unwrap(),
        0x31 => assert_eq!(through::<Commit>(wire, frame).transcript, due),
        0x40 => drop(through::<KeyResult>(wire, frame)),
        0x41 => drop(through::<UnitResult>(wire, frame)),
        0x43 => assert_eq!(through::<Done>(wire, frame).generation, 2),
        other => panic!("{other:#04x} is not in the recording"),
    }
}

/// Hears a recorded frame.
fn hear(wire: &mut Ours<'_>, frame: &Said) {
    let due = wire.transcript();
    let heard = wire.frame().unwrap();
    assert_eq!(
        (heard.kind as u8, heard.payload),
        (frame.kind, &frame.payload[..])
    );
    if heard.kind == Kind::Commit {
        assert_eq!(heard.parse::<Commit>().unwrap().transcript, due);
    }
}

#[test]
fn each_side_says_the_recorded_session_to_the_byte() {
    let frames = recorded();
    for (side, other) in [(Side::Agent, Side::Pusher), (Side::Pusher, Side::Agent)] {
        let heard = half(&frames, other);
        let mut said = Vec::new();
        let mut wire = match side {
            Side::Agent => Wire::accept(&heard[..], &mut said),
            Side::Pusher => Wire::connect(&heard[..], &mut said).unwrap(),
        };
        for frame in &frames {
            if frame.by == side {
                say(&mut wire, frame);
            } else {
                hear(&mut wire, frame);
            }
        }
        wire.flush().unwrap();
        assert!(!wire.holds_more(), "{side:?} has heard it all");
        drop(wire);
        assert!(said == half(&frames, side), "{side:?} says what it said");
    }
}
