//! All or nothing: whatever fails, ends or is killed, at whatever moment, a host has the old keys or the new ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{How, KeyOutcome, RefusalCode, Tell, WireError};
use keys_tests::{
    Call, Ended, Folder, Inside, LIMIT, Operator, Push, Release, Report, Session, Sshd, Strace,
    scaled, wait_for,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

/// How long a reader that is on its way still finds the old generation, less some for our own threads.
const GRACE: Duration = Duration::from_millis(200);

/// A fraction of one, by chance.
fn chance() -> f64 {
    let mut bytes = [0; 2];
    let mut random = File::open("/dev/urandom").expect("the kernel gives random bytes");
    random
        .read_exact(&mut bytes)
        .expect("the kernel gives random bytes");
    f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX)
}

/// Returns a moment of a push by chance, somewhat past its usual end.
fn moment(usual: Duration) -> Duration {
    usual.mul_f64(1.2 * chance())
}

/// Returns how long `act` takes, the middle one of five times.
fn usual(mut act: impl FnMut(u32)) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|round| {
            let start = Instant::now();
            act(round);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[2]
}

/// Keys that all say which version they are of.
struct Versioned {
    names: Vec<String>,
}

impl Versioned {
    fn of(count: u32) -> Self {
        let name = |number| match number % 10 {
            0 => format!("folder{number}/inner/key"),
            _ => format!("key{number}"),
        };
        Self {
            names: (0..count).map(name).collect(),
        }
    }

    /// Returns the bytes of a key: the same line many times, so that a torn one shows.
    fn bytes(name: &str, version: u32) -> Vec<u8> {
        format!("{name} {version}\n").repeat(50).into_bytes()
    }

    /// Returns the version that the bytes of a key are of; `None` if they are not of one.
    fn version(name: &str, bytes: &[u8]) -> Option<u32> {
        let text = std::str::from_utf8(bytes).ok()?;
        let version = text
            .lines()
            .next()?
            .strip_prefix(name)?
            .strip_prefix(' ')?
            .parse()
            .ok()?;
        (bytes == Self::bytes(name, version)).then_some(version)
    }

    fn say(&self, session: Session, version: u32) -> Ended {
        let bodies: Vec<Vec<u8>> = self
            .names
            .iter()
            .map(|name| Self::bytes(name, version))
            .collect();
        let keys: Vec<(&str, &[u8])> = self
            .names
            .iter()
            .zip(&bodies)
            .map(|(name, body)| (name.as_str(), body.as_slice()))
            .collect();
        session.whole(&keys, |_| {})
    }

    fn send(&self, host: &Inside, version: u32) -> Report {
        self.say(Session::receive(host), version).committed()
    }

    /// Returns the version that all keys of a host are of.
    fn there(&self, host: &Inside) -> u32 {
        let versions = self.names.iter().map(|name| {
            let bytes = host.read(&format!("/run/keys/{name}"));
            Self::version(name, &bytes).unwrap_or_else(|| panic!("{name} is torn"))
        });
        let mut versions: Vec<u32> = versions.collect();
        versions.dedup();
        assert_eq!(
            versions.len(),
            1,
            "keys of several versions\n{}",
            host.tree("/run/keys")
        );
        versions[0]
    }
}

/// What readers saw that they must not see.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    torn: AtomicU64,
    missing: AtomicU64,
    older: AtomicU64,
    over: AtomicBool,
}

