//! The host keys that the user's `known_hosts` files hold for a host, as OpenSSH itself finds them.

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::failure::{Exit, Failure};
use crate::host_key::HostKey;
use crate::manifest::{Host, SshSettings};
use crate::program;

/// How long ssh and ssh-keygen may take: they read files, and what `Match exec` in the user's configuration runs.
const LIMIT: Duration = Duration::from_secs(15);

/// Returns the keys of `host` that the user's files know and do not revoke. Nobody is asked over the network.
pub(crate) async fn keys(host: &Host, settings: &SshSettings) -> Result<Vec<HostKey>, Failure> {
    let place = Place::of(host, settings).await?;
    let (mut known, mut revoked) = (Vec::new(), Vec::new());
    for file in &place.files {
        for line in lines(&place.name, file).await? {
            let mut words = line.splitn(2, ' ');
            match (words.next(), words.next()) {
                (Some("@revoked"), Some(rest)) => revoked.extend(key(rest)),
                (Some(marker), _) if marker.starts_with('@') => {}
                (Some(_), Some(_)) => known.extend(key(&line)),
                _ => {}
            }
        }
    }
    known.retain(|key| !revoked.contains(key));
    known.sort();
    known.dedup();
    Ok(known)
}

/// Reads `NAMES TYPE KEY`. A type that no manifest may pin is of no use here.
fn key(line: &str) -> Option<HostKey> {
    line.split_once(' ')?.1.parse().ok()
}

/// Under which name a host is known, and where.
struct Place {
    name: String,
    files: Vec<String>,
}

impl Place {
    /// Asks ssh what the user's configuration makes of this host.
    async fn of(host: &Host, settings: &SshSettings) -> Result<Self, Failure> {
        let mut words: Vec<&OsStr> = vec!["-G".as_ref()];
        if let Some(config) = &settings.config {
            words.extend(["-F".as_ref(), config.as_os_str()]);
        }
        let port = host.destination.port().map(|port| port.to_string());
        if let Some(port) = &port {
            words.extend(["-p".as_ref(), OsStr::new(port)]);
        }
        if let Some(user) = host.destination.user() {
            words.extend(["-l".as_ref(), OsStr::new(user)]);
        }
        words.extend(["--".as_ref(), OsStr::new(host.destination.host())]);
        let ran = run("ssh", &words).await?;
        if !ran.status.success() {
            return Err(failed("ssh -G: it cannot read its configuration"));
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines
                .find(|(option, _)| *option == name)
                .map(|(_, value)| value)
        };
        let name = match (value("hostkeyalias"), value("hostname"), value("port")) {
            (Some(alias), ..) if alias != "none" => alias.to_owned(),
            (_, Some(host), None | Some("22")) => host.to_owned(),
            (_, Some(host), Some(port)) => format!("[{host}]:{port}"),
            _ => return Err(failed("ssh -G: it names no host")),
        };
        let files = ["userknownhostsfile", "globalknownhostsfile"];
        let files = files
            .into_iter()
            .filter_map(value)
            .flat_map(str::split_whitespace);
        Ok(Self {
            name,
            files: files.map(str::to_owned).collect(),
        })
    }
}

/// Returns the lines of `file` for `name`, which may be hashed there.
async fn lines(name: &str, file: &str) -> Result<Vec<String>, Failure> {
    if !std::path::Path::new(file).is_file() {
        return Ok(Vec::new());
    }
    let words = ["-F", name, "-f", file].map(OsStr::new);
    let ran = run("ssh-keygen", &words).await?;
    if !matches!(ran.status.code(), Some(0 | 1)) {
        return Err(failed(&format!("ssh-keygen -F: it cannot read {file}")));
    }
    let text = String::from_utf8_lossy(&ran.stdout);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

async fn run(name: &str, words: &[&OsStr]) -> Result<Output, Failure> {
    let mut command =
        Command::new(program::find(name).map_err(|failure| failed(&failure.to_string()))?);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(failed(&format!("{name}: {error}"))),
        Err(_) => Err(failed(&format!("{name}: no end after {LIMIT:?}"))),
    }
}

fn failed(text: &str) -> Failure {
    Failure::new(Exit::Failed, text)
}
