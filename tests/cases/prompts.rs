//! Secrets that are typed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use keys_tests::{Operator, Ran, Sshd, lab};

/// Gives the key `x` to the hosts that this operator knows, from what is typed.
fn prompting(operator: &Operator) {
    operator.manifest(
        "id = \"lab\"\n[hosts.pigeon.keys]\nx.source = { prompt = \"Passphrase of the backup\" }\n\
         y.source.template = { text = \"<{{ x }}>\", values = { x = { key = \"x\" } } }\n",
    );
}

fn typing(operator: &Operator, typed: &str, words: &str) -> Ran {
    let line = format!("{} {words}", lab::binary("keys").display());
    operator.typing(typed, &line)
}

#[test]
fn what_is_typed_twice_is_sent_and_asked_once_a_run() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    prompting(&operator);
    let ran = typing(&operator, "corréct h\\orse \ncorréct h\\orse \n", "send").succeeded();
    assert_eq!(
        host.inside().read("/run/keys/x"),
        "corréct h\\orse ".as_bytes()
    );
    assert_eq!(
        host.inside().read("/run/keys/y"),
        "<corréct h\\orse >".as_bytes()
    );
    assert_eq!(
        ran.text().matches("Passphrase of the backup: ").count(),
        1,
        "{ran}"
    );
    assert_eq!(
        ran.text()
            .matches("Passphrase of the backup (again): ")
            .count(),
        1,
        "{ran}"
    );
    // Where nothing is written there is nothing to get wrong.
    let ran = typing(&operator, "corréct h\\orse \n", "plan").succeeded();
    assert!(!ran.text().contains("again"), "{ran}");
    let _ran = typing(&operator, "other\n", "plan")
        .exited(2)
        .printed("pigeon: x: changed (content)");
    let _ran = typing(&operator, "typed\n", "get x >out").succeeded();
    assert_eq!(fs::read(operator.path("out")).unwrap(), b"typed");
}

#[test]
fn what_is_not_typed_the_same_way_twice_is_sent_nowhere() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    prompting(&operator);
    for (typed, said) in [
        (
            "one\ntwo\n",
            "prompt «Passphrase of the backup»: the two answers differ",
        ),
        ("\n", "prompt «Passphrase of the backup»: nothing was typed"),
        ("", "prompt «Passphrase of the backup»: nothing was typed"),
        (
            "one\n",
            "prompt «Passphrase of the backup»: nothing was typed",
        ),
    ] {
        let _ran = typing(&operator, typed, "send").exited(6).printed(said);
        assert!(!host.inside().has("/run/keys/x"), "{typed:?}");
    }
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let operator = Operator::new();
    prompting(&operator);
    let ran = operator.without_terminal("get x").exited(6);
    let ran =
        ran.said("keys: x: prompt «Passphrase of the backup»: there is no terminal to ask on\n");
    assert_eq!(ran.stdout, b"");
    operator.manifest("[hosts.pigeon.keys]\nx.source = { prompt = \" \" }\n");
    let _ran = operator
        .keys("get x")
        .exited(64)
        .said("a question is wanted");
}

/// The terminal shows the question and nothing of the answer, which is typed when the question is there.
#[test]
fn what_is_typed_is_not_shown() {
    let operator = Operator::new();
    prompting(&operator);
    let line = format!("{} get x >out", lab::binary("keys").display());
    let mut command = Command::new("script");
    command
        .args(["-qefc", &line, "/dev/null"])
        .current_dir(operator.path(""));
    command.env("HOME", operator.home()).env("SHELL", "/bin/sh");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"backup: ") && stdout.read(&mut byte).unwrap() > 0 {
        seen.push(byte[0]);
    }
    stdin.write_all(b"hunter2\n").unwrap();
    stdout.read_to_end(&mut seen).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read(operator.path("out")).unwrap(), b"hunter2");
    assert!(
        !String::from_utf8_lossy(&seen).contains("hunter2"),
        "{}",
        String::from_utf8_lossy(&seen)
    );
}
