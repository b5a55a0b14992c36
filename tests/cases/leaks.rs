//! C1, C3, C4, C8, C9, C10: a secret is in the memory of those who handle it and in /run/keys, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keys_tests::{Age, LIMIT, Operator, Port, Process, Ran, Sops, Sshd, Vault, lab, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

/// Values that are nowhere by chance.
const VALUES: [&str; 5] = ["value0", "value1", "value2", "value3", "value4"];

/// A host, and an operator with a secret from each kind of source.
struct Setting {
    host: Sshd,
    operator: Operator,
    values: [String; 5],
    /// What opens the sources, and is in the environment of `keys` alone.
    means: Vec<String>,
    _port: Port,
}

impl Setting {
    fn new() -> Self {
        let host = Sshd::start("pigeon");
        let port = Port::to(&host);
        let mut operator = Operator::of(&host);
        // By the network, so that its sshd is no child of ours.
        operator.ssh_lines(&format!(
            "Host pigeon\nProxyCommand none\nHostName 127.0.0.1\nHostKeyAlias pigeon\nPort {}\nHost *",
            port.number()
        ));
        let values = VALUES.map(|name| format!("{name}-{}", random()));
        let means = sources(&mut operator, &values);
        Self {
            host,
            operator,
            values,
            means,
            _port: port,
        }
    }

    /// Waits until the generation before the last has gone, a moment after it.
    fn wait_for_one_generation(&self) {
        wait_for("the old generation to go", LIMIT, || {
            let generations = self.host.inside().run("ls -d /run/keys/.gen.*");
            (generations.text().lines().count() == 1).then_some(())
        });
    }

    /// Returns every form in which a value might be somewhere.
    fn forms(&self) -> Vec<String> {
        let forms = self.values.iter().flat_map(|value| {
            let hex: Vec<String> = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            let mut base64 = Command::new("base64");
            base64.arg("-w0");
            // Without its end, which is another one where something follows.
            let base64 = Ran::of(base64, value.as_bytes()).succeeded().text();
            [
                value.clone(),
                hex.concat(),
                base64.trim_end_matches('=')[..30].to_owned(),
            ]
        });
        forms.collect()
    }
}

fn random() -> String {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    uuid.trim().replace('-', "")
}

/// Makes a source of each kind, and the manifest with all of them. Returns what opens them.
fn sources(operator: &mut Operator, values: &[String; 5]) -> Vec<String> {
    let vault = Vault::shared();
    let path = format!("kv/leaks/{}", random());
    vault.put(&path, &json!({"f": values[0]}));
    vault.policy(
        "leaks",
        "path \"kv/data/leaks/*\" { capabilities = [\"read\"] }",
    );
    let token = vault.token("leaks", "1h");
    let (sops, age) = (Sops::new(), Age::new_identity());
    operator.write(
        "a.yaml",
        sops.encrypt("a.yaml", &format!("one: {}\n", values[1])),
    );
    operator.write("a.age", age.encrypt(values[2].as_bytes(), &[]));
    operator.write("plain", &values[3]);
    operator.write("printed", &values[4]);
    operator.write("identity", age.identity_text());
    let identity = sops.age().identity_text();
    operator
        .env("VAULT_TOKEN", &token)
        .env("SOPS_AGE_KEY", &identity);
    let mut text = format!(
        "id = \"leaks\"\n[vault]\naddress = \"{}\"\n[hosts.pigeon]\n",
        vault.address()
    );
    for (number, source) in [
        format!("{{ vault = \"{path}#f\" }}"),
        "{ sops = \"a.yaml#one\" }".into(),
        "{ age = { file = \"a.age\", identities = [\"identity\"] } }".into(),
        "{ file = \"plain\" }".into(),
        "{ command = [\"cat\", \"printed\"] }".into(),
    ]
    .iter()
    .enumerate()
    {
        text += &format!("[keys.key{number}]\nhosts = [\"pigeon\"]\nsource = {source}\n");
    }
    operator.manifest(&text);
    let identity = identity.lines().last().unwrap().to_owned();
    vec![token, identity]
}

/// Looks at all processes until dropped.
struct Watch<'a> {
    over: &'a AtomicBool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Runs `act` and returns the words of processes that showed one of `texts` meanwhile.
