//! The terminal that secrets are typed on.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rpassword::ConfigBuilder;
use zeroize::Zeroizing;

const TERMINAL: &str = "/dev/tty";

/// How the terminal was before a question that is not answered yet. One is asked at a time.
static AS_FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// Asks, and returns what is typed, which the terminal does not show.
pub(crate) fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let mut terminal = File::options().read(true).write(true).open(TERMINAL)?;
    let found = tcgetattr(&terminal)?;
    let mut quiet = found.clone();
    quiet.local_flags.remove(LocalFlags::ECHO);
    *AS_FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    let _restored = Restored;
    // Before the question, which rpassword would print first: whoever answers at once would be shown.
    tcsetattr(&terminal, SetArg::TCSANOW, &quiet)?;
    terminal.write_all(question.as_bytes())?;
    let config = ConfigBuilder::new().input_file_path(TERMINAL).build();
    rpassword::read_password_with_config(config).map(Zeroizing::new)
}

/// Makes the terminal what it was before a question that nobody will answer any more. A run that a signal ends leaves
/// the thread that asks, and with it what would do this.
pub(crate) fn restore() {
    let found = AS_FOUND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let (Some(found), Ok(terminal)) = (found, File::open(TERMINAL)) {
        // Where it is gone there is nobody to tell.
        let _gone = tcsetattr(&terminal, SetArg::TCSANOW, &found);
    }
}

/// Restores the terminal when it goes.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        restore();
    }
}
