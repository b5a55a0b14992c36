//! A manifest that Nix makes: of the machines of a flake, or of a `.nix` file.

mod kept;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use keys_protocol::printable;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use self::kept::Kept;
use super::find;
use crate::environment;
use crate::failure::Failure;
use crate::output::Doing;

/// What makes one manifest of machines, for `--apply`.
const NETWORK: &str = include_str!("../../../nixos-modules/network.nix");
/// What makes a manifest of the declarations for another tool, after its name.
const FOREIGN: &str = include_str!("../../../nixos-modules/import.nix");
/// The attribute of a flake that machines are in where none is named.
const MACHINES: &str = "nixosConfigurations";
/// How long an evaluation may take: a large network on a slow machine takes minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The largest manifest, in bytes: with what is kept beside it, it is still one that can be read.
const LARGEST: usize = 3 << 20;
/// How much of what Nix says is shown, in lines and in bytes of each.
const LAST_LINES: usize = 12;
const LONGEST_LINE: usize = 400;

/// Evaluates a flake, `FOLDER` or `FOLDER#ATTRIBUTE`, unless nothing in it has changed since. Returns the file that it
/// is, and the manifest as text.
pub(super) async fn flake(reference: &str) -> Result<(PathBuf, String), Failure> {
    let (folder, machines) = reference.split_once('#').unwrap_or((reference, MACHINES));
    let folder = if folder.is_empty() { "." } else { folder };
    // A flake is a program, as a manifest is.
    let (file, _) = find::read(&Path::new(folder).join("flake.nix"))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let kept = Kept::of(&file, machines)?;
    let state = state(folder, machines).await?;
    if let Some(state) = &state
        && let Some(text) = kept.read(state)?
    {
        return Ok((file, text));
    }
    let installable = format!(".#{machines}");
    let text = nix(
        folder,
        &["eval", "--json", &installable, "--apply", NETWORK],
    )
    .await?;
    if let Some(state) = &state {
        kept.write(state, &text)?;
    }
    Ok((file, text))
}

/// Evaluates a file whose value is a set of machines. Anything may have changed since the last time.
pub(super) async fn file(path: &Path) -> Result<(PathBuf, String), Failure> {
    of_file(path, NETWORK).await
}

/// Applies what reads the declarations for another tool to the machines of a flake or of a file.
pub(super) async fn foreign(place: &str, tool: &str) -> Result<String, Failure> {
    let function = format!("({FOREIGN}) \"{tool}\"");
    if Path::new(place).extension().is_some_and(|end| end == "nix") {
        return of_file(Path::new(place), &function)
            .await
            .map(|(_, text)| text);
    }
    let (folder, machines) = place.split_once('#').unwrap_or((place, MACHINES));
    let (file, _) = find::read(&Path::new(folder).join("flake.nix"))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let installable = format!(".#{machines}");
    nix(
        folder,
        &["eval", "--json", &installable, "--apply", &function],
    )
    .await
}

/// Applies a function to the value of a file.
async fn of_file(path: &Path, function: &str) -> Result<(PathBuf, String), Failure> {
    let (file, _) = find::read(path)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let name = file.to_str().ok_or_else(|| {
        Failure::usage(format!(
            "{}: its path is not UTF-8",
            printable(&file.to_string_lossy(), LONGEST_LINE)
        ))
    })?;
    let text = nix(
        folder,
        &[
            "eval", "--json", "--impure", "--file", name, "--apply", function,
        ],
    )
    .await?;
    Ok((file, text))
}

/// Returns what the manifest of a flake follows from: its source, its inputs, which part of it, and what we make of that.
/// Nothing where this Nix does not say so much.
async fn state(folder: &Path, machines: &str) -> Result<Option<String>, Failure> {
    let metadata = nix(folder, &["flake", "metadata", "--json", "."]).await?;
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| Failure::usage(format!("nix flake metadata: {error}")))?;
    // The path in the store is named by a hash of all that the flake's folder holds.
    let source = metadata["path"].as_str();
    Ok(source.map(|source| format!("{source} {} {machines}\n{NETWORK}", metadata["locks"])))
}

/// Runs Nix in `folder`, and returns what it printed.
async fn nix(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let _doing = Doing::now("evaluating");
    let mut command = Command::new("nix");
    command
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in environment::ours() {
        command.env_remove(name);
    }
    let failed = |text: String| Failure::usage(format!("{}: {text}", folder.display()));
    let output = timeout(LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("nix: not at an end after {LIMIT:?}")))?
        .map_err(|error| {
            failed(format!("start nix: {error}"))
                .hint("a flake or a .nix file takes Nix 2.4 or newer in PATH")
        })?;
    if !output.status.success() {
        return Err(
            failed(format!("nix {}: {}", arguments[0], output.status)).hint(said(&output.stderr))
        );
    }
    if output.stdout.len() > LARGEST {
        return Err(failed("the manifest would be larger than 3 MiB".into()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("nix printed what is not UTF-8".into()))
}

/// The end of what Nix said, which is the error itself: what led to it comes before.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let error = lines.iter().rposition(|line| line.starts_with("error:"));
    let first = error.unwrap_or(lines.len().saturating_sub(LAST_LINES));
    let shown = lines[first..].iter().take(LAST_LINES);
    let shown: Vec<String> = shown.map(|line| printable(line, LONGEST_LINE)).collect();
    format!("it said: {}", shown.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_nix_says_the_error_itself_is_shown() {
        let long = b"warning: x\nerror:\n   \xe2\x80\xa6 while calling\n\n   error: pigeon: a\x1b[1m: no\n   at /x:1:2\n";
        assert_eq!(
            said(long),
            r"it said: error: pigeon: a\x1b[1m: no | at /x:1:2"
        );
        assert_eq!(said(b"killed\n"), "it said: killed");
    }
}
