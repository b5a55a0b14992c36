//! Identities that a program prints, which a variable names as SOPS has it: `SOPS_AGE_KEY_CMD` and its like.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use age::Identity;
use keys_protocol::Secret;
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::resolve::Settings;
use crate::resolve::command::CommandSource;

use super::Means;
use super::found::{Found, Opening};
use super::keyfile;

/// What tells the program which recipient's identity is wanted.
const RECIPIENT: &str = "SOPS_AGE_RECIPIENT";

/// The longest recipient that is told: a post-quantum one has 2,000 characters.
const LONGEST_RECIPIENT: usize = 8 << 10;

/// How long the program may take: it may ask the user something.
const LIMIT: Duration = Duration::from_secs(300);

/// Such a program. It is run when nothing else opens a file, once for each recipient, as SOPS runs it.
pub(super) struct Printed {
    variable: &'static str,
    words: Vec<String>,
    folder: String,
    means: Means,
    first: OnceLock<Box<Answer>>,
}

/// What the program printed for one recipient; a list, because it only ever grows while others look at it.
struct Answer {
    recipient: Option<String>,
    opening: Opening,
    next: OnceLock<Box<Answer>>,
}

impl Printed {
    /// Takes the text of a variable, words and quotes as a shell has them.
    pub(super) fn new(
        variable: &'static str,
        text: OsString,
        means: &Means,
    ) -> Result<Self, Failure> {
        let text = text.into_string().ok();
        let words = text
            .and_then(|text| shlex::split(&text))
            .unwrap_or_default();
        let folder = std::env::current_dir().map(|folder| folder.into_os_string().into_string());
        let (false, Ok(Ok(folder))) = (words.is_empty(), folder) else {
            return Err(Failure::source("this is no command"));
        };
        Ok(Self {
            variable,
            words,
            folder,
            means: means.clone(),
            first: OnceLock::new(),
        })
    }

    /// Returns what the program prints for `recipient`, or without one, for a file that does not name its recipients.
    pub(super) fn identities(
        &self,
        recipient: Option<&str>,
    ) -> impl Iterator<Item = &dyn Identity> {
        let found = self.answer(recipient).opening.get(|| self.run(recipient));
        found.open().chain(found.locked(None))
    }

    /// Returns what was not used, and why, of what was printed so far.
    pub(super) fn not_used(&self) -> Vec<String> {
        let mut not_used = Vec::new();
        let mut place = &self.first;
        while let Some(answer) = place.get() {
            not_used.extend(answer.opening.not_used());
            place = &answer.next;
        }
        not_used.dedup();
        let named = not_used
            .into_iter()
            .map(|why| format!("{}: {why}", self.variable));
        named.collect()
    }

    fn answer(&self, recipient: Option<&str>) -> &Answer {
        let mut place = &self.first;
        loop {
            let answer = place.get_or_init(|| Box::new(Answer::none(recipient)));
            if answer.recipient.as_deref() == recipient {
                return answer;
            }
            place = &answer.next;
        }
    }

    fn run(&self, recipient: Option<&str>) -> Result<Found, Failure> {
        let text = self.output(recipient)?;
        keyfile::parse(self.variable, text, &self.means)
    }

    fn output(&self, recipient: Option<&str>) -> Result<Secret, Failure> {
        let tellable = |text: &str| {
            text.len() <= LONGEST_RECIPIENT
                && !text.contains(|c: char| !c.is_ascii() || c.is_ascii_control())
        };
        let told = match recipient {
            Some(recipient) if !tellable(recipient) => {
                return Err(Failure::source("the file names a recipient that is none"));
            }
            Some(recipient) => Some((RECIPIENT.to_owned(), recipient.to_owned())),
            None => None,
        };
        let command = CommandSource::of_user(&self.words, &self.folder, told, LIMIT);
        // Identities are asked by threads that may wait, never by a task.
        let _terminal = self.means.terminal.blocking_lock();
        let runtime = Handle::try_current().map_err(|_| Failure::source("there is no runtime"))?;
        runtime.block_on(command.run(&Settings::default()))
    }
}

impl Answer {
    fn none(recipient: Option<&str>) -> Self {
        Self {
            recipient: recipient.map(str::to_owned),
            opening: Opening::default(),
            next: OnceLock::new(),
        }
    }
}
