//! The operator's machine: a home, a folder with a manifest, the hosts it knows, and `keys`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::inside::write;
use crate::{Host, Inside, Ran, Sshd, lab};

/// An operator. Starts with an empty home, an empty manifest folder and an empty `known_hosts`.
pub struct Operator {
    /// `home`, `work`, and `ssh`: the configuration that the manifest names instead of the user's own.
    folder: TempDir,
    environment: BTreeMap<OsString, OsString>,
    hosts: Vec<Inside>,
}

impl Operator {
    /// Makes one that knows no host.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making folders is no default")]
    pub fn new() -> Self {
        let folder = TempDir::new_in(lab::folder()).expect("the lab's folder can be written");
        for part in ["home", "work", "ssh"] {
            let path = folder.path().join(part);
            fs::create_dir(&path).expect("the lab's folder can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("our own folder");
        }
        let mut operator = Self {
            folder,
            environment: BTreeMap::new(),
            hosts: Vec::new(),
        };
        let known = operator.ssh("known_hosts");
        write(&known, b"", 0o600);
        let all = format!(
            "UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
            known.display()
        );
        write(&operator.ssh("config"), all.as_bytes(), 0o600);
        let home = operator.folder.path().join("home");
        operator
            .env("HOME", home)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        operator
    }

    /// Makes one that knows this host.
    #[must_use]
    pub fn of(host: &Sshd) -> Self {
        let mut operator = Self::new();
        operator.knows(host);
        operator
    }

    /// Makes one that knows this booted host.
    #[must_use]
    pub fn of_host(host: &Host) -> Self {
        let mut operator = Self::new();
        operator.knows_host(host);
        operator
    }

    /// Puts a host into the ssh configuration and `known_hosts`; after [`Sshd::mangle`], again.
    pub fn knows(&mut self, host: &Sshd) -> &mut Self {
        self.remember(&host.ssh_config(), host.name(), &host.tree().host_key());
        self.shown(host.inside().clone());
        self
    }

    /// Puts a booted host into the ssh configuration and `known_hosts`.
    pub fn knows_host(&mut self, host: &Host) -> &mut Self {
        self.remember(&host.ssh_config(), host.name(), &host.tree().host_key());
        self.shown(host.inside());
        self
    }

    fn shown(&mut self, host: Inside) {
        self.hosts.retain(|known| known.name() != host.name());
        self.hosts.push(host);
    }

    fn remember(&self, paragraph: &str, name: &str, host_key: &str) {
        // The first paragraph of a name is the one that counts, so the newest comes first.
        let path = self.ssh("config");
        let older = fs::read_to_string(&path).expect("we wrote it");
        write(
            &path,
            format!("{paragraph}\nHost *\n{older}").as_bytes(),
            0o600,
        );
        let mut known = OpenOptions::new()
            .append(true)
            .open(self.ssh("known_hosts"))
            .expect("we wrote it");
        known
            .write_all(format!("{name} {host_key}\n").as_bytes())
            .expect("the lab's folder can be written");
    }

    /// Returns a path among the ssh files: `config`, `known_hosts`.
    #[must_use]
    pub fn ssh(&self, name: &str) -> PathBuf {
        self.folder.path().join("ssh").join(name)
    }

    /// Returns a path in the folder of the manifest.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Returns the operator's home.
    #[must_use]
    pub fn home(&self) -> &Path {
        Path::new(&self.environment[&OsString::from("HOME")])
    }

    /// Writes a file into the folder of the manifest, readable for the operator alone.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        write(&self.path(name), bytes.as_ref(), 0o600);
    }

    /// Writes `keys.toml`: `text`, then what is needed to use the hosts that this operator knows.
    pub fn manifest(&self, text: &str) {
        let config = self.ssh("config");
        self.write(
            "keys.toml",
            format!("{text}\n[ssh]\nconfig = \"{}\"\n", config.display()),
        );
    }

