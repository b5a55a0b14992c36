//! `keys send` through a real ssh and sshd: what lands on the host.

use keys_tests::{Operator, Sshd};

#[test]
fn a_key_lands_with_its_owner_group_and_mode() {
    let host = Sshd::start("pigeon");
    host.tree().user("alice", 1001);
    let operator = Operator::of(&host);
    operator.write("secret", b"\0bytes as they are\xff");
    operator.manifest(
        r#"
[hosts.pigeon]
ssh = "pigeon"

[keys.tls-cert]
hosts = ["pigeon"]
source = { file = "secret" }
owner = "alice"
group = "keys"
mode = "0640"
"#,
    );
    let _sent = operator
        .send("--include pigeon")
        .succeeded()
        .printed("pigeon: tls-cert: new");
    assert_eq!(
        host.inside().read("/run/keys/tls-cert"),
        b"\0bytes as they are\xff"
    );
    assert_eq!(
        host.inside().access("/run/keys/tls-cert"),
        "alice:keys 0640"
    );
}
