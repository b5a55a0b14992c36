//! `keys watch`: a host that lost its keys has them again, whatever took them, and nobody typed anything.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use keys_tests::{Host, LIMIT, Operator, Release, Sshd, Watcher, lab, scaled, wait_for, within};

/// Starts at every boot, key or no key, and keeps what it saw of the key.
const WEB: &str =
    "ExecStart=/bin/sh -c 'cat /run/keys/token >/run/lab/web.saw; exec sleep infinity'";
const CANARY: &str = "canary-4f1c9a";
/// How long a host may be without its keys. It takes two seconds, but this machine may be busy.
const SOON: Duration = Duration::from_secs(60);

/// A host with a unit that takes its key, and an operator who has sent it.
fn seeded(release: Release) -> (Host, Operator) {
    let host = Host::with_agent("pigeon", release);
    host.enable("lab-web.service", "multi-user.target");
    host.services(&[("web", WEB)]);
    let operator = Operator::of_host(&host);
    operator.write("token", CANARY);
    operator.manifest(
        "id = \"lab\"\n[hosts.pigeon]\n[keys.token]\nhosts = [\"pigeon\"]\nsource = { file = \"token\" }\n\
         restart_units = [\"lab-web.service\"]\n",
    );
    let _sent = operator.send("--include pigeon").succeeded();
    (host, operator)
}

/// Waits until the unit runs and has read its key.
fn served(host: &Host, watcher: &Watcher) {
    let served = within(SOON, || {
        let inside = host.inside();
        let saw = fs::read(inside.path("/run/lab/web.saw"));
        let key = fs::read(inside.path("/run/keys/.current/token"));
        (saw.is_ok_and(|saw| saw == CANARY.as_bytes()) && key.is_ok()).then_some(())
    });
    assert!(
        served.is_some(),
        "no key after {SOON:?}\n{}\n{}\n{}",
        watcher.page("/"),
        watcher.log(),
        host.inside().tree("/run/keys")
    );
    assert_eq!(host.property("lab-web.service", "ActiveState"), "active");
}

/// R1: reboots by the host itself, one after the other, then a power cut; and the watcher never held what was sent.
#[test]
fn a_host_that_reboots_by_itself_has_its_keys_again_each_time() {
    let (mut host, operator) = seeded(Release::Bookworm);
    let watcher = Watcher::start(&operator, "watcher");
    watcher.says("pigeon", "complete", SOON);
    let rounds = scaled(5);
    let mut times = Vec::new();
    for _ in 0..rounds {
        host.reboot();
        let up = Instant::now();
        served(&host, &watcher);
        times.push(up.elapsed());
    }
    times.sort();
    let number = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "from sshd to a served key: median {:?}, 95 of 100 {:?}, longest {:?}",
        number(50),
        number(95),
        number(100)
    );
    watcher.says("pigeon", "complete", SOON);
    let count = |name: &str| watcher.number(&format!("host_{name}{{host=\"pigeon\"}}"));
    assert!((count("reboots_total") - f64::from(rounds)).abs() < 0.5);
    assert!(
        (count("reseeds_total") - f64::from(rounds)).abs() < 0.5,
        "one reseed a boot\n{}",
        watcher.log()
    );

    host.power_cut();
    watcher.says("pigeon", "unreachable", SOON);
    host.power_on();
    served(&host, &watcher);
    assert!(!holds(watcher.id(), CANARY), "the watcher held a secret");
}

/// Returns whether a text is anywhere in the memory of a process.
fn holds(process: u32, text: &str) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut looked = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let at = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (at(start), at(end));
        // What is only read comes from files.
        if !rest.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.seek(SeekFrom::Start(start)).unwrap();
        if memory.read_exact(&mut bytes).is_ok() {
            looked += bytes.len();
            if bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                return true;
            }
        }
    }
    assert!(looked > 1 << 20, "only {looked} bytes were looked at");
    false
}

