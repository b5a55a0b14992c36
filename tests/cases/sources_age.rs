//! H4 to H7, H10: age files open as age opens them, with the identities that age and sops would use, and with nothing else.

use keys_tests::{Age, Operator, Sops};

/// Writes a manifest with one key, `x`, for `pigeon`; `lines` are further tables.
fn from(operator: &Operator, source: &str, lines: &str) {
    operator.manifest(&format!(
        "id = \"lab\"\n[hosts.pigeon]\n[keys.x]\nhosts = [\"pigeon\"]\nsource = {source}\n{lines}\n"
    ));
}

fn gets(operator: &Operator, source: &str, value: &[u8]) {
    from(operator, source, "");
    let ran = operator.keys("get x").succeeded();
    assert!(ran.stdout == value, "{source}\n{ran}");
}

fn fails(operator: &Operator, source: &str, said: &str) {
    from(operator, source, "");
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

/// What age and sops encrypt to `age1pq1…`.
#[test]
fn post_quantum_identities_open_what_age_and_sops_encrypt_to_them() {
    let mut operator = Operator::new();
    let (sops, other) = (Sops::of(Age::new_post_quantum()), Age::new_post_quantum());
    let me = sops.age();
    assert!(me.recipient().starts_with("age1pq1"), "{}", me.recipient());
    operator.write("me", me.identity_text());
    let many = [
        &["-r", other.recipient()][..],
        &["--armor", "-r", other.recipient()],
        &[],
    ];
    for words in many {
        operator.write("a.age", me.encrypt(b"quantum", words));
        gets(
            &operator,
            "{ age = { file = \"a.age\", identities = [\"me\"] } }",
            b"quantum",
        );
    }
    operator.write("a.age", other.encrypt(b"quantum", &[]));
    fails(
        &operator,
        "{ age = { file = \"a.age\", identities = [\"me\"] } }",
        "keys: x: age a.age: no identity opens it\n",
    );
    operator.env("SOPS_AGE_KEY_FILE", me.identity());
    operator.write("a.yaml", sops.encrypt("a.yaml", "one: quantum\n"));
    gets(&operator, "{ sops = \"a.yaml#one\" }", b"quantum");
}
