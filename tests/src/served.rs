//! A booted host with the agent installed behind its socket, and services on it that count their starts.

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{Host, Release, lab};

/// Removes what a case may have left: its keys, its units and what they counted.
const CLEAN: &str = r#"
cd /etc/systemd/system
for unit in lab-*.service; do
    case $unit in lab-network.service | 'lab-*.service') ;; *) systemctl kill --signal=KILL $unit; rm -f $unit ;; esac
done
rm -rf /run/lab /run/systemd/system/lab-* /etc/systemd/system/keys-agent.*.d
sed -i 's/^.*command="[^"]*" //' /root/.ssh/authorized_keys
systemctl stop '*-key.service'
rm -f /etc/keys/host.json
systemctl daemon-reload
systemctl reset-failed
systemctl start dbus.socket
systemctl restart keys-agent.socket || {
    while umount /run/keys; do :; done
    rm -rf /run/keys
    systemctl restart keys-agent.socket
}
rm -rf /run/keys/* /run/keys/.[!.]*
"#;

impl Host {
    /// Boots a host of its own and installs the agent, with its units.
    #[must_use]
    pub fn with_agent(name: &str, release: Release) -> Self {
        let host = Self::boot(name, release);
        host.install_agent();
        host
    }

    /// Returns the host of this release that has the agent behind its socket and that cases of this run share; only for
    /// the caller until the guard is dropped, without keys, and without the services of the last caller.
    pub fn served(release: Release) -> MutexGuard<'static, Self> {
        static HOSTS: [OnceLock<Mutex<Host>>; 2] = [OnceLock::new(), OnceLock::new()];
        let place = &HOSTS[usize::from(release == Release::Trixie)];
        let host = place.get_or_init(|| Mutex::new(Self::with_agent("pigeon", release)));
        let host = host.lock().unwrap_or_else(PoisonError::into_inner);
        let _cleaned = host.run(CLEAN).succeeded();
        host
    }

    /// Puts the agent into its place and has it install its units.
    pub fn install_agent(&self) {
        self.place_agent();
        let _installed = self.run("keys-agent install").succeeded();
    }

    /// Puts the agent into its place, and nothing more.
    pub fn place_agent(&self) {
        self.inside()
            .install(&lab::binary("keys-agent"), "/usr/local/bin/keys-agent");
    }

    /// Writes and starts services called `lab-NAME.service`, which count how often they start. `lines` are what is to
    /// stand in `[Service]` beside that; without an `ExecStart=` there, they sleep.
    pub fn services(&self, services: &[(&str, &str)]) {
        let mut names = String::new();
        for (name, lines) in services {
            self.service(name, lines);
            names = format!("{names} lab-{name}.service");
        }
        let _started = self
            .run(&format!(
                "systemctl daemon-reload && systemctl start{names}"
            ))
            .succeeded();
    }

    /// Writes a service as [`Host::services`] do, which nobody has started and systemd has not read yet.
    pub fn service(&self, name: &str, lines: &str) {
        let run = if lines.contains("ExecStart=") {
            ""
        } else {
            "ExecStart=/bin/sleep infinity\n"
        };
        let count =
            format!("ExecStartPre=/bin/sh -c 'mkdir -p /run/lab; echo >>/run/lab/{name}.starts'");
        self.unit(
            &format!("lab-{name}.service"),
            &format!("[Service]\nKillMode=mixed\n{count}\n{run}{lines}\n"),
        );
    }

    /// Returns how often such a service was started.
    #[must_use]
    pub fn starts(&self, name: &str) -> usize {
        let path = format!("/run/lab/{name}.starts");
        let inside = self.inside();
        if inside.has(&path) {
            inside.read(&path).len()
        } else {
            0
        }
    }

    /// Kills the processes that serve connections to the socket, from here, as that is quick, and returns how many.
    #[must_use]
    pub fn kill_sessions(&self) -> usize {
        let first = self.inside().first();
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let here = namespace(first);
        let all = fs::read_dir("/proc").expect("the lab has a /proc");
        let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let serves = |process: &u32| {
            let words = fs::read(format!("/proc/{process}/cmdline"));
            words.is_ok_and(|words| words == b"keys-agent\0session\0")
                && namespace(*process) == here
        };
        let sessions: Vec<u32> = numbers.filter(serves).collect();
        for session in &sessions {
            lab::kill(*session).expect("what is on our own host can be killed");
        }
        sessions.len()
    }

    /// Returns a property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let ran = self.run(&format!("systemctl show --property {name} --value {unit}"));
        ran.succeeded().text().trim_end().to_owned()
    }
}
