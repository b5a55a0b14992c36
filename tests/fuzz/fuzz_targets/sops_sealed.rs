//! Feeds `targets::sops_sealed`.

#![no_main]

#[path = "../targets.rs"]
#[expect(dead_code, reason = "each binary feeds one of the targets")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sops_sealed(data));
