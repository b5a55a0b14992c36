//! The sealed bundle: keys that come back by themselves after a reboot, and every bundle that must not be opened.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use keys_protocol::bundle::{self, Entry, Head, Kept};
use keys_protocol::{Digest, Mode, Principal, RefusalCode, Scope, Secret, WireError};
use keys_tests::{Host, Operator, Push, Ran, Release, Session, lab, scaled};
use serde_json::Value;

/// Where the bundle is, unless a case says otherwise.
const SHELF: &str = "/var/lib/keys";

/// A host that opens bundles, the operator who sends to it, and whose key signs them.
struct Lab {
    host: Host,
    operator: Operator,
}

impl Lab {
    /// Boots a host that keeps its bundle in `folder`.
    fn new(release: Release, folder: &str) -> Self {
        let mut host = Host::off("pigeon", release);
        host.tree().user("alice", 1200);
        host.power_on();
        host.place_agent();
        host.inside()
            .install(&lab::binary("keys-restore"), "/usr/local/bin/keys-restore");
        let installed = host.run(&format!("keys-agent install --restore {folder}"));
        let _told = installed
            .succeeded()
            .printed("is not there: until it names a key");
        let operator = Operator::of_host(&host);
        let public = lab::make_ssh_key(&operator.path("signer"));
        let line = format!("# who signs\nops@lab {public}\n");
        host.inside().write(bundle::SIGNERS, line, 0o644);
        Self { host, operator }
    }

    /// Writes the manifest: two sealed keys and one that is not, with `token` as the value of all.
    fn manifest(&self, token: &str) {
        self.declare(token, &["token", "web/cert"], &["fleeting"]);
    }

    /// Writes a manifest with these keys.
    fn declare(&self, token: &str, sealed: &[&str], never: &[&str]) {
        self.operator.write("value", token);
        let mut text = format!(
            "id = \"lab\"\n[sealing]\nsign_with = \"signer\"\n[hosts.pigeon]\nhost_key = \"{}\"\n",
            self.host.tree().host_key()
        );
        for (names, offline) in [(sealed, "sealed"), (never, "never")] {
            for name in names {
                text += &format!(
                    "[keys.\"{name}\"]\nhosts = [\"pigeon\"]\nsource = {{ file = \"value\" }}\n\
                     owner = \"alice\"\nmode = \"0440\"\noffline = \"{offline}\"\n"
                );
            }
        }
        self.operator.manifest(&text);
    }

