//! Sessions that are killed and hosts that go down in the middle of a push: old or new, never between, and the next run
//! finishes what is left.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keys_protocol::{How, WireError};
use keys_tests::{Host, Inside, LIMIT, Operator, Push, Ran, Release, Session, scaled, wait_for};

/// Keys of a push, readers beside it, and kills and reboots on each release.
const KEYS: usize = 200;
const READERS: usize = 4;
const KILLS: u32 = 12;
const REBOOTS: u32 = 2;
/// A key whose transfer takes a while, and about how long.
const BIG: usize = 60 << 20;
const BIG_PUSH: Duration = Duration::from_millis(700);
/// How long the pusher may take to see that the host is gone.
const GONE: Duration = Duration::from_secs(20);
/// Its restarts, but for the first, hang: every other start does.
const HANGS: &str = "[Unit]\nStartLimitBurst=100\n[Service]\n\
    ExecStartPre=/bin/sh -c '[ $$(($$(wc -l </run/lab/hangs.starts) % 2)) = 1 ] || sleep 60'";

/// A part of `whole`, another for each round: the multiples of the golden ratio fall evenly, and never on one spot.
fn part_of(whole: Duration, round: u32) -> Duration {
    whole.mul_f64((0.618_034 * f64::from(round + 1)).fract())
}

