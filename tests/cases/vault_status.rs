//! G1, G3, I-28: what a Vault answers when something is wrong, one meaning each; and how long it is waited for.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use keys_tests::{
    Chaos, Fault, KvVersion, LIMIT, Operator, Port, Sshd, Tap, Vault, scaled, vault_manifest,
    wait_for,
};
use serde_json::json;

const SOURCE: [(&str, &str); 1] = [("x", "{ vault = \"kv/status#f\" }")];

/// An operator who reads `kv/status` through something that breaks what passes.
fn setting() -> (Operator, Chaos) {
    let vault = Vault::shared();
    vault.put("kv/status", &json!({"f": "whole"}));
    let chaos = Chaos::before(vault.address());
    let mut operator = Operator::new();
    operator
        .env("VAULT_TOKEN", vault.root_token())
        .env("VAULT_ADDR", chaos.address());
    vault_manifest(&operator, "", &SOURCE);
    (operator, chaos)
}

fn instead(status: &'static str, body: &str) -> Fault {
    Fault::Instead(status, String::new(), body.to_owned())
}

/// No host is contacted, nothing is printed, and the message says what to do.
#[test]
fn each_status_means_one_thing() {
    let (mut operator, chaos) = setting();
    let tap = Tap::dead(&mut operator);
    for (fault, said) in statuses().into_iter().chain(bodies()) {
        chaos.calm();
        chaos.meet("kv/data/status", 99, fault.clone());
        let ran = operator.send("").exited(6).said(said);
        assert_eq!(tap.calls().len(), 0, "{fault:?}\n{ran}");
        assert!(
            !ran.stderr.contains("whole") && ran.stdout.is_empty(),
            "{ran}"
        );
        let ran = operator.keys("get x").exited(6);
        assert_eq!(ran.stdout, b"", "{fault:?}\n{ran}");
    }
}

