//! A booted host: systemd, sshd on the lab's bridge, reboots and power cuts.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::{Inside, Ran, Release, Tree, lab, wait_for, within};

/// How long a boot may take. It takes one or two seconds.
const BOOT: Duration = Duration::from_secs(30);

/// Starts nspawn in a control group of its own, and again when it ends with 133: a reboot from inside.
const MACHINE: &str = r#"
for group in $KEYS_CGROUPS; do
    mkdir -p $group/$1 && echo $$ >$group/$1/cgroup.procs
done
while :; do
    # The link of a boot that has just ended may still be there.
    ip link delete vb-$1 2>/dev/null
    systemd-nspawn --quiet --directory="$2" --boot --register=no --keep-unit --network-bridge=br0 \
        --link-journal=no --machine=$1 --hostname=$3 --console=pipe
    status=$?
    [ $status = 133 ] || exit $status
done
"#;

/// Gives the host its address without waiting for anyone.
const NETWORK: &str = "\
[Unit]
Description=Address in the lab
DefaultDependencies=no
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip address add ADDRESS/16 dev host0
ExecStart=/bin/ip link set host0 up
[Install]
WantedBy=network.target sysinit.target
";

/// A booted host. Ended, with its disk, when dropped.
pub struct Host {
    name: String,
    address: String,
    /// What nspawn and the host's link are called.
    machine: String,
    tree: Tree,
    /// The shell that runs nspawn; none while the power is off.
    power: Option<Child>,
}

impl Host {
    /// Boots a host: a disk of its own, and root let in by the lab's key. No agent is on it.
    #[must_use]
    pub fn boot(name: &str, release: Release) -> Self {
        let mut host = Self::off(name, release);
        host.power_on();
        host
    }

    /// Makes a host that is switched off, to be changed before its first boot.
    #[must_use]
    pub fn off(name: &str, release: Release) -> Self {
        let number = lab::number();
        let host = Self {
            name: name.to_owned(),
            address: format!("10.99.{}.{}", number >> 8, number & 0xff),
            machine: format!("h{number}"),
            tree: Tree::new(name, release),
            power: None,
        };
        let network = NETWORK.replace("ADDRESS", &host.address);
        host.unit("lab-network.service", &network);
        host.enable("lab-network.service", "network.target");
        host.enable("lab-network.service", "sysinit.target");
        for needless in [
            "systemd-networkd-wait-online.service",
            "systemd-firstboot.service",
            "console-getty.service",
        ] {
            host.mask(needless);
        }
        host
    }