/// All keys with the values of one round.
struct Values {
    names: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl Values {
    fn of(round: u32) -> Self {
        Self {
            names: (0..KEYS).map(|key| format!("k{key}")).collect(),
            // Of many sizes, and such that a part of one shows.
            bodies: (0..KEYS)
                .map(|key| format!("{round:08}").repeat(chunks(key)).into_bytes())
                .collect(),
        }
    }

    fn pairs(&self) -> Vec<(&str, &[u8])> {
        self.names
            .iter()
            .map(String::as_str)
            .zip(self.bodies.iter().map(Vec::as_slice))
            .collect()
    }

    /// Pushes them as far as it goes.
    fn push(&self, host: &Inside) -> Result<(), WireError> {
        let mut command = host.command("keys-agent");
        command.arg("receive");
        Session::of(command)?
            .whole(&self.pairs(), |_| {})
            .report
            .map(drop)
    }

    fn are_on(&self, host: &Inside) -> bool {
        self.pairs()
            .iter()
            .all(|(name, body)| host.read(&format!("/run/keys/{name}")) == *body)
    }
}

fn chunks(key: usize) -> usize {
    1 + key * 20 % 997
}

/// Reads keys until told to stop, and panics on one that is not there or not whole.
fn read_on(host: &Inside, over: &AtomicBool, reads: &AtomicUsize) {
    let mut key = reads.fetch_add(1, Ordering::Relaxed);
    while !over.load(Ordering::Relaxed) {
        key = (key * 31 + 17) % KEYS;
        let path = format!("/run/keys/k{key}");
        let bytes = fs::read(host.path(&path))
            .unwrap_or_else(|e| panic!("{path}: {e}\n{}", host.tree("/run/keys")));
        let whole =
            bytes.len() == 8 * chunks(key) && bytes.chunks(8).all(|chunk| chunk == &bytes[..8]);
        assert!(whole, "{path} was torn: {} bytes", bytes.len());
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stops the readers also when the case fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A3: sessions are killed at moments spread over all of a push; readers never see a key torn or missing, and the next
/// push always puts everything in place.
#[test]
fn a_session_killed_at_any_moment_leaves_old_or_new() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let inside = host.inside();
        let start = Instant::now();
        Values::of(0).push(&inside).expect("a push");
        Values::of(1).push(&inside).expect("a push");
        // From nothing to a little after all of a push.
        let span = start.elapsed() * 6 / 10;
        let (over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        let kills = scaled(KILLS);
        let lost = thread::scope(|scope| {
            let _over = Over(&over);
            for _ in 0..READERS {
                scope.spawn(|| read_on(&inside, &over, &reads));
            }
            (0..kills)
                .filter(|kill| is_lost(&host, *kill, part_of(span, *kill)))
                .count()
        });
        let reads = reads.into_inner();
        println!(
            "{release:?}: {kills} kills within {span:?}, {lost} pushes lost, all recovered, {reads} reads"
        );
        assert!(lost >= 2, "too few of the kills met a session");
        wait_for("the leftovers to go", LIMIT, || {
            let generations = host.run("ls -d /run/keys/.gen.*").text();
            (generations.lines().count() == 1).then_some(())
        });
    });
}

/// Kills the session of a push after a while, makes sure of what it left and of the next push, and returns whether the
/// push was lost.
fn is_lost(host: &Host, kill: u32, after: Duration) -> bool {
    let inside = host.inside();
    let (old, new, next) = (
        Values::of(2 * kill + 1),
        Values::of(2 * kill + 2),
        Values::of(2 * kill + 3),
    );
    let pushed = thread::scope(|scope| {
        let push = scope.spawn(|| new.push(&inside));
        thread::sleep(after);
        let _maybe_none = host.kill_sessions();
        push.join().expect("it does not panic")
    });
    let landed = new.are_on(&inside);
    assert!(
        landed || old.are_on(&inside),
        "a mix after kill {kill}: {}",
        inside.tree("/run/keys")
    );
    assert!(
        landed || pushed.is_err(),
        "a report of what was not done, kill {kill}"
    );
    next.push(&inside)
        .unwrap_or_else(|e| panic!("no recovery from kill {kill}: {e}"));
    assert!(next.are_on(&inside), "no recovery from kill {kill}");
    pushed.is_err()
}

/// A3: a session is killed between its commit and the end of a restart: the next start of the service tells the units, and
/// so does the next run.
#[test]
fn units_that_were_not_told_are_told_by_whoever_comes_next() {
    for release in Release::ALL {
        let host = Host::served(release);
        host.services(&[("hangs", HANGS)]);
        leave_untold(&host, b"1", 2);
        let _restarted = host.run("systemctl restart keys-agent.service").succeeded();
        wait_for("the unit to be told", LIMIT, || {
            pending(&host).is_empty().then_some(())
        });
        assert_eq!(host.starts("hangs"), 3, "{release:?}");

        leave_untold(&host, b"2", 4);
        let mut next = announced(&host, b"2", &[]);
        let units = next.report().expect("a report").units;
        assert_eq!(units.len(), 1, "{release:?}: {units:?}");
        let _ended = next.close();
        assert_eq!(pending(&host), "", "{release:?}");
        assert_eq!(host.starts("hangs"), 5, "{release:?}");
        assert_eq!(
            host.property("lab-hangs.service", "ActiveState"),
            "active",
            "{release:?}"
        );
    }
}

/// Returns which units are still to be told, a line each.
fn pending(host: &Host) -> String {
    host.run("cd /run/keys/.current/.pending && find -type f -exec cat {} +")
        .succeeded()
        .text()
}

/// Sends the key and kills the session once the unit has begun to restart, which is its start of this number.
fn leave_untold(host: &Host, value: &[u8], start: usize) {
    let session = announced(host, value, &[value]);
    wait_for("the restart to begin", LIMIT, || {
        (host.starts("hangs") == start).then_some(())
    });
    assert_eq!(host.kill_sessions(), 1);
    let _ended = session.close();
    assert_eq!(host.inside().read("/run/keys/a"), value, "it was committed");
    assert_eq!(
        pending(host),
        r#"{"unit":"lab-hangs.service","how":"restart"}"#,
        "it is still to be told"
    );
}

/// Sends a key and its unit up to the commit, and leaves the report unread.
fn announced(host: &Host, value: &[u8], bodies: &[&[u8]]) -> Session {
    let mut session = Session::receive(&host.inside());
    let (hello, ..) = session.hello().expect("a greeting");
    let mut push = Push::of(&hello.nonce, &[("a", value)]);
    push.tell(0, "lab-hangs.service", How::Restart);
    assert_eq!(
        session.declare(&push).expect("an answer").len(),
        bodies.len()
    );
    session.send_all(bodies).expect("it listens");
    session
}

/// A9: the host reboots in the middle of a push, in good order or at once: the pusher ends, and the host comes back whole
/// and empty.
#[test]
fn a_reboot_in_the_middle_of_a_push_ends_it() {
    Release::side_by_side(|release| {
        let host = Host::with_agent("pigeon", release);
        let operator = Operator::of_host(&host);
        let key = |name: &str| {
            format!("[keys.{name}]\nhosts = [\"pigeon\"]\nsource = {{ file = \"{name}\" }}\n")
        };
        operator.manifest(&format!("[hosts.pigeon]\n{}{}", key("a"), key("big")));
        operator.write("a", "1");
        for round in 0..scaled(REBOOTS) {
            let (line, exits) = match round % 2 {
                // The shutdown waits for the session; the connection may be gone before the report.
                0 => ("systemctl --no-block reboot", &[0, 4][..]),
                _ => ("systemctl --force --force reboot", &[4][..]),
            };
            operator.write("big", vec![b'x'; BIG]);
            let before = host.first();
            let (sent, took) =
                reboot_during_a_send(&host, &operator, line, part_of(BIG_PUSH, round));
            let (code, said) = (sent.code(), sent.stderr.trim_end());
            println!("{release:?}, {line}: the push ended with {code}, {took:?} later: {said}");
            assert!(
                took < GONE && exits.contains(&code),
                "{release:?}, {line}: {took:?}\n{sent}"
            );
            host.rebooted(before);
            is_fresh(&host, &operator);
        }
    });
}

/// Panics unless the host is up, has nothing, and takes keys; has nothing then.
fn is_fresh(host: &Host, operator: &Operator) {
    assert_eq!(
        host.settled(),
        "running",
        "{}",
        host.run("systemctl --failed")
    );
    assert_eq!(host.run("ls -A /run/keys").succeeded().text(), "");
    assert_eq!(host.property("keys-agent.service", "NRestarts"), "0");
    operator.write("big", "small");
    let sent = operator.send("--include pigeon").succeeded();
    let _sent = sent.printed("pigeon: big: new");
    let _emptied = host.run("rm -rf /run/keys/* /run/keys/.[!.]*").succeeded();
}

/// Runs the line some time after a send has begun to write, and returns the send, and how long it took from there.
fn reboot_during_a_send(
    host: &Host,
    operator: &Operator,
    line: &str,
    after: Duration,
) -> (Ran, Duration) {
    thread::scope(|scope| {
        let send = scope.spawn(|| operator.send("--include pigeon"));
        wait_for("a generation to be begun", LIMIT, || {
            host.inside()
                .tree("/run/keys")
                .contains("/.gen.")
                .then_some(())
        });
        thread::sleep(after);
        let start = Instant::now();
        // What asks for it goes down with the host.
        let _asked = host.run(line);
        (send.join().expect("it runs"), start.elapsed())
    })
}
