//! Questions on the terminal, whatever stdin and stdout are.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};

use keys_protocol::printable;

const TERMINAL: &str = "/dev/tty";

/// The longest answer, in bytes, and the longest text that is shown.
const LONGEST: usize = 4096;

/// Asks for something that anyone may see.
pub(super) fn line(question: &str) -> io::Result<String> {
    write(format_args!("{question}"))?;
    let mut answer = String::new();
    let terminal = BufReader::new(File::open(TERMINAL)?);
    terminal.take(LONGEST as u64).read_line(&mut answer)?;
    let answer = answer.strip_suffix('\n');
    Ok(answer.ok_or(io::ErrorKind::UnexpectedEof)?.to_owned())
}

/// Tells something, on a line of its own.
pub(super) fn tell(text: &str) -> io::Result<()> {
    write(format_args!("{text}\n"))
}

fn write(text: std::fmt::Arguments<'_>) -> io::Result<()> {
    File::options().write(true).open(TERMINAL)?.write_fmt(text)
}

/// Returns what somebody else wants to be shown, without what a terminal would obey.
pub(super) fn shown(text: &[u8]) -> String {
    let lines = String::from_utf8_lossy(text);
    let lines: Vec<String> = lines.lines().map(|line| printable(line, LONGEST)).collect();
    lines.join(" ")
}
