//! Features that came after version 1 was fixed: words that a push may require, and that an agent offers.

use std::collections::BTreeSet;
use std::fmt;

/// A feature that an agent may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Units may be named by patterns, which also stand in results.
    UnitGlobs,
    /// Units may be started, stopped and sent signals, too.
    UnitActions,
    /// Sealed bundles are kept, and removed.
    Bundle,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 3] = [Self::UnitGlobs, Self::UnitActions, Self::Bundle];

    /// Returns its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnitGlobs => "unit-globs",
            Self::UnitActions => "unit-actions",
            Self::Bundle => "bundle",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.word() == word)
    }
}

/// Some features. Written as words with spaces between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// Returns all that this crate knows.
    #[must_use]
    pub fn all() -> Self {
        Self(Feature::ALL.into())
    }

    /// Reads what must be known.
    ///
    /// # Errors
    /// The first word that is not.
    pub fn required(words: &str) -> Result<Self, &str> {
        let words = words.split_ascii_whitespace();
        words
            .map(|word| Feature::of(word).ok_or(word))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Reads what is offered; words of later versions are left out.
    #[must_use]
    pub fn offered(words: &str) -> Self {
        Self(
            words
                .split_ascii_whitespace()
                .filter_map(Feature::of)
                .collect(),
        )
    }

    /// Returns whether it is among them.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }
}

impl Extend<Feature> for Features {
    fn extend<T: IntoIterator<Item = Feature>>(&mut self, features: T) {
        self.0.extend(features);
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|feature| feature.word()).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_only_what_is_required_must_be_known() {
        let all = Features::all();
        assert_eq!(Features::required(&all.to_string()), Ok(all.clone()));
        assert_eq!(Features::required(""), Ok(Features::default()));
        let more = format!("{all} telepathy");
        assert_eq!(Features::required(&more), Err("telepathy"));
        assert_eq!(Features::offered(&more), all);
    }
}
