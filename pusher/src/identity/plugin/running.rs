//! A plugin while it runs, and what is said to it and by it: stanzas as in the header of an age file.
//!
//! Not age-core's connection, which shows all that is said, file keys too, where `AGEDEBUG` is set, and waits for ever.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use age_core::format::{Stanza, read};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::program::OURS;

/// How long a plugin may take, with all that it asks the user.
const LIMIT: Duration = Duration::from_secs(300);

/// The longest stanza, and the most of them.
const LONGEST: u64 = 1 << 20;
const MOST: usize = 1000;

/// How many characters of base64 a full line has; a stanza ends with a line that is not full.
const COLUMNS: usize = 64;

/// A plugin that runs; it is killed when this goes away before it ended, or when it takes too long.
pub(super) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    received: usize,
    /// Ends the watch when it goes away.
    over: Option<Sender<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(program: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command
            .arg("--age-plugin=identity-v1")
            // Where nobody plants anything.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in OURS.iter().chain(&["AGEDEBUG"]) {
            command.env_remove(name);
        }
        let mut child = command
            .spawn()
            .map_err(|error| Failure::source(format!("start: {error}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::source("start: no pipes"));
        };
        let (over, watch) = watch(&child);
        Ok(Self {
            child,
            stdin: Some(stdin),
            stdout: BufReader::new(stdout),
            received: 0,
            over: Some(over),
            watch: Some(watch),
        })
    }

    /// Says something to the plugin.
    pub(super) fn send(&mut self, tag: &str, words: &[&str], body: &[u8]) -> Result<(), Failure> {
        let body = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(body));
        let mut text = Zeroizing::new(Vec::with_capacity(body.len() * 2 + (64 << 10)));
        for part in [&["->", tag][..], words].concat() {
            text.extend_from_slice(part.as_bytes());
            text.push(b' ');
        }
        text.pop();
        text.push(b'\n');
        // The last line is the one that is not full; it may be empty.
        for line in body.as_bytes().chunks(COLUMNS) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        if body.len().is_multiple_of(COLUMNS) {
            text.push(b'\n');
        }
        let sent = self.stdin.as_mut().map(|stdin| stdin.write_all(&text));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Failure::source("it ended too early")),
        }
    }

    /// Lets the plugin come to its end: it may have a device to leave in order.
    pub(super) fn finish(mut self) {
        drop(self.stdin.take());
        // What it still says is of no interest, and the watch is still there.
        let _ended = io::copy(&mut self.stdout.by_ref().take(LONGEST), &mut io::sink());
    }

    /// Hears what the plugin says next.
    pub(super) fn receive(&mut self) -> Result<Stanza, Failure> {
        let mut text = Zeroizing::new(Vec::with_capacity(4 << 10));
        self.received += 1;
        if self.received > MOST {
            return Err(Failure::source("it talks without end"));
        }
        loop {
            let start = text.len();
            let room = LONGEST - start as u64;
            let read = self.stdout.by_ref().take(room).read_until(b'\n', &mut text);
            read.map_err(|_| Failure::source("it cannot be heard"))?;
            if text.last() != Some(&b'\n') {
                return Err(Failure::source("it ended too early"));
            }
            if start > 0 && text.len() - start <= COLUMNS {
                break;
            }
        }
        match read::age_stanza(&text) {
            Ok(([], stanza)) => Ok(stanza.into()),
            _ => Err(Failure::source("it does not speak as a plugin does")),
        }
    }
}

/// Kills the plugin where it takes too long; ends when the sender goes away.
fn watch(child: &Child) -> (Sender<()>, JoinHandle<()>) {
    let (over, wait) = mpsc::channel();
    let id = i32::try_from(child.id()).map(Pid::from_raw);
    let watch = thread::spawn(move || {
        if let (Err(RecvTimeoutError::Timeout), Ok(id)) = (wait.recv_timeout(LIMIT), id) {
            // It may have ended just now; there is nobody to tell.
            let _gone = kill(id, Signal::SIGKILL);
        }
    });
    (over, watch)
}

impl Drop for Running {
    fn drop(&mut self) {
        // The watch first: after the wait below the number may be another's.
        drop(self.over.take());
        let _ended = self.watch.take().map(JoinHandle::join);
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
