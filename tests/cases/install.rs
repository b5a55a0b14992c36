//! `keys-agent install`, by the one command of docs/install.md, on a host that has never seen it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use keys_tests::{Folder, Host, LIMIT, Operator, Push, Ran, Release, Session, Sshd, lab, wait_for};

/// What it writes.
const FILES: [&str; 6] = [
    "/etc/systemd/system/keys-mount.service",
    "/etc/systemd/system/keys-agent.socket",
    "/etc/systemd/system/keys-agent.service",
    "/etc/systemd/system/keys-refused.service",
    "/etc/sysusers.d/keys.conf",
    "/etc/tmpfiles.d/zz-keys.conf",
];

/// Returns the first block of shell of docs/install.md.
fn documented() -> String {
    let page =
        fs::read_to_string(lab::source().join("docs/install.md")).expect("the page is there");
    let (_, after) = page.split_once("```sh\n").expect("a block of shell");
    let (command, _) = after.split_once("```").expect("it ends");
    command.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a line in the operator's folder, which holds the agent, with an `ssh` that knows the lab's hosts.
fn in_a_shell(operator: &Operator, line: &str) -> Ran {
    let wrapper = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
        operator.ssh("config").display()
    );
    operator.write("ssh", wrapper);
    fs::set_permissions(operator.path("ssh"), fs::Permissions::from_mode(0o700))
        .expect("our own file");
    if !operator.path("keys-agent").exists() {
        fs::copy(lab::binary("keys-agent"), operator.path("keys-agent"))
            .expect("the lab's folder can be written");
    }
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(operator.path(""))
        .env_clear();
    shell.env(
        "PATH",
        format!("{}:/usr/bin:/bin", operator.path("").display()),
    );
    operator.ran(shell)
}

fn manifest(operator: &Operator) {
    operator.manifest(
        "[hosts.pigeon]\nssh = \"root@pigeon\"\n[keys.a]\nhosts = [\"pigeon\"]\nsource = { command = [\"cat\", \"value\"] }\n",
    );
    operator.write("value", "1");
}

/// What of the host tells whether something was done again.
fn state(host: &Host) -> String {
    let files = FILES.join(" ");
    host.run(&format!(
        "stat -c '%n %i %Y %a %U' {files} /etc/systemd/system/*.wants/keys-*; sha256sum {files}
        systemctl show -p ActiveEnterTimestampMonotonic,ActiveState keys-mount.service keys-agent.socket"
    ))
    .succeeded()
    .text()
}

/// E10, and the one documented command: the error prints it, running it is all there is to do, and again changes nothing.
#[test]
fn the_command_that_the_error_prints_makes_the_next_send_work() {
    for release in Release::ALL {
        let host = Host::boot("pigeon", release);
        let operator = Operator::of_host(&host);
        manifest(&operator);
        let command = advice(&operator);
        assert_eq!(command, documented().replace("HOST", "pigeon"));
        let first = in_a_shell(&operator, &command).succeeded();
        says_what_it_did(&host, &first);
        let _sent = operator
            .send("--include pigeon")
            .succeeded()
            .printed("pigeon: a: new");
        assert_eq!(
            host.property("keys-agent.service", "ActiveState"),
            "active",
            "it went through the socket"
        );

        let before = state(&host);
        let second = in_a_shell(&operator, &command).succeeded();
        assert!(!second.text().contains("wrote "), "{second}");
        assert_eq!(
            second.text().matches("is as it should be").count(),
            FILES.len() + 1,
            "{second}"
        );
        assert_eq!(state(&host), before, "{release:?}");
        assert_eq!(operator.send("--include pigeon").succeeded().text(), "");
        println!(
            "{release:?}: installed in {:?}, again in {:?}",
            first.took, second.took
        );
        back_after_a_reboot(&host, &operator);
    }
}

/// Returns the command that the error of a send prints.
fn advice(operator: &Operator) -> String {
    let missing = operator
        .send("--include pigeon")
        .exited(1)
        .said("no agent on the host");
    let mut lines = missing.stderr.lines();
    let hint = lines.find_map(|line| line.strip_prefix("keys: hint: install it: "));
    hint.unwrap_or_else(|| panic!("no hint\n{missing}"))
        .to_owned()
}

