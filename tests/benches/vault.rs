//! What reading 200 secrets from a Vault costs, beside `curl --parallel` with as many requests under way.
//!
//! A figure is the median of pairs A B A B, so that a machine that is busy for a while is busy for both.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::process::Command;
use std::time::Duration;

use keys_tests::{Operator, Ran, Tap, Vault, vault_manifest};
use serde_json::json;

const SECRETS: usize = 200;
/// How many requests are under way at once: ours, and curl's.
const AT_ONCE: &str = "16";
/// How many pairs the figure is the median of.
const PAIRS: usize = 11;

fn main() {
    let vault = Vault::shared();
    let mut operator = Operator::new();
    // Nobody to send to: what is measured ends where sending begins.
    let _nobody = Tap::dead(&mut operator);
    operator.env("VAULT_TOKEN", vault.root_token());
    let mut sources = Vec::new();
    let mut config = vec![format!(
        "header = \"X-Vault-Token: {}\"",
        vault.root_token()
    )];
    for number in 0..SECRETS {
        vault.put(
            &format!("kv/bench/{number}"),
            &json!({"f": number.to_string()}),
        );
        sources.push((
            format!("key{number}"),
            format!("{{ vault = \"kv/bench/{number}#f\" }}"),
        ));
        let address = vault.address();
        config.push(format!("url = \"{address}/v1/kv/data/bench/{number}\""));
        config.push("output = \"/dev/null\"".to_owned());
    }
    let sources: Vec<(&str, &str)> = sources
        .iter()
        .map(|(name, source)| (name.as_str(), source.as_str()))
        .collect();
    vault_manifest(&operator, &vault.line(), &sources);
    operator.write("curl", config.join("\n"));
    let mut pairs: Vec<(Duration, Duration)> = (0..PAIRS)
        .map(|_| (operator.send("").exited(4).took, curl(&operator)))
        .collect();
    let ours = median(pairs.iter().map(|pair| pair.0).collect());
    let theirs = median(pairs.iter().map(|pair| pair.1).collect());
    pairs.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    let middle = ratio(pairs[PAIRS / 2]);
    println!("| what | target | keys | curl --parallel | ratio |");
    println!("|---|---|---|---|---|");
    println!(
        "| {SECRETS} Vault paths, {AT_ONCE} at once | ≤ 1.5 | {ours:.0?} | {theirs:.0?} | {middle:.2} × |"
    );
}

fn curl(operator: &Operator) -> Duration {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--fail",
            "--parallel",
            "--parallel-max",
            AT_ONCE,
            "--config",
        ])
        .arg(operator.path("curl"));
    Ran::of(command, b"").succeeded().took
}

fn ratio((ours, theirs): (Duration, Duration)) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
