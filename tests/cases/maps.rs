//! Maps as one file, and values that are encoded where they come from.

use std::process::Command;

use keys_tests::{Host, Operator, Ran, Release, Sops};
use serde_json::json;

/// Writes a manifest with the key `x` from `source`.
fn from(operator: &Operator, source: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon.keys.x]\nsource = {source}\n"
    ));
}

fn gets(operator: &Operator, source: &str, value: &[u8]) {
    from(operator, source);
    let ran = operator.keys("get x").succeeded();
    assert_eq!(ran.stdout, value, "{source}\n{ran}");
}

fn fails(operator: &Operator, source: &str, said: &str) {
    from(operator, source);
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

/// Names with values that a shell, systemd or an editor would change.
fn odd() -> Vec<(String, String)> {
    let every: String = ('\u{1}'..='\u{2ff}')
        .chain("\u{feff}\u{2028}😀".chars())
        .collect();
    let values = [
        every,
        "plain".into(),
        String::new(),
        " \t leading and trailing \t ".into(),
        "\n\nlines\n\n".into(),
        "\r\nwindows\r\n".into(),
        "it's \"quoted\" $HOME `id` \\ \\n \\$ \\\" #no ;comment !! % %% %n".into(),
        "\\".into(),
        "ends in backslash\\".into(),
        "backslash and newline\\\nafter".into(),
        "'".into(),
        "\"".into(),
        "# no comment".into(),
        "A=B".into(),
        "x".repeat(100_000),
    ];
    let named = values.into_iter().enumerate();
    named
        .map(|(number, value)| (format!("V{number}_x"), value))
        .collect()
}

/// Returns what `env -0` printed of [`odd`].
fn read_back(environment: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(environment.to_vec()).expect("every value is text");
    let all = text.split('\0').filter_map(|line| line.split_once('='));
    let ours = all.filter(|(name, _)| name.ends_with("_x") && name.starts_with('V'));
    let mut ours: Vec<_> = ours
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    ours.sort_by_key(|(name, _)| name[1..name.len() - 2].parse::<u32>().expect("a number"));
    ours
}

/// Writes [`odd`] to `odd.json`, and returns the environment file that is made of it.
fn environment_file(operator: &Operator) -> Vec<u8> {
    let fields: serde_json::Map<_, _> = odd()
        .into_iter()
        .map(|(name, value)| (name, json!(value)))
        .collect();
    operator.write("odd.json", serde_json::to_vec_pretty(&fields).unwrap());
    from(operator, "{ file = \"odd.json\", as = \"env\" }");
    operator.keys("get x").succeeded().stdout
}

#[test]
fn a_shell_reads_an_environment_file_back_to_the_byte() {
    let operator = Operator::new();
    let file = environment_file(&operator);
    operator.write("file", &file);
    for shell in ["dash", "bash", "bash --posix"] {
        let mut command = Command::new("sh");
        let line =
            format!("exec env -i PATH=/usr/bin:/bin {shell} -c 'set -a; . ./file; exec env -0'");
        command.args(["-c", &line]).current_dir(operator.path(""));
        let ran = Ran::of(command, b"").succeeded();
        assert!(
            read_back(&ran.stdout) == odd(),
            "{shell}: {:?}",
            read_back(&ran.stdout)
        );
    }
}

#[test]
fn systemd_reads_an_environment_file_back_to_the_byte() {
    let operator = Operator::new();
    let file = environment_file(&operator);
    for release in Release::ALL {
        let host = Host::shared(release);
        host.inside().write("/root/odd.env", &file, 0o600);
        let line = "systemd-run --quiet --wait --pipe -p EnvironmentFile=/root/odd.env env -0";
        let ran = host.run(line).succeeded();
        assert!(
            read_back(&ran.stdout) == odd(),
            "{release:?}: {:?}",
            read_back(&ran.stdout)
        );
    }
}

#[test]
fn a_map_is_given_in_the_order_of_its_document() {
    let mut operator = Operator::new();
    let sops = Sops::new();
    operator.env("SOPS_AGE_KEY", sops.age().identity_text());
    let yaml =
        "web:\n    z: \"1\"\n    a: 2.50\n    on: true\n    list: [1, {b: c}]\n\"odd name\": x\n";
    operator.write("s.yaml", sops.encrypt("s.yaml", yaml));
    let web = "{\"z\":\"1\",\"a\":2.5,\"on\":true,\"list\":[1,{\"b\":\"c\"}]}";
    gets(
        &operator,
        "{ sops = \"s.yaml#web\", as = \"json\" }",
        web.as_bytes(),
    );
    let whole = format!("{{\"web\":{web},\"odd name\":\"x\"}}");
    gets(
        &operator,
        "{ sops = \"s.yaml\", as = \"json\" }",
        whole.as_bytes(),
    );
    operator.write("s.env", sops.encrypt("s.env", "B=two words\nA=$x\n"));
    gets(
        &operator,
        "{ sops = \"s.env\", as = \"env\" }",
        b"B=\"two words\"\nA=\"\\$x\"\n",
    );
    operator.write("s.ini", sops.encrypt("s.ini", "[web]\nb = 1\na = 2\n"));
    gets(
        &operator,
        "{ sops = \"s.ini#web\", as = \"env\" }",
        b"b=\"1\"\na=\"2\"\n",
    );
    // Whatever gives a map: here what a program prints, as `op` and `bw` do.
    gets(
        &operator,
        "{ command = [\"echo\", '{ \"user\": \"u\", \"n\": 1.0 }'], as = \"env\" }",
        b"user=\"u\"\nn=\"1.0\"\n",
    );
}

#[test]
fn what_cannot_be_said_is_refused_by_the_name_of_its_field() {
    let operator = Operator::new();
    let check = |json: &str, form: &str, said: &str| {
        operator.write("x.json", json);
        fails(
            &operator,
            &format!("{{ file = \"x.json\", as = \"{form}\" }}"),
            said,
        );
    };
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(128 << 10));
    let x = "keys: x: file x.json as env: ";
    check(
        "{\"a\":\"hunter2\\u0000\"}",
        "env",
        &format!("{x}field `a`: an environment has no NUL\n"),
    );
    check(
        "{\"a\":null}",
        "env",
        &format!("{x}field `a`: null: there is no value\n"),
    );
    check(
        "{\"a\":{\"b\":1}}",
        "env",
        &format!("{x}field `a`: a map, not one value\n"),
    );
    check(
        "{\"a b\":\"1\"}",
        "env",
        &format!("{x}field `a b`: no name of a variable\n"),
    );
    check(
        "{\"1\":\"1\"}",
        "env",
        &format!("{x}field `1`: no name of a variable\n"),
    );
    check(
        &long,
        "env",
        &format!("{x}field `a`: larger than a variable can be (128 KiB)\n"),
    );
    check("{}", "env", &format!("{x}it has no fields\n"));
    check(
        "hunter2",
        "env",
        &format!("{x}it is no JSON (line 1, column 1)\n"),
    );
    check(
        "{\"a\":1,\"a\":2}",
        "env",
        &format!("{x}it is no map with names that differ"),
    );
    check(
        "{\"a\":",
        "json",
        "keys: x: file x.json as json: it is no JSON (line 1, column 5)\n",
    );
    fails(
        &operator,
        "{ file = \"none\", as = \"env\" }",
        "keys: x: file none: No such file",
    );
}

#[test]
fn base64_is_decoded_to_the_byte() {
    let operator = Operator::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    operator.write("bytes", &bytes);
    for line in ["base64 bytes", "base64 -w0 bytes"] {
        gets(
            &operator,
            &format!("{{ command = [\"sh\", \"-c\", \"{line}\"], encoding = \"base64\" }}"),
            &bytes,
        );
    }
    for text in ["YQ", "YQ=", "Y Q = = x", "YR==", "Y-_=", "hunter2!"] {
        operator.write("x", text);
        fails(
            &operator,
            "{ file = \"x\", encoding = \"base64\" }",
            "keys: x: file x from base64: it is no base64\n",
        );
    }
    operator.write("x", "\n");
    fails(
        &operator,
        "{ file = \"x\", encoding = \"base64\" }",
        "file x from base64: it is empty\n",
    );
    from(
        &operator,
        "{ file = \"x\", encoding = \"base64\", as = \"env\" }",
    );
    let _ran = operator
        .keys("get x")
        .exited(64)
        .said("`encoding` is that of one value, and `as` takes a map");
}