    /// Writes a manifest that sends one key, `token`, to every host this operator knows: these bytes. Its id is the
    /// same for every operator.
    pub fn token(&self, bytes: impl AsRef<[u8]>) {
        self.write("token", bytes);
        let names: Vec<&str> = self.hosts.iter().map(Inside::name).collect();
        let tables: Vec<String> = names
            .iter()
            .map(|name| format!("[hosts.{name}]\n"))
            .collect();
        let text = format!(
            "id = \"lab\"\n{}[keys.token]\nhosts = {names:?}\nsource = {{ file = \"token\" }}\n",
            tables.concat()
        );
        self.manifest(&text);
    }

    /// Puts lines before the ssh configuration, where they are in force for every host.
    pub fn ssh_lines(&self, lines: &str) {
        let path = self.ssh("config");
        let older = fs::read_to_string(&path).expect("we wrote it");
        write(&path, format!("{lines}\n{older}").as_bytes(), 0o600);
    }

    /// Sets a variable of the environment, which holds but `HOME` and `PATH`.
    pub fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Returns the command `keys` with these words, not yet run.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(lab::binary("keys"));
        command.args(words).current_dir(self.path(""));
        command.env_clear().envs(&self.environment);
        command
    }

    /// Runs `keys` with these words, split at spaces: `keys("send --include pigeon")`.
    pub fn keys(&self, words: &str) -> Ran {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.ran(self.command(&words))
    }

    /// Runs `keys send` with these words.
    pub fn send(&self, words: &str) -> Ran {
        self.keys(&format!("send {words}"))
    }

    /// Runs `keys` with these words after a line of shell, such as `ulimit -n 64`, whose mounts nobody else sees.
    pub fn after(&self, line: &str, words: &str) -> Ran {
        self.ran(self.command_after(line, words))
    }

    /// Returns `keys` with these words after a line of shell whose mounts nobody else sees, not yet run.
    #[must_use]
    pub fn command_after(&self, line: &str, words: &str) -> Command {
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args([
                "--mount",
                "sh",
                "-ec",
                &format!("{line}; exec \"$@\""),
                "sh",
            ])
            .arg(lab::binary("keys"))
            .args(words.split_whitespace());
        command.env_clear().envs(&self.environment);
        command.current_dir(self.path(""));
        command
    }

    /// Runs a line of shell on a terminal; what it prints there is its standard output.
    pub fn on_terminal(&self, line: &str) -> Ran {
        self.typing("", line)
    }

    /// Runs a line of shell on a terminal, where these words are typed.
    pub fn typing(&self, words: &str, line: &str) -> Ran {
        let mut command = Command::new("script");
        command.args(["-qefc", line, "/dev/null"]);
        command
            .env_clear()
            .envs(&self.environment)
            .env("SHELL", "/bin/sh");
        command.current_dir(self.path(""));
        Ran::of(command, words.as_bytes()).on(self.hosts.clone())
    }

    /// Runs `keys` with these words where there is no terminal, whatever the tests were started from.
    pub fn without_terminal(&self, words: &str) -> Ran {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(lab::binary("keys"));
        command.args(words.split_whitespace());
        command.env_clear().envs(&self.environment);
        command.current_dir(self.path(""));
        self.ran(command)
    }

    /// Runs a command of this operator's, and shows the hosts when something is to be explained.
    pub fn ran(&self, command: Command) -> Ran {
        Ran::of(command, b"").on(self.hosts.clone())
    }

    /// Runs a line of shell on a host through ssh, without `keys`.
    pub fn ssh_run(&self, host: &str, line: &str) -> Ran {
        self.ran(self.ssh_command(&["-n", host, line]))
    }

    /// Returns the command `ssh` with these words, not yet run: a [`crate::Session`] can be held over it.
    #[must_use]
    pub fn ssh_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(self.ssh("config"))
            .args(["-o", "BatchMode=yes"])
            .args(words);
        command
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.path(""));
        command
    }
}
