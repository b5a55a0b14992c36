//! Finds the word that was probably meant.

use strsim::damerau_levenshtein;

/// Longer words are not compared: the cost grows with the square of the length.
const LONGEST: usize = 64;

/// Returns the known word nearest to `word`, if one is near enough to be worth a question.
///
/// Case, `-` and `_` do not count, so that `restartUnits` finds `restart_units`.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = folded(word);
    let reach = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= LONGEST)
        .map(|candidate| (damerau_levenshtein(&word, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min()
        .map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> String {
    let plain = word.chars().filter(|c| !matches!(c, '-' | '_'));
    plain.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let check = |word: &str| nearest(word, ["hosts", "source", "owner", "restart_units"]);
        assert_eq!(check("hots"), Some("hosts"));
        assert_eq!(check("restartUnits"), Some("restart_units"));
        assert_eq!(check("Owner"), Some("owner"));
        assert_eq!(check("permissions"), None);
        assert_eq!(check(""), None);
        assert_eq!(check(&"x".repeat(10_000)), None);
    }
}
