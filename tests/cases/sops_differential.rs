//! H1, H2, H3: thousands of documents beside the real sops; equal to the last byte, or refused, and never something else.

use std::collections::BTreeMap;
use std::thread;

use keys_sops::{Document, Error, Format, Plain};
use keys_tests::{Opened, Sealed, Sopsd, scaled};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::documents::{Dice, RULES, document};

const FORMATS: [(&str, Format); 5] = [
    ("yaml", Format::Yaml),
    ("json", Format::Json),
    ("dotenv", Format::Dotenv),
    ("ini", Format::Ini),
    ("binary", Format::Binary),
];

/// How many threads compare, each with a sops of its own.
const THREADS: u32 = 2;

fn unhex(text: &str) -> Zeroizing<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Zeroizing::new((0..text.len()).step_by(2).map(byte).collect())
}

/// Decrypts with our own reader.
fn ours(format: Format, file: &[u8], key: &str) -> Result<Plain, Error> {
    let document = Document::parse(file, format)?;
    let key = document.data_key(|_| Ok::<_, String>(unhex(key)))?;
    document.decrypt(&key)
}

/// Compares every value that sops extracts, and returns how many.
fn compare_values(what: &str, plain: &Plain, theirs: &Opened) -> u32 {
    let mut count = 0;
    for leaf in &theirs.leaves {
        let found = plain.get(&leaf.path).and_then(|value| value.bytes());
        let place = leaf.path.join("/");
        match (&leaf.bytes, found) {
            (Some(bytes), Ok(found)) => assert_eq!(
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(bytes),
                "{place} of {what}"
            ),
            (Some(_), Err(error)) => panic!("{place} of {what}: {error}"),
            (None, found) => assert!(found.is_err(), "{place} of {what}: sops refuses it"),
        }
        count += 1;
    }
    count
}

/// Compares the whole: bytes where the format has one spelling for each document, else data.
fn compare_whole(what: &str, format: &str, theirs: &Opened, plain: &Plain, sops: &mut Sopsd) {
    let whole = plain.whole();
    if matches!(format, "dotenv" | "binary") {
        assert_eq!(**whole.unwrap(), theirs.whole, "{what}");
        return;
    }
    // What sops cannot print, or cannot read again when it has, says nothing about us.
    let Ok(right) = sops.parse(format, &theirs.whole) else {
        return;
    };
    let whole = whole.unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = sops.parse(format, &whole);
    let shown = String::from_utf8_lossy(&whole);
    assert_eq!(found.as_ref(), Ok(&right), "{what}\nours:\n{shown}");
}

/// How a round ended.
#[derive(Default, Debug)]
struct Count {
    documents: u32,
    values: u32,
    /// What sops itself would not encrypt.
    unfit: u32,
    /// What sops cannot decrypt again.
    lost: u32,
    /// What we refuse on purpose, by reason.
    refused: BTreeMap<String, u32>,
}

