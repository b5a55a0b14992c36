//! E7, E8, D8, D10: connections that freeze, break or are damaged, logins that talk, and answers that are lost.

use std::thread;
use std::time::Duration;

use keys_protocol::Kind;
use keys_tests::{Operator, Sshd, scaled};

/// What the agent may take to give up on a silent pusher, and the pusher on a silent agent.
const GIVEN_UP: Duration = Duration::from_secs(75);

/// E7: both sides give up in time, the host keeps what it had, and the next push is not held up.
#[test]
fn a_frozen_connection_is_given_up_by_both_sides() {
    let large = vec![b'n'; 3 << 20];
    let check = |words: &str, code: i32, said: &str| {
        let mut host = Sshd::start("pigeon");
        let operator = Operator::of(&host);
        operator.token("old");
        let _sent = operator.send("").succeeded();
        host.mangle(words);
        let honest = Operator::of(&host);
        host.mangle("");
        let other = Operator::of(&host);
        honest.token(&large);
        thread::scope(|scope| {
            let frozen = scope.spawn(|| honest.send(""));
            // Once the agent has the lock and waits for the rest.
            thread::sleep(Duration::from_secs(2));
            other.token("new");
            let ran = other.send("").succeeded();
            assert!(ran.took < GIVEN_UP, "{ran}");
            let frozen = frozen.join().unwrap().exited(code).said(said);
            assert!(frozen.took < GIVEN_UP, "{frozen}");
        });
        assert_eq!(host.inside().read("/run/keys/token"), b"new");
    };
    thread::scope(|scope| {
        let check = &check;
        scope.spawn(move || {
            check(
                "--freeze 1000000",
                1,
                "keys: pigeon: refused by the host: the peer said nothing for too long\n",
            );
        });
        scope.spawn(move || check("--down --freeze 3000", 4, "keys: pigeon: "));
    });
}

/// E8: after the key exchange, one bit of the stream turned over ends the session, and nothing torn is left.
#[test]
fn a_flipped_bit_changes_nothing() {
    let mut host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    let (old, new) = (vec![b'o'; 40_000], vec![b'n'; 40_000]);
    let rounds = scaled(12);
    for round in 0..rounds {
        host.mangle("");
        operator.knows(&host).token(&old);
        let _sent = operator.send("").succeeded();
        // Up: the key exchange is over after 2,000 bytes, the body begins after about 4,000. Down: 3,000 is Hello.
        let words = match (round % 3, round * 4_099) {
            (0, spread) => format!("--down --flip {}", 2_900 + spread % 300),
            (_, spread) => format!("--flip {}", 2_500 + spread % 40_000),
        };
        host.mangle(&words);
        operator.knows(&host).token(&new);
        let ran = operator.send("");
        let found = host.inside().read("/run/keys/token");
        assert!(ran.code() == 4 && found == old, "{words}\n{ran}");
    }
}

/// D8: what a login says before the agent speaks is skipped up to 64 KiB, whatever it is.
#[test]
fn a_talkative_login_is_skipped_or_quoted() {
    let host = Sshd::start("pigeon");
    host.sshd_lines("Banner /etc/banner");
    host.inside()
        .write("/etc/banner", "\u{1b}]0;banner\u{7}\n", 0o644);
    let operator = Operator::of(&host);
    let agent = "exec keys-agent.real \"$@\"";
    let fine = |noise: &str| {
        operator.token(noise);
        host.wrap(&format!("{noise}\n{agent}"));
        let ran = operator.send("").succeeded();
        assert_eq!(host.inside().read("/run/keys/token"), noise.as_bytes());
        assert!(
            !ran.stderr.contains('\u{1b}') && !ran.text().contains('\u{1b}'),
            "{ran}"
        );
    };
    fine("echo Welcome to pigeon");
    fine("printf '\\x89KEYS\\r\\n'; printf '\\x89KEYS\\x00'");
    fine("head -c 65000 /dev/urandom");
    fine("yes '\u{1b}[31mwarning' | head -c 10000000 >&2");
    operator.token("never");
    host.wrap(&format!("yes '\u{1b}[31mwarning' | head -c 66000\n{agent}"));
    let ran = operator.send("");
    assert_ne!(ran.code(), 0, "{ran}");
    let ran = ran.said("keys: hint: the host printed instead: \\u{1b}[31mwarning");
    assert!(
        !ran.stderr.contains('\u{1b}') && ran.stderr.len() < 1000,
        "{ran}"
    );
    assert_ne!(host.inside().read("/run/keys/token"), b"never");
}

/// Copies one direction of the protocol frame by frame, and ends before the first frame of a type.
const UP_TO: &str = r#"
upto() {
    perl -e '
        ($type, $magic) = @ARGV; $| = 1; binmode STDIN; binmode STDOUT;
        sub take { my $got = ""; while (length $got < $_[0]) { sysread(STDIN, $got, $_[0] - length $got, length $got) or exit } $got }
        print take(8) if $magic;
        while (1) { $head = take(5); ($length, $kind) = unpack "NC", $head; last if $kind == $type; print $head, take($length) }
    ' "$@"
}
[ ! -e /root/done ] || exec keys-agent.real "$@"
touch /root/done
"#;

/// D10: the host applied it and the answer was lost. The pusher asks again, and it is in place.
#[test]
fn a_lost_answer_of_what_was_applied_is_a_success() {
    let host = Sshd::start("pigeon");
    host.wrap(&format!(
        "{UP_TO} keys-agent.real \"$@\" | upto {} 1",
        Kind::KeyResult as u8
    ));
    let operator = Operator::of(&host);
    operator.token("hunter2");
    let _settled = operator.send("").succeeded();
    assert_eq!(host.inside().read("/run/keys/token"), b"hunter2");
    assert!(host.inside().has("/root/done"));
}

/// D10: the Commit was lost. The pusher asks again, and it is not in place.
#[test]
fn a_lost_commit_is_told_from_one_that_was_applied() {
    let host = Sshd::start("pigeon");
    host.wrap(&format!(
        "{UP_TO} upto {} 0 | keys-agent.real \"$@\"",
        Kind::Commit as u8
    ));
    let operator = Operator::of(&host);
    operator.token("hunter2");
    let ran = operator.send("").exited(4);
    let _ran = ran
        .said("keys: pigeon: the connection was lost after everything was sent (")
        .said("): the host had not applied it; nothing was changed\n");
    assert!(!host.inside().has("/run/keys/token"));
    let _sent = operator.send("").succeeded();
}

/// D10: neither is known where the host cannot be asked again.
#[test]
fn what_cannot_be_settled_is_called_unknown() {
    let host = Sshd::start("pigeon");
    host.wrap("[ ! -e /root/twice ] || exit 3; mv /root/done /root/twice 2>/dev/null || :");
    let script = format!(
        "{UP_TO} keys-agent.real \"$@\" | upto {} 1",
        Kind::KeyResult as u8
    );
    host.wrap(&script.replace("exec keys-agent.real \"$@\"", "exit 3"));
    let operator = Operator::of(&host);
    operator.token("hunter2");
    let _unknown = operator
        .send("")
        .exited(4)
        .said("): whether it is in place is unknown: no agent answered (exit status 3)")
        .said("keys: hint: `keys plan` says what is missing once the host can be reached\n");
}