    /// Returns what the host says of its bundle.
    fn standing(&self) -> Value {
        let ran = self.operator.keys("status --json pigeon");
        let said: Value =
            serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}\n{ran}"));
        said["hosts"][0].clone()
    }

    fn state(&self) -> (String, String) {
        let standing = &self.standing()["bundle"];
        let text = |name: &str| standing[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("detail"))
    }

    fn kept(&self) -> Kept {
        let text = self
            .host
            .inside()
            .read(&format!("{SHELF}/{}", bundle::KEPT));
        serde_json::from_slice(&text).expect("the agent wrote it")
    }

    fn stored(&self) -> Vec<u8> {
        self.host
            .inside()
            .read(&format!("{SHELF}/{}", bundle::FILE))
    }

    /// Opens these bytes in the place of the bundle, with nothing in /run/keys, as a boot would.
    fn open(&self, bytes: &[u8]) -> Ran {
        let path = format!("{SHELF}/{}", bundle::FILE);
        self.host.inside().write(&path, bytes, 0o600);
        self.host
            .run("rm -rf /run/keys/* /run/keys/.[!.]*; systemctl reset-failed keys-restore; systemctl restart keys-restore")
    }

    /// Makes sure that these bytes are refused for this reason, and that nothing was written.
    fn refuses(&self, what: &str, bytes: &[u8], reason: &str) {
        let ran = self.open(bytes);
        assert_ne!(ran.code(), 0, "{what} was opened: {ran}");
        let said = String::from_utf8_lossy(&self.host.inside().read(bundle::OPENED)).into_owned();
        assert!(
            said.contains(&format!("\"state\":\"refused\",\"detail\":\"{reason}")),
            "{what}: {said}"
        );
        let tree = self.host.inside().tree("/run/keys");
        assert_eq!(
            tree.lines().count(),
            1,
            "{what}: something was written:\n{tree}"
        );
    }

    fn opens(&self, what: &str, bytes: &[u8], token: &str) {
        let ran = self.open(bytes);
        assert_eq!(
            ran.code(),
            0,
            "{what}: {ran}\n{}",
            self.host.journal("keys-restore")
        );
        self.is_back(token);
    }

    /// Both sealed keys are there, with this value, and the other key is not.
    fn is_back(&self, token: &str) {
        let inside = self.host.inside();
        for name in ["token", "web/cert"] {
            let path = format!("/run/keys/{name}");
            assert_eq!(inside.read(&path), token.as_bytes(), "{name}");
            assert_eq!(inside.access(&path), "alice:root 0440", "{name}");
        }
        assert!(
            !inside.has("/run/keys/fleeting"),
            "offline = \"never\" came back"
        );
    }

    /// Goes down and comes up again, and has its sealed keys back.
    fn boots(&mut self, how: &str) {
        if how == "reboot" {
            self.host.reboot();
        } else {
            self.host.power_cut();
            self.host.power_on();
        }
        let _all = self.host.settled();
        self.is_back("first");
        let opened = ("opened".to_owned(), "2 keys came back".to_owned());
        assert_eq!(self.state(), opened, "{how}");
        let time = |name| self.host.property("keys-restore.service", name);
        let began = time("InactiveExitTimestampMonotonic");
        let ended = time("ActiveEnterTimestampMonotonic");
        println!("{how}: keys-restore ran from {began} to {ended} (microseconds)");
    }

    /// A pusher that does not know of bundles, or of this key in one, changes a key that is in it.
    fn refuses_unaware(&self, epoch: u64) {
        let mut session = Session::receive(&self.host.inside());
        let (hello, _, _) = session.hello().expect("a greeting");
        assert_eq!((hello.requires.as_str(), hello.epoch), ("bundle", epoch));
        let mut push = Push::of(&hello.nonce, &[("token", b"third")]);
        push.manifest.scope = Scope::Part;
        push.manifest.take_over = true;
        match session.declare(&push) {
            Err(WireError::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::Policy, "{refusal}");
                assert!(refusal.message.contains("sealed bundle"), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
        drop(session.close());
    }

    fn host_id(&self) -> Digest {
        let line = self.host.tree().host_key();
        let blob = line.split(' ').nth(1).expect("a type and base64");
        let mut command = Command::new("base64");
        command.arg("-d");
        Digest::of(&Ran::of(command, blob.as_bytes()).succeeded().stdout)
    }
}

/// A bundle made by hand, with ssh-keygen and age, to lie in one thing.
struct Forgery {
    head: Head,
    /// The container that is signed, and the one that is put in.
    signed: Option<Vec<u8>>,
    signer: PathBuf,
    namespace: &'static str,
    recipient: String,
}

impl Forgery {
    /// One that lies in nothing, numbered above all others.
    fn none(lab: &Lab) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is later");
        let head = Head {
            host: lab.host_id(),
            epoch: lab.kept().epoch + 1,
            made_at: now.as_secs(),
            expires: now.as_secs() + 3600,
            manifest: "lab".into(),
            sender: "forger@lab".into(),
            keys: 2,
            bytes: 12,
        };
        Self {
            head,
            signed: None,
            signer: lab.operator.path("signer"),
            namespace: bundle::NAMESPACE,
            recipient: lab.host.tree().host_key(),
        }
    }

    fn container(&self) -> Secret {
        let entry = |name: &str| Entry {
            name: name.parse().expect("a name of a case"),
            owner: "alice".parse().expect("a name of a case"),
            group: Principal::root(),
            mode: "0440".parse::<Mode>().expect("a mode"),
            public: false,
            size: 6,
            units: Vec::new(),
        };
        let keys = [
            (entry("token"), Secret::new(b"forged".to_vec())),
            (entry("web/cert"), Secret::new(b"forged".to_vec())),
        ];
        bundle::write(&self.head, keys.iter().map(|(entry, bytes)| (entry, bytes))).expect("small")
    }

    fn signature(&self, of: &Secret) -> String {
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-Y", "sign", "-n", self.namespace, "-f"])
            .arg(&self.signer);
        let text = bundle::signed_text(of);
        Ran::of(command, text.as_bytes()).succeeded().text()
    }

    fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        let mut command = Command::new(lab::peer("age"));
        command.args(["-r", &self.recipient]);
        Ran::of(command, plain).succeeded().stdout
    }

    fn bytes(&self) -> Vec<u8> {
        let container = self.container();
        let signed = self.signed.clone().map(Secret::new);
        let signature = self.signature(signed.as_ref().unwrap_or(&container));
        self.encrypt(
            bundle::join(&signature, &container)
                .expect("short")
                .expose(),
        )
    }
}

