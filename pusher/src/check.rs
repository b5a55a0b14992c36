//! `keys check sops`: whether the files that the manifest uses can be read by whom `.sops.yaml` names, and nobody else.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use keys_protocol::printable;
use keys_sops::{Comparison, Config, Recipient, limits};
use serde_json::{Value, json};

use crate::cli::{CheckSopsArgs, Globals};
use crate::failure::{Exit, Failure};
use crate::manifest::Manifest;
use crate::output::Output;
use crate::resolve::file;
use crate::resolve::sops::SopsSource;
use crate::source::Source;

/// How far up sops looks for its configuration.
const FOLDERS: usize = 100;

/// Compares every file; nothing is decrypted, and nobody is asked.
pub(crate) async fn sops(globals: &Globals, args: &CheckSopsArgs) -> Result<Exit, Failure> {
    let mut out = Output::new(globals.form());
    let manifest = Manifest::of(globals.manifest()?).await?;
    let selected = args.selection.apply(&manifest)?;
    let keys = selected.iter().flat_map(|one| &one.keys);
    let origins: BTreeSet<Source> = keys.map(|key| key.source.origin()).collect();
    let checked: Vec<Checked> = origins
        .iter()
        .filter_map(|origin| match origin {
            Source::Sops(source) => Some(Checked::of(source, &manifest)),
            _ => None,
        })
        .collect();
    let exit = if checked.iter().all(Checked::agrees) {
        Exit::Success
    } else {
        Exit::Failed
    };
    print(&checked, exit, &mut out)
        .and_then(|()| out.finish())
        .map_err(Failure::output)?;
    Ok(exit)
}

/// A file, and what was found out about it.
struct Checked {
    file: String,
    found: Result<Found, Failure>,
}

struct Found {
    config: PathBuf,
    comparison: Comparison,
}

impl Checked {
    fn of(source: &SopsSource, manifest: &Manifest) -> Self {
        Self {
            file: source.file().to_owned(),
            found: Found::of(source, manifest),
        }
    }

    fn agrees(&self) -> bool {
        matches!(&self.found, Ok(found) if found.comparison.agrees())
    }
}

impl Found {
    fn of(source: &SopsSource, manifest: &Manifest) -> Result<Self, Failure> {
        let document = source.read(&manifest.sources)?;
        let file = lexical(&manifest.sources.path(source.file()));
        let config = locate(&file)?;
        let folder = config.parent().unwrap_or(Path::new("/"));
        let seen = file.strip_prefix(folder).unwrap_or(&file);
        let place = |error: keys_sops::Error| {
            Failure::source(error.to_string()).hint(format!("it is {}", config.display()))
        };
        let rule = config_of(&config)?
            .rule_for(&seen.to_string_lossy())
            .map_err(place)?;
        Ok(Self {
            comparison: document.metadata().compare(&rule),
            config,
        })
    }
}

fn config_of(path: &Path) -> Result<Config, Failure> {
    let at = |failure: Failure| failure.at(path.display());
    let opened = file::open(path).map_err(at)?;
    let text = file::read(&opened, limits::CONFIG_BYTES as u64).map_err(at)?;
    Config::parse(text.expose()).map_err(|error| at(Failure::source(error.to_string())))
}

/// Finds `.sops.yaml` as sops does when it is run in the folder of the file: there, or in one above.
fn locate(file: &Path) -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("SOPS_CONFIG").filter(|name| !name.is_empty()) {
        return std::path::absolute(PathBuf::from(named))
            .map(|path| lexical(&path))
            .map_err(|error| Failure::source(format!("SOPS_CONFIG: {error}")));
    }
    for folder in file.ancestors().skip(1).take(FOLDERS) {
        let config = folder.join(".sops.yaml");
        match config.metadata() {
            Ok(_) => return Ok(config),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::source(format!("{}: {error}", config.display())));
            }
        }
    }
    Err(Failure::source("there is no .sops.yaml beside it or above"))
}

/// Takes `.` and `..` out of an absolute path by its text, as sops does before it matches a path.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

fn print(checked: &[Checked], exit: Exit, out: &mut Output) -> io::Result<()> {
    if out.is_json() {
        let files: Vec<Value> = checked.iter().map(as_json).collect();
        out.json(&json!({ "exit": exit as u8, "files": files }))?;
    }
    for one in checked {
        let file = printable(&one.file, usize::MAX);
        match &one.found {
            Err(failure) => out.failure(&failure.clone().at(&file)),
            Ok(found) => {
                for line in lines(&found.comparison) {
                    out.line(format_args!("{file}: {line}"))?;
                }
            }
        }
    }
    // What to do comes last: data and talk are two streams.
    for one in checked.iter().filter(|one| !one.agrees()) {
        if let Ok(found) = &one.found {
            let file = printable(&one.file, usize::MAX);
            out.remark(format_args!("hint: {}", advice(&file, &found.comparison)));
        }
    }
    Ok(())
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let line = |(group, recipient): &(usize, Recipient), what: &str| match group {
        1 => format!("{recipient} {what}"),
        group => format!("{recipient} {what} (group {group})"),
    };
    let surplus = comparison.surplus.iter();
    let missing = comparison.missing.iter();
    let threshold = comparison.threshold.iter();
    surplus
        .map(|one| line(one, "can read it, and should not"))
        .chain(missing.map(|one| line(one, "cannot read it, and should")))
        .chain(threshold.map(|(have, want)| {
            format!("{have} key groups are needed to read it, where {want} should be")
        }))
        .collect()
}

/// `sops updatekeys` changes recipients, and leaves a threshold as it is where there are groups enough.
fn advice(file: &str, comparison: &Comparison) -> String {
    if comparison.update {
        format!("`sops updatekeys {file}` is needed")
    } else {
        format!("sops changes the threshold of {file} only where it encrypts it anew")
    }
}

fn as_json(one: &Checked) -> Value {
    let file = &one.file;
    match &one.found {
        Err(failure) => {
            json!({ "file": file, "agrees": false, "error": failure.to_string(), "hint": failure.advice() })
        }
        Ok(found) => {
            let names = |list: &[(usize, Recipient)]| -> Vec<Value> {
                list.iter()
                    .map(|(group, one)| json!({ "group": group, "recipient": one.to_string() }))
                    .collect()
            };
            let Comparison {
                surplus,
                missing,
                threshold,
                update,
            } = &found.comparison;
            json!({
                "file": file, "agrees": one.agrees(), "config": found.config, "surplus": names(surplus),
                "missing": names(missing), "threshold": threshold.map(|(have, want)| json!({ "have": have, "want": want })), "update": update,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_plain_by_its_text() {
        for (path, plain) in [
            ("/a/./b/../c.yaml", "/a/c.yaml"),
            ("/../a", "/a"),
            ("/a//b/", "/a/b"),
        ] {
            assert_eq!(lexical(Path::new(path)), Path::new(plain), "{path}");
        }
    }
}