fn shown(texts: &[String], act: impl FnOnce()) -> Vec<String> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut found = Vec::new();
            loop {
                let last = over.load(Ordering::Relaxed);
                let all = Process::all().into_iter();
                let showing = all.filter(|process| texts.iter().any(|text| process.shows(text)));
                found.extend(
                    showing
                        .map(|process| String::from_utf8_lossy(&process.words).replace('\0', " ")),
                );
                if last {
                    return found;
                }
            }
        });
        let watch = Watch { over: &over };
        act();
        drop(watch);
        watching.join().unwrap()
    })
}

/// Returns the files in these folders that hold one of `texts`.
fn holding(texts: &[String], run: impl FnOnce(&str) -> Ran, folders: &str) -> Vec<String> {
    let patterns: Vec<String> = texts.iter().map(|text| format!(" -e {text}")).collect();
    let patterns = patterns.concat();
    let ran = run(&format!(
        "grep -rlaF --exclude-dir=proc --exclude-dir=sys{patterns} {folders} 2>/dev/null || :"
    ));
    ran.succeeded().text().lines().map(str::to_owned).collect()
}

/// C1, C7, G13: each look finds what it may, which shows that it looks.
#[test]
fn a_secret_is_nowhere_but_where_it_belongs() {
    let mut here = Setting::new();
    let values = here.forms();
    let temporary = TempDir::new_in(lab::folder()).unwrap();
    here.operator.env("TMPDIR", temporary.path());
    let all = [&values[..], &here.means].concat();
    let mut said = String::new();
    let showing = shown(&all, || said = everything_said(&here));
    // `keys` itself has the token in its environment, and nobody else has.
    let ours = |words: &String| words.contains("/debug/keys ");
    assert!(
        !showing.is_empty() && showing.iter().all(ours),
        "{showing:?}"
    );
    let showing = shown(&values, || drop(here.operator.keys("plan")));
    assert!(showing.is_empty(), "{showing:?}");
    for text in &all {
        assert!(!said.contains(text), "{text} was said: {said}");
    }
    // The operator's machine: what the case itself wrote is all there is.
    let operator = here.operator.path("..").canonicalize().unwrap();
    let place = |folder: &Path| folder.display().to_string();
    let folders = format!(
        "{} {} /tmp /var/tmp /dev/shm",
        place(&operator),
        place(temporary.path())
    );
    let mut found = holding(&all, |line| Ran::of(shell(line), b""), &folders);
    found.sort();
    assert_eq!(
        found,
        ["work/plain", "work/printed"].map(|name| place(&operator.join(name)))
    );
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    // The host: /run/keys, and nothing else.
    here.wait_for_one_generation();
    let found = holding(&all, |line| here.host.inside().run(line), "/");
    assert!(
        found.iter().all(|path| path.starts_with("/run/keys/.gen.")),
        "{found:?}"
    );
    assert_eq!(found.len(), 5, "{found:?}");
}

/// Runs every command, well and then badly, and returns what they said.
fn everything_said(here: &Setting) -> String {
    let mut said = String::new();
    let mut run = |words: &str, codes: &[i32]| {
        let ran = here.operator.keys(words);
        assert!(codes.contains(&ran.code()), "{ran}");
        said.push_str(&ran.text());
        said.push_str(&ran.stderr);
    };
    for words in [
        "plan --json",
        "send",
        "send --json",
        "status --compare",
        "status --json",
        "send --strict --take-over",
    ] {
        run(words, &[0, 2]);
    }
    here.host.wrap("exit 3");
    run("send", &[1]);
    run("send --json", &[1]);
    said
}