#[test]
fn two_watchers_of_one_host_do_no_harm() {
    let (host, operator) = seeded(Release::Trixie);
    let watchers = ["one", "other"].map(|name| Watcher::start(&operator, name));
    for watcher in &watchers {
        watcher.says("pigeon", "complete", SOON);
    }
    host.reboot();
    for watcher in &watchers {
        served(&host, watcher);
        watcher.says("pigeon", "complete", SOON);
    }
    assert!(
        host.starts("web") <= 2,
        "started {} times",
        host.starts("web")
    );
}

#[test]
fn a_login_that_may_only_run_the_agent_is_enough() {
    let host = Host::served(Release::Trixie);
    let operator = Operator::of_host(&host);
    let _restricted = host
        .run(
            "sed -i 's|^|command=\"/usr/local/bin/keys-agent relay\" |' /root/.ssh/authorized_keys",
        )
        .succeeded();
    operator.token(CANARY);
    let watcher = Watcher::start(&operator, "watcher");
    watcher.says("pigeon", "complete", SOON);
    assert_eq!(host.inside().read("/run/keys/token"), CANARY.as_bytes());
    // Eight sessions at once is what the agent allows: a watcher takes none of them while nothing is asked.
    wait_for("a moment without a session", LIMIT, || {
        (host.property("keys-agent.service", "StatusText") == "waiting").then_some(())
    });
}

#[test]
fn a_key_that_is_lost_in_the_middle_of_a_boot_comes_back() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token(CANARY);
    let watcher = Watcher::start(&operator, "watcher");
    watcher.says("pigeon", "complete", SOON);
    let path = "/run/keys/.current/token";
    fs::remove_file(host.inside().path(path)).unwrap();
    wait_for("the key", SOON, || {
        (fs::read(host.inside().path(path)).ok()? == CANARY.as_bytes()).then_some(())
    });
    watcher.says("pigeon", "complete", SOON);
    assert_eq!(host.inside().read("/run/keys/token"), CANARY.as_bytes());
}

/// G2: a source that fails is asked again later and later; what can be sent is sent at once.
#[test]
fn a_source_that_fails_is_asked_less_and_less_often() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.write("good", CANARY);
    operator.manifest(
        "[hosts.pigeon]\n[keys.good]\nhosts = [\"pigeon\"]\nsource = { file = \"good\" }\n\
         [keys.bad]\nhosts = [\"pigeon\"]\n\
         source = { command = [\"sh\", \"-c\", \"date +%s.%N >>asked; cat bad\"] }\n",
    );
    let watcher = Watcher::start(&operator, "watcher");
    wait_for("the key whose source is well", SOON, || {
        host.inside().has("/run/keys/good").then_some(())
    });
    let asked = || -> Vec<f64> {
        let text = fs::read_to_string(operator.path("asked")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let times = wait_for("the fourth attempt", SOON, || {
        Some(asked()).filter(|times| times.len() >= 4)
    });
    let gaps: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    println!("{gaps:?}");
    assert!(gaps[0] > 0.7 && gaps[1] > 1.4 && gaps[2] > 2.8, "{gaps:?}");
    assert!(watcher.number("source_failures_total") > 2.5);
    assert!(
        watcher.page("/").contains("lacking"),
        "{}",
        watcher.page("/")
    );
    operator.write("bad", "mended");
    wait_for("the key whose source was mended", SOON, || {
        host.inside().has("/run/keys/bad").then_some(())
    });
    watcher.says("pigeon", "complete", SOON);
}

#[test]
fn a_host_that_is_down_is_knocked_at_with_pauses() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token(CANARY);
    let config = fs::read(operator.ssh("config")).unwrap();
    operator.ssh_lines("Host pigeon\n  ProxyCommand false\n");
    let watcher = Watcher::start(&operator, "watcher");
    watcher.says("pigeon", "unreachable", SOON);
    let start = Instant::now();
    let logins = "host_logins_total{host=\"pigeon\"}";
    let before = watcher.number(logins);
    wait_for("five knocks", SOON, || {
        (watcher.number(logins) - before > 4.5).then_some(())
    });
    let took = start.elapsed();
    assert!(took > Duration::from_secs(3), "five knocks in {took:?}");
    fs::write(operator.ssh("config"), config).unwrap();
    watcher.says("pigeon", "complete", SOON);
}