impl Seen {
    /// Reads every key again and again, until it is over.
    fn read(&self, host: &Inside, keys: &Versioned) {
        let mut last = BTreeMap::new();
        while !self.over.load(Ordering::Relaxed) {
            for name in &keys.names {
                let start = Instant::now();
                match fs::read(host.path(&format!("/run/keys/{name}"))) {
                    Ok(bytes) => match Versioned::version(name, &bytes) {
                        Some(version) if last.get(name).is_some_and(|last| version < *last) => {
                            add(&self.older);
                        }
                        Some(version) => {
                            last.insert(name, version);
                        }
                        None => add(&self.torn),
                    },
                    // It was held up for longer than is promised.
                    Err(e) if e.kind() == ErrorKind::NotFound && start.elapsed() > GRACE => {}
                    Err(_) => add(&self.missing),
                }
                add(&self.reads);
            }
            // The agent needs a processor, too.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_clean(&self) {
        let [reads, torn, missing, older] = [&self.reads, &self.torn, &self.missing, &self.older]
            .map(|count| count.load(Ordering::Relaxed));
        assert!(reads > 1000, "{reads} reads");
        assert_eq!(
            (torn, missing, older),
            (0, 0, 0),
            "torn, missing, older of {reads} reads"
        );
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A3: 200 keys, four readers, and an agent that is killed at a moment by chance.
#[test]
fn a_kill_at_any_moment_leaves_old_or_new_and_the_next_run_repairs() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let keys = Versioned::of(200);
    let _first = keys.send(host, 0);
    let seen = Seen::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| seen.read(host, &keys));
        }
        let _over = Over(&seen.over);
        let usual = usual(|round| drop(keys.send(host, round + 1)));
        let mut committed = 0;
        let rounds = scaled(50);
        for version in 6..6 + rounds {
            let session = Session::receive(host);
            let agent = session.agent();
            let ended = thread::scope(|scope| {
                let saying = scope.spawn(|| keys.say(session, version));
                thread::sleep(moment(usual));
                kill_process(agent, Signal::SIGKILL);
                saying.join().expect("it does not panic")
            });
            let there = keys.there(host);
            assert!(
                [version - 1, version].contains(&there),
                "{there} at {version}: {ended:?}"
            );
            assert!(ended.report.is_err() || there == version, "{ended:?}");
            committed += u32::from(there == version);
            let report = keys.send(host, version);
            assert_eq!(keys.there(host), version, "{report:?}");
        }
        assert!(
            (1..rounds).contains(&committed),
            "{committed} of {rounds} had committed, of {usual:?}"
        );
    });
    seen.is_clean();
    only_the_committed_is_left(host);
}

/// Ends readers also when a case fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One that is gone is no error.
fn kill_process(process: u32, signal: Signal) {
    let number = Pid::from_raw(i32::try_from(process).expect("process numbers fit"));
    match kill(number, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(e) => panic!("{signal} to {process}: {e}"),
    }
}

/// Panics unless one generation is left, soon, and no draft of a link.
fn only_the_committed_is_left(host: &Inside) {
    let find = "cd /run/keys && find . -maxdepth 1 -name '.gen.*' -o -maxdepth 1 -name '.link.*'";
    wait_for("the end of all but the committed generation", LIMIT, || {
        let target = fs::read_link(host.path("/run/keys/.current")).ok()?;
        (host.run(find).text().trim() == format!("./{}", target.display())).then_some(())
    });
}

/// Reads certificate and key through one descriptor of their folder, as a server should; `None` if this took longer than
/// is promised.
fn read_pair(host: &Inside) -> Option<[Vec<u8>; 2]> {
    let start = Instant::now();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let folder = open(&host.path("/run/keys/web"), flags, Mode::empty()).expect("always there");
    let read = |name: &str| {
        let file = match openat(&folder, name, OFlag::O_RDONLY, Mode::empty()) {
            Err(Errno::ENOENT) if start.elapsed() > GRACE => return None,
            other => other.unwrap_or_else(|e| panic!("web/{name}: {e}")),
        };
        let mut bytes = Vec::new();
        File::from(file)
            .read_to_end(&mut bytes)
            .expect("it can be read");
        Some(bytes)
    };
    Some([read("cert")?, read("key")?])
}

/// A12: eight readers of pairs, none of which may be of two pushes.
#[test]
fn a_pair_read_through_one_descriptor_always_fits() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let send = |version: u32| {
        let bytes = Versioned::bytes("pair", version);
        let keys: [(&str, &[u8]); 2] = [("web/cert", &bytes), ("web/key", &bytes)];
        drop(Session::push(host, &keys, |_| {}).committed());
    };
    send(0);
    let (over, pairs) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = || {
        while !over.load(Ordering::Relaxed) {
            if let Some([cert, key]) = read_pair(host) {
                assert!(cert == key, "a pair that does not fit");
                assert!(Versioned::version("pair", &cert).is_some(), "a torn one");
                add(&pairs);
            }
        }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(reader)).collect();
        let stop = Over(&over);
        (1..=scaled(20)).for_each(send);
        drop(stop);
        for reader in readers {
            reader.join().expect("a reader saw what it must not see");
        }
    });
    assert!(pairs.load(Ordering::Relaxed) > 1000, "{pairs:?} pairs");
}

const OLD: [(&str, &[u8]); 5] = [
    ("kept", b"kept"),
    ("changed", b"old"),
    ("moded", b"moded"),
    ("gone", b"gone"),
    ("dir/cert", b"cert"),
];
const NEW: [(&str, &[u8]); 5] = [
    ("kept", b"kept"),
    ("changed", b"new"),
    ("moded", b"moded"),
    ("dir/cert", b"cert"),
    ("fresh/deep/key", b"fresh"),
];

