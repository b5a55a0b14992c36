//! Several secrets in one text, and keys that take from other keys of their host.

use std::process::Command;

use keys_tests::{Operator, Ran, Sops, Sshd};

/// Writes a manifest with these tables of keys for `pigeon`, whose files `a`, `b` and `c` hold something.
fn keys(operator: &Operator, keys: &str) {
    operator.write("a", "one");
    operator.write("b", "it's \"two\"\n$x \\ ü");
    operator.write("c", b"\xff\0");
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[hosts.pigeon.keys]\n{keys}\n"
    ));
}

fn gets(operator: &Operator, key: &str, value: &[u8]) {
    let ran = operator.keys(&format!("get {key}")).succeeded();
    assert_eq!(ran.stdout, value, "{ran}");
}

fn fails(operator: &Operator, code: i32, said: &str) {
    let ran = operator.keys("get x").exited(code).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

#[test]
fn every_byte_of_a_template_arrives() {
    let operator = Operator::new();
    let values = "values = { a = { file = \"a\" }, b = { file = \"b\" }, c = { file = \"c\" } }";
    let text = "on {{ host }}: {{a}}{{ b }}\n{{ \"{{ a }}\" }} {host} }}\n";
    let expected = b"on pigeon: oneit's \"two\"\n$x \\ \xc3\xbc\n{{ a }} {host} }}\n";
    keys(
        &operator,
        &format!("x.source.template = {{ text = '''{text}''', {values} }}"),
    );
    gets(&operator, "x", expected);
    operator.write("x.tmpl", text);
    keys(
        &operator,
        &format!("x.source.template = {{ file = \"x.tmpl\", {values} }}"),
    );
    gets(&operator, "x", expected);
    keys(
        &operator,
        &format!("x.source.template = {{ text = \"{{{{ c }}}}\", {values} }}"),
    );
    gets(&operator, "x", b"\xff\0");
}

/// Each escape is read back by what it is for.
#[test]
fn escapes_are_read_back_by_what_they_are_for() {
    let operator = Operator::new();
    let read = |escape: &str, program: &str, words: &[&str]| {
        keys(
            &operator,
            &format!(
                "x.source.template = {{ text = '{{{{ b | {escape} }}}}', values = {{ b = {{ file = \"b\" }} }} }}"
            ),
        );
        let escaped = operator.keys("get x").succeeded().text();
        let mut command = Command::new(program);
        command.args(words).arg(escaped);
        Ran::of(command, b"").succeeded().text()
    };
    let value = "it's \"two\"\n$x \\ ü";
    let python = |expression| ["-c", expression];
    let words = python("import json, sys; print(json.loads(sys.argv[1]), end='')");
    assert_eq!(read("json", "python3", &words), value);
    let words = python("import urllib.parse as u, sys; print(u.unquote(sys.argv[1]), end='')");
    assert_eq!(read("url", "python3", &words), value);
    let words =
        python("import base64, sys; sys.stdout.buffer.write(base64.b64decode(sys.argv[1]))");
    assert_eq!(read("base64", "python3", &words), value);
    for shell in ["dash", "bash"] {
        for escape in ["shell", "env"] {
            let words = ["-c", "eval \"set -- $1\"; printf %s \"$1\"", "sh"];
            assert_eq!(read(escape, shell, &words), value, "{shell} {escape}");
        }
    }
}

#[test]
fn what_a_template_cannot_be_is_said_where_it_is() {
    let operator = Operator::new();
    let template = |fields: &str| keys(&operator, &format!("x.source.template = {{ {fields} }}"));
    let value = "values = { password = { file = \"a\" } }";
    template(&format!("text = \"\\n{{{{ pasword }}}}\", {value}"));
    fails(
        &operator,
        64,
        "template: line 2: no value `pasword` (did you mean `password`?)",
    );
    operator.write("x.tmpl", "\n{{ pasword }}");
    template(&format!("file = \"x.tmpl\", {value}"));
    fails(
        &operator,
        6,
        "keys: x: template file x.tmpl: line 2: no value `pasword` (did you mean `password`?)\n",
    );
    template(&format!("text = \"\", file = \"x.tmpl\", {value}"));
    fails(&operator, 64, "a template has either `text` or `file`");
    template("file = \"../x\"");
    fails(
        &operator,
        6,
        "file ../x: leads out of the manifest's folder",
    );
    template("text = \"{{ c | json }}\", values = { c = { file = \"c\" } }");
    fails(&operator, 6, "template of c: value `c`: not UTF-8\n");
    // All that failed, not only the first.
    template("text = \"\", values = { d = { file = \"d\" }, e = { file = \"e\" } }");
    let said = "template of d, e: value `d`: file d: No such file or directory (os error 2); value `e`: file e: No such";
    fails(&operator, 6, said);
}

/// One login, one decryption, one run of a program, whatever the number of templates and keys.
#[test]
fn a_source_in_many_templates_is_asked_once() {
    let operator = Operator::new();
    let once = "{ command = [\"sh\", \"-c\", \"echo >>asked; printf %s secret\"] }";
    keys(
        &operator,
        &format!(
            "w.source = {once}\nx.source.template = {{ text = \"{{{{ a }}}}{{{{ b }}}}\", values = {{ a = {once}, b = {{ key = \"w\" }} }} }}\n\
             y.source.template = {{ text = \"{{{{ x }}}}!\", values = {{ x = {{ key = \"x\" }} }} }}\nz.source = {{ key = \"y\" }}"
        ),
    );
    gets(&operator, "z", b"secretsecret!");
    assert_eq!(std::fs::read(operator.path("asked")).unwrap(), b"\n");
    // What another key names is another secret where the key is another one.
    gets(&operator, "w", b"secret");
}

#[test]
fn keys_that_take_from_each_other_are_sent_with_their_own_access() {
    let host = Sshd::start("pigeon");
    let mut operator = Operator::of(&host);
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    operator.write(
        "s.yaml",
        sops.encrypt("s.yaml", "db: hunter2\nport: 5432\n"),
    );
    keys(
        &operator,
        "db.source = { sops = \"s.yaml#db\" }\n\
         env.mode = \"0440\"\nenv.source.template = { text = \"DB={{ db | env }}\\n\", values = { db = { key = \"db\" } } }",
    );
    let _sent = operator.send("").succeeded();
    assert_eq!(host.inside().read("/run/keys/env"), b"DB=\"hunter2\"\n");
    assert_eq!(host.inside().access("/run/keys/env"), "root:root 0440");
    assert_eq!(host.inside().access("/run/keys/db"), "root:root 0400");
    // The one that changed, and the one that is made of it.
    operator.write("s.yaml", sops.encrypt("s.yaml", "db: hunter3\n"));
    let _sent = operator
        .send("")
        .succeeded()
        .printed("pigeon: db: changed (content)\npigeon: env: changed (content)\n");
    // A value that fails is the failure of what is made of it.
    operator.write("s.yaml", sops.encrypt("s.yaml", "dba: x\n"));
    let ran = operator.send("").exited(6);
    let _ran = ran.said(
        "keys: pigeon: env: template of db: value `db`: no field `db` at the top of the document",
    );
}

#[test]
fn a_key_takes_only_from_keys_that_are_there_and_not_from_itself() {
    let operator = Operator::new();
    let check = |text: &str, said: &str| {
        keys(&operator, text);
        fails(&operator, 64, said);
    };
    check(
        "x.source = { key = \"databse\" }\ndatabase.source = { file = \"a\" }",
        "keys.toml:3:1: hosts.pigeon.keys.x.source: no key `databse` on pigeon\nkeys: hint: did you mean `database`?\n",
    );
    check("x.source = { key = \"x\" }", "a circle: x takes from x\n");
    check(
        "x.source = { key = \"y\" }\ny.source.template = { text = \"\", values = { z = { key = \"x\" } } }",
        "a circle: x takes from y takes from x\n",
    );
    // Names of names that would be a million sources.
    let mut many = "k0.source = { file = \"a\" }\n".to_owned();
    for number in 1..=20 {
        let below = number - 1;
        many += &format!(
            "k{number}.source.template = {{ text = \"\", values = {{ a = {{ key = \"k{below}\" }}, b = {{ key = \"k{below}\" }} }} }}\n"
        );
    }
    check(&many, "made of more than 1000 sources");
}

#[test]
fn a_template_does_not_show_what_is_in_it() {
    let operator = Operator::new();
    keys(
        &operator,
        "x.source.template = { text = \"{{ a | json }}\", values = { a = { command = [\"cat\", \"c\"] } } }",
    );
    operator.write("c", b"hunter2\xff");
    let ran = operator
        .keys("get x")
        .exited(6)
        .said("value `a`: not UTF-8");
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
    operator.write("y.tmpl", "hunter2 {{ nothing }}");
    keys(&operator, "x.source.template = { file = \"y.tmpl\" }");
    let ran = operator.keys("get x").exited(6).said("no value `nothing`");
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
}
