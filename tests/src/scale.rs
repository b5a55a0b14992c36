//! How often a case repeats what is left to chance.

use std::env;

/// Returns `count`, times `KEYS_TEST_SCALE` (1 unless set, 10 every night), and prints it.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn scaled(count: u32) -> u32 {
    let factor = env::var("KEYS_TEST_SCALE")
        .map_or(1, |text| text.parse().expect("KEYS_TEST_SCALE is a number"));
    let rounds = count * factor;
    eprintln!("{rounds} rounds");
    rounds
}
