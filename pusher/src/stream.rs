//! The pusher's side of a session, over any reader and writer.

use std::io::{self, Read, Write};

use keys_protocol::bundle::Offer;
use keys_protocol::{
    Commit, Done, Feature, Features, Frame, Have, Hello, KeyOutcome, KeyResult, Kind, Manifest,
    Need, Needs, Purpose, Stray, UnitResult, VERSION, Wire, WireError, limits,
};

use crate::host_key::HostKey;
use crate::plan::{Item, Push};
use crate::seal::Seal;

/// What the agent said of its host before anything was sent.
pub(crate) struct Inventory {
    pub(crate) hello: Hello,
    pub(crate) keys: Vec<Have>,
    pub(crate) strays: Vec<Stray>,
}

/// What became of a push, or would.
pub(crate) struct Outcome {
    pub(crate) inventory: Inventory,
    pub(crate) keys: Vec<KeyResult>,
    pub(crate) units: Vec<UnitResult>,
    pub(crate) generation: u64,
}

impl Outcome {
    /// Returns whether every key is there as the manifest wants it: nothing new, changed, removed, kept or failed.
    pub(crate) fn is_in_place(&self) -> bool {
        self.keys
            .iter()
            .all(|key| matches!(key.outcome, KeyOutcome::Unchanged | KeyOutcome::Foreign))
    }
}

/// Why a session ended early.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing was changed.
    Before(WireError),
    /// The agent on the other side is not one to talk to; nothing was sent.
    Stranger(String),
    /// The agent is of a version we do not speak.
    Version(String),
    /// Everything was sent and the answer was lost: it may be in place or not.
    Unknown(WireError),
    /// The bundle that was made has no number above that of the host's, which is this one; nothing was sent.
    Behind(u64),
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Self::Before(error)
    }
}

/// Says what is there: for `keys status`.
pub(crate) fn ask<R: Read, W: Write>(
    reader: R,
    writer: W,
    pin: Option<&HostKey>,
) -> Result<Inventory, Broken> {
    let mut wire = Wire::connect(reader, writer)?;
    let inventory = greet(&mut wire, pin)?;
    wire.receive::<Done>()?;
    Ok(inventory)
}

/// Sends `push`, or asks what sending it would do.
pub(crate) fn stream<R: Read, W: Write>(
    reader: R,
    writer: W,
    push: &Push,
    purpose: Purpose,
) -> Result<Outcome, Broken> {
    let mut wire = Wire::connect(reader, writer)?;
    let inventory = greet(&mut wire, push.host.host_key.as_ref())?;
    numbered(push, purpose, &inventory.hello)?;
    announce(&mut wire, push, purpose, &inventory.hello)?;
    if purpose == Purpose::Plan {
        return Ok(results(&mut wire, inventory)?);
    }
    let needed = needs(&mut wire, push)?;
    bodies(&mut wire, &needed, &push.seal)?;
    results(&mut wire, inventory).map_err(|error| match error {
        // The agent refuses only what it has not applied.
        refused @ WireError::Refused(_) => Broken::Before(refused),
        lost => Broken::Unknown(lost),
    })
}

fn greet<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    pin: Option<&HostKey>,
) -> Result<Inventory, Broken> {
    let hello: Hello = wire.receive()?;
    recognise(&hello, pin)?;
    let keys = (0..hello.keys)
        .map(|_| wire.receive())
        .collect::<Result<_, _>>()?;
    let strays = (0..hello.strays)
        .map(|_| wire.receive())
        .collect::<Result<_, _>>()?;
    Ok(Inventory {
        hello,
        keys,
        strays,
    })
}

/// Checks that we speak the same version, and that this is the host of the pin, wherever ssh's connection led.
fn recognise(hello: &Hello, pin: Option<&HostKey>) -> Result<(), Broken> {
    let (agent, low, high) = (&hello.agent, hello.protocol_min, hello.protocol_max);
    if !(low..=high).contains(&VERSION) {
        let text = format!(
            "keys-agent {agent} speaks protocol {low} to {high}, and this is protocol {VERSION}"
        );
        return Err(Broken::Version(text));
    }
    if let Err(unknown) = Features::required(&hello.requires) {
        let text =
            format!("keys-agent {agent} requires `{unknown}`, which this keys does not know");
        return Err(Broken::Version(text));
    }
    let has = |pin: &HostKey| {
        hello
            .host_keys
            .split_whitespace()
            .any(|key| key == pin.fingerprint())
    };
    if let Some(pin) = pin.filter(|pin| !has(pin)) {
        let text = format!(
            "the agent that answered runs on a host without the key {}",
            pin.fingerprint()
        );
        return Err(Broken::Stranger(text));
    }
    if hello.keys.max(hello.strays) > limits::KEYS {
        let text = format!(
            "the agent reports {} keys and {} other files",
            hello.keys, hello.strays
        );
        return Err(WireError::Broken(text).into());
    }
    Ok(())
}

