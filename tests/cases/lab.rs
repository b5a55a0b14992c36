//! The lab itself: if one of these fails, look at no other.

use std::process::Command;
use std::time::Duration;

use keys_tests::{
    Age, Folder, Host, KvVersion, Operator, Ran, Release, Sops, Sshd, Vault, lab, wait_for,
};
use serde_json::{Value, json};

#[test]
fn a_booted_host_is_reached_by_ssh_on_its_own_address() {
    for release in Release::ALL {
        let host = Host::boot("pigeon", release);
        let operator = Operator::of_host(&host);
        let ran = operator.ssh_run("pigeon", "hostname; id -un").succeeded();
        assert_eq!(ran.text(), "pigeon\nroot\n");
        assert_eq!(
            host.settled(),
            "running",
            "{}",
            host.run("systemctl --failed").text()
        );
    }
}

#[test]
fn a_reboot_empties_run_and_keeps_the_disk() {
    for release in Release::ALL {
        let host = Host::boot("pigeon", release);
        let boot = host.run("cat /proc/sys/kernel/random/boot_id").text();
        let _made = host.run("touch /run/gone /root/kept").succeeded();
        host.reboot();
        assert!(host.inside().has("/root/kept"));
        assert!(!host.inside().has("/run/gone"));
        assert_ne!(host.run("cat /proc/sys/kernel/random/boot_id").text(), boot);
    }
}

#[test]
fn a_power_cut_ends_everything_at_once() {
    let mut host = Host::boot("pigeon", Release::Bookworm);
    let _made = host.run("touch /run/gone /root/kept").succeeded();
    host.power_cut();
    assert_eq!(host.first(), None);
    host.power_on();
    assert!(host.inside().has("/root/kept"));
    assert!(!host.inside().has("/run/gone"));
}

#[test]
fn two_hosts_of_one_name_do_not_meet() {
    let (one, other) = (
        Host::boot("pigeon", Release::Bookworm),
        Host::boot("pigeon", Release::Trixie),
    );
    assert_ne!(one.address(), other.address());
    assert_ne!(one.tree().host_key(), other.tree().host_key());
    let _pinged = one
        .run(&format!(
            "timeout 5 bash -c 'read -n 4 </dev/tcp/{}/22 && echo $REPLY'",
            other.address()
        ))
        .printed("SSH-");
}

#[test]
fn a_unit_written_by_a_case_runs() {
    let host = Host::shared(Release::Bookworm);
    host.unit(
        "hello.service",
        "[Service]\nType=oneshot\nExecStart=/bin/echo good day\n",
    );
    let _started = host
        .run("systemctl daemon-reload && systemctl start hello.service")
        .succeeded();
    assert!(host.journal("hello.service").contains("good day"));
}

#[test]
fn nothing_leads_out_of_the_lab() {
    let mut command = Command::new("ip");
    command.args(["route", "show", "default"]);
    assert_eq!(Ran::of(command, b"").succeeded().text(), "");
}

#[test]
fn an_sshd_without_a_network_lets_the_operator_in() {
    for release in Release::ALL {
        let host = Sshd::with("pigeon", release, Folder::USUAL);
        let operator = Operator::of(&host);
        let ran = operator
            .ssh_run(
                "pigeon",
                "hostname; stat -fc %T /run/keys; stat -c %a:%G /run/keys",
            )
            .succeeded();
        assert_eq!(ran.text(), "pigeon\ntmpfs\n751:keys\n");
    }
}

#[test]
fn a_host_without_a_network_is_alone_with_its_files_and_processes() {
    let host = Sshd::start("pigeon");
    host.inside().write("/run/keys/x", "canary", 0o400);
    assert!(!std::path::Path::new("/run/keys/x").exists());
    assert_eq!(host.inside().access("/run/keys/x"), "root:root 0400");
    let processes = host
        .inside()
        .run("ls -d /proc/[0-9]* | wc -l")
        .succeeded()
        .text();
    assert!(
        processes.trim().parse::<u32>().is_ok_and(|count| count < 6),
        "{processes}"
    );
}

