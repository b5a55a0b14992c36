//! How an ssh process ended, and what that says about the host.

use keys_protocol::printable;

use crate::failure::{Exit, Failure};
use crate::manifest::Host;

/// How the relay on the host ends when the agent takes no more sessions: `EX_TEMPFAIL` of sysexits(3).
const BUSY: i32 = 75;

/// How an ssh process ended.
pub(crate) struct Ending {
    /// Its exit code; none where it was killed.
    code: Option<i32>,
    /// What it and the remote shell printed on stderr, or the end of that.
    printed: String,
}

impl Ending {
    pub(crate) fn new(code: Option<i32>, printed: &[u8]) -> Self {
        Self {
            code,
            printed: String::from_utf8_lossy(printed).into_owned(),
        }
    }

    /// Returns the exit code; none where it was killed.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

    /// Says why no agent answered: by exit code, and by the words that ssh(1) and shells have used for decades.
    /// `noise` is what came where the agent's first bytes were due.
    pub(crate) fn failure(&self, host: &Host, noise: &[u8]) -> Failure {
        if self.printed.contains("Host key verification failed") {
            return self.host_key_failure(host);
        }
        let said = self.last_line();
        match self.code {
            Some(126 | 127) => missing_agent(host, &said),
            Some(BUSY) => Failure::new(Exit::Refused, format!("busy: {said}")),
            Some(255) => {
                let said = said.strip_prefix("ssh: ").unwrap_or(&said);
                Failure::new(Exit::Unreachable, format!("ssh: {said}"))
            }
            Some(code) => {
                let text = format!("no agent answered (exit status {code}): {said}");
                let failure = Failure::new(Exit::Failed, text);
                match printable(String::from_utf8_lossy(noise).trim(), 200).as_str() {
                    "" => failure,
                    noise => failure.hint(format!("the host printed instead: {noise}")),
                }
            }
            None => Failure::new(Exit::Unreachable, format!("no answer in time: {said}")),
        }
    }

    fn host_key_failure(&self, host: &Host) -> Failure {
        let place = &host.destination;
        let found =
            if self.printed.contains("IDENTIFICATION HAS CHANGED") || host.host_key.is_some() {
                "its ssh host key is not the one that is pinned or known"
            } else {
                "its ssh host key is neither pinned nor known"
            };
        let port = place
            .port()
            .map(|port| format!("-p {port} "))
            .unwrap_or_default();
        Failure::new(Exit::HostKey, found).hint(format!(
            "compare the fingerprint with the host's own: ssh-keyscan {port}-t ed25519 {} | ssh-keygen -lf -\n\
             then pin it: [hosts.{}] host_key = \"ssh-ed25519 AAAA…\"",
            place.host(), host.name
        ))
    }

    /// Returns the last line that ssh or the remote shell printed, safe to show.
    pub(crate) fn last_line(&self) -> String {
        let line = self
            .printed
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty());
        printable(line.unwrap_or("it said nothing"), 300)
    }
}

fn missing_agent(host: &Host, said: &str) -> Failure {
    let place = &host.destination;
    let port = place.port().map(|port| format!("-p {port} "));
    let login = place.user().map(|user| format!("{user}@"));
    let target = [
        port.unwrap_or_default(),
        login.unwrap_or_default(),
        place.host().to_owned(),
    ];
    Failure::new(Exit::Failed, format!("no agent on the host: {said}")).hint(format!(
        "install it: {}",
        INSTALL.replace("HOST", &target.concat())
    ))
}

/// The one documented command, as `docs/install.md` has it for `root@HOST`. The sum is checked on the host because a
/// connection that breaks looks like a file that ends.
const INSTALL: &str = concat!(
    r#"ssh HOST "cd /usr/local/bin && cat > keys-agent.new && "#,
    r#"echo $(sha256sum < keys-agent | cut -c1-64) '' keys-agent.new | sha256sum -c --quiet && "#,
    r#"chmod 0755 keys-agent.new && mv keys-agent.new keys-agent && ./keys-agent install" < keys-agent"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_installs_the_agent_is_the_documented_one() {
        let page = include_str!("../../docs/install.md");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(page).contains(&words(&INSTALL.replace("HOST", "root@HOST"))));
    }
}