/// C1: the look at processes sees words and environments.
#[test]
fn the_look_at_processes_finds_what_is_there() {
    let text = random();
    for (word, name) in [(text.as_str(), "X"), ("x", text.as_str())] {
        // It waits for its input before it finds that there is no such file.
        let mut process = Command::new("cat");
        let process = process.args(["-", word]).env(name, "x");
        let mut process = process.stdin(Stdio::piped()).spawn().unwrap();
        wait_for("the process to be found", LIMIT, || {
            (!shown(std::slice::from_ref(&text), || ()).is_empty()).then_some(())
        });
        end(&mut process);
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}

fn end(child: &mut Child) {
    child.kill().and_then(|()| child.wait()).unwrap();
}

/// Starts `keys` where it has its secrets in memory and waits for the host, with cores allowed.
fn holding_secrets(here: &Setting) -> Child {
    here.host.wrap("touch /root/here; exec sleep 60");
    let mut command = here.operator.command_after("ulimit -c unlimited", "send");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a session", LIMIT, || {
        here.host.inside().has("/root/here").then_some(())
    });
    fs::remove_file(here.host.inside().path("/root/here")).unwrap();
    child
}

/// C3
#[test]
fn keys_leaves_no_core() {
    let here = Setting::new();
    let signals = [
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGQUIT,
        Signal::SIGBUS,
    ];
    for signal in signals {
        let mut sleep = here
            .operator
            .command_after("ulimit -c unlimited; exec sleep 60", "");
        let mut sleep = sleep.spawn().unwrap();
        wait_for("sleep", LIMIT, || {
            fs::read_to_string(format!("/proc/{}/comm", sleep.id()))
                .is_ok_and(|name| name == "sleep\n")
                .then_some(())
        });
        assert!(
            dumped(&mut sleep, signal),
            "{signal} makes cores on this machine"
        );
    }
    for name in cores(&here) {
        fs::remove_file(here.operator.path(&name)).unwrap();
    }
    for signal in signals {
        let mut keys = holding_secrets(&here);
        assert!(!dumped(&mut keys, signal), "{signal}");
    }
    assert_eq!(cores(&here), Vec::<String>::new());
}

/// Ends a process by a signal, and returns whether the kernel says that it made a core.
fn dumped(child: &mut Child, signal: Signal) -> bool {
    // Twice: Rust's runtime takes the first SIGSEGV and SIGBUS for itself.
    let status = wait_for("its end", LIMIT, || {
        let _sent = kill(Pid::from_raw(child.id().try_into().unwrap()), signal);
        child.try_wait().unwrap()
    });
    assert_eq!(status.signal(), Some(signal as i32), "{status}");
    status.core_dumped()
}

fn cores(here: &Setting) -> Vec<String> {
    let names = fs::read_dir(here.operator.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("core")).collect()
}

/// Runs by a user that is not root, in a folder with `keys` and a manifest, and with a token in its environment.
fn nobody(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(words);
    command.current_dir(folder).env_clear();
    command
        .env("PATH", "/usr/bin:/bin")
        .env("VAULT_TOKEN", "c4nary");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// C4: what a process of the same user may see of another, it does not see of `keys`.
#[test]
fn no_process_of_the_same_user_can_look_into_keys() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let folder = folder.path();
    fs::copy(lab::binary("keys"), folder.join("keys")).unwrap();
    let manifest = "[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = { command = [\"sleep\", \"61\"] }\n";
    fs::write(folder.join("keys.toml"), manifest).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut keys = nobody(folder, &["./keys", "get", "x"]).spawn().unwrap();
    let mut other = nobody(folder, &["sleep", "62"]).spawn().unwrap();
    let source = wait_for("the command of the source", LIMIT, || {
        let mut all = Process::all().into_iter();
        all.find(|process| process.words.ends_with(b"sleep\x0061\0"))
    });
    assert!(
        !source.shows("c4nary"),
        "the command has the token in its environment"
    );
    let can = |line: &str| {
        nobody(folder, &["timeout", "5", "sh", "-c", line])
            .status()
            .unwrap()
            .success()
    };
    let looks = |id: u32| {
        [
            "cat /proc/ID/environ",
            "ls /proc/ID/fd/",
            "cat /proc/ID/maps",
            "head -c 1 /proc/ID/auxv",
        ]
        .map(|line| can(&line.replace("ID", &id.to_string())))
    };
    wait_for("sleep", LIMIT, || {
        (looks(other.id()) == [true; 4]).then_some(())
    });
    assert_eq!(looks(keys.id()), [false; 4]);
    assert!(!can(&format!("strace -o /dev/null -p {}", keys.id())));
    assert!(!can(&format!("head -c 1 /proc/{}/mem", keys.id())));
    end(&mut keys);
    end(&mut other);
}

