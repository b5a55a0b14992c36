//! Passphrases: asked for on the terminal, when nothing else opens a file.

use std::io;
use std::sync::{Mutex, PoisonError};

use age::secrecy::SecretString;
use age::{DecryptError, Identity, scrypt};
use age_core::format::{FileKey, Stanza};

use crate::resolve::Terminal;
use crate::terminal;

/// How often a passphrase may be wrong.
const ATTEMPTS: usize = 3;

/// The largest work factor: what age itself takes, some 15 seconds and 4 GiB. It writes 18.
const LARGEST_FACTOR: u8 = 22;

/// Asks for the passphrase of `name` until `open` takes one: it returns nothing for a wrong one.
pub(super) fn ask<T>(
    terminal: &Terminal,
    name: &str,
    mut open: impl FnMut(&str) -> Result<Option<T>, &'static str>,
) -> Result<T, &'static str> {
    // Identities are asked by threads that may wait, never by a task.
    let _terminal = terminal.blocking_lock();
    for _ in 0..ATTEMPTS {
        let question = format!("Passphrase for {name} (nothing to go without it): ");
        let passphrase = terminal::ask(&question).map_err(|error| why_unanswered(&error))?;
        if passphrase.is_empty() {
            return Err("its passphrase was not given");
        }
        if let Some(opened) = open(&passphrase)? {
            return Ok(opened);
        }
    }
    Err("the passphrase was wrong")
}

fn why_unanswered(error: &io::Error) -> &'static str {
    match error.kind() {
        // Ctrl-C, which rpassword has sent on as a signal, and Ctrl-D.
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => "its passphrase was not given",
        _ => "it needs its passphrase, and there is no terminal",
    }
}

/// The identity that opens a file encrypted to a passphrase: it asks for that.
pub(crate) struct Passphrase<'a> {
    /// What the user calls the file.
    name: &'a str,
    terminal: &'a Terminal,
    why_not: Mutex<Option<String>>,
}

impl<'a> Passphrase<'a> {
    pub(crate) fn new(name: &'a str, terminal: &'a Terminal) -> Self {
        Self {
            name,
            terminal,
            why_not: Mutex::default(),
        }
    }

    /// Returns why the file was not opened.
    pub(crate) fn why_not(self) -> String {
        let why_not = self.why_not.into_inner();
        let why_not = why_not.unwrap_or_else(PoisonError::into_inner);
        why_not.unwrap_or_else(|| "encrypted to a passphrase and damaged".into())
    }

    fn open(&self, stanza: &Stanza) -> Result<FileKey, &'static str> {
        ask(self.terminal, self.name, |passphrase| {
            let mut identity = scrypt::Identity::new(SecretString::from(passphrase));
            identity.set_max_work_factor(LARGEST_FACTOR);
            match identity.unwrap_stanza(stanza) {
                Some(Ok(key)) => Ok(Some(key)),
                Some(Err(DecryptError::DecryptionFailed)) | None => Ok(None),
                Some(Err(_)) => Err("damaged: it cannot be decrypted"),
            }
        })
    }
}

impl Identity for Passphrase<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let opened = match work_factor(stanza)? {
            Ok(factor) if factor > LARGEST_FACTOR => Err(format!(
                "its work factor is {factor}, and the largest is {LARGEST_FACTOR}"
            )),
            Ok(_) => self.open(stanza).map_err(str::to_owned),
            Err(error) => return Some(Err(error)),
        };
        match opened {
            Ok(key) => Some(Ok(key)),
            Err(why) => {
                let mut why_not = self.why_not.lock().unwrap_or_else(PoisonError::into_inner);
                *why_not = Some(why);
                None
            }
        }
    }
}

/// Returns the work factor of a stanza for a passphrase, before anything is asked or computed.
fn work_factor(stanza: &Stanza) -> Option<Result<u8, DecryptError>> {
    let mut identity = scrypt::Identity::new(SecretString::default());
    identity.set_max_work_factor(0);
    match identity.unwrap_stanza(stanza)? {
        // Each factor is too much for this identity, but none at all, which is no factor.
        Err(DecryptError::ExcessiveWork { required: 0, .. }) | Ok(_) => {
            Some(Err(DecryptError::InvalidHeader))
        }
        Err(DecryptError::ExcessiveWork { required, .. }) => Some(Ok(required)),
        Err(error) => Some(Err(error)),
    }
}
