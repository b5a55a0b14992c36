//! A conversation with the agent over pipes, frame by frame, without ssh.

use std::io::{self, Read, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use keys_protocol::{
    Commit, Done, Have, Hello, Kind, Need, Needs, Progress, Purpose, Stray, Wire, WireError,
};

use crate::{Ended, Inside, Push, Report, Up, lab, wait_for};

/// How long a conversation may take before its agent is killed: longer than any deadline of the agent.
const LIMIT: Duration = Duration::from_secs(60);

/// One run of the agent, and our end of the wire.
pub struct Session {
    /// The pusher's side. Take care to `flush` it at the end of a turn.
    pub wire: Wire<ChildStdout, Up>,
    up: Up,
    agent: Child,
    stderr: thread::JoinHandle<String>,
    /// Dropped at the end, so that the watch does not kill.
    over: Sender<()>,
}

impl Session {
    /// Says a whole push as a pusher should: `keys`, with what `change` makes of it.
    pub fn push(host: &Inside, keys: &[(&str, &[u8])], change: impl FnOnce(&mut Push)) -> Ended {
        Self::receive(host).whole(keys, change)
    }

    /// Says a whole push as a pusher should, in a conversation that has just begun, and ends it.
    pub fn whole(mut self, keys: &[(&str, &[u8])], change: impl FnOnce(&mut Push)) -> Ended {
        let report = match self.talk(keys, change) {
            // It may be gone before all was said: what it said last is still to be read.
            Err(WireError::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => self.report(),
            other => other,
        };
        let (code, said) = self.close();
        Ended { report, code, said }
    }

    fn talk(
        &mut self,
        keys: &[(&str, &[u8])],
        change: impl FnOnce(&mut Push),
    ) -> Result<Report, WireError> {
        let (hello, _, _) = self.hello()?;
        let mut push = Push::of(&hello.nonce, keys);
        change(&mut push);
        let is_plan = push.manifest.purpose == Purpose::Plan;
        self.announce(&push)?;
        if is_plan {
            return self.report();
        }
        let bodies: Vec<&[u8]> = self.needs()?.iter().map(|at| keys[*at].1).collect();
        self.commit(&bodies)
    }

    /// Starts `keys-agent receive` in a host and reads up to the magic bytes.
    #[must_use]
    pub fn receive(host: &Inside) -> Self {
        let mut command = host.command("keys-agent");
        command.arg("receive");
        Self::of(command).unwrap_or_else(|e| panic!("{}: keys-agent receive: {e}", host.name()))
    }

    /// Starts a command that ends up in the agent, and reads up to the magic bytes.
    ///
    /// # Errors
    /// When the agent does not speak first.
    pub fn of(mut command: Command) -> Result<Self, WireError> {
        let mut agent = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut errors = agent.stderr.take().expect("stderr is a pipe");
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            let ended = errors.read_to_end(&mut bytes);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match ended {
                Ok(_) => text,
                Err(e) => format!("{text}\n({e})"),
            }
        });
        let stdout = agent.stdout.take().expect("stdout is a pipe");
        let stdin = agent.stdin.take().expect("stdin is a pipe");
        let over = watch(agent.id());
        let up = Up::over(stdin);
        match Wire::connect(stdout, up.clone()) {
            Ok(wire) => Ok(Self {
                wire,
                up,
                agent,
                stderr,
                over,
            }),
            Err(e) => {
                up.hang_up();
                agent.wait().expect("our own child can be waited for");
                Err(e)
            }
        }
    }

    /// Reads what the agent says first: itself, the keys it has, and files that are none.
    ///
    /// # Errors
    /// What the agent broke, or its refusal.
    pub fn hello(&mut self) -> Result<(Hello, Vec<Have>, Vec<Stray>), WireError> {
        let hello: Hello = self.wire.receive()?;
        let keys = (0..hello.keys)
            .map(|_| self.wire.receive())
            .collect::<Result<_, _>>()?;
        let strays = (0..hello.strays)
            .map(|_| self.wire.receive())
            .collect::<Result<_, _>>()?;
        Ok((hello, keys, strays))
    }

    /// Declares what is coming, and returns the places of the keys whose bodies the agent lacks.
    ///
    /// # Errors
    /// What the agent broke, or its refusal.
    pub fn declare(&mut self, push: &Push) -> Result<Vec<usize>, WireError> {
        self.announce(push)?;
        self.needs()
    }

    /// Declares what is coming, and does not wait for an answer.
    ///
    /// # Errors
    /// When writing fails.
    pub fn announce(&mut self, push: &Push) -> Result<(), WireError> {
        self.wire.send(&push.manifest)?;
        for (key, tells) in &push.keys {
            self.wire.send(key)?;
            tells.iter().try_for_each(|tell| self.wire.send(tell))?;
        }
        self.wire.flush()
    }

    /// Reads which bodies the agent lacks.
    ///
    /// # Errors
    /// What the agent broke, or its refusal.
    pub fn needs(&mut self) -> Result<Vec<usize>, WireError> {
        let needs: Needs = self.wire.receive()?;
        (0..needs.keys)
            .map(|_| Ok(self.wire.receive::<Need>()?.index as usize))
            .collect()
    }

    /// Sends bodies, commits to them, and reads the report.
    ///
    /// # Errors
    /// What the agent broke, or its refusal.
    pub fn commit(&mut self, bodies: &[&[u8]]) -> Result<Report, WireError> {
        self.send_all(bodies)?;
        self.report()
    }

    /// Sends bodies, commits to them, and does not wait for an answer.
    ///
    /// # Errors
    /// When writing fails.
    pub fn send_all(&mut self, bodies: &[&[u8]]) -> Result<(), WireError> {
        bodies
            .iter()
            .try_for_each(|body| self.wire.send_body(body))?;
        let commit = self.commit_of(bodies);
        self.wire.send(&commit)?;
        self.wire.flush()
    }

    /// Returns the Commit frame that is due when these bodies were sent.
    #[must_use]
    pub fn commit_of(&self, bodies: &[&[u8]]) -> Commit {
        Commit {
            keys: u32::try_from(bodies.len()).expect("few"),
            bytes: bodies.iter().map(|body| body.len() as u64).sum(),
            transcript: self.wire.transcript(),
        }
    }

    /// Reads the report to its end.
    ///
    /// # Errors
    /// What the agent broke, or its refusal.
    pub fn report(&mut self) -> Result<Report, WireError> {
        let mut report = Report::default();
        loop {
            let frame = self.wire.frame()?;
            match frame.kind {
                Kind::KeyResult => report.keys.push(frame.parse()?),
                Kind::UnitResult => report.units.push(frame.parse()?),
                Kind::Progress => {
                    let _units: Progress = frame.parse()?;
                }
                _ => {
                    report.generation = frame.parse::<Done>()?.generation;
                    return Ok(report);
                }
            }
        }
    }

    /// Says bytes as they are, past the wire and its transcript: for what no wire would say. One that the agent does not
    /// want to hear any more is an error of the kind `BrokenPipe`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.up.write_all(bytes)
    }

    /// Closes our side of the pipe; the agent can still be heard.
    pub fn hang_up(&mut self) {
        self.up.hang_up();
    }

    /// Kills the process that was started: an ssh, say, that is lost from one moment to the next.
    pub fn cut(mut self) {
        self.agent.kill().expect("our own child can be killed");
        let _killed = self.close();
    }

    /// Returns the number of the process that was started: the agent, or what leads to it.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.agent.id()
    }

    /// Returns the number of the agent itself, once it runs.
    #[must_use]
    pub fn agent(&self) -> u32 {
        wait_for("the agent's process", LIMIT, || {
            let mut below = vec![self.process()];
            while let Some(number) = below.pop() {
                if lab::runs(number, "keys-agent") {
                    return Some(number);
                }
                below.extend(lab::children(number));
            }
            None
        })
    }

    /// Kills the agent, wherever it is.
    pub fn kill(&self) {
        lab::kill(self.agent()).expect("our own agent can be killed");
    }

    /// Closes our end, waits for the agent, and returns its exit code and what it wrote to its standard error.
    #[must_use]
    pub fn close(self) -> (Option<i32>, String) {
        let Self {
            wire,
            mut agent,
            stderr,
            over,
            up,
        } = self;
        up.hang_up();
        drop(wire);
        let status = agent.wait().expect("our own child can be waited for");
        drop(over);
        let said = stderr.join().expect("reading does not panic");
        (status.code(), said)
    }
}

/// Kills a process at the limit, unless what is returned is dropped before.
fn watch(process: u32) -> Sender<()> {
    let (over, wait) = mpsc::channel();
    thread::spawn(move || {
        if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            // Through the children: the first is nsenter, which the signal would not pass through.
            for number in lab::children(process).into_iter().chain([process]) {
                let ended = lab::kill(number);
                assert!(
                    ended.is_ok(),
                    "a conversation took {LIMIT:?}, and its agent stays: {ended:?}"
                );
            }
        }
    });
    over
}
