//! `.sops.yaml`: which rule is for a file, and who it says can read it.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_yaml::Value;

use crate::Error;
use crate::error::shown;
use crate::limits;
use crate::recipient::Recipient;

/// A `.sops.yaml`: the rules by which sops encrypts new files, and `sops updatekeys` the old ones anew.
#[derive(Debug)]
pub struct Config {
    rules: Vec<RuleTable>,
}

/// What the rule for a file says about its recipients.
#[derive(Debug)]
pub struct CreationRule {
    pub(crate) groups: Vec<Vec<Recipient>>,
    pub(crate) threshold: usize,
}

impl Config {
    /// Parses the file.
    ///
    /// # Errors
    /// When it is larger than [`limits::CONFIG_BYTES`], or not as sops reads it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > limits::CONFIG_BYTES {
            return Err(refuse("it is larger than 1 MiB"));
        }
        // What the library says is not shown: it may quote the file.
        let broken = |error: serde_yaml::Error| match error.location() {
            Some(place) => refuse(format!("line {}: not as sops reads it", place.line())),
            None => refuse("a setting is not of its type"),
        };
        let mut value: Value = serde_yaml::from_slice(bytes).map_err(broken)?;
        value.apply_merge().map_err(broken)?;
        let table: Option<ConfigTable> = serde_yaml::from_value(value).map_err(broken)?;
        Ok(Self {
            rules: table.unwrap_or_default().creation_rules.unwrap_or_default(),
        })
    }

    /// Returns the first rule that is for a file: its path as seen from the folder of the `.sops.yaml`, or the absolute
    /// one if it lies elsewhere.
    ///
    /// # Errors
    /// When no rule is for it, or that rule, or one before it, cannot be used.
    pub fn rule_for(&self, path: &str) -> Result<CreationRule, Error> {
        for rule in &self.rules {
            let pattern = rule.path_regex.as_deref().unwrap_or_default();
            let regex = Regex::new(pattern)
                .map_err(|_| refuse(format!("path_regex is not a regex: {}", shown(pattern))))?;
            if regex.is_match(path) {
                return rule.read();
            }
        }
        Err(refuse("no rule is for this file"))
    }
}

fn refuse(rule: impl Into<String>) -> Error {
    Error::Config(rule.into())
}

/// The file; what is not about recipients is left to sops.
#[derive(Deserialize, Default)]
struct ConfigTable {
    creation_rules: Option<Vec<RuleTable>>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct RuleTable {
    path_regex: Option<String>,
    shamir_threshold: Option<usize>,
    key_groups: Option<Vec<GroupTable>>,
    age: Names,
    pgp: Names,
    kms: Names,
    gcp_kms: Names,
    hckms: Names,
    azure_keyvault: Names,
    hc_vault_transit_uri: Names,
    aws_profile: Option<String>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(default)]
struct GroupTable {
    merge: Option<Vec<GroupTable>>,
    age: Option<Vec<String>>,
    pgp: Option<Vec<String>>,
    kms: Option<Vec<KmsTable>>,
    gcp_kms: Option<Vec<GcpTable>>,
    hckms: Option<Vec<HckmsTable>>,
    azure_keyvault: Option<Vec<AzureTable>>,
    hc_vault: Option<Vec<String>>,
}

#[derive(Deserialize, Debug)]
struct KmsTable {
    arn: String,
    role: Option<String>,
    context: Option<BTreeMap<String, String>>,
    aws_profile: Option<String>,
}

#[derive(Deserialize, Debug)]
struct GcpTable {
    resource_id: String,
}

#[derive(Deserialize, Debug)]
struct HckmsTable {
    key_id: String,
}

#[derive(Deserialize, Debug)]
struct AzureTable {
    #[serde(rename = "vaultUrl")]
    vault_url: String,
    key: String,
    #[serde(default)]
    version: String,
}

/// Names in one text, with commas between them, or in a list.
#[derive(Debug, Default)]
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = match Value::deserialize(deserializer)? {
            Value::Null => vec![],
            Value::String(text) => vec![text],
            list @ Value::Sequence(_) => {
                serde_yaml::from_value(list).map_err(serde::de::Error::custom)?
            }
            _ => return Err(serde::de::Error::custom("a text or a list is wanted")),
        };
        let parts = names.iter().flat_map(|name| name.split(',')).map(str::trim);
        let parts = parts.filter(|part| !part.is_empty()).map(str::to_owned);
        Ok(Self(parts.collect()))
    }
}