    /// Returns the host of this release that cases of this run share, with an empty /run/keys and only for the caller
    /// until the guard is dropped. Take it where a case changes nothing else that others would meet.
    pub fn shared(release: Release) -> MutexGuard<'static, Self> {
        static HOSTS: [OnceLock<Mutex<Host>>; 2] = [OnceLock::new(), OnceLock::new()];
        let place = &HOSTS[usize::from(release == Release::Trixie)];
        let host = place.get_or_init(|| Mutex::new(Self::boot("pigeon", release)));
        // A case that failed leaves the host as usable as one that did not.
        let host = host.lock().unwrap_or_else(PoisonError::into_inner);
        let _emptied = host.run("rm -rf /run/keys/* /run/keys/.[!.]*").succeeded();
        host
    }

    /// Switches it on and waits until its sshd answers.
    ///
    /// # Panics
    /// When it is on.
    pub fn power_on(&mut self) {
        assert!(self.power.is_none(), "{} is on already", self.name);
        let console =
            fs::File::create(self.tree.beside("console")).expect("the lab's folder can be written");
        let errors = console.try_clone().expect("a descriptor is left");
        let shell = Command::new("bash")
            .args(["-c", MACHINE, "bash", &self.machine])
            .arg(self.tree.root())
            .arg(&self.name)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .spawn()
            .expect("bash starts");
        self.power = Some(shell);
        self.answers();
    }

    /// Waits until its sshd answers: since a boot, or again.
    pub fn answers(&self) {
        let address: SocketAddr = format!("{}:22", self.address).parse().expect("an address");
        let answer = within(BOOT, || {
            let mut stream =
                TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
            let mut banner = [0; 4];
            stream.read_exact(&mut banner).ok()?;
            (&banner == b"SSH-").then_some(())
        });
        assert!(
            answer.is_some(),
            "no sshd on {} within {BOOT:?}; its console:\n{}",
            self.name,
            self.console()
        );
    }

    /// Waits until nothing is left to start, and returns `running` or `degraded`.
    #[must_use]
    pub fn settled(&self) -> String {
        let ran = self.run("systemctl is-system-running --wait");
        ran.text().trim_end().to_owned()
    }

    /// Cuts its power: everything on it ends at once.
    ///
    /// # Panics
    /// When it is off.
    pub fn power_cut(&mut self) {
        let mut shell = self
            .power
            .take()
            .expect("only a host that is on can lose its power");
        let nspawn = lab::children(shell.id());
        let first: Vec<u32> = nspawn.iter().copied().flat_map(lab::children).collect();
        shell.kill().expect("our own shell can be killed");
        shell.wait().expect("our own shell can be waited for");
        // The first process by itself: it outlives its nspawn, and takes all others of the host with it.
        for process in nspawn.iter().chain(&first) {
            lab::kill(*process).expect("our own host can be killed");
        }
        wait_for("the end of all processes of a host", BOOT, || {
            let gone = first.iter().all(|process| !lab::runs(*process, "systemd"));
            gone.then_some(())
        });
    }

    /// Reboots it as its administrator would, and waits until sshd answers again.
    pub fn reboot(&self) {
        let before = self.first();
        let _asked = self.run("systemctl --no-block reboot").succeeded();
        self.rebooted(before);
    }

    /// Waits until its first process is another than `before`, and its sshd answers.
    pub fn rebooted(&self, before: Option<u32>) {
        wait_for("another boot", BOOT, || {
            self.first().filter(|now| Some(*now) != before)
        });
        self.answers();
    }

    /// Returns its first process, if it has one.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        let nspawn = *lab::children(self.power.as_ref()?.id())
            .iter()
            .find(|child| lab::runs(**child, "systemd-nspawn"))?;
        lab::children(nspawn)
            .into_iter()
            .find(|child| lab::runs(*child, "systemd"))
    }

    /// Returns its inside, of this boot.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    pub fn inside(&self) -> Inside {
        let first = self
            .first()
            .unwrap_or_else(|| panic!("{} is off; its console:\n{}", self.name, self.console()));
        Inside::of(&self.name, first)
    }

    /// Runs a line of shell on it, by root.
    pub fn run(&self, line: &str) -> Ran {
        self.inside().run(line)
    }

    /// Returns the journal of this boot, of one unit or with "" of all.
    #[must_use]
    pub fn journal(&self, unit: &str) -> String {
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!("--unit {unit}")
        };
        self.run(&format!(
            "journalctl --sync; journalctl --boot --no-pager --all {unit}"
        ))
        .text()
    }

    /// Returns what it said on its console since it was switched on.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read_to_string(self.tree.beside("console")).unwrap_or_else(|e| e.to_string())
    }

    /// Writes a unit file of its administrator; a host that is on reads it after `systemctl daemon-reload`.
    pub fn unit(&self, name: &str, text: &str) {
        self.tree
            .write(&format!("/etc/systemd/system/{name}"), text, 0o644);
    }

    /// Enables a unit, on disk.
    pub fn enable(&self, unit: &str, wanted_by: &str) {
        let folder = self
            .tree
            .path(&format!("/etc/systemd/system/{wanted_by}.wants"));
        fs::create_dir_all(&folder).expect("the tree can be written");
        let target = format!("/etc/systemd/system/{unit}");
        std::os::unix::fs::symlink(target, folder.join(unit)).expect("a unit is enabled once");
    }

    fn mask(&self, unit: &str) {
        let link = self.tree.path(&format!("/etc/systemd/system/{unit}"));
        std::os::unix::fs::symlink("/dev/null", link).expect("a unit is masked once");
    }

    /// Returns its root file system.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns its name, which is also the alias that an operator who knows it uses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns its paragraph for an `ssh_config`.
    #[must_use]
    pub fn ssh_config(&self) -> String {
        let key = lab::ssh_key().display();
        format!(
            "Host {}\n  HostName {}\n  User root\n  IdentityFile {key}\n  HostKeyAlias {0}\n",
            self.name, self.address
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.power.is_some() {
            self.power_cut();
        }
    }
}
