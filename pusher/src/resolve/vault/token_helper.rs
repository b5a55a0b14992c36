//! The token that `vault login` keeps: in `~/.vault-token`, or wherever a token helper puts it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use keys_protocol::{Secret, printable};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::failure::Failure;
use crate::identity::read_private;

use super::login::LARGEST;
use super::site::Site;

/// How long a helper may take: it may ask a keyring, which may ask the user.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns what is kept, if anything is.
pub(super) async fn token(site: Site<'_>) -> Result<Option<Secret>, Failure> {
    if let Some(helper) = configured(site)? {
        return run(&helper, site).await.map_err(|f| f.at(helper.display()));
    }
    let file = site.settings.path("~/.vault-token");
    if file.symlink_metadata().is_err() {
        return Ok(None);
    }
    read_private(&file, LARGEST)
        .map(Some)
        .map_err(|f| f.at(file.display()))
}

/// Reads `token_helper` in `~/.vault`, or in what `VAULT_CONFIG_PATH` names.
fn configured(site: Site<'_>) -> Result<Option<PathBuf>, Failure> {
    let named = site.variable("CONFIG_PATH")?;
    let file = match &named {
        Some(path) => PathBuf::from(path),
        None => site.settings.path("~/.vault"),
    };
    if named.is_none() && !file.is_file() {
        return Ok(None);
    }
    let shown = file.display().to_string();
    let unread = |e: std::io::Error| Failure::source(format!("read {shown}: {e}"));
    let about = file.metadata().map_err(unread)?;
    let mine = about.uid() == nix::unistd::geteuid().as_raw() || about.uid() == 0;
    if !mine || about.mode() & 0o022 != 0 {
        return Err(
            Failure::source("others may write it, and it names a program")
                .at(&shown)
                .hint(format!("chmod go-w {shown}")),
        );
    }
    let text = std::fs::read_to_string(&file).map_err(unread)?;
    let helper = token_helper(&text).map_err(|f| f.at(&shown))?;
    Ok(helper.map(|helper| site.settings.path(helper)))
}

/// Reads the one setting that there is: `token_helper = "/usr/local/bin/helper"`.
fn token_helper(text: &str) -> Result<Option<PathBuf>, Failure> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !(line.is_empty() || line.starts_with('#') || line.starts_with("//")));
    let mut found = None;
    for line in lines {
        let value = line
            .split_once('=')
            .filter(|(name, _)| name.trim().trim_matches('"') == "token_helper")
            .and_then(|(_, value)| value.trim().strip_prefix('"')?.strip_suffix('"'));
        let path = value
            .filter(|path| !path.contains(['"', '\\']))
            .ok_or_else(|| {
                let shown = printable(line, 80);
                Failure::source(format!(
                    "a line that is no `token_helper = \"/PATH\"`: {shown}"
                ))
            })?;
        found = (!path.is_empty()).then(|| PathBuf::from(path));
    }
    match found {
        Some(path) if !path.is_absolute() && !path.starts_with("~") => {
            let shown = printable(&path.to_string_lossy(), 80);
            Err(Failure::source(format!(
                "the token helper is no absolute path: {shown}"
            )))
        }
        found => Ok(found),
    }
}

/// Runs `HELPER get`, which prints the token, or nothing.
async fn run(helper: &Path, site: Site<'_>) -> Result<Option<Secret>, Failure> {
    let _terminal = site.terminal.lock().await;
    let mut child = Command::new(helper)
        .arg("get")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failure::source(format!("start the token helper: {e}")))?;
    let finish = async {
        let mut token = Secret::with_capacity(1 << 10);
        let mut chunk = zeroize::Zeroizing::new([0; 1 << 10]);
        let mut pipe = child.stdout.take();
        while let Some(pipe) = &mut pipe {
            let read = pipe.read(&mut *chunk).await?;
            if read == 0 || token.len() as u64 > LARGEST {
                break;
            }
            token.push(&chunk[..read]);
        }
        drop(pipe);
        Ok::<_, std::io::Error>((token, child.wait().await?))
    };
    let (token, status) = tokio::time::timeout(PATIENCE, finish)
        .await
        .map_err(|_| Failure::source(format!("the token helper did not end in {PATIENCE:?}")))?
        .map_err(|e| Failure::source(format!("the token helper: {e}")))?;
    if !status.success() {
        return Err(Failure::source(format!("the token helper: {status}")));
    }
    Ok(Some(token).filter(|token| !token.expose().trim_ascii().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Option<&str>, &str>) {
        let found = token_helper(text).map_err(|failure| failure.to_string());
        let expected = expected.map(|path| path.map(PathBuf::from));
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_helper_is_read_from_the_configuration_of_the_vault_command() {
        check("", Ok(None));
        check("# nothing\n\n// here\n", Ok(None));
        check("token_helper = \"\"\n", Ok(None));
        check("token_helper = \"/opt/h\"\n", Ok(Some("/opt/h")));
        check("\"token_helper\"=\"~/bin/h\"", Ok(Some("~/bin/h")));
        check(
            "token_helper = \"h\"",
            Err("the token helper is no absolute path: h"),
        );
        check(
            "token_helper = \"/h\" x",
            Err("a line that is no `token_helper = \"/PATH\"`: token_helper = \"/h\" x"),
        );
        check(
            "other = \"/h\"",
            Err("a line that is no `token_helper = \"/PATH\"`: other = \"/h\""),
        );
    }
}