/// R3, and a power cut: before any ordinary unit starts, and without a command typed.
#[test]
fn sealed_keys_are_back_after_a_reboot_and_a_power_cut() {
    Release::side_by_side(|release| {
        // On one of them in a folder that the administrator chose.
        let folder = if release == Release::Trixie {
            "/srv/kept"
        } else {
            SHELF
        };
        let mut lab = Lab::new(release, folder);
        lab.manifest("first");
        let sent = lab.operator.send("pigeon").succeeded();
        let _told = sent.printed("pigeon: sealed bundle: stored, good until ");
        // A unit that says what it found when it was started at boot.
        lab.host.unit("lab-reader.service", READER);
        lab.host.enable("lab-reader.service", "multi-user.target");
        for how in ["reboot", "power cut"] {
            let _gone = lab.host.run("rm -f /root/found").succeeded();
            lab.boots(how);
            assert_eq!(lab.host.inside().read("/root/found"), b"first", "{how}");
        }
        // The next send finds the sealed ones as they are, and brings the other.
        let again = lab.operator.send("pigeon").succeeded();
        let _new = again.printed("pigeon: fleeting: new");
        let status = lab.operator.keys("status pigeon").succeeded();
        let _honest = status.printed("at rest: none: whoever has the disk can open it");
    });
}

const READER: &str = "\
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cat /run/keys/token >/root/found'
";

/// R2, A10: forged, foreign, expired, cut, downgraded, rolled back. What was forged is right but for one thing.
#[test]
fn what_is_not_exactly_the_bundle_is_refused_and_nothing_is_written() {
    Release::side_by_side(|release| {
        let lab = Lab::new(release, SHELF);
        lab.manifest("first");
        let _sent = lab.operator.send("pigeon").succeeded();
        let first = lab.stored();
        let none = Forgery::none(&lab).bytes();
        lab.opens("what lies in nothing", &none, "forged");
        lab.opens("the one that was sent", &first, "first");
        forged(&lab);
        foreign(&lab);
        over(&lab);
        damaged(&lab, &first);
        rolled_back(&lab, &first);
        lab.opens("the one that was sent, again", &first, "first");
        let narrowed = "ops valid-before=\"20200101\" ssh-ed25519 AAAA\n";
        lab.host.inside().write(bundle::SIGNERS, narrowed, 0o644);
        lab.refuses("odd signers", &first, "/etc/keys/signers: line 1: ");
    });
}

fn forged(lab: &Lab) {
    let none = Forgery::none(lab);
    let signer = lab.operator.path("other");
    let _public = lab::make_ssh_key(&signer);
    let other = Forgery {
        signer,
        ..Forgery::none(lab)
    };
    let reason = "forged: /etc/keys/signers does not name";
    lab.refuses("another signer", &other.bytes(), reason);
    let plain = bundle::join("", &none.container()).expect("short");
    let unsigned = none.encrypt(plain.expose());
    lab.refuses("unsigned", &unsigned, "forged: there is no signature");
    let elsewhere = Forgery {
        namespace: "git",
        ..Forgery::none(lab)
    };
    let reason = "forged: its signature is not";
    lab.refuses("signed for git", &elsewhere.bytes(), reason);
    let others = Forgery {
        signed: Some(b"others".to_vec()),
        ..Forgery::none(lab)
    };
    lab.refuses("signed of other bytes", &others.bytes(), reason);
}