/// Makes sure that the bundle is above the one that is there: the host would refuse it.
fn numbered(push: &Push, purpose: Purpose, hello: &Hello) -> Result<(), Broken> {
    match &push.seal {
        Seal::Made(made) if purpose != Purpose::Plan && hello.epoch >= made.offer.epoch => {
            Err(Broken::Behind(hello.epoch))
        }
        Seal::Made(_) | Seal::Dropped | Seal::Untouched => Ok(()),
    }
}

/// What the Manifest frame says of the bundle: whether none is to be there any more, and what comes.
fn bundle(push: &Push, purpose: Purpose, hello: &Hello) -> (bool, Option<Offer>) {
    match &push.seal {
        _ if purpose == Purpose::Plan => (false, None),
        Seal::Made(made) => (false, Some(made.offer.clone())),
        // An agent that never had one need not know what it is.
        Seal::Dropped => (hello.epoch > 0, None),
        Seal::Untouched => (false, None),
    }
}

fn announce<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    push: &Push,
    purpose: Purpose,
    hello: &Hello,
) -> Result<(), WireError> {
    heeding(wire, |wire| {
        let (unsealed, bundle) = bundle(push, purpose, hello);
        let mut requires = requires(push, hello);
        if unsealed || bundle.is_some() {
            requires.extend([Feature::Bundle]);
        }
        let requires = requires.to_string();
        wire.send(&Manifest {
            purpose,
            requires,
            unsealed,
            bundle,
            ..push.manifest.clone()
        })?;
        for item in &push.keys {
            wire.send(&item.frame(&hello.nonce))?;
            for tell in &item.key.tells {
                wire.send(tell)?;
            }
        }
        wire.flush()
    })
}

/// What the agent must know: all that the push makes use of. And what the agent has to offer besides, so that it tells us
/// of what earlier pushes made use of.
fn requires(push: &Push, hello: &Hello) -> Features {
    let mut features = Features::offered(&hello.features);
    features.extend(push.features());
    features
}

/// Reads which bodies the agent lacks: rising places of keys that have one.
fn needs<'a, R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    push: &'a Push,
) -> Result<Vec<&'a Item>, WireError> {
    let Needs { keys } = wire.receive()?;
    let mut next = 0;
    let mut needed = Vec::new();
    for _ in 0..keys {
        let Need { index } = wire.receive()?;
        let item = push
            .keys
            .get(index as usize)
            .filter(|item| index >= next && item.secret.is_some());
        needed.push(
            item.ok_or_else(|| {
                WireError::Broken(format!("the agent asks for key number {index}"))
            })?,
        );
        next = index + 1;
    }
    Ok(needed)
}

fn bodies<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    needed: &[&Item],
    seal: &Seal,
) -> Result<(), WireError> {
    heeding(wire, |wire| {
        let mut bytes = 0;
        for secret in needed.iter().filter_map(|item| item.secret.as_ref()) {
            wire.send_body(secret.expose())?;
            bytes += secret.len() as u64;
        }
        if let Seal::Made(made) = seal {
            wire.send_body(&made.bytes)?;
        }
        let keys = u32::try_from(needed.len()).unwrap_or(u32::MAX);
        wire.send(&Commit {
            keys,
            bytes,
            transcript: wire.transcript(),
        })?;
        wire.flush()
    })
}

/// Speaks; where the pipe is closed meanwhile, first hears what the agent still has to say.
fn heeding<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    speak: impl FnOnce(&mut Wire<R, W>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    match speak(wire) {
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            match wire.frame() {
                Err(refused @ WireError::Refused(_)) => Err(refused),
                Ok(_) | Err(_) => Err(error.into()),
            }
        }
        other => other,
    }
}