/// Makes of a push of [`NEW`] one that does everything a push can do: link, copy, write, add, remove, tell.
fn everything(push: &mut Push) {
    for (key, tells) in &mut push.keys {
        match key.name.as_str() {
            "moded" => key.mode = "0440".parse().expect("a mode"),
            "changed" => {
                let unit = "web.service".parse().expect("a unit");
                *tells = vec![Tell {
                    unit,
                    how: How::Restart,
                }];
                key.units = 1;
            }
            _ => {}
        }
    }
}

/// What a host has: of each name of old and new keys, the bytes and who may read them.
type There = BTreeMap<&'static str, Option<(Vec<u8>, String)>>;

fn there(host: &Inside) -> There {
    let names = OLD.iter().chain(&NEW).map(|(name, _)| *name);
    let look = |name| {
        let path = format!("/run/keys/{name}");
        match fs::read(host.path(&path)) {
            Ok(bytes) => Some((bytes, host.access(&path))),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => panic!("{path}: {e}"),
        }
    };
    names.map(|name| (name, look(name))).collect()
}

/// What a host has before and after the push of everything.
struct Sides {
    old: There,
    new: There,
    calls: Vec<Call>,
}

impl Sides {
    /// Learns them, and the system calls that change something, from a push that nothing happens to.
    fn learn(host: &Inside) -> Self {
        reset(host);
        let old = there(host);
        let calls = Strace::calls(host, |session| {
            drop(session.whole(&NEW, everything).committed());
        });
        let new = there(host);
        assert!(old["gone"].is_some() && new["gone"].is_none() && new["fresh/deep/key"].is_some());
        Self { old, new, calls }
    }

    /// Returns the calls that change something, and with more rounds than usual all since the greeting.
    fn steps(&self) -> Vec<&Call> {
        let all = scaled(1) > 1;
        let greeting = self.calls.iter().position(|call| call.name == "write");
        let since = &self.calls[greeting.expect("the agent speaks")..];
        since
            .iter()
            .filter(|call| all || is_changing(call))
            .collect()
    }

    /// Returns whether a host has the new keys, all; panics unless it has those or the old ones, all.
    fn is_new(&self, host: &Inside, what: &str) -> bool {
        let mut found = there(host);
        if found == self.old {
            return false;
        }
        // Its link is made after the commit.
        let fresh = "fresh/deep/key";
        if found[fresh].is_none() {
            found.insert(fresh, self.new[fresh].clone());
        }
        assert_eq!(
            found,
            self.new,
            "{what}: neither old nor new\n{}",
            host.tree("/run/keys")
        );
        true
    }
}

/// Leaves a host with the old keys and nothing else.
fn reset(host: &Inside) {
    let _emptied = host.run("rm -rf /run/keys/* /run/keys/.[!.]*").succeeded();
    let _old = Session::push(host, &OLD, |_| {}).committed();
}

/// The calls by which the agent changes anything.
const CHANGING: [&str; 9] = [
    "mkdirat",
    "fchown",
    "fremovexattr",
    "fchmod",
    "linkat",
    "symlinkat",
    "renameat",
    "renameat2",
    "unlinkat",
];

fn is_changing(call: &Call) -> bool {
    CHANGING.contains(&call.name.as_str())
}

/// A3, sharper: killed at each step between stage and commit, and after.
#[test]
fn a_kill_at_each_step_leaves_old_or_new_and_the_next_run_repairs() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let sides = Sides::learn(host);
    let mut news = 0;
    for call in sides.steps() {
        reset(host);
        let session = Session::of(Strace::Kill(call).command(host)).expect("the agent speaks");
        let ended = session.whole(&NEW, everything);
        // What waits is not called the same number of times each time.
        if is_changing(call) {
            assert_eq!(ended.code, None, "{call} was not its last: {ended:?}");
        }
        let is_new = sides.is_new(host, &call.to_string());
        news += u32::from(is_new);
        assert!(is_new || ended.report.is_err(), "{call}: {ended:?}");
        let report = Session::push(host, &NEW, everything).committed();
        assert_eq!(there(host), sides.new, "after {call}: {report:?}");
        let told = report
            .units
            .iter()
            .any(|unit| unit.unit.as_str() == "web.service");
        assert!(
            told || !is_changing(call),
            "a unit is told by the next run: {call}: {report:?}"
        );
        only_the_committed_is_left(host);
    }
    // Before the commit and after it: both were met.
    assert!(news > 0);
}

