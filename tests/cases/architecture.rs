//! Which crate may depend on which, and what every source file has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use keys_tests::{Ran, lab};
use serde_json::Value;

/// Our crates, and which of ours each may depend on.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("keys-protocol", &[]),
    ("keys-agent", &["keys-protocol"]),
    ("keys-restore", &["keys-protocol"]),
    ("keys-sops", &[]),
    ("keys-pusher", &["keys-protocol", "keys-sops"]),
    // The cases go through the binaries; the harness speaks the wire itself, to say what no pusher would.
    ("keys-tests", &["keys-protocol"]),
];

/// The page that lists what the agent depends on by itself, and why: a table whose first column names the crates.
const DECIDED: &str = "docs/decisions/0001-agent-dependencies.md";

/// What a program that reads the network as root does without, however deep in its tree.
const NOT_IN_THE_AGENT: &[&str] = &[
    "age",
    "async-std",
    "curl",
    "futures",
    "h2",
    "http",
    "hyper",
    "mio",
    "native-tls",
    "openssl",
    "polling",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "smol",
    "tokio",
    "ureq",
];

fn cargo(words: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the cases");
    let mut command = Command::new(cargo);
    command
        .args(words)
        .args(["--locked", "--offline"])
        .current_dir(lab::source());
    Ran::of(command, b"").succeeded().text()
}

/// Returns the packages of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo speaks JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// Returns what a package depends on to be built and to run, without its tests.
fn dependencies(package: &Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().expect("a list");
    let name = |dependency: &Value| dependency["name"].as_str().expect("a text").to_owned();
    all.iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .map(name)
        .collect()
}

#[test]
fn crates_depend_on_each_other_only_in_the_directions_of_the_design() {
    let packages = packages();
    assert_eq!(
        packages.len(),
        DIRECTIONS.len(),
        "a crate that no direction is given for"
    );
    for package in &packages {
        let name = package["name"].as_str().expect("a text");
        let found = DIRECTIONS
            .iter()
            .find(|(crate_name, _)| *crate_name == name);
        let (_, allowed) = found.unwrap_or_else(|| panic!("no direction is given for {name}"));
        let ours = dependencies(package)
            .into_iter()
            .filter(|dependency| dependency.starts_with("keys-"));
        for dependency in ours {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} depends on {dependency}"
            );
        }
    }
}

#[test]
fn the_agent_depends_on_nothing_that_was_not_decided() {
    let packages = packages();
    let agent = packages
        .iter()
        .find(|package| package["name"] == "keys-agent")
        .expect("it is ours");
    let page = fs::read_to_string(lab::source().join(DECIDED)).expect("a page of ours");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let decided: BTreeSet<String> = rows
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    assert_eq!(dependencies(agent), decided, "{DECIDED} is not true");
}

#[test]
fn nothing_async_and_no_http_tls_or_age_is_anywhere_below_the_agent() {
    let tree = cargo(&[
        "tree",
        "-p",
        "keys-agent",
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p}",
    ]);
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let stem = name.split(['-', '_']).next().unwrap_or_default();
        let banned = NOT_IN_THE_AGENT.contains(&name) || NOT_IN_THE_AGENT.contains(&stem);
        assert!(!banned, "{name} is below the agent:\n{tree}");
    }
}

#[test]
fn kem_is_locked_at_the_version_that_age_builds_with() {
    let lock = fs::read_to_string(lab::source().join("Cargo.lock")).expect("it is checked in");
    let after = lock
        .split("name = \"kem\"\nversion = \"")
        .nth(1)
        .expect("age depends on kem");
    assert!(
        after.starts_with("0.3.0-pre.0\""),
        "kem {}",
        after.lines().next().unwrap_or_default()
    );
}

/// Returns every file of ours with this ending.
fn sources(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["agent", "pusher", "tests"] {
        collect(&lab::source().join(folder), ending, &mut found);
    }
    found
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("a folder of ours").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" {
            collect(&path, ending, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let missing: Vec<PathBuf> = sources("rs")
        .into_iter()
        .filter(|path| {
            !fs::read_to_string(path)
                .expect("a text")
                .starts_with("//! ")
        })
        .collect();
    assert!(missing.is_empty(), "no //! at the top: {missing:#?}");
}

#[test]
fn no_file_is_named_for_nothing() {
    let empty = [
        "util", "utils", "helper", "helpers", "core", "common", "manager", "misc",
    ];
    for path in sources("rs") {
        let named = path.components().any(|part| {
            let stem = Path::new(part.as_os_str()).file_stem().unwrap_or_default();
            empty.iter().any(|word| stem == *word)
        });
        assert!(!named, "{}", path.display());
    }
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    for package in packages() {
        let path = package["manifest_path"].as_str().expect("a text");
        let manifest = fs::read_to_string(path).expect("cargo read it");
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{path}");
    }
}

#[test]
fn every_file_of_cases_is_wired_in_with_a_sentence() {
    let folder = lab::source().join("tests/cases");
    let main = fs::read_to_string(folder.join("main.rs")).expect("it is running");
    let lines: Vec<&str> = main.lines().collect();
    for entry in fs::read_dir(&folder).expect("a folder of ours") {
        let path = entry.expect("a folder of ours").path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a text");
        if stem == "main" {
            continue;
        }
        let declared = lines
            .iter()
            .position(|line| *line == format!("mod {stem};"));
        let at = declared.unwrap_or_else(|| panic!("not wired in: {}", path.display()));
        assert!(
            at > 0 && lines[at - 1].starts_with("/// "),
            "no sentence for {stem}"
        );
    }
}

#[test]
fn every_mutant_names_a_case_that_is_there() {
    for path in sources("patch") {
        let patch = fs::read_to_string(&path).expect("a text");
        let place = path.display();
        let named = patch
            .lines()
            .filter_map(|line| line.strip_prefix("# turns red: "));
        let mut count = 0;
        for case in named {
            let case = case.strip_prefix("cases::").unwrap_or(case);
            let (module, function) = case.rsplit_once("::").expect("MODULE::CASE");
            let file = lab::source().join(format!("tests/cases/{module}.rs"));
            let cases =
                fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let there = cases.contains(&format!("fn {function}()"));
            assert!(there, "{place}: no such case: {case}");
            count += 1;
        }
        assert!(count > 0, "{place}: no `# turns red: `");
    }
}