impl RuleTable {
    fn read(&self) -> Result<CreationRule, Error> {
        let groups = match self.key_groups.as_deref() {
            None | Some([]) => vec![self.single()?],
            Some(groups) => groups
                .iter()
                .map(GroupTable::read)
                .collect::<Result<_, _>>()?,
        };
        Ok(CreationRule {
            groups,
            threshold: self.shamir_threshold.unwrap_or_default(),
        })
    }

    /// Returns the one group of a rule without `key_groups`.
    fn single(&self) -> Result<Vec<Recipient>, Error> {
        let profile = self.aws_profile.as_deref();
        let bare = |name: &String| name.replace(' ', "");
        let named = |kind, names: &Names| -> Vec<Recipient> {
            names
                .0
                .iter()
                .map(|name| Recipient::new(kind, name))
                .collect()
        };
        let mut group = named("age", &self.age);
        group.extend(self.pgp.0.iter().map(bare).map(pgp));
        group.extend(self.kms.0.iter().map(|arn| kms(&bare(arn), "", profile)));
        group.extend(self.gcp_kms.0.iter().map(bare).map(gcp));
        group.extend(named("hckms", &self.hckms));
        group.extend(self.azure_keyvault.0.iter().map(|url| azure(url)));
        for uri in &self.hc_vault_transit_uri.0 {
            group.push(transit(uri)?);
        }
        Ok(group)
    }
}

impl GroupTable {
    fn read(&self) -> Result<Vec<Recipient>, Error> {
        let mut group = Vec::new();
        for merged in list(self.merge.as_ref()) {
            group.extend(merged.read()?);
        }
        let age = list(self.age.as_ref()).iter();
        group.extend(
            age.flat_map(|names| names.split(','))
                .map(|name| Recipient::new("age", name.trim())),
        );
        group.extend(
            list(self.pgp.as_ref())
                .iter()
                .map(|name| pgp(name.replace(' ', ""))),
        );
        group.extend(list(self.kms.as_ref()).iter().map(KmsTable::read));
        group.extend(
            list(self.gcp_kms.as_ref())
                .iter()
                .map(|key| gcp(key.resource_id.replace(' ', ""))),
        );
        group.extend(
            list(self.hckms.as_ref())
                .iter()
                .map(|key| Recipient::new("hckms", &key.key_id)),
        );
        let azure_keys = list(self.azure_keyvault.as_ref()).iter();
        group.extend(azure_keys.map(AzureTable::read));
        for uri in list(self.hc_vault.as_ref()) {
            group.push(transit(uri)?);
        }
        Ok(group)
    }
}

impl KmsTable {
    fn read(&self) -> Recipient {
        let role = self.role.as_deref().filter(|role| !role.is_empty());
        let arn = role.map_or_else(|| self.arn.clone(), |role| format!("{}+{role}", self.arn));
        let context = context(self.context.as_ref());
        kms(&arn, &context, self.aws_profile.as_deref())
    }
}

impl AzureTable {
    fn read(&self) -> Recipient {
        let Self {
            vault_url,
            key,
            version,
        } = self;
        azure(&format!("{vault_url}/keys/{key}/{version}"))
    }
}

fn list<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map_or(&[], Vec::as_slice)
}

fn pgp(fingerprint: String) -> Recipient {
    Recipient::new("pgp", fingerprint)
}

fn gcp(name: String) -> Recipient {
    Recipient::new("gcp_kms", name)
}

fn kms(arn: &str, context: &str, profile: Option<&str>) -> Recipient {
    Recipient::new("kms", kms_name(arn, context, profile.unwrap_or_default()))
}

/// Names an AWS key, whose role is a part of its ARN, with context and profile, as sops does.
pub(crate) fn kms_name(arn: &str, context: &str, profile: &str) -> String {
    match (context, profile) {
        ("", "") => arn.to_owned(),
        (context, "") => format!("{arn}|{context}"),
        (context, profile) => format!("{arn}|{context}|{profile}"),
    }
}

fn context(context: Option<&BTreeMap<String, String>>) -> String {
    let pairs = context.into_iter().flatten();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    pairs.join(",")
}

fn azure(url: &str) -> Recipient {
    // vault, `keys`, key, version
    let version = if url.trim_start_matches("https://").matches('/').count() < 3 {
        "/"
    } else {
        ""
    };
    Recipient::new("azure_kv", format!("{url}{version}"))
}

