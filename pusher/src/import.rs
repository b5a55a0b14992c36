//! `keys import`: the manifest that says what the declarations for another tool say, and what it could not carry over.

use std::path::Path;

use keys_protocol::printable;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{Globals, ImportArgs};
use crate::failure::{Exit, Failure};
use crate::manifest::{self, Manifest};
use crate::output::Output;

/// The longest note that is shown, in bytes.
const LONGEST_NOTE: usize = 1 << 10;

/// What was declared.
#[derive(Deserialize)]
struct Found {
    manifest: Value,
    notes: Vec<String>,
}

/// Prints the manifest to stdout, and talks about what is not in it.
pub(crate) async fn import(globals: &Globals, args: &ImportArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let text = manifest::foreign(&args.place, args.tool.name()).await?;
    let found: Found = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("what Nix printed: {error}")))?;
    let toml = toml::to_string_pretty(&found.manifest)
        .map_err(|error| Failure::usage(format!("the manifest: {error}")))?;
    let printed = if out.is_json() {
        out.json(&found.manifest)
    } else {
        toml.lines()
            .try_for_each(|line| out.line(format_args!("{line}")))
    };
    printed
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    for note in &found.notes {
        out.remark(format_args!("{}", printable(note, LONGEST_NOTE)));
    }
    // What a manifest does not allow is said after it was printed: there it can be put right.
    Manifest::parse(&toml, Path::new("keys.toml")).map(|_| Exit::Success)
}
