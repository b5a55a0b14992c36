//! Protocol version 1 as it was once said: what was right then is right now.

use std::fs;

use hmac::{Hmac, Mac as _};
use keys_protocol::{
    Commit, Digest, Done, Have, Hello, Key, KeyResult, MAGIC, Manifest, Message, Need, Needs,
    Stray, Tell, UnitResult,
};
use keys_tests::{Operator, Sshd, lab};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A frame of the recorded session.
struct Said {
    by_agent: bool,
    kind: u8,
    payload: Vec<u8>,
}

impl Said {
    /// Returns its bytes on the wire.
    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("frames are small");
        [&length.to_be_bytes()[..], &[self.kind], &self.payload].concat()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("all but bodies are JSON")
    }

    /// Returns the JSON of a Key frame, null for any other.
    fn json_of_key(&self) -> Value {
        if self.kind == 0x11 {
            self.json()
        } else {
            Value::Null
        }
    }
}

/// Returns the frames of the recorded session, in the order they were said.
fn recorded() -> Vec<Said> {
    let text = fs::read_to_string(lab::source().join("tests/data/session-v1.txt"))
        .expect("it is checked in");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.skip(1).map(said).collect()
}

fn said(line: &str) -> Said {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().expect("who, type and payload");
    let by_agent = word() == "agent";
    let kind = u8::from_str_radix(word(), 16).expect("a type in hexadecimal");
    let payload = word();
    let payload = if kind == 0x30 {
        bytes(payload)
    } else {
        payload.as_bytes().to_vec()
    };
    Said {
        by_agent,
        kind,
        payload,
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("two digits");
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

/// Reads a frame as today's message of its type, and returns what is written for it today.
fn rewritten(frame: &Said) -> Value {
    fn through<M: Message>(frame: &Said) -> Value {
        assert_eq!(M::KIND as u8, frame.kind);
        let message: M =
            serde_json::from_slice(&frame.payload).expect("a frame of version 1 is read");
        serde_json::to_value(message).expect("and written")
    }
    match frame.kind {
        0x01 => through::<Hello>(frame),
        0x02 => through::<Have>(frame),
        0x03 => through::<Stray>(frame),
        0x10 => through::<Manifest>(frame),
        0x11 => through::<Key>(frame),
        0x12 => through::<Tell>(frame),
        0x20 => through::<Needs>(frame),
        0x21 => through::<Need>(frame),
        0x31 => through::<Commit>(frame),
        0x40 => through::<KeyResult>(frame),
        0x41 => through::<UnitResult>(frame),
        0x43 => through::<Done>(frame),
        other => panic!("{other:#04x} is no message of the recording"),
    }
}

#[test]
fn every_recorded_frame_is_read_and_says_the_same_today() {
    for frame in recorded().iter().filter(|frame| frame.kind != 0x30) {
        let today = rewritten(frame);
        // A member that came later may be more; none of then is less or other.
        for (member, value) in frame.json().as_object().expect("frames hold objects") {
            assert_eq!(
                today.get(member),
                Some(value),
                "{member} of {:#04x}",
                frame.kind
            );
        }
    }
}

#[test]
fn digests_of_the_recording_are_those_of_the_specification() {
    let frames = recorded();
    let mut transcript = Sha256::new();
    transcript.update(MAGIC);
    let commit = frames
        .iter()
        .position(|frame| frame.kind == 0x31)
        .expect("it was committed");
    for frame in &frames[..commit] {
        transcript.update(frame.bytes());
    }
    let expected = frames[commit].json()["transcript"].clone();
    assert_eq!(Digest(transcript.finalize().into()).to_string(), expected);

    let nonce = bytes(frames[0].json()["nonce"].as_str().expect("a text"));
    let body: Vec<u8> = frames
        .iter()
        .filter(|frame| frame.kind == 0x30)
        .flat_map(|frame| frame.payload.clone())
        .collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&nonce).expect("any length will do");
    mac.update(&body);
    let key = frames
        .iter()
        .map(Said::json_of_key)
        .find(|key| key["name"] == "web/second")
        .expect("it was sent");
    assert_eq!(
        Digest(mac.finalize().into_bytes().into()).to_string(),
        key["mac"]
    );
}

#[test]
fn the_pusher_of_today_is_served_by_the_agent_of_then() {
    let host = Sshd::start("pigeon");
    let agent: Vec<u8> = recorded()
        .iter()
        .filter(|frame| frame.by_agent)
        .flat_map(Said::bytes)
        .collect();
    host.inside()
        .write("/root/recorded", [&MAGIC[..], &agent].concat(), 0o600);
    let _gone = host
        .inside()
        .run("rm /usr/local/bin/keys-agent")
        .succeeded();
    // It answers what it answered then, whatever it hears: under its nonce the same is due as then.
    let answers = "#!/bin/sh\ncat /root/recorded\nexec cat >/root/heard\n";
    host.inside()
        .write("/usr/local/bin/keys-agent", answers, 0o755);
    let operator = Operator::of(&host);
    operator.write("first", "first");
    operator.write("second", b"\0\x01\x02second\xff\n");
    operator.manifest(
        r#"
id = "birds"

[hosts.pigeon]
ssh = "pigeon"

[keys.first]
hosts = ["pigeon"]
source = { file = "first" }

[keys."web/second"]
hosts = ["pigeon"]
source = { file = "second" }
owner = "alice"
group = "keys"
mode = "0640"
restart_units = ["web.service"]
reload_units = ["proxy.service"]
"#,
    );
    let sent = operator.send("--include pigeon").succeeded();
    let said = "pigeon: web/second: new\npigeon: empty: removed\npigeon: web.service: restarted\n\
                pigeon: proxy.service: reloaded\n";
    assert_eq!(sent.text(), said);
}
