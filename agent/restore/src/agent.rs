//! Gives the keys to the agent, as a pusher would that adds what is missing: the agent alone writes keys.

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keys_protocol::{
    Action, Commit, Done, Have, Hello, Key, KeyOutcome, KeyResult, KeyedHash, Kind, Manifest, Need,
    Needs, Purpose, Scope, Stray, VERSION, Wire, WireError, printable,
};

use crate::open::Bundle;
use crate::refused::{Refused, Trying as _};

type Talk = Wire<ChildStdout, ChildStdin>;

/// How much of the words of others is told.
const TOLD: usize = 200;

/// Has one session with the agent, and says what became of the keys.
pub(crate) fn give(bundle: &Bundle) -> Result<String, Refused> {
    let mut agent = start()?;
    let missing = || Refused::new("keys-agent was started without a pipe");
    let stdout = agent.stdout.take().ok_or_else(missing)?;
    let stdin = agent.stdin.take().ok_or_else(missing)?;
    let said = converse(bundle, stdout, stdin);
    let ended = agent.wait().trying(|| "wait for keys-agent".into())?;
    let results = said.trying(|| format!("keys-agent ({ended})"))?;
    Ok(words(&results))
}

/// Starts the agent that was installed beside this program. It goes through the agent's socket.
fn start() -> Result<Child, Refused> {
    let own = std::env::current_exe().trying(|| "find this program".into())?;
    let program = own.with_file_name("keys-agent");
    Command::new(&program)
        .arg("receive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .trying(|| format!("start {}", program.display()))
}

fn converse(
    bundle: &Bundle,
    stdout: ChildStdout,
    stdin: ChildStdin,
) -> Result<Vec<KeyResult>, WireError> {
    let mut wire = Wire::connect(stdout, stdin)?;
    let hello: Hello = wire.receive()?;
    if !(hello.protocol_min..=hello.protocol_max).contains(&VERSION) {
        let text = format!(
            "keys-agent {} speaks another protocol",
            printable(&hello.agent, TOLD)
        );
        return Err(WireError::Broken(text));
    }
    for _ in 0..hello.keys {
        wire.receive::<Have>()?;
    }
    for _ in 0..hello.strays {
        wire.receive::<Stray>()?;
    }
    announce(&mut wire, bundle, &hello)?;
    bodies(&mut wire, bundle)?;
    results(&mut wire)
}

fn announce(wire: &mut Talk, bundle: &Bundle, hello: &Hello) -> Result<(), WireError> {
    let head = &bundle.head;
    wire.send(&Manifest {
        protocol: VERSION,
        requires: String::new(),
        id: head.manifest.clone(),
        scope: Scope::Part,
        purpose: Purpose::Reseed,
        strict: false,
        take_over: false,
        prune_all: false,
        sender: printable(&format!("keys-restore for {}", head.sender), TOLD),
        keys: head.keys,
        bytes: head.bytes,
        bundle: None,
    })?;
    for (entry, secret) in &bundle.keys {
        wire.send(&Key {
            name: entry.name.clone(),
            action: Action::Send,
            owner: entry.owner.clone(),
            group: entry.group.clone(),
            mode: entry.mode,
            public: entry.public,
            size: entry.size,
            mac: Some(KeyedHash::of(&hello.nonce, secret.expose())),
            units: u32::try_from(entry.units.len()).unwrap_or(u32::MAX),
            sealed: false,
        })?;
        entry.units.iter().try_for_each(|tell| wire.send(tell))?;
    }
    wire.flush()
}

fn bodies(wire: &mut Talk, bundle: &Bundle) -> Result<(), WireError> {
    let Needs { keys } = wire.receive()?;
    let mut needed = Vec::new();
    for _ in 0..keys {
        let Need { index } = wire.receive()?;
        let found = bundle.keys.get(index as usize);
        let asked = || WireError::Broken(format!("it asks for key number {index}"));
        needed.push(found.ok_or_else(asked)?);
    }
    let mut bytes = 0;
    for (entry, secret) in needed {
        wire.send_body(secret.expose())?;
        bytes += entry.size;
    }
    let transcript = wire.transcript();
    wire.send(&Commit {
        keys,
        bytes,
        transcript,
    })?;
    wire.flush()
}

fn results(wire: &mut Talk) -> Result<Vec<KeyResult>, WireError> {
    let mut results = Vec::new();
    loop {
        let frame = wire.frame()?;
        match frame.kind {
            Kind::KeyResult => results.push(frame.parse()?),
            Kind::UnitResult | Kind::Progress => {}
            _ => {
                let _generation: Done = frame.parse()?;
                return Ok(results);
            }
        }
    }
}

/// Counts what came back, and names what did not.
fn words(results: &[KeyResult]) -> String {
    let of = |outcome| results.iter().filter(move |key| key.outcome == outcome);
    let mut words = format!("{} keys came back", of(KeyOutcome::New).count());
    let there = of(KeyOutcome::Unchanged).count() + of(KeyOutcome::Changed).count();
    if there > 0 {
        words = format!("{words}, {there} were there");
    }
    for key in of(KeyOutcome::Failed).chain(of(KeyOutcome::Foreign)) {
        words = format!("{words}; {}: {}", key.name, key.detail);
    }
    printable(&words, TOLD)
}