fn one_document(seed: u64, sops: &mut Sopsd, count: &mut Count) {
    let mut dice = Dice::new(seed);
    let (name, format) = dice.pick(&FORMATS);
    let text = document(name, &mut dice);
    let (rule, value) = dice.pick(&RULES);
    let settings = json!({"rule": rule, "value": value, "mac_only_encrypted": dice.below(8) == 0});
    let what = format!(
        "seed {seed}: {name} {settings}\n{}",
        String::from_utf8_lossy(&text)
    );
    let Ok(Sealed { file, key }) = sops.encrypt(name, &text, &settings) else {
        count.unfit += 1;
        return;
    };
    let Ok(theirs) = sops.decrypt(name, &file, &key) else {
        count.lost += 1;
        return;
    };
    count.documents += 1;
    let what = format!("{what}\nencrypted:\n{}", String::from_utf8_lossy(&file));
    match ours(format, &file, &key) {
        Ok(plain) => {
            count.values += compare_values(&what, &plain, &theirs);
            compare_whole(&what, name, &theirs, &plain, sops);
        }
        Err(error) => {
            let reason = documented(&error).unwrap_or_else(|| panic!("{error}: {what}"));
            *count.refused.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

/// What the documentation of keys-sops says that it refuses, among what sops writes.
fn documented(error: &Error) -> Option<&'static str> {
    match error {
        Error::Duplicate(_) => Some("two fields of one name"),
        _ => None,
    }
}

/// H1
#[test]
fn every_document_of_sops_is_read_as_sops_reads_it() {
    let rounds = scaled(2_000);
    let counts: Vec<Count> = thread::scope(|scope| {
        let work = |thread: u32| {
            let mut sops = Sopsd::start();
            let mut count = Count::default();
            (thread..rounds)
                .step_by(THREADS as usize)
                .for_each(|seed| one_document(u64::from(seed), &mut sops, &mut count));
            count
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    println!("{counts:#?}");
    let sum = |part: fn(&Count) -> u32| counts.iter().map(part).sum::<u32>();
    // Dice that only make what sops refuses would prove nothing.
    assert!(sum(|count| count.documents) * 10 > rounds * 8, "{counts:?}");
    assert!(sum(|count| count.values) > rounds * 5, "{counts:?}");
    assert!(
        sum(|count| count.refused.values().sum()) * 50 < rounds,
        "{counts:?}"
    );
}

/// Files to be damaged: of every format, with every kind of rule.
const FILES: [(&str, &str, &str, &str, bool); 10] = [
    (
        "yaml",
        "a: one\nb: {c: 2, d: [x, 1.5, true]}\n# note\ne: \"\"\n",
        "",
        "",
        false,
    ),
    (
        "yaml",
        "a1: one\nb: two\nc:\n- d1: 7\n- e\n",
        "unencrypted_suffix",
        "1",
        false,
    ),
    (
        "yaml",
        "data: {p: one}\nkind: Secret\n---\ndata: {p: two}\n",
        "encrypted_regex",
        "^data$",
        true,
    ),
    (
        "yaml",
        "# secret\na: one\nb: |\n  two\n  lines\n",
        "encrypted_comment_regex",
        "secret",
        false,
    ),
    (
        "json",
        "{\"a\": \"one\", \"b\": {\"c\": 2, \"d\": [null, true, 1.5]}}",
        "",
        "",
        false,
    ),
    (
        "json",
        "{\"a\": \"one\", \"b_x\": \"two\"}",
        "encrypted_suffix",
        "_x",
        true,
    ),
    (
        "dotenv",
        "# note\nA=one\nB_unencrypted=two\nC=x\\ny\n",
        "",
        "",
        false,
    ),
    (
        "ini",
        "top = 0\n[s]\n; note\na = one\nb = two words\n",
        "",
        "",
        false,
    ),
    (
        "ini",
        "[s]\na = one\nb = two\n",
        "unencrypted_regex",
        "^b$",
        false,
    ),
    ("binary", "\u{0}one\r\ntwo", "", "", false),
];

/// Returns what is encrypted in a document, by the names above it; indices and the names of empty values are not
/// authenticated, by sops or by anyone.
fn sealed(plain: &Plain) -> BTreeMap<Vec<String>, Vec<Vec<u8>>> {
    let mut values: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut open: Vec<Vec<String>> = plain.fields().into_iter().map(|name| vec![name]).collect();
    while let Some(mut path) = open.pop() {
        let value = plain.get(&path).unwrap();
        let below = value.fields();
        open.extend(
            below
                .iter()
                .map(|name| [&path[..], std::slice::from_ref(name)].concat()),
        );
        match value.bytes() {
            Ok(bytes) if below.is_empty() && value.is_encrypted() && bytes.len() > 2 => {
                path.retain(|step| step.parse::<usize>().is_err());
                values.entry(path).or_default().push(bytes.to_vec());
            }
            _ => {}
        }
    }
    values.values_mut().for_each(|values| values.sort());
    values
}

/// Compares one damaged file, and returns whether it was read all the same.
fn one_variant(what: &str, file: &(&str, Format), bytes: &[u8], original: &Original) -> bool {
    let (name, format) = *file;
    let Ok(plain) = ours(format, bytes, &original.key) else {
        return false;
    };
    let mut sops = original.sops.lock().unwrap();
    let theirs = sops.decrypt(name, bytes, &original.key);
    let theirs = theirs.unwrap_or_else(|error| panic!("{what}: sops refuses it: {error}"));
    compare_values(what, &plain, &theirs);
    compare_whole(what, name, &theirs, &plain, &mut sops);
    assert_eq!(sealed(&plain), original.sealed, "{what}");
    true
}

/// A file before it is damaged.
struct Original {
    key: String,
    sealed: BTreeMap<Vec<String>, Vec<Vec<u8>>>,
    sops: std::sync::Mutex<Sopsd>,
}

/// H2: one bit of every byte, another in each round.
#[test]
fn no_flipped_byte_gives_another_value_or_one_that_sops_refuses() {
    let rounds = scaled(1);
    let (mut variants, mut read) = (0_usize, 0);
    for (name, text, rule, value, only) in FILES {
        let format = FORMATS
            .into_iter()
            .find(|(format, _)| *format == name)
            .unwrap();
        let mut sops = Sopsd::start();
        let settings = json!({"rule": rule, "value": value, "mac_only_encrypted": only});
        let Sealed { file, key } = sops.encrypt(name, text.as_bytes(), &settings).unwrap();
        let plain = ours(format.1, &file, &key).unwrap();
        let original = Original {
            sealed: sealed(&plain),
            key,
            sops: sops.into(),
        };
        for round in 0..rounds as usize {
            for at in 0..file.len() {
                let mut bytes = file.clone();
                bytes[at] ^= 1 << ((at + round) % 7);
                let what = format!(
                    "{name} {settings}: byte {at}, {:?} as {:?}",
                    file[at] as char, bytes[at] as char
                );
                read += usize::from(one_variant(&what, &format, &bytes, &original));
                variants += 1;
            }
        }
    }
    println!("{variants} variants, {read} of them read");
    assert!(
        variants > 10_000 && read * 2 < variants,
        "{variants} variants, {read} read"
    );
}

/// Returns the token that stands behind `name`.
fn token<'t>(text: &'t str, name: &str) -> &'t str {
    let rest = &text[text.find(name).unwrap()..];
    let start = rest.find("ENC[").unwrap();
    &rest[start..=start + rest[start..].find(']').unwrap()]
}

/// A change that someone without the data key can make.
type Attack = fn(text: &str, foreign: &str) -> String;

/// On YAML with `one`, `two` and `three_unencrypted`.
const ATTACKS: [(&str, Attack); 12] = [
    ("no mac", |text, _| {
        text.replace(token(text, " mac:"), "\"\"")
    }),
    ("another file's mac", |text, foreign| {
        text.replace(token(text, " mac:"), token(foreign, " mac:"))
    }),
    ("a value as mac", |text, _| {
        text.replace(token(text, " mac:"), token(text, "one:"))
    }),
    ("swapped values", |text, _| {
        let (one, two) = (token(text, "one:"), token(text, "two:"));
        text.replace(one, "@").replace(two, one).replace('@', two)
    }),
    ("a value of another file", |text, foreign| {
        text.replace(token(text, "one:"), token(foreign, "one:"))
    }),
    ("a value in clear", |text, _| {
        text.replace(token(text, "one:"), "clear")
    }),
    ("a value removed", |text, _| {
        text.replace(&format!("one: {}\n", token(text, "one:")), "")
    }),
    ("a value added", |text, _| {
        format!("four_unencrypted: x\n{text}")
    }),
    ("a value in clear changed", |text, _| {
        text.replace("three_unencrypted: plain", "three_unencrypted: other")
    }),
    ("another suffix", |text, _| {
        text.replace("unencrypted_suffix: _unencrypted", "unencrypted_suffix: o")
    }),
    ("only encrypted values counted", |text, _| {
        text.replace(
            "    unencrypted_suffix",
            "    mac_only_encrypted: true\n    unencrypted_suffix",
        )
    }),
    ("another time", |text, _| {
        text.replacen("lastmodified: \"20", "lastmodified: \"21", 1)
    }),
];

/// H3
#[test]
fn every_attack_that_sops_refuses_is_refused() {
    let mut sops = Sopsd::start();
    let text = b"one: first\ntwo: second\nthree_unencrypted: plain\n";
    let file = sops
        .encrypt("yaml", text, &Value::from(serde_json::Map::new()))
        .unwrap();
    let foreign = sops.encrypt("yaml", text, &json!({})).unwrap();
    let [text, foreign] =
        [&file.file, &foreign.file].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    assert!(ours(Format::Yaml, text.as_bytes(), &file.key).is_ok());
    for (what, attack) in ATTACKS {
        let changed = attack(&text, &foreign);
        assert_ne!(changed, text, "{what}");
        assert!(
            sops.decrypt("yaml", changed.as_bytes(), &file.key).is_err(),
            "{what}: sops takes it"
        );
        assert!(
            ours(Format::Yaml, changed.as_bytes(), &file.key).is_err(),
            "{what}"
        );
    }
    let file = sops.encrypt("binary", b"secret", &json!({})).unwrap();
    let text = String::from_utf8(file.file).unwrap();
    let clear = text.replace(token(&text, "\"data\""), "clear");
    assert!(sops.decrypt("binary", clear.as_bytes(), &file.key).is_err());
    assert!(ours(Format::Binary, clear.as_bytes(), &file.key).is_err());
}