/// Sends under strace, and returns the calls that open, make or write something.
fn calls_of_a_send(here: &Setting) -> Vec<String> {
    let trace = lab::folder().join("keys.trace");
    let calls = "trace=open,openat,openat2,creat,mknodat,mkdir,mkdirat,rename,renameat2,link,linkat,symlinkat,\
                 memfd_create,write,writev,pwrite64,sendto,sendmsg";
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "-yy",
            "-s",
            "100000",
            "-e",
            "signal=none",
            "-e",
            calls,
            "-o",
        ])
        .arg(&trace);
    let keys = here.operator.command(&["send"]);
    command.arg(keys.get_program()).args(keys.get_args());
    command.current_dir(here.operator.path("")).env_clear();
    command.envs(
        keys.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let _sent = here.operator.ran(command).succeeded();
    let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
    let call = |line: &str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ')
            .to_owned()
    };
    text.lines().map(call).collect()
}

/// C8: nothing is opened for writing, and secrets go through pipes alone.
#[test]
fn keys_writes_no_file() {
    let here = Setting::new();
    let mut secrets = 0;
    for call in calls_of_a_send(&here) {
        let has = |words: &[&str]| words.iter().any(|word| call.contains(word));
        let begins = |words: &[&str]| words.iter().any(|word| call.starts_with(word));
        if has(&here.values.each_ref().map(String::as_str)) {
            let to = call.split(['<', '>']).nth(1).unwrap_or_default();
            assert!(to.starts_with("pipe:"), "{call}");
            secrets += 1;
        }
        let writes = has(&["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"]);
        let harmless = has(&["\"/dev/null\"", "\"/dev/tty\""]);
        assert!(!begins(&["open"]) || !writes || harmless, "{call}");
        assert!(
            !begins(&["creat(", "mk", "rename", "link", "symlink", "memfd"]),
            "{call}"
        );
    }
    assert!(
        secrets >= 2,
        "to ssh, and from the command of a source: {secrets}"
    );
}

/// C9: neither a home nor a folder for temporary files is needed.
#[test]
fn keys_needs_no_place_to_write() {
    let mut here = Setting::new();
    let temporary = TempDir::new_in(lab::folder()).unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["keys", ".keys", "known_hosts", "keys.toml", "ssh"] {
        std::os::unix::fs::symlink("/etc/victim", temporary.path().join(name)).unwrap();
    }
    here.operator.env("TMPDIR", temporary.path());
    let before = listing(temporary.path());
    // Through a descriptor: `keys` itself may lie below /tmp.
    let line = "exec 9<\"$1\"; shift; set -- /proc/self/fd/9 \"$@\"; mount -o bind,ro \"$HOME\" \"$HOME\"; \
                mount -t tmpfs -o size=4k full /tmp; head -c 4096 /dev/zero >/tmp/full; ! touch \"$HOME/x\" 2>&1";
    let _sent = here.operator.after(line, "send").succeeded();
    assert_eq!(
        here.host.inside().read("/run/keys/key0"),
        here.values[0].as_bytes()
    );
    assert_eq!(listing(temporary.path()), before);
    assert!(!Path::new("/etc/victim").exists());
}

/// C10: a work tree stays as it is, with its .git.
#[test]
fn a_work_tree_stays_as_it_is() {
    let here = Setting::new();
    let folder = here.operator.path("");
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=x", "-c", "user.email=x@x.invalid"])
            .args(words)
            .current_dir(&folder);
        command.env("HOME", here.operator.home());
        Ran::of(command, b"").succeeded().text()
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "x"]);
    let before = listing(&folder);
    for words in ["send", "plan", "status --compare", "get key1"] {
        let _done = here.operator.keys(words).succeeded();
        assert_eq!(listing(&folder), before, "{words}");
    }
    assert_eq!(git(&["status", "--porcelain", "--ignored"]), "");
}

/// Returns everything below a folder, with when it was changed.
fn listing(folder: &Path) -> String {
    let mut command = Command::new("find");
    command
        .arg(folder)
        .args(["-printf", "%p %s %i %m %T@ %C@\\n"]);
    Ran::of(command, b"").succeeded().text()
}
