//! What is at /run/keys: only memory that cannot be swapped, and the same one from the first frame to the commit.

use keys_protocol::{Refusal, RefusalCode};
use keys_tests::{Ended, Folder, Inside, Push, Release, Report, Session, Sshd};

const KEY: &[(&str, &[u8])] = &[("web", b"canary")];

fn push(host: &Inside) -> Ended {
    Session::push(host, KEY, |_| {})
}

/// A host whose /run/keys is made by these lines of shell.
fn made_by(lines: &str) -> Sshd {
    let sshd = Sshd::with("pigeon", Release::Bookworm, Folder::Missing);
    let _made = sshd.inside().run(lines).succeeded();
    sshd
}

/// Panics unless the agent calls the folder unsafe, with `words`, a hint and nothing written.
fn refused(host: &Inside, words: &str, talk: Ended) {
    let refusal: Refusal = talk.refused();
    assert_eq!(refusal.code, RefusalCode::Filesystem, "{refusal:?}");
    assert!(refusal.message.contains(words), "{words:?}: {refusal:?}");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    let found = host.run("find /run/keys -name '.gen*' -o -name '.current' -o -name web");
    assert_eq!(found.text(), "", "something was written: {refusal:?}");
}

/// B7: each is refused by what it is, whether or not a swap is on; where the keys would have gone nothing is written.
#[test]
fn what_is_not_memory_or_can_be_swapped_is_refused() {
    const FOLDER: &str = "mkdir -p /run/keys && ";
    let mounts = [
        (
            "mount -t tmpfs -o mode=0751 keys /run/keys",
            "tmpfs without `noswap`",
        ),
        (
            "mount -t devtmpfs -o mode=0751 keys /run/keys",
            "devtmpfs without `noswap`",
        ),
        (
            "mkdir /disk && mount --bind /disk /run/keys && chmod 0751 /run/keys",
            "overlay, which is not memory",
        ),
        (
            "truncate -s 8M /image && mkfs.ext4 -q /image && mount -o loop /image /run/keys && chmod 0751 /run/keys",
            "ext4, which is not memory",
        ),
        (
            "mount -t hugetlbfs -o mode=0751 keys /run/keys",
            "hugetlbfs, which is not memory",
        ),
        ("mount -t proc keys /run/keys", "proc, which is not memory"),
    ];
    for (mount, words) in mounts {
        let sshd = made_by(&format!("{FOLDER}{mount}"));
        refused(sshd.inside(), words, push(sshd.inside()));
    }
}

/// B7: in a user namespace no tmpfs can have `noswap`, and the text says what there is instead.
#[test]
fn in_a_user_namespace_only_a_ramfs_is_taken() {
    let sshd = made_by("mkdir /run/keys");
    let within = |mount: &str| {
        let mut command = sshd.inside().command("unshare");
        let line = format!("{mount} && chmod 0751 /run/keys && exec keys-agent receive");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &line]);
        let session = Session::of(command).unwrap_or_else(|e| panic!("{mount}: {e}"));
        session.whole(KEY, |_| {})
    };
    let refusal = within("mount -t tmpfs keys /run/keys").refused();
    assert!(
        refusal.message.contains("tmpfs without `noswap`"),
        "{refusal:?}"
    );
    assert!(refusal.hint.contains("mount -t ramfs"), "{refusal:?}");
    let report = within("mount -t ramfs keys /run/keys").committed();
    assert_eq!(report.generation, 1);
}

/// B7: the two that are memory for good.
#[test]
fn a_ramfs_and_a_tmpfs_without_swap_are_taken() {
    for folder in [Folder::Ramfs, Folder::USUAL] {
        let sshd = Sshd::with("pigeon", Release::Bookworm, folder);
        let report: Report = push(sshd.inside()).committed();
        assert_eq!(report.generation, 1);
        assert_eq!(sshd.inside().read("/run/keys/web"), b"canary");
    }
}