fn foreign(lab: &Lab) {
    let mut other = Forgery::none(lab);
    other.head.host = Digest([7; 32]);
    let reason = "foreign: it is for the host 0707";
    lab.refuses("for another host", &other.bytes(), reason);
    let public = lab::public_of(&lab.operator.path("other"));
    let to_other = Forgery {
        recipient: fs::read_to_string(public)
            .expect("ssh-keygen wrote it")
            .trim_end()
            .to_owned(),
        ..Forgery::none(lab)
    };
    let reason = "foreign: it is not encrypted to";
    lab.refuses("to another host", &to_other.bytes(), reason);
}

fn over(lab: &Lab) {
    let mut expired = Forgery::none(lab);
    expired.head.expires = expired.head.made_at - 1;
    lab.refuses("expired", &expired.bytes(), "expired: ");
    let mut later = Forgery::none(lab);
    later.head.made_at += 10_000_000;
    later.head.expires = later.head.made_at;
    lab.refuses(
        "of a time to come, and over then",
        &later.bytes(),
        "expired: ",
    );
}

fn damaged(lab: &Lab, first: &[u8]) {
    let none = Forgery::none(lab);
    let mut downgraded = none.container().expose().to_vec();
    downgraded[b"keys-bundle@v".len()] = b'0';
    let downgraded = Secret::new(downgraded);
    let plain = bundle::join(&none.signature(&downgraded), &downgraded).expect("short");
    let downgraded = none.encrypt(plain.expose());
    let reason = "damaged: it is a bundle of another version";
    lab.refuses("another version", &downgraded, reason);
    lab.refuses("not encrypted", plain.expose(), "damaged: ");
    let whole = first.len();
    for cut in [0, 1, 30, whole / 2, whole - 17, whole - 1] {
        lab.refuses(&format!("cut at {cut}"), &first[..cut], "damaged: ");
    }
    for at in [whole / 2, whole - 1] {
        let mut changed = first.to_vec();
        changed[at] ^= 1;
        lab.refuses(&format!("another bit at {at}"), &changed, "damaged: ");
    }
}

fn rolled_back(lab: &Lab, first: &[u8]) {
    let mut older = Forgery::none(lab);
    older.head.epoch -= 2;
    lab.refuses("an older number", &older.bytes(), "rolled back: ");
    let kept = format!("{SHELF}/{}", bundle::KEPT);
    let _away = lab.host.run(&format!("mv {kept} {kept}.away")).succeeded();
    lab.refuses("without the number beside it", first, "rolled back: ");
    let _back = lab.host.run(&format!("mv {kept}.away {kept}")).succeeded();
}

/// What was there at a wrong clock or is over once stays refused; `status` says so.
#[test]
fn a_bundle_that_was_found_expired_stays_so() {
    let lab = Lab::new(Release::Bookworm, SHELF);
    lab.manifest("first");
    let _sent = lab.operator.send("pigeon").succeeded();
    let good = lab.stored();
    let kept = lab.kept();
    let seen = format!("{{\"epoch\":{},\"at\":{}}}", kept.epoch, kept.expires);
    lab.host
        .inside()
        .write(&format!("{SHELF}/{}", bundle::SEEN), seen, 0o600);
    lab.refuses("one whose end was seen", &good, "expired: ");
    let _reset = lab
        .host
        .run("systemctl reset-failed keys-restore")
        .succeeded();
    lab.host.reboot();
    let (state, detail) = lab.state();
    assert!(
        state == "refused" && detail.starts_with("expired: "),
        "{state}: {detail}"
    );
    assert!(!lab.host.inside().has("/run/keys/token"), "it was opened");
    let failed = lab.host.run("systemctl --failed --no-legend").text();
    assert!(
        failed.contains("keys-restore.service"),
        "nobody would see it: {failed}"
    );
    // The next send heals it.
    let _sent = lab.operator.send("pigeon").succeeded();
    assert_eq!(lab.state().0, "stored");
    lab.host.reboot();
    lab.is_back("first");
}

