//! Stands between ssh and sshd, and cuts, flips or freezes what goes by: `mangle --cut 5000 -- sshd -i`.
//!
//! Counted are the bytes of one direction: up, from ssh to sshd, or with `--down` the other.

#![expect(
    clippy::expect_used,
    reason = "it is part of a test, and fails where the test sees it"
)]

use std::env;
use std::io::{Read, Write};
use std::process::{Command, Stdio, exit};
use std::thread;

/// What happens, and after how many bytes.
#[derive(Clone, Copy)]
enum Harm {
    /// Nothing.
    None,
    /// Both directions end.
    Cut(u64),
    /// The lowest bit of that byte is turned over.
    Flip(u64),
    /// That direction stops, and nothing ends.
    Freeze(u64),
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let end = words
        .iter()
        .position(|word| word == "--")
        .expect("-- before the command");
    let (ours, command) = (&words[..end], &words[end + 1..]);
    let harm = harm(ours);
    let down = ours.iter().any(|word| word == "--down");
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let (up_harm, down_harm) = if down {
        (Harm::None, harm)
    } else {
        (harm, Harm::None)
    };
    thread::spawn(move || relay(std::io::stdin(), stdin, up_harm));
    relay(stdout, std::io::stdout(), down_harm);
    let status = child.wait().expect("our own child can be waited for");
    exit(status.code().unwrap_or(1));
}

fn harm(words: &[String]) -> Harm {
    let number = |at: usize| words[at + 1].parse().expect("a number of bytes");
    let found = words
        .iter()
        .enumerate()
        .find_map(|(at, word)| match word.as_str() {
            "--cut" => Some(Harm::Cut(number(at))),
            "--flip" => Some(Harm::Flip(number(at))),
            "--freeze" => Some(Harm::Freeze(number(at))),
            _ => None,
        });
    found.unwrap_or(Harm::None)
}

/// Copies one direction until it ends, and does harm to it.
fn relay(mut from: impl Read, mut to: impl Write, harm: Harm) {
    let mut buffer = [0; 16 << 10];
    let mut seen = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..read];
        let sent = match harm {
            Harm::Cut(at) if at < seen + read as u64 => {
                // What came before the cut still arrives.
                let _gone = to
                    .write_all(&bytes[..place(at, seen)])
                    .and_then(|()| to.flush());
                exit(1);
            }
            Harm::Freeze(at) if at < seen + read as u64 => {
                let _gone = to
                    .write_all(&bytes[..place(at, seen)])
                    .and_then(|()| to.flush());
                loop {
                    thread::park();
                }
            }
            Harm::Flip(at) if (seen..seen + read as u64).contains(&at) => {
                bytes[place(at, seen)] ^= 1;
                to.write_all(bytes)
            }
            _ => to.write_all(bytes),
        };
        if sent.and_then(|()| to.flush()).is_err() {
            return;
        }
        seen += read as u64;
    }
}

/// Returns where in a buffer that begins at `seen` the byte `at` is.
fn place(at: u64, seen: u64) -> usize {
    usize::try_from(at - seen).expect("it is in the buffer")
}
