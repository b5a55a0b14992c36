//! Gives the keys to the agent, as a pusher would that adds what is missing: the agent alone writes keys.

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keys_protocol::{
    Action, Commit, Features, Have, Hello, Key, KeyOutcome, KeyResult, KeyedHash, Manifest, Need,
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
    // What it relays by now is what becomes of units, which may wait for us: the boot goes on after this. The agent tells
    // them all the same. That it has ended already is as good.
    let _ended = agent.kill();
    let _status = agent.wait().trying(|| "wait for keys-agent".into())?;
    let results = said.trying(|| "keys-agent".into())?;
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
    results(&mut wire, bundle.keys.len())
}

fn announce(wire: &mut Talk, bundle: &Bundle, hello: &Hello) -> Result<(), WireError> {
    let head = &bundle.head;
    wire.send(&Manifest {
        protocol: VERSION,
        // All that it has: units may be of any kind that the bundle's maker knew.
        requires: Features::offered(&hello.features).to_string(),
        id: head.manifest.clone(),
        scope: Scope::Part,
        purpose: Purpose::Reseed,
        strict: false,
        take_over: false,
        prune_all: false,
        sender: printable(&format!("keys-restore for {}", head.sender), TOLD),
        keys: head.keys,
        bytes: head.bytes,
        unsealed: false,
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

/// Hears what became of the keys, which are committed by then.
fn results(wire: &mut Talk, keys: usize) -> Result<Vec<KeyResult>, WireError> {
    (0..keys).map(|_| wire.receive()).collect()
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