#[test]
fn a_send_that_changes_a_sealed_key_makes_the_bundle_anew_or_is_refused() {
    let lab = Lab::new(Release::Trixie, SHELF);
    lab.manifest("first");
    let _sent = lab.operator.send("pigeon").succeeded();
    let (first, before) = (lab.stored(), lab.kept());
    lab.manifest("second");
    // A part of the sealed ones is refused before anything is sent, whatever else is in it.
    for part in [
        "--key token",
        "--key fleeting --key web*",
        "--key t* --dry-run",
    ] {
        let ran = lab.operator.send(&format!("pigeon {part}")).exited(64);
        let _why = ran.said("the sealed keys of a host are sent together");
    }
    let _other = lab.operator.send("pigeon --key fleeting").succeeded();
    assert_eq!(
        lab.kept(),
        before,
        "a key that is not sealed touched the bundle"
    );
    assert_eq!(lab.host.inside().read("/run/keys/token"), b"first");
    lab.refuses_unaware(before.epoch);
    let _both = lab
        .operator
        .send("pigeon --key token --key web/cert")
        .succeeded();
    assert!(lab.kept().epoch > before.epoch, "the number did not rise");
    assert_ne!(lab.stored(), first);
    lab.refuses("the one before", &first, "rolled back: ");
    let _sent = lab.operator.send("pigeon").succeeded();
    lab.host.reboot();
    lab.is_back("second");
}

#[test]
fn what_is_sealed_no_more_leaves_the_host_and_its_bundle_is_worthless() {
    let lab = Lab::new(Release::Bookworm, SHELF);
    lab.manifest("first");
    let _sent = lab.operator.send("pigeon").succeeded();
    let both = lab.stored();
    // One of two is removed: the bundle is made anew without it.
    lab.declare("first", &["token"], &["fleeting"]);
    let _sent = lab.operator.send("pigeon").succeeded();
    let names: Vec<String> = lab.kept().keys.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["token"]);
    lab.refuses("the one with both", &both, "rolled back: ");
    let _sent = lab.operator.send("pigeon").succeeded();
    let one = lab.stored();
    // Another manifest does not touch it.
    let other = Operator::of_host(&lab.host);
    other.token("of another");
    let text = fs::read_to_string(other.path("keys.toml")).expect("it was written");
    other.write(
        "keys.toml",
        text.replace("id = \"lab\"", "id = \"other\"")
            .replace("keys.token", "keys.other"),
    );
    let _sent = other.send("pigeon").succeeded();
    assert_eq!(lab.stored(), one, "another manifest touched it");
    // None is sealed any more.
    lab.declare("first", &[], &["token", "fleeting"]);
    let _sent = lab.operator.send("pigeon").succeeded();
    let path = format!("{SHELF}/{}", bundle::FILE);
    assert!(!lab.host.inside().has(&path), "the bundle is there yet");
    assert_eq!(lab.state().0, "none");
    lab.refuses("a copy of the last one", &one, "rolled back: ");
    let _removed = lab.host.run(&format!("rm {path}")).succeeded();
    lab.host.reboot();
    assert!(!lab.host.inside().has("/run/keys/token"), "it came back");
    // Nor does one survive a wipe of the host.
    lab.manifest("second");
    let _sent = lab.operator.send("pigeon").succeeded();
    assert!(lab.host.inside().has(&path), "no bundle was made");
    let _wiped = lab.operator.keys("wipe pigeon --yes").succeeded();
    assert!(!lab.host.inside().has(&path), "a wiped host has a bundle");
}