fn says_what_it_did(host: &Host, first: &Ran) {
    let printed = first.text();
    for file in FILES {
        assert!(
            printed.contains(&format!("wrote {file}\n")),
            "{file}\n{first}"
        );
        assert_eq!(host.inside().access(file), "root:root 0644");
    }
    for ran in [
        "systemd-sysusers",
        "daemon-reload",
        "enable --now keys-mount.service keys-agent.socket",
    ] {
        let is_told = |line: &str| line.starts_with("ran ") && line.contains(ran);
        assert!(printed.lines().any(is_told), "{ran}\n{first}");
    }
    assert_eq!(
        host.inside().access("/usr/local/bin/keys-agent"),
        "root:root 0755"
    );
    assert_eq!(
        host.settled(),
        "running",
        "{}",
        host.run("systemctl --failed")
    );
}

fn back_after_a_reboot(host: &Host, operator: &Operator) {
    host.reboot();
    assert_eq!(
        host.settled(),
        "running",
        "{}",
        host.run("systemctl --failed")
    );
    assert_eq!(host.inside().access("/run/keys"), "root:keys 0751");
    let _sent = operator
        .send("--include pigeon")
        .succeeded()
        .printed("pigeon: a: new");
    assert_eq!(host.property("keys-agent.service", "ActiveState"), "active");
}

/// A connection that breaks looks like a file that ends.
#[test]
fn an_agent_that_arrived_in_part_is_not_installed() {
    let host = Sshd::with("pigeon", Release::Bookworm, Folder::USUAL);
    let operator = Operator::of(&host);
    let _removed = host
        .inside()
        .run("rm /usr/local/bin/keys-agent")
        .succeeded();
    // The whole file is there to be summed, and half of it comes.
    let command = documented().replace("root@HOST", "pigeon");
    let (command, _) = command.rsplit_once(" < ").expect("it reads the agent");
    let half = format!("head -c 100000 keys-agent | {command}");
    let refused = in_a_shell(&operator, &half);
    assert_ne!(refused.code(), 0, "{refused}");
    assert!(!host.inside().has("/usr/local/bin/keys-agent"), "{refused}");
}

/// A program that others can write would be theirs to run as root.
#[test]
fn a_program_that_others_can_write_is_not_installed() {
    let host = Host::boot("pigeon", Release::Trixie);
    host.place_agent();
    for spoil in [
        "chmod 0775 /usr/local/bin/keys-agent",
        "chmod 0777 /usr/local/bin",
        "chown daemon /usr/local/bin/keys-agent",
    ] {
        let restore = "chmod 0755 /usr/local/bin /usr/local/bin/keys-agent; chown root /usr/local/bin/keys-agent";
        let refused = host.run(&format!(
            "{spoil}; keys-agent install; code=$?; {restore}; exit $code"
        ));
        let _refused = refused
            .exited(7)
            .said("others than root can write /usr/local/bin");
    }
    assert!(FILES.iter().all(|file| !host.inside().has(file)));
    let _installed = host.run("keys-agent install").succeeded();
}

/// An update ends no push that runs, and the next one is served by the new program.
#[test]
fn an_update_in_the_middle_of_a_push_waits_for_it() {
    for release in Release::ALL {
        let host = Host::served(release);
        let operator = Operator::of_host(&host);
        host.place_agent();
        let command = operator.ssh_command(&["pigeon", "keys-agent receive"]);
        let mut session = Session::of(command).expect("an agent");
        let (hello, ..) = session.hello().expect("a greeting");
        let push = Push::of(&hello.nonce, &[("old", b"1")]);
        assert_eq!(session.declare(&push).expect("an answer"), [0]);
        let old = host.property("keys-agent.service", "MainPID");
        thread::scope(|scope| {
            let update = scope.spawn(|| host.run("keys-agent install"));
            wait_for("the service to be asked to stop", LIMIT, || {
                (host.property("keys-agent.service", "ActiveState") == "deactivating").then_some(())
            });
            let _report = session.commit(&[b"1"]).expect("a report");
            assert_eq!(session.close().0, Some(0));
            let _updated = update.join().expect("it runs").succeeded();
        });
        assert_eq!(host.inside().read("/run/keys/old"), b"1", "{release:?}");
        let _next = operator.ssh_run("pigeon", "keys-agent status").succeeded();
        assert_ne!(host.property("keys-agent.service", "MainPID"), old);
        let outcome = ["Result", "NRestarts"].map(|name| host.property("keys-agent.service", name));
        assert_eq!(outcome, ["success", "0"]);
    }
}
