//! Keys that are folders: one key for each field of a map, the same through send, plan, status and removal.

use keys_tests::{Operator, Sshd};

/// A host with a folder `web` of what `web.json` holds, and a key beside it.
fn setting(json: &str) -> (Sshd, Operator) {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    operator.write("other", "x");
    operator.manifest(
        "id = \"lab\"\n[hosts.pigeon]\n[hosts.pigeon.keys]\nother.source = { file = \"other\" }\n\
         [hosts.pigeon.keys.web]\nsource = { file = \"web.json\", as = \"dir\" }\nmode = \"0440\"\ngroup = \"daemon\"\n",
    );
    operator.write("web.json", json);
    (host, operator)
}

#[test]
fn each_field_of_a_map_is_a_key_with_the_access_of_the_folder() {
    let (host, operator) =
        setting("{\"user\": \"u\", \"tls.key\": \"line\\n\\u0000\", \"port\": 1.50}");
    let plan = "pigeon: web/port: new\npigeon: web/tls.key: new\npigeon: web/user: new\n";
    let _ran = operator.keys("plan").exited(2).printed(plan);
    let _ran = operator.send("").succeeded().printed(plan);
    let inside = host.inside();
    assert_eq!(inside.read("/run/keys/web/user"), b"u");
    assert_eq!(inside.read("/run/keys/web/tls.key"), b"line\n\0");
    assert_eq!(inside.read("/run/keys/web/port"), b"1.50");
    assert_eq!(inside.access("/run/keys/web/user"), "root:daemon 0440");
    let _ran = operator.keys("plan").succeeded();
    let rows = operator.keys("status").succeeded().text();
    for name in ["other", "web/port", "web/tls.key", "web/user"] {
        assert!(rows.contains(&format!("  {name:11}  present ")), "{rows}");
    }
    assert!(
        !rows.contains("extra") && !rows.contains("missing"),
        "{rows}"
    );
    // A field that changes, one that comes and one that goes.
    operator.write(
        "web.json",
        "{\"user\": \"v\", \"tls.key\": \"line\\n\\u0000\", \"new\": \"n\"}",
    );
    let rows = operator.keys("status --compare").exited(3).text();
    for row in [
        "web/user     stale",
        "web/new      missing",
        "web/port     extra",
    ] {
        assert!(rows.contains(row), "{rows}");
    }
    let changes =
        "pigeon: web/new: new\npigeon: web/port: removed\npigeon: web/user: changed (content)\n";
    for words in ["plan", "send"] {
        let text = operator.keys(words).text();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.join("\n") + "\n", changes, "{words}");
    }
    assert!(!inside.has("/run/keys/web/port"));
    // Part of a host: the folder by its name. No key is removed.
    operator.write("web.json", "{\"user\": \"w\"}");
    let _ran = operator
        .send("--key web")
        .succeeded()
        .printed("pigeon: web/user: changed (content)\n");
    assert!(inside.has("/run/keys/web/new"));
    let _ran = operator.send("").succeeded().printed("web/new: removed");
    assert_eq!(
        operator.keys("get web").succeeded().text(),
        "{\"user\":\"w\"}"
    );
}

#[test]
fn a_folder_whose_source_fails_stays_as_it_is() {
    let (host, operator) = setting("{\"user\": \"u\", \"port\": 1}");
    let _ran = operator.send("").succeeded();
    operator.write("other", "y");
    for (json, said) in [
        (
            "{\"user\": \"v\", \"a b\": \"1\"}",
            "file web.json as dir: field `a b`: no name that a key can have",
        ),
        (
            "{\"user\": \"v\", \"a/b\": \"1\"}",
            "file web.json as dir: field `a/b`: no name that a key can have",
        ),
        (
            "{\"user\": \"v\", \"..\": \"1\"}",
            "file web.json as dir: field `..`: no name that a key can have",
        ),
        (
            "{\"user\": \"v\", \"list\": []}",
            "file web.json as dir: field `list`: a list, not one value",
        ),
        (
            "{\"user\": \"v\", \"a-b\": \"1\", \"a+b\": \"2\", \"a\\u002db\": \"3\"}",
            "file web.json as dir: it is no map",
        ),
        ("{}", "file web.json as dir: it has no fields"),
    ] {
        operator.write("web.json", json);
        let _ran = operator
            .send("")
            .exited(6)
            .said(&format!("keys: pigeon: web: {said}"));
        assert_eq!(host.inside().read("/run/keys/other"), b"x");
    }
    let ran = operator.send("--keep-going").exited(3);
    let ran = ran.said("keys: pigeon: web: file web.json as dir: it has no fields\n");
    assert_eq!(ran.text(), "pigeon: other: changed (content)\n");
    assert_eq!(host.inside().read("/run/keys/web/user"), b"u");
    assert_eq!(host.inside().read("/run/keys/web/port"), b"1");
}

#[test]
fn a_field_that_would_be_another_key_or_its_unit_is_refused() {
    let host = Sshd::start("pigeon");
    let operator = Operator::of(&host);
    let keys = |keys: &str| {
        operator.manifest(&format!(
            "id = \"lab\"\n[hosts.pigeon]\n[hosts.pigeon.keys]\n{keys}\n"
        ));
    };
    operator.write("web.json", "{\"user\": \"u\"}");
    let web = "web.source = { file = \"web.json\", as = \"dir\" }";
    keys(&format!(
        "{web}\nweb-user.source = {{ file = \"web.json\" }}"
    ));
    let said = "on pigeon: keys web/user and web-user would both be the unit web-user-key.service";
    let _ran = operator.send("").exited(6).said(said);
    keys(&format!(
        "{web}\n\"web/port\".source = {{ file = \"web.json\" }}"
    ));
    let _ran = operator
        .send("")
        .exited(64)
        .said("key web is a file, and key web/port needs a directory");
    let value = "with `as = \"dir\"` it is keys, and no value that another source could take";
    keys(&format!(
        "{web}\nx.source.template = {{ text = \"\", values = {{ a = {{ key = \"web\" }} }} }}"
    ));
    let _ran = operator.send("").exited(64).said(value);
    keys(
        "x.source.template = { text = \"\", values = { a = { file = \"web.json\", as = \"dir\" } } }",
    );
    let _ran = operator.send("").exited(64).said(value);
}
