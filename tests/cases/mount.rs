//! `keys-mount.service`: memory at /run/keys that cannot be swapped, whatever was there before.

use keys_tests::{Host, Operator, Release};

/// What is mounted at /run/keys: its type, and its options.
fn mounted(host: &Host) -> String {
    let ran = host.run("awk '$2 == \"/run/keys\" { print $3, $4 }' /proc/mounts");
    ran.succeeded().text()
}

/// The host that cases share, with nothing mounted and nothing running; `prepare` is a line of shell for what is then there.
fn unmounted(host: &Host, prepare: &str) {
    let _stopped = host
        .run(
            "systemctl stop keys-agent.socket keys-agent.service keys-mount.service
            while umount /run/keys 2>/dev/null; do :; done; rm -rf /run/keys; [ ! -e /run/keys ]",
        )
        .succeeded();
    let _prepared = host.run(&format!("set -e; {prepare}")).succeeded();
}

fn start(host: &Host) -> (i32, String) {
    let since = host.run("date +%s.%N").text();
    let ran = host.run("systemctl start keys-agent.socket");
    let journal = host.run(&format!(
        "journalctl --sync; journalctl --no-pager -o cat --since @{} -u keys-mount",
        since.trim_end()
    ));
    (ran.code(), journal.text())
}

fn send(host: &Host) -> keys_tests::Ran {
    let operator = Operator::of_host(host);
    operator.manifest("[hosts.pigeon]\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"echo\", \"1\"] }\n");
    operator.send("--include pigeon")
}

/// B7: a fresh host gets a tmpfs that cannot be swapped; a ramfs and a tmpfs of that kind are kept with what is on them.
#[test]
fn memory_that_cannot_be_swapped_is_made_or_kept() {
    for release in Release::ALL {
        let host = Host::served(release);
        unmounted(&host, "true");
        let (code, said) = start(&host);
        assert!(
            code == 0 && said.contains("mounted a tmpfs without swap at /run/keys"),
            "{release:?}: {said}"
        );
        let now = mounted(&host);
        for option in ["tmpfs rw,", "noswap", "nosuid", "nodev", "noexec"] {
            assert!(now.contains(option), "{release:?}: {option}: {now}");
        }
        assert_eq!(host.inside().access("/run/keys"), "root:keys 0751");
        let _sent = send(&host).succeeded();

        for kept in ["ramfs -o mode=0750", "tmpfs -o noswap,mode=0700"] {
            is_kept(&host, kept);
        }
    }
}

/// Mounts this by hand, and panics unless it is still there when all has started, with the usual access.
fn is_kept(host: &Host, mount: &str) {
    let by_hand =
        format!("mkdir /run/keys; mount -t {mount} here /run/keys; echo 1 >/run/keys/there");
    unmounted(host, &by_hand);
    let (code, said) = start(host);
    assert!(
        code == 0 && said.contains("kept what is mounted at /run/keys"),
        "{mount}: {said}"
    );
    let now = mounted(host);
    let kind = mount.split(' ').next().expect("a word");
    assert!(
        now.lines().count() == 1 && now.starts_with(kind),
        "{mount}: {now}"
    );
    assert_eq!(
        host.inside().access("/run/keys"),
        "root:keys 0751",
        "{mount}"
    );
    assert_eq!(host.inside().read("/run/keys/there"), b"1\n", "{mount}");
    let _sent = send(host).succeeded();
}

/// Linux before 6.4 refuses `noswap`: strace says so in its place, and the rest is real.
#[test]
fn where_noswap_is_refused_it_is_a_ramfs() {
    for release in Release::ALL {
        let host = Host::served(release);
        unmounted(&host, "mkdir /run/keys");
        let old = host.run(
            "strace -qq -o /run/lab.strace -e trace=mount -e inject=mount:error=EINVAL:when=1 keys-agent mount; \
             s=$?; cat /run/lab.strace >&2; exit $s",
        );
        let _made = old
            .succeeded()
            .printed("mounted a ramfs at /run/keys")
            .said("noswap");
        let now = mounted(&host);
        assert!(
            now.starts_with("ramfs rw,nosuid,nodev,noexec"),
            "{release:?}: {now}"
        );
        assert_eq!(host.inside().access("/run/keys"), "root:keys 0751");
        let (code, said) = start(&host);
        assert!(
            code == 0 && said.contains("kept what is mounted at /run/keys"),
            "{release:?}: {said}"
        );
        let _sent = send(&host).succeeded();
        assert_eq!(host.inside().read("/run/keys/a"), b"1\n");
    }
}

/// B7: what may be swapped, is a disk, or hides files of somebody, is refused: no socket, and no push without it either.
#[test]
fn anything_else_is_refused_and_takes_no_keys() {
    let refused = [
        (
            "mount -t tmpfs -o mode=0755 here /run/keys",
            "a tmpfs that may be swapped is mounted at /run/keys",
        ),
        (
            "mkdir -p /srv/keys; mount --bind /srv/keys /run/keys",
            "that may be swapped is mounted at /run/keys",
        ),
        (
            "mkdir /run/keys/mine",
            "/run/keys is no mount and not empty",
        ),
    ];
    for release in Release::ALL {
        let host = Host::served(release);
        for (prepare, why) in refused {
            unmounted(&host, &format!("mkdir /run/keys; {prepare}"));
            let before = mounted(&host);
            let (code, said) = start(&host);
            assert!(
                code != 0 && said.contains(why),
                "{release:?}, {prepare}: {said}"
            );
            assert_eq!(mounted(&host), before, "{release:?}, {prepare}");
            let _refused = send(&host).exited(7).said("keys-mount.service makes it");
            for path in ["/run/keys-agent.sock", "/run/keys/a"] {
                assert!(!host.inside().has(path), "{release:?}, {prepare}: {path}");
            }
        }
        unmounted(&host, "true");
        assert_eq!(
            start(&host).0,
            0,
            "{release:?}: it starts once the way is free"
        );
    }
}