/// «no space», and every other error of the host: nothing changes before the commit, and after it nothing is taken back.
#[test]
fn an_error_at_each_step_leaves_old_or_new_and_is_told() {
    let sshd = Sshd::start("pigeon");
    let host = sshd.inside();
    let sides = Sides::learn(host);
    for call in sides.steps().into_iter().filter(|call| is_changing(call)) {
        let error = match call.name.as_str() {
            "mkdirat" | "linkat" | "symlinkat" | "renameat" => "ENOSPC",
            _ => "EPERM",
        };
        reset(host);
        let before = host.tree("/run/keys");
        let session =
            Session::of(Strace::Fail(call, error).command(host)).expect("the agent speaks");
        let ended = session.whole(&NEW, everything);
        let is_new = sides.is_new(host, &call.to_string());
        match &ended.report {
            Ok(report) => {
                assert!(is_new, "{call}: {report:?}");
                let is_told = report
                    .keys
                    .iter()
                    .any(|key| key.outcome == KeyOutcome::Failed);
                let fresh = there(host)["fresh/deep/key"].is_some();
                assert!(fresh != is_told, "{call}: {report:?}");
            }
            Err(WireError::Refused(refusal)) => {
                let code = if error == "ENOSPC" {
                    RefusalCode::Space
                } else {
                    RefusalCode::Io
                };
                assert_eq!(refusal.code, code, "{call}: {refusal:?}");
                assert_eq!(host.tree("/run/keys"), before, "{call}: {refusal:?}");
            }
            Err(e) => panic!("{call}: {e}: {}", ended.said),
        }
        let _report = Session::push(host, &NEW, everything).committed();
        assert_eq!(there(host), sides.new, "after {call}");
    }
}

/// A5: 400 KiB are there, of 1 MiB.
#[test]
fn a_push_that_does_not_fit_is_refused_before_a_byte_of_it() {
    let sshd = Sshd::with("pigeon", Release::Bookworm, Folder::Tmpfs("noswap,size=1m"));
    let host = sshd.inside();
    let bytes = |size: usize| vec![b'x'; size << 10];
    let (there, large, huge, fitting) = (bytes(400), bytes(700), bytes(5 << 10), bytes(500));
    let _report = Session::push(host, &[("web", &there)], |_| {}).committed();
    let before = host.tree("/run/keys");
    for body in [&large, &huge] {
        let refusal = asked_only(host, &[("web", body)]);
        assert!(
            refusal.contains("bytes are needed") && refusal.contains("are free"),
            "{refusal}"
        );
        assert_eq!(host.tree("/run/keys"), before);
    }
    let _report = Session::push(host, &[("web", &fitting)], |_| {}).committed();
    assert_eq!(host.read("/run/keys/web"), fitting);
}

/// A6: 64 inodes, two of which each key takes: for itself and for its link.
#[test]
fn a_push_of_too_many_keys_is_refused_before_a_byte_of_it() {
    let sshd = Sshd::with(
        "pigeon",
        Release::Bookworm,
        Folder::Tmpfs("noswap,nr_inodes=64"),
    );
    let host = sshd.inside();
    let names: Vec<String> = (0..70).map(|number| format!("key{number}")).collect();
    let keys: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"value"[..]))
        .collect();
    let _report = Session::push(host, &keys[..10], |_| {}).committed();
    let before = host.tree("/run/keys");
    for count in [60, 70] {
        let refusal = asked_only(host, &keys[..count]);
        assert!(refusal.contains("inodes are needed"), "{refusal}");
        assert_eq!(host.tree("/run/keys"), before);
    }
    let _report = Session::push(host, &keys[..15], |_| {}).committed();
    for name in &names[..15] {
        assert_eq!(host.read(&format!("/run/keys/{name}")), b"value", "{name}");
    }
}

/// Declares a push and returns the text of its refusal, which comes before any body is asked for.
fn asked_only(host: &Inside, keys: &[(&str, &[u8])]) -> String {
    let mut session = Session::receive(host);
    let (hello, _, _) = session.hello().expect("a greeting");
    let answer = session.declare(&Push::of(&hello.nonce, keys));
    assert_eq!(session.close().0, Some(7));
    match answer {
        Err(WireError::Refused(refusal)) if refusal.code == RefusalCode::Space => refusal.message,
        other => panic!("no space was expected: {other:?}"),
    }
}

