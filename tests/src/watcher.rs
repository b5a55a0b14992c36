//! A running `keys watch`, with the pages it shows.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Operator, wait_for};

/// Such a watcher, ended when dropped.
pub struct Watcher {
    process: Child,
    socket: PathBuf,
    /// What it says on its standard error.
    log: PathBuf,
}

impl Watcher {
    /// Starts one for the operator's hosts, which asks them every second. `name` is for its files.
    #[must_use]
    pub fn start(operator: &Operator, name: &str) -> Self {
        Self::with(operator, name, |_| {})
    }

    /// Starts one whose command was changed by `change`.
    #[must_use]
    pub fn with(operator: &Operator, name: &str, change: impl FnOnce(&mut Command)) -> Self {
        let socket = operator.path(&format!("{name}.sock"));
        let log = operator.path(&format!("{name}.log"));
        let mut command = operator.command(&["watch", "--every", "1s", "--metrics-socket"]);
        let errors = fs::File::create(&log).expect("the lab's folder can be written");
        command.arg(&socket).stdin(Stdio::null()).stderr(errors);
        change(&mut command);
        let process = command.spawn().expect("keys starts");
        let watcher = Self {
            process,
            socket,
            log,
        };
        wait_for("a watcher's socket", Duration::from_secs(30), || {
            watcher.try_page("/").map(drop)
        });
        watcher
    }

    /// Returns its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns what it shows at a path, without the header.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        self.try_page(path)
            .unwrap_or_else(|| panic!("no page {path}\n{}", self.log()))
    }

    fn try_page(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.to_owned())
    }

    /// Returns a number that it shows to Prometheus: `host_reseeds_total{host="pigeon"}`.
    #[must_use]
    pub fn number(&self, name: &str) -> f64 {
        let page = self.page("/metrics");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("keys_watch_")?.strip_prefix(name));
        let value = line.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        value.trim().parse().expect("a number")
    }

    /// Waits until a host is in a state, as its page says it.
    pub fn says(&self, host: &str, state: &str, limit: Duration) {
        let said = crate::within(limit, || {
            let page = self.try_page("/")?;
            let line = page.lines().find(|line| line.starts_with(host))?;
            (line.split_whitespace().nth(1)? == state).then_some(())
        });
        assert!(
            said.is_some(),
            "{host} is not {state} after {limit:?}\n{}\n{}",
            self.page("/"),
            self.log()
        );
    }

    /// Returns where its socket is.
    #[must_use]
    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Returns what it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|e| e.to_string())
    }

    /// Sends it SIGTERM, and returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let number = i32::try_from(self.process.id()).expect("process numbers fit");
        kill(Pid::from_raw(number), Signal::SIGTERM).expect("our own child can be told");
        let status = self
            .process
            .wait()
            .expect("our own child can be waited for");
        status.code()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Err(e) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("keys watch: {e}");
        }
    }
}
