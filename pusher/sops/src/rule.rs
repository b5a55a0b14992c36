//! Which values of a document are encrypted: one of the six rules that sops knows.

use regex::Regex;

use crate::Error;

/// A rule: what it looks at, and what a match means.
///
/// A match decides for everything below it as well, so a walk only carries one bit down.
#[derive(Debug)]
pub(crate) struct Rule {
    subject: Subject,
    /// Whether a match encrypts; otherwise it leaves plain, and all else is encrypted.
    match_seals: bool,
}

#[derive(Debug)]
enum Subject {
    Suffix(String),
    Names(Regex),
    Comments(Regex),
}

/// What sops uses where a document names no rule.
const DEFAULT_SUFFIX: &str = "_unencrypted";

impl Rule {
    /// Parses the rule that `setting` finds among the metadata: the name of the setting and its text.
    pub(crate) fn parse(mut found: Vec<(&'static str, String)>) -> Result<Self, Error> {
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            let rule = format!("only one of {} may be set", names.join(", "));
            return Err(Error::Metadata(rule));
        }
        let (name, text) = found
            .pop()
            .unwrap_or(("unencrypted_suffix", DEFAULT_SUFFIX.to_owned()));
        let subject = match name {
            "unencrypted_suffix" | "encrypted_suffix" => Subject::Suffix(text),
            "unencrypted_regex" | "encrypted_regex" => Subject::Names(regex(name, &text)?),
            _ => Subject::Comments(regex(name, &text)?),
        };
        Ok(Self {
            subject,
            match_seals: name.starts_with("encrypted"),
        })
    }

    pub(crate) fn matches_name(&self, name: &str) -> bool {
        match &self.subject {
            Subject::Suffix(suffix) => name.ends_with(suffix),
            Subject::Names(regex) => regex.is_match(name),
            Subject::Comments(_) => false,
        }
    }

    pub(crate) fn matches_comment(&self, text: &str) -> bool {
        match &self.subject {
            Subject::Comments(regex) => regex.is_match(text),
            Subject::Suffix(_) | Subject::Names(_) => false,
        }
    }

    /// Returns whether a value is encrypted, given whether anything above it or before it matched.
    pub(crate) fn seals(&self, matched: bool) -> bool {
        matched == self.match_seals
    }

    /// Returns whether a comment is encrypted: one that asks for encryption stays readable itself, as does one that
    /// asks for plain text.
    pub(crate) fn seals_comment(&self, matched: bool, text: &str) -> bool {
        if self.match_seals {
            matched
        } else {
            !(matched || self.matches_comment(text))
        }
    }
}

/// Compiles a regex. Go's sops takes one that it cannot compile for one that never matches, and so leaves secrets plain.
fn regex(name: &str, text: &str) -> Result<Regex, Error> {
    Regex::new(text).map_err(|_| Error::Metadata(format!("{name} is not a regex")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &'static str, text: &str) -> Rule {
        Rule::parse(vec![(name, text.to_owned())]).unwrap()
    }

    #[test]
    fn without_a_rule_the_suffix_unencrypted_leaves_plain() {
        let rule = Rule::parse(vec![]).unwrap();
        assert!(rule.matches_name("a_unencrypted"));
        assert!(!rule.matches_name("a_unencrypted_b"));
        assert!(rule.seals(false) && !rule.seals(true));
    }

    #[test]
    fn a_regex_is_searched_anywhere_in_the_name() {
        let rule = rule("encrypted_regex", "pass|token$");
        assert!(rule.matches_name("my_password") && rule.matches_name("a.token"));
        assert!(!rule.matches_name("tokens"));
        assert!(rule.seals(true) && !rule.seals(false));
    }

    #[test]
    fn the_comment_that_decides_is_not_encrypted_itself() {
        let seal = rule("encrypted_comment_regex", "sops:enc");
        assert!(!seal.seals_comment(false, " sops:enc"));
        assert!(seal.seals_comment(true, " anything"));
        let leave = rule("unencrypted_comment_regex", "sops:plain");
        assert!(!leave.seals_comment(false, " sops:plain"));
        assert!(leave.seals_comment(false, " anything"));
    }

    #[test]
    fn two_rules_or_a_broken_regex_are_refused() {
        let two = vec![
            ("encrypted_regex", "a".to_owned()),
            ("unencrypted_suffix", "b".to_owned()),
        ];
        let error = Rule::parse(two).unwrap_err().to_string();
        assert!(
            error.contains("encrypted_regex, unencrypted_suffix"),
            "{error}"
        );
        assert!(Rule::parse(vec![("encrypted_regex", "(".to_owned())]).is_err());
    }
}
