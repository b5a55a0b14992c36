//! age plugins: programs that hold identities, such as age-plugin-yubikey, and are run only where the manifest names them.

mod running;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use age::{DecryptError, Identity};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::bech32_decode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::program;
use crate::resolve::Terminal;
use crate::terminal;

use super::question;
use running::Running;

/// The name of a plugin, `yubikey`: no path, and nothing that a shell or a terminal would obey.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) struct PluginName(String);

impl TryFrom<String> for PluginName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-._".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
            return Err("a plugin is named as in `age-plugin-NAME`: `yubikey`");
        }
        Ok(Self(name))
    }
}

impl JsonSchema for PluginName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "plugin-name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9+._-]{1,64}$" })
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "age-plugin-{}", self.0)
    }
}

/// Returns which plugin the identity `AGE-PLUGIN-NAME-1…` is of, if it is one.
pub(super) fn plugin_of(identity: &str) -> Option<PluginName> {
    let (prefix, _) = identity.rsplit_once('1')?;
    let name = prefix.strip_prefix("AGE-PLUGIN-")?.strip_suffix('-')?;
    bech32_decode(identity, |_| (), |_| Ok(()), |_, _| Ok(())).ok()?;
    PluginName::try_from(name.to_ascii_lowercase()).ok()
}

/// An identity that a plugin holds.
pub(super) struct Plugin {
    name: PluginName,
    identity: Zeroizing<String>,
    terminal: Terminal,
    not_used: Mutex<Option<String>>,
}

impl Plugin {
    pub(super) fn new(name: PluginName, identity: &str, terminal: &Terminal) -> Self {
        Self {
            name,
            identity: Zeroizing::new(identity.to_owned()),
            terminal: terminal.clone(),
            not_used: Mutex::default(),
        }
    }

    /// Returns why the plugin did not open something that it was asked for.
    pub(super) fn not_used(&self) -> Option<String> {
        let why = self.not_used.lock().unwrap_or_else(PoisonError::into_inner);
        why.as_ref().map(|why| format!("{}: {why}", self.name))
    }

    /// Asks the plugin for the file key in one of `stanzas`. See <https://c2sp.org/age-plugin>, identity-v1.
    fn ask(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, Failure> {
        let program = program::find(&self.name.to_string())?;
        // Identities are asked by threads that may wait, never by a task.
        let _terminal = self.terminal.blocking_lock();
        let mut running = Running::start(&program)?;
        running.send("add-identity", &[self.identity.as_str()], &[])?;
        for stanza in stanzas {
            let words = [&["0", stanza.tag.as_str()][..], &strs(&stanza.args)].concat();
            running.send("recipient-stanza", &words, &stanza.body)?;
        }
        running.send("done", &[], &[])?;
        let mut key = None;
        loop {
            let asked = running.receive()?;
            match asked.tag.as_str() {
                "done" => {
                    running.finish();
                    return Ok(key);
                }
                "file-key" => {
                    key = Some(file_key(&asked)?);
                    running.send("ok", &[], &[])?;
                }
                "error" => return Err(Failure::source(question::shown(&asked.body))),
                _ => self.answer(&asked, &mut running)?,
            }
        }
    }

    /// Asks the user what the plugin wants to know.
    fn answer(&self, asked: &Stanza, running: &mut Running) -> Result<(), Failure> {
        let text = format!("{}: {}", self.name, question::shown(&asked.body));
        let answer = match asked.tag.as_str() {
            "msg" => question::tell(&text).map(|()| Zeroizing::default()),
            "request-public" => question::line(&format!("{text}: ")).map(Zeroizing::new),
            "request-secret" => terminal::ask(&format!("{text}: ")),
            "confirm" => return confirm(&text, asked, running),
            _ => return running.send("unsupported", &[], &[]),
        };
        match answer {
            Ok(answer) => running.send("ok", &[], answer.as_bytes()),
            Err(_) => running.send("fail", &[], &[]),
        }
    }
}

/// Lets the user choose: the first word means yes, the second, if there is one, no.
fn confirm(text: &str, asked: &Stanza, running: &mut Running) -> Result<(), Failure> {
    let word = |word: &String| BASE64_STANDARD_NO_PAD.decode(word);
    let words: Result<Vec<Vec<u8>>, _> = asked.args.iter().map(word).collect();
    let choices = match words.as_deref() {
        Ok([yes]) => format!("y: {}", question::shown(yes)),
        Ok([yes, no, ..]) => {
            let (yes, no) = (question::shown(yes), question::shown(no));
            format!("y: {yes}, n: {no}")
        }
        Ok([]) | Err(_) => return running.send("fail", &[], &[]),
    };
    match question::line(&format!("{text} ({choices}): ")).as_deref() {
        Ok("y") => running.send("ok", &["yes"], &[]),
        Ok("n") if asked.args.len() > 1 => running.send("ok", &["no"], &[]),
        _ => running.send("fail", &[], &[]),
    }
}

fn file_key(answer: &Stanza) -> Result<FileKey, Failure> {
    FileKey::try_init_with_mut(|key| {
        let body = answer.body.as_slice().try_into();
        *key = body.map_err(|_| Failure::source("it gave a file key of a wrong length"))?;
        Ok(())
    })
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

impl Identity for Plugin {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    /// All at once: a plugin is started once a file.
    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        match self.ask(stanzas) {
            Ok(key) => key.map(Ok),
            Err(failure) => {
                let mut why = self.not_used.lock().unwrap_or_else(PoisonError::into_inner);
                *why = Some(failure.to_string());
                None
            }
        }
    }
}