#[test]
fn folders_of_keys_are_what_a_case_asks_for() {
    for (folder, kind) in [
        (Folder::Tmpfs("size=1m,noswap"), "tmpfs\n"),
        (Folder::Ramfs, "ramfs\n"),
        (Folder::Plain, "overlayfs\n"),
    ] {
        let host = Sshd::with("pigeon", Release::Bookworm, folder);
        assert_eq!(host.inside().run("stat -fc %T /run/keys").text(), kind);
    }
    let host = Sshd::with("pigeon", Release::Bookworm, Folder::Missing);
    assert!(!host.inside().has("/run/keys"));
}

#[test]
fn a_connection_is_cut_where_a_case_says() {
    let mut host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    for words in [
        "--cut 3000",
        "--down --cut 2500",
        "--flip 3000",
        "--down --flip 2500",
    ] {
        host.mangle(words);
        operator.knows(&host);
        let _refused = operator.ssh_run("pigeon", "true").exited(255);
    }
    host.mangle("--cut 1000000");
    let _went_by = operator.knows(&host).ssh_run("pigeon", "true").succeeded();
}

#[test]
fn users_and_groups_of_a_case_are_on_its_host() {
    let host = Sshd::start("pigeon");
    host.tree().user("alice", 1001);
    host.tree().join("alice", "keys");
    assert_eq!(
        host.inside().run("id alice").succeeded().text(),
        "uid=1001(alice) gid=1001(alice) groups=1001(alice),96(keys)\n"
    );
    host.inside().write("/run/keys/x", "", 0o640);
    let _owned = host
        .inside()
        .run("chown alice:keys /run/keys/x")
        .succeeded();
    assert_eq!(host.inside().access("/run/keys/x"), "alice:keys 0640");
}

#[test]
fn vault_answers_with_what_was_put() {
    let vault = Vault::shared();
    vault.put("kv/lab", &json!({"user": "ann"}));
    let got = vault.api("GET", "kv/data/lab", &Value::Null);
    assert_eq!(got["data"]["data"]["user"], "ann");
    vault.put_v1("kv1/lab", &json!({"user": "bob"}));
    assert_eq!(
        vault.api("GET", "kv1/lab", &Value::Null)["data"]["user"],
        "bob"
    );
}

#[test]
fn a_vault_of_its_own_can_be_sealed_and_audited() {
    let vault = Vault::start();
    vault.mount_kv("kv", KvVersion::Two);
    let log = lab::folder().join("audit.log");
    vault.audit(log.to_str().expect("a text"));
    vault.policy("reader", r#"path "kv/data/*" { capabilities = ["read"] }"#);
    assert!(vault.token("reader", "1h").starts_with("hvs."));
    let (role, secret) = vault.approle("lab", "reader");
    let login = json!({"role_id": role, "secret_id": secret});
    assert!(vault.api("POST", "auth/approle/login", &login)["auth"]["client_token"].is_string());
    wait_for("a line of the audit log", Duration::from_secs(5), || {
        std::fs::read_to_string(&log)
            .is_ok_and(|text| text.contains("auth/approle/login"))
            .then_some(())
    });
    vault.seal();
    vault.unseal();
}

#[test]
fn sops_and_age_read_what_they_wrote() {
    let sops = Sops::new();
    let file = lab::folder().join("secrets.yaml");
    std::fs::write(&file, sops.encrypt("secrets.yaml", "web:\n  cert: PEM\n"))
        .expect("the lab's folder");
    assert_eq!(
        sops.decrypt(&file, Some(r#"["web"]["cert"]"#))
            .succeeded()
            .text(),
        "PEM"
    );
    let age = Age::new_identity();
    for words in [&[][..], &["--armor"]] {
        let read = Age::decrypt(&age.identity(), &age.encrypt(b"\0secret\n", words));
        assert_eq!(read.succeeded().stdout, b"\0secret\n");
    }
}
