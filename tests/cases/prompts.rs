//! Secrets that are typed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keys_tests::{Operator, Ran, Sshd, lab, scaled};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// A run on a terminal of its own, which is talked to as a person would: after reading.
struct Talk {
    script: Child,
    typed: ChildStdin,
    shown: ChildStdout,
    seen: String,
}

impl Talk {
    fn of(operator: &Operator, line: &str) -> Self {
        let mut command = Command::new("script");
        command.args(["-qefc", line, "/dev/null"]);
        command.current_dir(operator.path(""));
        command.env("HOME", operator.home()).env("SHELL", "/bin/sh");
        command.env("KEYS", lab::binary("keys"));
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (typed, shown) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        Self {
            script,
            typed,
            shown,
            seen: String::new(),
        }
    }

    fn read_until(&mut self, text: &str) {
        let mut byte = [0];
        while !self.seen.ends_with(text) {
            assert_eq!(self.shown.read(&mut byte).unwrap(), 1, "{}", self.seen);
            self.seen.push(byte[0].into());
        }
    }

    fn type_in(&mut self, text: &str) {
        self.typed.write_all(text.as_bytes()).unwrap();
    }

    /// Returns all that the terminal showed.
    fn end(mut self) -> String {
        let mut rest = Vec::new();
        self.shown.read_to_end(&mut rest).unwrap();
        drop(self.typed);
        assert!(self.script.wait().unwrap().success(), "{}", self.seen);
        self.seen + &String::from_utf8_lossy(&rest)
    }
}

/// The terminal shows the question and nothing of the answer, which is typed the moment the question is there.
#[test]
fn what_is_typed_is_not_shown() {
    let operator = Operator::new();
    prompting(&operator);
    for _ in 0..scaled(20) {
        let mut talk = Talk::of(&operator, "\"$KEYS\" get x >out");
        talk.read_until("backup: ");
        talk.type_in("hunter2\n");
        let seen = talk.end();
        assert_eq!(fs::read(operator.path("out")).unwrap(), b"hunter2");
        assert!(!seen.contains("hunter2"), "{seen}");
    }
}

/// However a question ends, what is typed next is shown again.
#[test]
fn the_terminal_is_left_as_it_was() {
    let operator = Operator::new();
    prompting(&operator);
    let line = "sh -c 'echo pid $$.; exec \"$KEYS\" get x >out'; echo ended $?; stty -a";
    for (how, ended) in [
        ("hunter2\n", "ended 0"),
        ("\x03", "ended 130"),
        ("\x04", "ended 6"),
        ("SIGTERM", "ended 143"),
    ] {
        let mut talk = Talk::of(&operator, line);
        talk.read_until(".");
        let pid = talk.seen.trim_start_matches("pid ").trim_end_matches('.');
        let pid = Pid::from_raw(pid.parse().unwrap());
        talk.read_until("backup: ");
        if how == "SIGTERM" {
            kill(pid, Signal::SIGTERM).unwrap();
        } else {
            talk.type_in(how);
        }
        let seen = talk.end();
        assert!(seen.contains(ended), "{how:?}: {seen}");
        for setting in ["icanon", "isig", "echo", "echonl"] {
            let off = seen.contains(&format!(" -{setting} "));
            assert_eq!(off, setting == "echonl", "{setting}, {how:?}: {seen}");
        }
    }
}