#[test]
fn a_bundle_is_kept_only_where_it_was_declared_and_stays_over_a_reboot() {
    let lab = Lab::new(Release::Bookworm, SHELF);
    lab.manifest("first");
    let signers = lab.host.inside().read(bundle::SIGNERS);
    let _none = lab.host.run(&format!("rm {}", bundle::SIGNERS)).succeeded();
    let ran = lab.operator.send("pigeon").exited(7);
    let _why = ran.said("this host takes no sealed bundle: there is no /etc/keys/signers");
    lab.host.inside().write(bundle::SIGNERS, signers, 0o644);
    // A mount that did not come leaves memory, or a folder of others.
    for (folder, make, why) in [
        ("/run/shelf", "mkdir -m 0700 /run/shelf", "is in memory"),
        (
            "/srv/shelf",
            "mkdir -m 0777 /srv/shelf; chmod 0777 /srv/shelf",
            "root's alone is wanted",
        ),
        ("/srv/nothing", "true", "is not there"),
    ] {
        let line = format!("{make}; echo {folder} >{}", bundle::FOLDER_CONF);
        let _made = lab.host.run(&line).succeeded();
        let _why = lab.operator.send("pigeon").exited(7).said(why);
        assert!(
            !lab.host.inside().has("/run/keys/token"),
            "{why}: something was written"
        );
    }
    let _back = lab
        .host
        .run(&format!("rm {}", bundle::FOLDER_CONF))
        .succeeded();
    let _sent = lab.operator.send("pigeon").succeeded();
    let access = lab
        .host
        .run(&format!("stat -c '%U %a' {SHELF} {SHELF}/*"))
        .text();
    assert_eq!(access, "root 700\nroot 600\nroot 600\n");
}

#[test]
fn a_manifest_that_cannot_be_sealed_is_refused_before_anything_is_asked() {
    let operator = Operator::new();
    let pin = format!(
        "host_key = \"{}\"",
        lab::make_ssh_key(&operator.path("host"))
    );
    let _signer = lab::make_ssh_key(&operator.path("signer"));
    let sealing = "[sealing]\nsign_with = \"signer\"\n";
    let check = |sealing: &str, pin: &str, why: &str| {
        operator.manifest(&format!(
            "{sealing}[hosts.pigeon]\n{pin}\n[keys.a]\nhosts = [\"pigeon\"]\nsource = {{ file = \"a\" }}\noffline = \"sealed\"\n"
        ));
        let _why = operator.send("").exited(64).said(why);
    };
    check("", &pin, "a sealed key needs `[sealing]`");
    check(sealing, "", "which pigeon must pin");
    check(
        &format!("{sealing}expire_days = 0\n"),
        &pin,
        "`[sealing] expire_days` is 1 to 3650",
    );
    operator.write("a", "value");
    let _gone = fs::remove_file(operator.path("signer"));
    operator.manifest(&format!(
        "{sealing}[hosts.pigeon]\n{pin}\n[keys.a]\nhosts = [\"pigeon\"]\nsource = {{ file = \"a\" }}\noffline = \"sealed\"\n"
    ));
    let _why = operator.send("").exited(1).said("sealed bundle: sign with");
}

/// Whatever is cut in between: the host opens the old bundle or the new one, and never nothing.
#[test]
fn a_send_that_is_killed_leaves_a_bundle_that_opens() {
    let lab = Lab::new(Release::Trixie, SHELF);
    lab.manifest("value 0");
    let _sent = lab.operator.send("pigeon").succeeded();
    for round in 1..=scaled(4) {
        lab.manifest(&format!("value {round}"));
        let mut send = lab.operator.command(&["send", "pigeon"]);
        send.stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut send = send.spawn().expect("keys starts");
        while lab.host.kill_sessions() == 0 {
            if send.try_wait().expect("our own child").is_some() {
                break;
            }
        }
        let _ended = send.wait().expect("our own child");
        let _emptied = lab.host.run(
            "rm -rf /run/keys/* /run/keys/.[!.]*; systemctl reset-failed keys-restore; systemctl restart keys-restore",
        ).succeeded();
        let token = lab.host.inside().read("/run/keys/token");
        let token = String::from_utf8(token).expect("a text");
        let number = token
            .strip_prefix("value ")
            .and_then(|number| number.parse::<u32>().ok());
        println!("round {round}: {token}");
        assert!(number.is_some_and(|number| number <= round), "{token}");
        lab.is_back(&token);
    }
}