/// What a server may answer to a read, and what is to be said then.
type Said = Vec<(Fault, &'static str)>;

fn statuses() -> Said {
    let errors = |text: &str| json!({"errors": [text]}).to_string();
    let standby = errors("local node not active but active cluster node not found");
    vec![
        (
            instead("400 Bad Request", &errors("odd")),
            "kv/status: Vault answers 400\nkeys: hint: it said: odd\n",
        ),
        (
            instead(
                "403 Forbidden",
                &errors("1 error occurred:\n\t* permission denied\n\n"),
            ),
            "kv/status: permission denied (403)\nkeys: hint: the token's policies have no `read` on kv/data/status\n",
        ),
        (
            instead("404 Not Found", &errors("")),
            "kv/status: nothing is there (404)\n",
        ),
        (
            instead("412 Precondition Failed", "{}"),
            ": this node lags behind (412)\nkeys: hint: run it again\n",
        ),
        (
            instead("500 Internal Server Error", &errors("odd")),
            "Vault answers 500\nkeys: hint: it said: odd\n",
        ),
        (
            instead("500 Internal Server Error", &standby),
            ": it is a standby without an active node (500)\n",
        ),
    ]
}

fn bodies() -> Said {
    let sealed = json!({"errors": ["Vault is sealed"]}).to_string();
    vec![
        (
            instead("502 Bad Gateway", "<html>"),
            ": nothing answers behind it (502)\nkeys: hint: is the server up? `--wait SECONDS` waits for it\n",
        ),
        (
            instead("503 Service Unavailable", &sealed),
            ": it is sealed (503)\nkeys: hint: unseal it",
        ),
        (
            instead("503 Service Unavailable", "no backend"),
            ": nothing answers behind it (503)\n",
        ),
        (
            instead("504 Gateway Timeout", ""),
            ": nothing answers behind it (504)\n",
        ),
        (
            instead("200 OK", "<html>hello</html>"),
            "an answer that cannot be read (line 1, column 1)",
        ),
        (
            instead("200 OK", "{\"data\":{\"data\":null}}"),
            "an answer that is not one of a key-value mount",
        ),
        (Fault::Cut(0), ": vault at http://127.0.0.1:"),
        (Fault::Cut(150), ": vault at http://127.0.0.1:"),
        (Fault::Closed, ": vault at http://127.0.0.1:"),
    ]
}

/// What passes by itself is not an error: a few tries, and a few more where the environment says so.
#[test]
fn a_fault_that_passes_is_not_noticed() {
    let (mut operator, chaos) = setting();
    for fault in [
        instead("412 Precondition Failed", "{}"),
        instead("500 Internal Server Error", "{}"),
        instead("503 Service Unavailable", "starting"),
        Fault::Instead(
            "429 Too Many Requests",
            "Retry-After: 1\r\n".into(),
            String::new(),
        ),
        Fault::Cut(20),
        Fault::Cut(300),
        Fault::Closed,
        Fault::Late(Duration::from_millis(300)),
    ] {
        chaos.calm();
        chaos.meet("kv/data/status", 2, fault.clone());
        let ran = operator.keys("get x").succeeded();
        assert_eq!(ran.stdout, b"whole", "{fault:?}\n{ran}");
    }
    chaos.calm();
    operator.env("VAULT_MAX_RETRIES", "1");
    chaos.meet("kv/data/status", 2, Fault::Closed);
    let _too_often = operator.keys("get x").exited(6);
    assert_eq!(asked(&chaos, "kv/data/status"), 2);
    chaos.calm();
    // What may have happened is not done twice.
    chaos.meet("auth/token/create", 1, Fault::Closed);
    let _once = operator.keys("get x").exited(6);
    assert_eq!(asked(&chaos, "auth/token/create"), 1);
}

fn asked(chaos: &Chaos, part: &str) -> usize {
    chaos
        .requests()
        .iter()
        .filter(|head| head.lines().next().unwrap().contains(part))
        .count()
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let (mut operator, _chaos) = setting();
    let silent = Port::silent();
    operator.env(
        "VAULT_ADDR",
        format!("http://127.0.0.1:{}", silent.number()),
    );
    operator.env("VAULT_CLIENT_TIMEOUT", "1");
    let _slow = operator
        .keys("get x")
        .exited(6)
        .said(": no answer in time\n");
}

/// G3: down, and up after a while, in one run.
#[test]
fn a_server_that_is_down_is_waited_for_as_long_as_was_asked() {
    let (mut operator, _chaos) = setting();
    let number = Port::closed();
    let address = format!("127.0.0.1:{number}");
    operator.env("VAULT_ADDR", format!("http://{address}"));
    let down = operator
        .keys("get x --wait 1")
        .exited(6)
        .said("vault at http://127.0.0.1:");
    assert!(down.took >= Duration::from_millis(500), "{down}");
    let started = Instant::now();
    let later = thread::spawn(move || {
        wait_for("a while", LIMIT, || {
            (started.elapsed() > Duration::from_secs(4)).then_some(())
        });
        let vault = Vault::with(&["-addr", &address]);
        vault.mount_kv("kv", KvVersion::Two);
        vault.put("kv/status", &json!({"f": "late"}));
        vault
    });
    // It starts with another token: what is waited for is the server.
    let ran = operator
        .keys("get x --wait 300")
        .exited(6)
        .said("Vault does not know the token");
    assert!(ran.took >= Duration::from_secs(3), "{ran}");
    let vault = later.join().unwrap();
    operator.env("VAULT_TOKEN", vault.root_token());
    wait_for("the mount", LIMIT, || {
        (operator.keys("get x").code() == 0).then_some(())
    });
}

#[test]
fn a_sealed_server_is_waited_for_as_long_as_was_asked() {
    let (mut operator, _chaos) = setting();
    let vault = Vault::start();
    vault.mount_kv("kv", KvVersion::Two);
    vault.put("kv/status", &json!({"f": "late"}));
    vault.seal();
    let chaos = Chaos::before(vault.address());
    operator
        .env("VAULT_ADDR", chaos.address())
        .env("VAULT_TOKEN", vault.root_token());
    let _sealed = operator
        .keys("get x --wait 1")
        .exited(6)
        .said("it is sealed (503)");
    chaos.calm();
    let mut command = operator.command(&["get", "x", "--wait", "300"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    // It has met the seal, and somebody opens it.
    wait_for("a request", LIMIT, || {
        (!chaos.requests().is_empty()).then_some(())
    });
    vault.unseal();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"late");
}

/// Writes a manifest with keys from the paths below `folder` that are called by numbers.
fn many(operator: &Operator, folder: &str, count: usize) {
    let source = |number| format!("{{ vault = \"{folder}/{number}#f\" }}");
    let sources: Vec<(String, String)> = (0..count)
        .map(|number| (format!("key{number}"), source(number)))
        .collect();
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .map(|(name, source)| (&**name, &**source))
        .collect();
    vault_manifest(operator, "", &sources);
}

/// What a read may meet.
fn faults() -> [Fault; 7] {
    [
        Fault::Closed,
        Fault::Cut(30),
        Fault::Cut(400),
        instead("500 Internal Server Error", "{}"),
        instead("404 Not Found", "{\"errors\":[]}"),
        instead("200 OK", ""),
        instead("200 OK", "{\"data\":{\"data\":{}}}"),
    ]
}

/// G1: whatever meets a run, a host has the old keys or the new ones.
#[test]
fn chaos_leaves_no_host_with_a_part() {
    let (mut operator, chaos) = setting();
    let host = Sshd::start("pigeon");
    operator.knows(&host);
    operator.env("VAULT_MAX_RETRIES", "0");
    many(&operator, "kv/chaos", 6);
    let put = |value: &str| {
        for number in 0..6 {
            Vault::shared().put(&format!("kv/chaos/{number}"), &json!({"f": value}));
        }
    };
    put("0");
    let _first = operator.send("").succeeded();
    let (mut old, mut broken) = ("0".to_owned(), 0);
    for round in 0..scaled(7) {
        let new = (round + 1).to_string();
        put(&new);
        chaos.calm();
        let index = usize::try_from(round).unwrap();
        let path = format!("kv/data/chaos/{}", index % 6);
        chaos.meet(&path, 1, faults()[index % 7].clone());
        let ran = operator.send("");
        let found: Vec<Vec<u8>> = (0..6)
            .map(|key| host.inside().read(&format!("/run/keys/key{key}")))
            .collect();
        let expected = if ran.code() == 0 { &new } else { &old };
        assert!(
            found.iter().all(|value| value == expected.as_bytes()),
            "{ran}"
        );
        broken += usize::from(ran.code() != 0);
        chaos.calm();
        let _repaired = operator.send("").succeeded();
        old = new;
    }
    assert!(broken > 0, "no fault was met");
}

/// G4: a server that allows few requests is asked one thing at a time, and not by all at once again and again.
#[test]
fn a_busy_server_is_not_stormed() {
    const SECRETS: usize = 40;
    let vault = Vault::start();
    vault.mount_kv("kv", KvVersion::Two);
    let chaos = Chaos::before(vault.address());
    let mut operator = Operator::new();
    operator
        .env("VAULT_TOKEN", vault.root_token())
        .env("VAULT_ADDR", chaos.address());
    for number in 0..SECRETS {
        vault.put(&format!("kv/storm/{number}"), &json!({"f": "x"}));
    }
    many(&operator, "kv/storm", SECRETS);
    vault.api(
        "POST",
        "sys/quotas/rate-limit/slow",
        &json!({"path": "kv/", "rate": 5}),
    );
    let ran = operator.send("").exited(4);
    let count = asked(&chaos, "kv/data/storm");
    // Those under way when it said so first, and one refusal a second.
    assert!(
        count > SECRETS && count < 2 * SECRETS,
        "{count} requests\n{ran}"
    );
}
