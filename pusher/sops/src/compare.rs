//! The recipients of a document beside those that a rule of `.sops.yaml` names.

use crate::config::CreationRule;
use crate::metadata::Metadata;
use crate::recipient::Recipient;

/// How a document differs from its rule; nothing in it where they agree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Who can read it, or a share of it, and should not: the number of the group, from 1, and the recipient.
    pub surplus: Vec<(usize, Recipient)>,
    /// Who should be able to and is not.
    pub missing: Vec<(usize, Recipient)>,
    /// How many groups are needed, and how many the rule wants.
    pub threshold: Option<(usize, usize)>,
    /// Whether `sops updatekeys` would change the document. It leaves a threshold that can be reached as it is.
    pub update: bool,
}

impl Comparison {
    /// Returns whether the document is as the rule wants it.
    #[must_use]
    pub fn agrees(&self) -> bool {
        *self == Self::default()
    }
}

impl Metadata {
    /// Compares the recipients with those of a rule, group by group, as `sops updatekeys` does.
    #[must_use]
    pub fn compare(&self, rule: &CreationRule) -> Comparison {
        let ours: Vec<Vec<Recipient>> = self
            .groups()
            .iter()
            .map(|group| group.iter().map(Recipient::from).collect())
            .collect();
        let mut found = Comparison {
            threshold: self.threshold_apart(rule),
            ..Comparison::default()
        };
        for index in 0..ours.len().max(rule.groups.len()) {
            let have = ours.get(index).map_or(&[][..], Vec::as_slice);
            let want = rule.groups.get(index).map_or(&[][..], Vec::as_slice);
            let wanted = |one: &&Recipient| want.iter().any(|name| name.means(one));
            let there = |name: &&Recipient| have.iter().any(|one| name.means(one));
            let number = |one: &Recipient| (index + 1, one.clone());
            let surplus = have.iter().filter(|one| !wanted(one)).map(number);
            found.surplus.extend(surplus);
            let missing = want.iter().filter(|name| !there(name)).map(number);
            found.missing.extend(missing);
        }
        found.update = !found.surplus.is_empty()
            || !found.missing.is_empty()
            || self.out_of_reach(rule).is_some();
        found
    }

    /// Returns the number of groups that are needed and the one that the rule wants, if they differ.
    fn threshold_apart(&self, rule: &CreationRule) -> Option<(usize, usize)> {
        let groups = rule.groups.len();
        if let Some(threshold) = self.out_of_reach(rule) {
            return Some((threshold, groups));
        }
        let wanted = match rule.threshold {
            threshold if groups > 1 && threshold > 0 => threshold,
            _ => groups,
        };
        let several = groups > 1 && self.groups().len() > 1;
        (several && self.threshold() != wanted).then(|| (self.threshold(), wanted))
    }

    /// Returns the threshold if it is more than there will be groups: sops lowers it then.
    fn out_of_reach(&self, rule: &CreationRule) -> Option<usize> {
        self.threshold.filter(|raw| *raw > rule.groups.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(metadata: &str, rule: &str) -> String {
        let rest = r#""lastmodified": "2026-11-21T03:44:04Z", "mac": "ENC[]""#;
        let block = crate::json::read(&format!("{{{metadata}, {rest}}}")).unwrap();
        let config = Config::parse(format!("creation_rules: [{rule}]").as_bytes()).unwrap();
        let found = Metadata::parse(&block)
            .unwrap()
            .compare(&config.rule_for("x").unwrap());
        let names = |list: &[(usize, Recipient)]| {
            let names: Vec<String> = list.iter().map(|(n, one)| format!("{n} {one}")).collect();
            names.join(",")
        };
        let (surplus, missing) = (names(&found.surplus), names(&found.missing));
        let update = if found.update { " update" } else { "" };
        format!("+[{surplus}] -[{missing}] {:?}{update}", found.threshold)
    }

    const NONE: &str = "+[] -[] None";

    #[test]
    fn the_order_of_recipients_does_not_matter() {
        let two = r#""age": [{"recipient": "a"}, {"recipient": "b"}]"#;
        assert_eq!(check(two, "{age: 'b,a'}"), NONE);
        assert_eq!(
            check(two, "{age: 'b,c'}"),
            "+[1 age a] -[1 age c] None update"
        );
        assert_eq!(
            check(two, "{pgp: b, age: a}"),
            "+[1 age b] -[1 pgp b] None update"
        );
    }

    const THREE: &str = r#""key_groups": [{"age": [{"recipient": "a"}]}, {"age": [{"recipient": "b"}]},
        {"age": [{"recipient": "c"}]}]"#;

    #[test]
    fn groups_are_compared_one_by_one() {
        let rule = |groups: &str| format!("{{key_groups: [{groups}]}}");
        assert_eq!(
            check(THREE, &rule("{age: [a]}, {age: [b]}, {age: [c]}")),
            NONE
        );
        assert_eq!(
            check(THREE, &rule("{age: [b]}, {age: [a]}, {age: [c]}")),
            "+[1 age a,2 age b] -[1 age b,2 age a] None update"
        );
        assert_eq!(
            check(THREE, &rule("{age: [a]}, {age: [b]}")),
            "+[3 age c] -[] Some((3, 2)) update"
        );
    }

    #[test]
    fn a_threshold_is_compared_as_what_it_means() {
        let groups = "key_groups: [{age: [a]}, {age: [b]}, {age: [c]}]";
        let with = |file: &str, rule: &str| {
            check(&format!("{THREE}{file}"), &format!("{{{groups}{rule}}}"))
        };
        assert_eq!(
            with(r#", "shamir_threshold": 2"#, ", shamir_threshold: 2"),
            NONE
        );
        assert_eq!(with(r#", "shamir_threshold": 3"#, ""), NONE);
        assert_eq!(
            with(r#", "shamir_threshold": 2"#, ""),
            "+[] -[] Some((2, 3))"
        );
        assert_eq!(with("", ", shamir_threshold: 2"), "+[] -[] Some((3, 2))");
        let one = r#""age": [{"recipient": "a"}], "shamir_threshold": 2"#;
        assert_eq!(check(one, "{age: a}"), "+[] -[] Some((2, 1)) update");
    }
}
