//! A file that was changed without sops is refused, or says the same as before: never anything else.

use std::collections::BTreeMap;

use keys_sops::{Error, Kind, Plain, Value};

use crate::fixture::Fixture;

/// Files of each format, small enough to change every byte.
const SMALL: [&str; 5] = ["regex", "json-mac-only", "dotenv", "ini", "text"];

/// What is encrypted in a document, by the names above it. What sops does not authenticate is left out: the names of
/// empty values, and indices.
fn sealed(plain: &Plain) -> BTreeMap<Vec<String>, Vec<Vec<u8>>> {
    let mut values: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut open: Vec<Vec<String>> = plain.fields().into_iter().map(|name| vec![name]).collect();
    while let Some(mut path) = open.pop() {
        let value = plain.get(&path).unwrap();
        for name in value.fields() {
            let mut path = path.clone();
            path.push(name);
            open.push(path);
        }
        match value.bytes() {
            Ok(bytes) if value.is_encrypted() && !is_container(&value) && !bytes.is_empty() => {
                path.retain(|step| step.parse::<usize>().is_err());
                values.entry(path).or_default().push(bytes.to_vec());
            }
            _ => {}
        }
    }
    for values in values.values_mut() {
        values.sort();
    }
    values
}

fn is_container(value: &Value<'_>) -> bool {
    matches!(value.kind(), Kind::Map | Kind::List)
}

#[test]
fn no_changed_byte_gives_another_value() {
    let (mut refused, mut same) = (0, 0);
    for name in SMALL {
        let fixture = Fixture::named(name);
        let before = sealed(&fixture.plain());
        assert!(!before.is_empty(), "{name}");
        for at in 0..fixture.document.len() {
            // One bit, and a blank: another value, and another structure.
            let byte = fixture.document[at];
            for changed in [byte ^ 1, b' '] {
                let mut document = fixture.document.clone();
                document[at] = changed;
                match fixture.decrypt(&document) {
                    Err(_) => refused += 1,
                    Ok(plain) => {
                        same += 1;
                        assert_eq!(sealed(&plain), before, "{name}: byte {at} as {changed}");
                    }
                }
            }
        }
    }
    assert!(refused > same, "{refused} refused, {same} the same");
}

#[test]
fn no_cut_file_gives_another_value() {
    for name in SMALL {
        let fixture = Fixture::named(name);
        let before = sealed(&fixture.plain());
        for length in 0..fixture.document.len() {
            if let Ok(plain) = fixture.decrypt(&fixture.document[..length]) {
                assert_eq!(sealed(&plain), before, "{name}: cut to {length} bytes");
            }
        }
    }
}

/// Decrypts a fixture after `change`, and returns what that is refused with.
fn refusal(name: &str, change: impl Fn(&str) -> String) -> Error {
    let fixture = Fixture::named(name);
    let before = String::from_utf8(fixture.document.clone()).unwrap();
    let after = change(&before);
    assert_ne!(before, after, "{name}: nothing was changed");
    fixture
        .decrypt(after.as_bytes())
        .err()
        .unwrap_or_else(|| panic!("{name}: accepted"))
}

/// Returns the token that follows `name` in a YAML or JSON document.
fn token<'t>(text: &'t str, name: &str) -> &'t str {
    let rest = &text[text.find(name).unwrap()..];
    let start = rest.find("ENC[").unwrap();
    &rest[start..=start + rest[start..].find(']').unwrap()]
}

#[test]
fn a_missing_or_foreign_mac_is_refused() {
    let without = |text: &str| text.replace(token(text, " mac: "), "\"\"");
    assert_eq!(refusal("regex", without), Error::NoMac);
    let renamed = |text: &str| text.replace(" mac: ", " cam: ");
    assert_eq!(refusal("regex", renamed), Error::NoMac);
    let foreign = Fixture::named("regex-unencrypted").document;
    let foreign = String::from_utf8(foreign).unwrap();
    let exchanged = |text: &str| text.replace(token(text, " mac: "), token(&foreign, " mac: "));
    assert_eq!(refusal("regex", exchanged), Error::MacMismatch);
    let value = |text: &str| text.replace(token(text, " mac: "), token(text, "password"));
    assert_eq!(refusal("regex", value), Error::MacMismatch);
    let later = |text: &str| text.replacen("lastmodified: \"20", "lastmodified: \"21", 1);
    assert_eq!(refusal("regex", later), Error::MacMismatch);
}

#[test]
fn values_that_change_places_are_refused() {
    let swapped = |text: &str| {
        let (password, conf) = (token(text, "password:"), token(text, "conf:"));
        text.replace(password, "HERE")
            .replace(conf, password)
            .replace("HERE", conf)
    };
    let error = refusal("regex", swapped);
    assert!(
        matches!(&error, Error::Unsealable { path, .. } if path == "data/password"),
        "{error}"
    );
    // Items of a list are bound to the list alone: there it is the MAC that tells.
    let swapped = |text: &str| {
        let one = token(text, "\nthird:");
        let two = token(text.split_once(one).unwrap().1, "-");
        text.replace(one, "HERE")
            .replace(two, one)
            .replace("HERE", two)
    };
    assert_eq!(refusal("documents", swapped), Error::MacMismatch);
}

#[test]
fn plain_text_in_place_of_an_encrypted_value_is_refused() {
    for plain in ["hunter3", "42", "true", "[]", "'ENC[AES256_GCM,data:eA==]'"] {
        let replaced = |text: &str| text.replace(token(text, "password:"), plain);
        let error = refusal("regex", replaced);
        let expected = match &error {
            Error::NotSealed { path } | Error::Unsealable { path, .. } => path == "data/password",
            // An empty list is never encrypted: there it is the MAC that lacks the value.
            error => plain == "[]" && *error == Error::MacMismatch,
        };
        assert!(expected, "{plain}: {error}");
    }
    let replaced = |text: &str| text.replace(token(text, "\"data\""), "plain");
    assert!(matches!(refusal("text", replaced), Error::NotSealed { .. }));
    let trailing = |text: &str| text.replacen(",type:str]", ",type:str] x", 1);
    assert!(matches!(
        refusal("regex", trailing),
        Error::Unsealable { .. }
    ));
    let typed = |text: &str| text.replacen(",type:str]", ",type:bytes]", 1);
    // The type is not authenticated; the MAC is over the same bytes, and so are the bytes that are handed out.
    let fixture = Fixture::named("regex");
    let text = typed(std::str::from_utf8(&fixture.document).unwrap());
    assert_eq!(
        sealed(&fixture.decrypt(text.as_bytes()).unwrap()),
        sealed(&fixture.plain())
    );
}

#[test]
fn rules_that_someone_changed_do_not_open_a_file() {
    let rule = "encrypted_regex: ^(data|stringData)$";
    for changed in [
        "encrypted_regex: ^nothing$",
        "unencrypted_regex: .",
        "unencrypted_suffix: a",
        "encrypted_suffix: nothing",
        "mac_only_encrypted: true\n    encrypted_regex: ^(data|stringData)$",
        "mac_only_encrypted: true\n    encrypted_regex: ^nothing$",
        "encrypted_regex: (",
        "shamir_threshold: 1",
    ] {
        refusal("regex", |text| text.replace(rule, changed));
    }
}