#[test]
fn systemd_is_told_that_it_is_ready_lives_and_stops() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token(CANARY);
    let path = operator.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let mut watcher = Watcher::with(&operator, "watcher", |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000000");
    });
    let mut heard = String::new();
    let mut hear = |wanted: &str| {
        heard.clear();
        let end = Instant::now() + SOON;
        while !heard.contains(wanted) {
            assert!(Instant::now() < end, "no {wanted} in {heard}");
            let mut message = [0; 4096];
            let length = systemd.recv(&mut message).unwrap();
            heard.push_str(&String::from_utf8_lossy(&message[..length]));
            heard.push('\n');
        }
    };
    for wanted in [
        "READY=1",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "STATUS=1 of 1 hosts have every key",
    ] {
        hear(wanted);
    }
    let mode = fs::metadata(watcher.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let page = watcher.page("/metrics");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("keys_watch_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    assert_eq!(watcher.terminate(), Some(143));
    hear("STOPPING=1");
    assert!(!watcher.socket().exists());
}

#[test]
fn only_hosts_are_watched_and_only_one_watcher_has_a_socket() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.token(CANARY);
    let _refused = operator
        .keys("watch pigeon --key token")
        .exited(64)
        .said("unexpected argument '--key'");
    let watcher = Watcher::start(&operator, "watcher");
    let words = format!("watch --metrics-socket {}", watcher.socket().display());
    let _refused = operator.keys(&words).exited(1).said("cannot listen on ");
    fs::write(operator.path("file"), "mine").unwrap();
    let _refused = operator
        .keys("watch --metrics-socket file")
        .exited(1)
        .said("cannot listen on ");
    assert_eq!(fs::read(operator.path("file")).unwrap(), b"mine");
}

/// The unit of pusher/systemd, as docs/how-to/watch.md has it set up; it watches the host that it runs on.
#[test]
fn the_unit_that_is_shipped_runs_a_watcher() {
    let host = Host::with_agent("pigeon", Release::Bookworm);
    let inside = host.inside();
    inside.install(&lab::binary("keys"), "/usr/local/bin/keys");
    host.tree().user("keys-watch", 990);
    let folder = "/etc/keys-watch";
    let config = format!("Host *\n  IdentityFile {folder}/id\n");
    inside.write(&format!("{folder}/config"), config, 0o600);
    inside.write(
        &format!("{folder}/id"),
        fs::read(lab::ssh_key()).unwrap(),
        0o600,
    );
    inside.write(&format!("{folder}/token"), CANARY, 0o600);
    let manifest = format!(
        "id = \"lab\"\n[ssh]\nconfig = \"{folder}/config\"\n[hosts.pigeon]\nssh = \"root@127.0.0.1\"\nhost_key = \"{}\"\n\
         [keys.token]\nhosts = [\"pigeon\"]\nsource = {{ file = \"token\" }}\n",
        host.tree().host_key()
    );
    inside.write(&format!("{folder}/keys.toml"), manifest, 0o600);
    let _owned = host
        .run(&format!(
            "chown -R keys-watch: {folder}; chmod 0700 {folder}"
        ))
        .succeeded();
    let unit = lab::source().join("pusher/systemd/keys-watch.service");
    host.unit("keys-watch.service", &fs::read_to_string(unit).unwrap());
    let _started = host
        .run("systemctl daemon-reload && systemctl start keys-watch")
        .succeeded();
    let told = within(SOON, || {
        let text = host.property("keys-watch.service", "StatusText");
        (text == "1 of 1 hosts have every key").then_some(())
    });
    assert!(told.is_some(), "{}", host.journal("keys-watch"));
    assert_eq!(inside.read("/run/keys/token"), CANARY.as_bytes());
    assert_eq!(
        inside.access("/run/keys-watch/metrics.sock"),
        "keys-watch:keys-watch 0600"
    );
    let _stopped = host.run("systemctl stop keys-watch").succeeded();
    assert_eq!(host.property("keys-watch.service", "Result"), "success");
    assert_eq!(
        host.property("keys-watch.service", "ActiveState"),
        "inactive"
    );
}
