//! `keys recipients`: hosts as age recipients, made of keys that are pinned or known and of no others.

use std::fs;
use std::process::Command;

use keys_tests::{Operator, lab};
use serde_json::Value;

/// The public line and the recipient of 200 keys, as the Go ssh-to-age gives them.
fn table() -> Vec<(String, String)> {
    let path = format!("{}/data/ssh-to-age.json", env!("CARGO_MANIFEST_DIR"));
    let table: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let rows = table["keys"].as_array().unwrap().iter();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "public"), text(row, "recipient")))
        .collect()
}

#[test]
fn pinned_keys_give_what_ssh_to_age_gives() {
    let operator = Operator::new();
    let table = table();
    assert_eq!(table.len(), 200);
    let host = |(number, (public, _)): (usize, &(String, String))| {
        format!("[hosts.host{number:03}]\nhost_key = \"{public}\"\n")
    };
    let hosts: String = table.iter().enumerate().map(host).collect();
    operator.manifest(&hosts);
    let lines = operator.keys("recipients").succeeded().text();
    let json = operator.keys("recipients --json").succeeded().text();
    let json: Value = serde_json::from_str(&json).unwrap();
    for (number, (line, (public, recipient))) in lines.lines().zip(&table).enumerate() {
        assert_eq!(line, format!("host{number:03}: {recipient}"), "{public}");
        let host = &json["hosts"][number];
        assert_eq!(host["recipient"], **recipient, "{public}");
        assert!(
            public.starts_with(host["host_key"].as_str().unwrap()),
            "{public}"
        );
    }
    assert_eq!(lines.lines().count(), 200);
    let one = operator.keys("recipients host007").succeeded().text();
    assert_eq!(one, format!("host007: {}\n", table[7].1));
    let _typo = operator.keys("recipients hots007").exited(64);
    // age takes it for a recipient.
    let mut age = Command::new(lab::peer("age"));
    age.args(["-r", &table[7].1, "/dev/null"]);
    let _file = operator.ran(age).succeeded();
}

/// Makes a public host key of a type and returns its line.
fn public(operator: &Operator, kind: &str) -> String {
    let path = operator.path(&format!("made-{kind}"));
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", "", "-f"]).arg(&path);
    let _made = operator.ran(command).succeeded();
    let line = fs::read_to_string(lab::public_of(&path)).unwrap();
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// As ssh itself finds them: by name, port, alias and pattern, hashed or not, in the files of the configuration.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn known_keys_are_those_that_ssh_would_accept() {
    let operator = Operator::new();
    let table = table();
    let (ours, recipient) = &table[0];
    let (other, _) = &table[1];
    let (ecdsa, rsa) = (public(&operator, "ecdsa"), public(&operator, "rsa"));
    let known = |lines: &str, hash: bool| {
        fs::write(operator.ssh("known_hosts"), lines).unwrap();
        if hash {
            let mut command = Command::new("ssh-keygen");
            command.arg("-H").arg("-f").arg(operator.ssh("known_hosts"));
            let _hashed = operator.ran(command).succeeded();
        }
    };
    let found = |what: &str| {
        let ran = operator.keys("recipients pigeon").succeeded();
        assert_eq!(ran.text(), format!("pigeon: {recipient}\n"), "{what}");
    };
    let refused = |lines: &str, said: &str| {
        known(lines, false);
        let ran = operator.keys("recipients pigeon").exited(5).said(said);
        assert_eq!(ran.stdout, b"", "{ran}");
        let json = operator.keys("recipients pigeon --json").exited(5).text();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["hosts"][0]["exit"], 5, "{json}");
    };
    operator.manifest("[hosts.pigeon]\nssh = \"root@pigeon.example.org\"\n[hosts.raven]\n");
    for hash in [false, true] {
        known(
            &format!("raven {other}\npigeon.example.org {ecdsa}\npigeon.example.org {ours}\n"),
            hash,
        );
        found("by name");
    }
    known(&format!("*.example.org {ours}\n"), false);
    found("by a pattern");
    known(
        &format!("pigeon.example.org {ours}\n@revoked * {other}\n@cert-authority * {other}\n"),
        false,
    );
    found("beside others");

    let unknown = "keys: pigeon: its ssh host key is neither pinned nor known\nkeys: hint: ";
    refused("", unknown);
    refused(&format!("raven {ours}\n"), unknown);
    refused(&format!("[pigeon.example.org]:5678 {ours}\n"), unknown);
    refused(
        &format!("pigeon.example.org {ours}\n@revoked * {ours}\n"),
        unknown,
    );
    refused(&format!("@cert-authority *.example.org {ours}\n"), unknown);
    refused(
        &format!("pigeon.example.org {rsa}\n"),
        "keys: pigeon: a recipient is made of an ed25519 host key, and its own is ssh-rsa\n",
    );
    refused(
        &format!("pigeon.example.org {ecdsa}\n"),
        "keys: pigeon: a recipient is made of an ed25519 host key, and its own is ecdsa-sha2-nistp256\n",
    );
    refused(
        &format!("pigeon.example.org {ours}\npigeon.example.org {other}\n"),
        "keys: pigeon: several ed25519 host keys are known",
    );
    // One of two hosts.
    known(&format!("pigeon.example.org {ours}\n"), false);
    let ran = operator.keys("recipients").exited(3);
    let ran = ran.printed(&format!("pigeon: {recipient}\n"));
    let _partial = ran.said("keys: raven: its ssh host key is neither pinned nor known\n");

    operator.manifest("[hosts.pigeon]\nssh = \"pigeon.example.org:5678\"\n");
    known(
        &format!("[pigeon.example.org]:5678 {ours}\npigeon.example.org {other}\n"),
        false,
    );
    found("by its port");
    operator.ssh_lines("Host pigeon.example.org\nHostKeyAlias bird\n");
    known(&format!("bird {ours}\n"), false);
    found("by its alias");
    // A pin is all that counts.
    operator.manifest(&format!("[hosts.pigeon]\nhost_key = \"{rsa}\"\n"));
    refused(&format!("pigeon {ours}\n"), "and its own is ssh-rsa\n");
    operator.manifest(&format!("[hosts.pigeon]\nhost_key = \"{ours}\"\n"));
    known(&format!("pigeon {other}\n"), false);
    found("pinned");
}