#[test]
fn a_folder_that_others_can_change_or_that_is_none_is_refused() {
    let memory = "mkdir -p /run/keys && mount -t ramfs keys /run/keys && ";
    let folders = [
        (format!("{memory} chmod 0771 /run/keys"), "mode 0771"),
        (format!("{memory} chmod 1777 /run/keys"), "mode 1777"),
        (format!("{memory} chown 65534 /run/keys"), "uid 65534"),
        (
            "mkdir -p /run/elsewhere && ln -s elsewhere /run/keys".into(),
            "not a folder",
        ),
        ("touch /run/keys".into(), "not a folder"),
        ("mkfifo /run/keys".into(), "not a folder"),
        ("true".into(), "does not exist"),
    ];
    for (lines, words) in folders {
        let sshd = made_by(&lines);
        refused(sshd.inside(), words, push(sshd.inside()));
    }
}

/// How far a conversation has come when the folder changes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Greeted,
    Asked,
    HalfABody,
    Everything,
}

/// Has a conversation during which `change` is done on the host.
fn changed_at(host: &Inside, moment: Moment, change: &str) -> Ended {
    let mut session = Session::receive(host);
    let at = |now: Moment| {
        if now as u8 == moment as u8 {
            let _changed = host.run(change).succeeded();
        }
    };
    let report = (|| {
        let (hello, _, _) = session.hello()?;
        at(Moment::Greeted);
        session.declare(&Push::of(&hello.nonce, KEY))?;
        at(Moment::Asked);
        // Two frames of one body.
        session.wire.send_body(&KEY[0].1[..3])?;
        session.wire.flush()?;
        at(Moment::HalfABody);
        session.wire.send_body(&KEY[0].1[3..])?;
        session.wire.flush()?;
        at(Moment::Everything);
        let commit = session.commit_of(&[KEY[0].1]);
        session.wire.send(&commit)?;
        session.wire.flush()?;
        session.report()
    })();
    let (code, said) = session.close();
    Ended { report, code, said }
}

/// B8: 20 ways and moments. Nothing may be in what was mounted, nor left in what was there.
#[test]
fn a_folder_that_is_mounted_over_or_away_meanwhile_is_refused_at_the_commit() {
    let changes = [
        "mount -t tmpfs -o noswap,mode=0751 keys /run/keys",
        "mount -t tmpfs -o mode=0777 keys /run/keys",
        "mkdir -m 0751 /run/other && mount --bind /run/other /run/keys",
        "mount --bind /run/keys /run/keys",
        "umount --lazy /run/keys",
    ];
    let moments = [
        Moment::Greeted,
        Moment::Asked,
        Moment::HalfABody,
        Moment::Everything,
    ];
    for (change, moment) in changes
        .iter()
        .flat_map(|change| moments.map(|at| (change, at)))
    {
        let sshd = Sshd::start("pigeon");
        let host = sshd.inside();
        let _old = Session::push(host, &[("web", b"old")], |_| {}).committed();
        // What was there stays reachable for us, whatever is mounted at its place.
        let _kept = host
            .run("mkdir /run/before && mount --bind /run/keys /run/before")
            .succeeded();
        let before = host.tree("/run/before");
        let refusal = changed_at(host, moment, change).refused();
        assert_eq!(
            refusal.code,
            RefusalCode::Filesystem,
            "{change} at {moment:?}: {refusal:?}"
        );
        assert_eq!(host.tree("/run/before"), before, "{change} at {moment:?}");
        if !change.contains("--bind /run/keys") {
            let found = host.run("find /run/keys -mindepth 1").succeeded().text();
            assert_eq!(found, "", "{change} at {moment:?}");
        }
    }
}

/// B8: the memory that was accepted becomes memory that is not, at its own place.
#[test]
fn a_folder_that_is_given_to_others_meanwhile_is_refused_at_the_commit() {
    for change in ["chmod 0777 /run/keys", "chown 65534 /run/keys"] {
        for moment in [
            Moment::Greeted,
            Moment::Asked,
            Moment::HalfABody,
            Moment::Everything,
        ] {
            let sshd = Sshd::start("pigeon");
            let refusal = changed_at(sshd.inside(), moment, change).refused();
            assert_eq!(
                refusal.code,
                RefusalCode::Filesystem,
                "{change} at {moment:?}: {refusal:?}"
            );
            assert!(
                !sshd.inside().has("/run/keys/.current"),
                "{change} at {moment:?}"
            );
        }
    }
}