/// A push through ssh, of keys that say which version they are of.
struct Ssh {
    sshd: Sshd,
    operator: Operator,
    keys: Versioned,
}

impl Ssh {
    fn new() -> Self {
        let sshd = Sshd::start("pigeon");
        let operator = Operator::of(&sshd);
        let keys = Versioned::of(20);
        let each = |name: &String| {
            let file = name.replace('/', "-");
            format!("[keys.\"{name}\"]\nhosts = [\"pigeon\"]\nsource = {{ file = \"{file}\" }}\n")
        };
        let text: String = keys.names.iter().map(each).collect();
        operator.manifest(&format!("[hosts.pigeon]\nssh = \"pigeon\"\n{text}"));
        Self {
            sshd,
            operator,
            keys,
        }
    }

    /// Gives the sources of all keys this version.
    fn write(&self, version: u32) {
        for name in &self.keys.names {
            self.operator
                .write(&name.replace('/', "-"), Versioned::bytes(name, version));
        }
    }

    /// Sends, and sends the pusher a signal after a while; returns its exit code as a shell does.
    fn stopped(&self, signal: Signal, after: Duration) -> i32 {
        let mut command = self.operator.command(&["send", "--include", "pigeon"]);
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut pusher = quiet.spawn().expect("keys starts");
        thread::sleep(after);
        kill_process(pusher.id(), signal);
        let status = pusher.wait().expect("our own child can be waited for");
        status.code().unwrap_or(128 + Signal::SIGKILL as i32)
    }

    /// Returns the processes of sessions with the host: ssh, and what leads into the host.
    fn sessions(&self) -> Vec<String> {
        let config = self.operator.ssh("config").display().to_string();
        let target = format!("--target {} ", self.sshd.inside().first());
        let all = fs::read_dir("/proc").expect("the lab has a /proc");
        let lines = all.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(&config) || line.contains(&target))
            .collect()
    }
}

/// A8: Ctrl-C, SIGTERM and SIGKILL of the pusher at a moment by chance.
#[test]
fn a_pusher_that_is_stopped_leaves_old_or_new_and_no_ssh() {
    let ssh = Ssh::new();
    let usual = usual(|version| {
        ssh.write(version);
        let _sent = ssh.operator.send("--include pigeon").succeeded();
    });
    let signals = [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGKILL, 137),
    ];
    let rounds = scaled(10);
    let mut stopped = 0;
    for (version, (signal, code)) in (5..5 + rounds).zip(signals.into_iter().cycle()) {
        ssh.write(version);
        let found = ssh.stopped(signal, moment(usual));
        assert!([0, code].contains(&found), "{signal}: exit {found}");
        stopped += u32::from(found != 0);
        let sessions = || ssh.sessions().is_empty().then_some(());
        wait_for("the end of all ssh", LIMIT, sessions);
        let is = ssh.keys.there(ssh.sshd.inside());
        assert!(
            [version - 1, version].contains(&is),
            "{signal}: {is} at {version}"
        );
        assert!(
            found != 0 || is == version,
            "{signal}: exit 0, and the host has {is}"
        );
        let _sent = ssh.operator.send("--include pigeon").succeeded();
        assert_eq!(ssh.keys.there(ssh.sshd.inside()), version);
    }
    assert!(stopped > 0, "none of {rounds} was stopped, of {usual:?}");
}

/// «other hosts are not affected»: one has no space, the other gets its keys, and the exit code is that of a part.
#[test]
fn a_host_that_refuses_keeps_no_other_from_its_keys() {
    let small = Sshd::with("small", Release::Bookworm, Folder::Tmpfs("noswap,size=64k"));
    let roomy = Sshd::start("roomy");
    let mut operator = Operator::of(&small);
    operator.knows(&roomy);
    operator.write("secret", vec![b'x'; 128 << 10]);
    operator.manifest(
        "[hosts.small]\nssh = \"small\"\n[hosts.roomy]\nssh = \"roomy\"\n\
         [keys.web]\nhosts = [\"small\", \"roomy\"]\nsource = { file = \"secret\" }\n",
    );
    let _part = operator
        .send("small roomy")
        .exited(3)
        .said("no space in /run/keys");
    assert!(!small.inside().has("/run/keys/.current"));
    assert_eq!(roomy.inside().read("/run/keys/web").len(), 128 << 10);
    let _refused = operator
        .send("small")
        .exited(7)
        .said("no space in /run/keys");
    wait_for("the end of the agent", LIMIT, || {
        (small.inside().run("pgrep keys-agent").code() == 1).then_some(())
    });
}
