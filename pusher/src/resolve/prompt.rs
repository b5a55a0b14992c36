//! What the user types.

use std::fmt;
use std::io;
use std::sync::Arc;

use keys_protocol::{Purpose, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::resolve::{Answers, Kind, Run, blocking};
use crate::source::{for_host, shown};
use crate::terminal;

/// What is asked. One question is asked once a run, whatever takes its answer.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct PromptSource(String);

impl TryFrom<String> for PromptSource {
    type Error = &'static str;

    fn try_from(question: String) -> Result<Self, Self::Error> {
        if question.trim().is_empty() {
            return Err("a question is wanted: what is to be typed?");
        }
        Ok(Self(question))
    }
}

impl Kind for PromptSource {
    fn for_host(&self, host: &str) -> Self {
        Self(for_host(&self.0, host))
    }

    fn origin(&self) -> Self {
        self.clone()
    }

    async fn ask(self, _: Vec<Self>, run: Arc<Run>) -> Answers {
        let _terminal = run.terminal.lock().await;
        let purpose = run.purpose;
        blocking(move || Ok(vec![self.typed(purpose).map_err(|f| f.at(&self))])).await
    }
}

impl PromptSource {
    /// Asks on the terminal, and a second time where the answer is going to be written: nothing else would tell a
    /// typing error before a service does.
    fn typed(&self, purpose: Purpose) -> Result<Secret, Failure> {
        let question = shown(&self.0);
        let first = read(&format!("{question}: "))?;
        if first.is_empty() {
            return Err(Failure::source("nothing was typed"));
        }
        if purpose == Purpose::Send && *read(&format!("{question} (again): "))? != *first {
            return Err(
                Failure::source("the two answers differ").hint("nothing was sent; run it again")
            );
        }
        Ok(Secret::copy_of(first.as_bytes()))
    }
}

fn read(question: &str) -> Result<Zeroizing<String>, Failure> {
    terminal::ask(question).map_err(|error| match error.kind() {
        // Ctrl-C, which rpassword has sent on as a signal, and Ctrl-D.
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => {
            Failure::source("nothing was typed")
        }
        _ => Failure::source("there is no terminal to ask on"),
    })
}

impl fmt::Display for PromptSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prompt «{}»", shown(&self.0))
    }
}
