//! Files made to cost memory or time are refused before they do.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use keys_sops::{Document, Error, Format, limits};

use crate::fixture::Fixture;

/// How long any file may take, in a debug build.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns how long this thread has computed; other tests and other people do not count.
fn computed() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn check(what: &str, format: Format, text: &str) -> Error {
    let start = computed();
    let error = Document::parse(text.as_bytes(), format)
        .err()
        .unwrap_or_else(|| panic!("{what} was accepted"));
    let took = computed().saturating_sub(start);
    assert!(took < LIMIT, "{what}: refused after {took:?}");
    error
}

#[test]
fn deep_nesting_is_refused() {
    let deep = 100_000;
    for (what, format, text) in [
        ("lists", Format::Yaml, format!("a: {}", "[".repeat(deep))),
        ("maps", Format::Yaml, format!("a: {}", "{a: ".repeat(deep))),
        (
            "block lists",
            Format::Yaml,
            format!("a:\n{}", "- ".repeat(deep)),
        ),
        (
            "lists",
            Format::Json,
            format!("{{\"a\": {}", "[".repeat(deep)),
        ),
        ("maps", Format::Json, "{\"a\": ".repeat(deep)),
    ] {
        let error = check(what, format, &text);
        assert_eq!(error, Error::TooDeep, "{format} {what}");
    }
    check("keys of keys", Format::Yaml, &"? ".repeat(deep));
    let indented = (0..3000).fold(String::new(), |mut text, depth| {
        writeln!(text, "{}a:", " ".repeat(depth)).unwrap();
        text
    });
    assert_eq!(check("indents", Format::Yaml, &indented), Error::TooDeep);
    let flat = format!("sops_a{}=1\n", "__list_0".repeat(deep));
    check("a flattened name", Format::Dotenv, &flat);
}

#[test]
fn aliases_do_not_multiply() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..40 {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        writeln!(text, "a{n}: &a{n} [{list}]").unwrap();
    }
    let error = check("a billion laughs", Format::Yaml, &text);
    assert!(error.to_string().contains("aliases"), "{error}");
    check("an alias of itself", Format::Yaml, "a: &a [*a]\n");
}

#[test]
fn long_names_do_not_make_every_comment_costly() {
    let fixture = Fixture::named("ini");
    let token = "ENC[AES256_GCM,data:eA==,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:comment]";
    let check = |name: usize| {
        let mut text = String::from_utf8(fixture.document.clone()).unwrap();
        write!(text, "\n[{}]\n", "x".repeat(name)).unwrap();
        (0..5_000).for_each(|n| write!(text, "; {token}\nk{n}=\n").unwrap());
        let start = computed();
        let error = fixture.decrypt(text.as_bytes()).err();
        let took = computed().saturating_sub(start);
        assert!(took < LIMIT, "{name} bytes: {took:?}");
        error
    };
    assert_eq!(check(4 << 20), Some(Error::LongPath));
    // Comments that cannot be decrypted and empty values change nothing.
    assert_eq!(check(1 << 10), None);
}

#[test]
fn costly_rules_are_refused() {
    let fixture = Fixture::named("regex");
    let text = String::from_utf8(fixture.document.clone()).unwrap();
    for regex in [
        "(((a{100}){100}){100}){100}",
        "((\\pL{100}){100}){100}",
        "(((x*)*)*)*y",
    ] {
        let changed = text.replace("^(data|stringData)$", &format!("'{regex}'"));
        assert_ne!(changed, text);
        let start = computed();
        assert!(fixture.decrypt(changed.as_bytes()).is_err(), "{regex}");
        let took = computed().saturating_sub(start);
        assert!(took < LIMIT, "{regex}: {took:?}");
    }
}

/// Heads, and what follows them over and over: `N` is another number each time.
const LARGE: [(Format, &str, &str); 38] = [
    (Format::Yaml, "a:\n", "- a\n"),
    (Format::Yaml, "a: [", "a,"),
    (Format::Yaml, "", "kN: 1\n"),
    (Format::Yaml, "", "a: 1\n"),
    (Format::Yaml, "", "---\n"),
    (Format::Yaml, "", "#\n"),
    (Format::Yaml, "", "\n"),
    (Format::Yaml, "a: ", " "),
    (Format::Yaml, "a: ", "x"),
    (Format::Yaml, "a: ", "1"),
    (Format::Yaml, "a: ", "x\n "),
    (Format::Yaml, "a: \"", "\\n"),
    (Format::Yaml, "", "x"),
    (Format::Yaml, "a: >\n", " x\n"),
    (Format::Yaml, "", "kN: &aN 1\n"),
    (Format::Yaml, "", "%TAG !N! tag:x,2000:\n"),
    (Format::Yaml, "a: &", "x"),
    (Format::Yaml, "\u{feff}", "\t"),
    (Format::Json, "{\"a\": [", "1,"),
    (Format::Json, "{", "\"N\":{},"),
    (Format::Json, "{\"a\": \"", "x"),
    (Format::Json, "{\"a\": \"", "\\\""),
    (Format::Json, "{\"a\": ", "1"),
    (Format::Dotenv, "", "a=\n"),
    (Format::Dotenv, "", "#\n"),
    (Format::Dotenv, "", "sops_N=\n"),
    (Format::Dotenv, "sops_a", "__map_a"),
    (Format::Dotenv, "sops_a", "_"),
    (Format::Dotenv, "a=", "\\n"),
    (Format::Dotenv, "", "a"),
    (Format::Ini, "", "N=\n"),
    (Format::Ini, "", "a=\n"),
    (Format::Ini, "", "[a]\n"),
    (Format::Ini, "", ";\n"),
    (Format::Ini, "a=", "x\\\n"),
    (Format::Ini, "a=`", "x\n"),
    (Format::Ini, "a=\"\"\"", "\"\"\"\\\n"),
    (Format::Ini, "", "["),
];

/// Returns a file of nearly `limit` bytes.
fn fill(limit: usize, head: &str, part: &str) -> String {
    let Some((before, after)) = part.split_once('N') else {
        return head.to_owned() + &part.repeat((limit - head.len()) / part.len());
    };
    let mut text = head.to_owned();
    for n in 0.. {
        if text.len() + part.len() + 8 > limit {
            break;
        }
        write!(text, "{before}{n}{after}").unwrap();
    }
    text
}

#[test]
fn large_files_are_refused_or_bounded() {
    for (format, limit) in [
        (Format::Binary, limits::BYTES),
        (Format::Yaml, limits::YAML_BYTES),
    ] {
        let error = check("50 MiB", format, &" ".repeat(50 << 20));
        assert_eq!(error, Error::TooLarge(limit));
    }
    for (format, head, part) in LARGE {
        let limit = match format {
            Format::Yaml => limits::YAML_BYTES,
            _ => limits::BYTES,
        };
        let what = format!("{format} {head:?} {part:?}");
        check(&what, format, &fill(limit, head, part));
    }
}
