//! Every input that was kept while fuzzing, fed to its parser again; the parsers are those of `fuzz/targets.rs`.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keys_tests::lab;

fn folder() -> PathBuf {
    lab::source().join("tests/fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn no_input_that_was_kept_breaks_a_parser() {
    for (name, target) in targets::ALL {
        let corpus = folder().join("corpus").join(name);
        let mut count = 0;
        for entry in fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display())) {
            let path = entry.unwrap().path();
            // What a panic says does not name the file.
            let fed = std::panic::catch_unwind(|| target(&fs::read(&path).unwrap()));
            assert!(fed.is_ok(), "{}", path.display());
            count += 1;
        }
        println!("{name}: {count}");
        assert!(count > 0, "{}", corpus.display());
    }
}

#[test]
fn every_parser_has_a_corpus_and_a_binary() {
    let known: BTreeSet<String> = targets::ALL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(names(&folder().join("corpus")), known);
    assert_eq!(names(&folder().join("fuzz_targets")), known);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in &known {
        let binary = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&binary), "{name}");
    }
}