fn results<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    inventory: Inventory,
) -> Result<Outcome, WireError> {
    let (mut keys, mut units): (Vec<KeyResult>, Vec<UnitResult>) = (Vec::new(), Vec::new());
    loop {
        let frame: Frame<'_> = wire.frame()?;
        match frame.kind {
            Kind::KeyResult if keys.len() < 2 * limits::KEYS as usize => keys.push(frame.parse()?),
            Kind::UnitResult if units.len() < limits::KEYS as usize => units.push(frame.parse()?),
            Kind::Progress => {}
            Kind::Done => {
                let Done { generation } = frame.parse()?;
                return Ok(Outcome {
                    inventory,
                    keys,
                    units,
                    generation,
                });
            }
            _ => return Err(frame.unexpected("a result")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use keys_protocol::{MAGIC, Scope, Secret};

    use super::*;
    use crate::manifest::Manifest as Document;
    use crate::plan::{Rules, pushes};
    use crate::select::Selected;

    const RECORDING: &str = include_str!("../../tests/data/session-v1.txt");

    /// The manifest of the recorded session.
    const MANIFEST: &str = r#"
        id = "birds"
        [hosts.pigeon]
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
    "#;

    /// Returns all that one side said, with what `change` makes of its frames.
    fn half(side: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in RECORDING.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words[..] {
                [by, "magic", _] if by == side => bytes.extend(MAGIC),
                [by, kind, payload] if by == side => {
                    let payload = match kind {
                        "30" => unhex(payload),
                        _ => change(payload).into_bytes(),
                    };
                    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
                    bytes.extend(unhex(kind));
                    bytes.extend(payload);
                }
                _ => {}
            }
        }
        bytes
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        digits
            .map(|two| u8::from_str_radix(two, 16).unwrap())
            .collect()
    }

    fn push(manifest: &str) -> Push {
        let document = Document::parse(manifest, Path::new("/x/keys.toml")).unwrap();
        let host = document.hosts.values().next().unwrap();
        let keys: Vec<_> = host.keys.values().map(Arc::clone).collect();
        let secrets = ["first".into(), b"\0\x01\x02second\xff\n".to_vec()];
        let resolved = keys
            .iter()
            .zip(secrets)
            .map(|(key, bytes)| (key.source.clone(), Ok(Arc::new(Secret::new(bytes)))));
        let selected = Selected {
            host: Arc::clone(host),
            scope: Scope::Host,
            keys: keys.clone(),
            held: std::collections::BTreeSet::new(),
        };
        let rules = Rules {
            purpose: Purpose::Send,
            ..Rules::asking()
        };
        let mut pushes = pushes(&document.id, &[selected], &resolved.collect(), rules).unwrap();
        let mut push = pushes.remove(0);
        "root@operator".clone_into(&mut push.manifest.sender);
        push
    }

    /// Has the conversation with the recorded agent, its Hello changed, and returns what came of it and what was said.
    fn talk(change: impl Fn(&str) -> String) -> (Result<Outcome, Broken>, Vec<u8>) {
        let agent = half("agent", change);
        let mut said = Vec::new();
        let outcome = stream(&agent[..], &mut said, &push(MANIFEST), Purpose::Send);
        (outcome, said)
    }

    #[test]
    fn the_recorded_agent_hears_what_it_heard_to_the_byte() {
        let (outcome, said) = talk(str::to_owned);
        let Ok(outcome) = outcome else {
            panic!("it was a success")
        };
        assert!(
            said == half("pusher", str::to_owned),
            "{}",
            String::from_utf8_lossy(&said)
        );
        assert_eq!(outcome.generation, 2);
        assert_eq!((outcome.keys.len(), outcome.units.len()), (3, 2));
    }

    #[test]
    fn what_an_agent_adds_that_is_not_required_is_no_matter() {
        let (outcome, _) = talk(|frame| frame.replacen('{', r#"{"mood":{"today":"merry"},"#, 1));
        assert!(outcome.is_ok_and(|outcome| outcome.generation == 2));
    }

    #[test]
    fn what_a_push_needs_or_an_agent_offers_is_required() {
        let (_, said) = talk(|frame| {
            frame.replace(
                r#""agent":"#,
                r#""features":"unit-globs telepathy","agent":"#,
            )
        });
        assert!(String::from_utf8_lossy(&said).contains(r#""requires":"unit-globs""#));
        let agent = half("agent", str::to_owned);
        let mut said = Vec::new();
        let more = MANIFEST.replace(
            r#"["web.service"]"#,
            r#"["web-*.service"]
start_units = ["web.service"]"#,
        );
        let _cut_short = stream(&agent[..], &mut said, &push(&more), Purpose::Send);
        let required = r#""requires":"unit-globs unit-actions""#;
        assert!(String::from_utf8_lossy(&said).contains(required));
    }

    #[test]
    fn an_agent_of_a_version_to_come_hears_nothing_and_both_versions_are_named() {
        for (now, later, words) in [
            (
                r#""protocol_min":1,"protocol_max":1"#,
                r#""protocol_min":2,"protocol_max":3"#,
                "keys-agent 0.1.0 speaks protocol 2 to 3, and this is protocol 1",
            ),
            (
                r#""requires":"""#,
                r#""requires":"telepathy""#,
                "keys-agent 0.1.0 requires `telepathy`, which this keys does not know",
            ),
        ] {
            let (outcome, said) = talk(|frame| frame.replace(now, later));
            match outcome {
                Err(Broken::Version(text)) => assert_eq!(text, words),
                other => panic!("{words}: {:?}", other.err()),
            }
            assert!(said.is_empty(), "{} bytes were said", said.len());
        }
    }
}