fn transit(uri: &str) -> Result<Recipient, Error> {
    Recipient::transit(uri)
        .ok_or_else(|| refuse(format!("not the address of a transit key: {}", shown(uri))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the groups of the rule for `path`, or what is wrong.
    fn check(text: &str, path: &str) -> String {
        let rule = Config::parse(text.as_bytes()).and_then(|config| config.rule_for(path));
        match rule {
            Ok(rule) => {
                let group = |group: &Vec<Recipient>| {
                    let names: Vec<String> = group.iter().map(ToString::to_string).collect();
                    names.join(", ")
                };
                let groups: Vec<String> = rule.groups.iter().map(group).collect();
                format!("{}: {}", rule.threshold, groups.join(" | "))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let text = "creation_rules:\n- {path_regex: '^a/', age: A}\n- {path_regex: '\\.yaml$', age: B}\n- {age: C}\n";
        assert_eq!(check(text, "a/x.yaml"), "0: age A");
        assert_eq!(check(text, "b/a/x.yaml"), "0: age B");
        assert_eq!(check(text, "x.json"), "0: age C");
        let none = "creation_rules:\n- {path_regex: '^a/', age: A}\n";
        assert_eq!(check(none, "b"), ".sops.yaml: no rule is for this file");
        assert_eq!(check("", "b"), ".sops.yaml: no rule is for this file");
        assert_eq!(
            check("stores: {}\n", "b"),
            ".sops.yaml: no rule is for this file"
        );
        // One that is not reached does no harm, as in sops.
        let broken = "creation_rules:\n- {path_regex: '^a/', age: A}\n- {path_regex: '('}\n";
        assert_eq!(check(broken, "a/x"), "0: age A");
        assert_eq!(
            check(broken, "b"),
            ".sops.yaml: path_regex is not a regex: ("
        );
    }

    #[test]
    fn recipients_are_named_as_sops_names_them() {
        let text = "creation_rules:\n- age: 'A, B ,'\n  pgp: ['12 34', '56,78']\n  kms: arn:1+arn:2\n  aws_profile: p\n  \
                    gcp_kms: g\n  hckms: ['r:u']\n  azure_keyvault: https://v/keys/k, https://v/keys/k/1\n  \
                    hc_vault_transit_uri: https://v:8200/v1/transit/keys/k\n";
        assert_eq!(
            check(text, "x"),
            "0: age A, age B, pgp 1234, pgp 56, pgp 78, kms arn:1+arn:2||p, gcp_kms g, hckms r:u, \
             azure_kv https://v/keys/k/, azure_kv https://v/keys/k/1, hc_vault https://v:8200/v1/transit/keys/k"
        );
    }

    #[test]
    fn key_groups_outdo_what_stands_beside_them() {
        let text = "creation_rules:\n- age: X\n  shamir_threshold: 2\n  key_groups:\n  - age: ['A,B']\n    \
                    merge: [{pgp: [C], kms: [{arn: a, role: r, context: {b: c, a: d}}]}]\n  - hc_vault: ['https://v/v1/t/keys/k']\n";
        assert_eq!(
            check(text, "x"),
            "2: pgp C, kms a+r|a:d,b:c, age A, age B | hc_vault https://v/v1/t/keys/k"
        );
    }

    #[test]
    fn aliases_and_merges_are_followed() {
        let text = "keys:\n- &a A\n- &b B\nbase: &base {path_regex: x, age: *a}\ncreation_rules:\n- <<: *base\n  pgp: *b\n";
        assert_eq!(check(text, "x"), "0: age A, pgp B");
    }

    #[test]
    fn what_sops_cannot_read_is_refused() {
        for bad in [
            "creation_rules: x\n",
            "creation_rules:\n- {age: 3}\n",
            "creation_rules:\n- {age: A, shamir_threshold: many}\n",
            "creation_rules:\n- {hc_vault_transit_uri: 'https://v/k'}\n",
            "creation_rules:\n- {age: A, age: B}\n",
            "creation_rules: [\n",
            "a: &a [*a]\n",
        ] {
            assert!(check(bad, "x").starts_with(".sops.yaml: "), "{bad}");
        }
        let large = " ".repeat(limits::CONFIG_BYTES + 1);
        assert_eq!(check(&large, "x"), ".sops.yaml: it is larger than 1 MiB");
    }
}
