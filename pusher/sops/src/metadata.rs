//! The `sops` block: who can unwrap the data key, which values are encrypted, and the MAC.

use crate::Error;
use crate::config::kms_name;
use crate::limits;
use crate::rule::Rule;
use crate::timestamp::Timestamp;
use crate::tree::{Kind, Map, Node};
use crate::wrapped::WrappedKey;

/// What a document says about itself. Nothing here but `lastmodified` and the MAC is authenticated.
#[derive(Debug)]
pub struct Metadata {
    pub(crate) groups: Vec<KeyGroup>,
    pub(crate) threshold: Option<usize>,
    pub(crate) rule: Rule,
    pub(crate) mac_only_encrypted: bool,
    pub(crate) last_modified: String,
    pub(crate) mac: String,
    version: String,
}

/// The recipients of one group, in the order to try them: any one unwraps the group's share.
pub type KeyGroup = Vec<WrappedKey>;

/// The lists of services that are named only.
const UNSUPPORTED: [&str; 4] = ["kms", "gcp_kms", "hckms", "azure_kv"];

/// The six settings of which a document has at most one.
const RULES: [&str; 6] = [
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
];

impl Metadata {
    pub(crate) fn parse(block: &Map) -> Result<Self, Error> {
        let block = Block(block);
        let rules = RULES
            .into_iter()
            .map(|name| Ok((name, block.text(name)?)))
            .filter(|rule| !matches!(rule, Ok((_, text)) if text.is_empty()))
            .collect::<Result<_, Error>>()?;
        let modified = block.text("lastmodified")?;
        let modified = Timestamp::rfc3339(&modified)
            .ok_or_else(|| refuse("lastmodified is not a point in time"))?;
        Ok(Self {
            groups: block.groups()?,
            threshold: block.threshold()?,
            rule: Rule::parse(rules)?,
            mac_only_encrypted: block.switch("mac_only_encrypted")?,
            // What the MAC is bound to is the time as Go prints it again.
            last_modified: modified.seconds(),
            mac: block.text("mac")?,
            version: block.text("version")?,
        })
    }

    /// Returns the key groups: one, or several that each hold a Shamir share.
    #[must_use]
    pub fn groups(&self) -> &[KeyGroup] {
        &self.groups
    }

    /// Returns how many groups are needed.
    #[must_use]
    pub fn threshold(&self) -> usize {
        let all = self.groups.len();
        match self.threshold {
            // Where old versions left it out, or wrote what no split can have, all are needed.
            Some(threshold) if all > 1 && threshold > 1 => threshold,
            _ => all,
        }
    }

    /// Returns when the document was last encrypted, in RFC 3339.
    #[must_use]
    pub fn last_modified(&self) -> &str {
        &self.last_modified
    }

    /// Returns the version of sops that wrote the document.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

fn refuse(rule: impl Into<String>) -> Error {
    Error::Metadata(rule.into())
}

/// A map of the metadata, with typed look-ups. As in sops, null and absent are the same, and numbers may be text.
struct Block<'a>(&'a Map);

impl Block<'_> {
    fn text(&self, name: &str) -> Result<String, Error> {
        match self.0.get(name) {
            None => Ok(String::new()),
            Some(Node::Leaf(leaf)) => leaf
                .utf8()
                .map(str::to_owned)
                .ok_or_else(|| refuse(format!("{name} is not text"))),
            Some(_) => Err(refuse(format!("{name} is not text"))),
        }
    }

    fn threshold(&self) -> Result<Option<usize>, Error> {
        match self.text("shamir_threshold")?.as_str() {
            "" => Ok(None),
            text => match text.parse() {
                Ok(threshold) if threshold <= limits::GROUPS => Ok(Some(threshold)),
                _ => Err(refuse("shamir_threshold is not a number from 0 to 255")),
            },
        }
    }

    fn switch(&self, name: &str) -> Result<bool, Error> {
        match self.text(name)?.to_ascii_lowercase().as_str() {
            "" | "false" | "f" | "0" => Ok(false),
            "true" | "t" | "1" => Ok(true),
            _ => Err(refuse(format!("{name} is neither true nor false"))),
        }
    }

    fn list(&self, name: &str) -> Result<Vec<Block<'_>>, Error> {
        let items = match self.0.get(name) {
            None => return Ok(vec![]),
            Some(Node::Leaf(leaf)) if leaf.kind == Kind::Null => return Ok(vec![]),
            Some(Node::List(items)) => items,
            Some(_) => return Err(refuse(format!("{name} is not a list"))),
        };
        items
            .iter()
            .filter(|item| item.kind() != Kind::Comment)
            .map(|item| match item {
                Node::Map(map) => Ok(Block(map)),
                _ => Err(refuse(format!("an item of {name} is not a map"))),
            })
            .collect()
    }

    /// Returns the key groups: keys at the top are one group, and then `key_groups` does not count.
    fn groups(&self) -> Result<Vec<KeyGroup>, Error> {
        let top = self.group()?;
        if !top.is_empty() {
            return Ok(vec![top]);
        }
        let groups: Vec<KeyGroup> = self
            .list("key_groups")?
            .iter()
            .map(Block::group)
            .collect::<Result<_, _>>()?;
        if groups.is_empty() || groups.len() > limits::GROUPS {
            return Err(refuse("1 to 255 key groups are wanted"));
        }
        Ok(groups)
    }

    /// Returns the keys of one group in the order sops tries them: age, pgp, then the rest.
    fn group(&self) -> Result<KeyGroup, Error> {
        let mut keys = Vec::new();
        for key in self.list("age")? {
            keys.push(WrappedKey::Age {
                recipient: key.text("recipient")?,
                enc: key.text("enc")?,
            });
        }
        for key in self.list("pgp")? {
            key.created()?;
            keys.push(WrappedKey::Pgp {
                fingerprint: key.text("fp")?,
                enc: key.text("enc")?,
            });
        }
        for key in self.list("hc_vault")? {
            key.created()?;
            keys.push(WrappedKey::Vault {
                address: key.text("vault_address")?,
                engine_path: key.text("engine_path")?,
                key_name: key.text("key_name")?,
                enc: key.text("enc")?,
            });
        }
        for service in UNSUPPORTED {
            for key in self.list(service)? {
                key.created()?;
                let name = key.name(service)?;
                keys.push(WrappedKey::Unsupported { service, name });
            }
        }
        Ok(keys)
    }

    /// Returns the name of a key as sops prints it.
    fn name(&self, service: &str) -> Result<String, Error> {
        match service {
            "kms" => {
                let (arn, role) = (self.text("arn")?, self.text("role")?);
                let separator = if role.is_empty() { "" } else { "+" };
                let context = self.pairs("context")?;
                let arn = format!("{arn}{separator}{role}");
                Ok(kms_name(&arn, &context, &self.text("aws_profile")?))
            }
            "azure_kv" => Ok(format!(
                "{}/keys/{}/{}",
                self.text("vault_url")?,
                self.text("name")?,
                self.text("version")?
            )),
            "gcp_kms" => self.text("resource_id"),
            _ => self.text("key_id"),
        }
    }

    /// Returns a map of texts as `name:value,name:value`, sorted.
    fn pairs(&self, name: &str) -> Result<String, Error> {
        let map = match self.0.get(name) {
            Some(Node::Map(map)) => Block(map),
            _ => return Ok(String::new()),
        };
        let mut pairs = Vec::new();
        for (name, _) in map.0.fields() {
            pairs.push(format!("{name}:{}", map.text(name)?));
        }
        pairs.sort();
        Ok(pairs.join(","))
    }

    /// Checks the date of a key, as sops does, though nothing uses it.
    fn created(&self) -> Result<(), Error> {
        match Timestamp::rfc3339(&self.text("created_at")?) {
            Some(_) => Ok(()),
            None => Err(refuse("created_at of a key is not a point in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str =
        r#""lastmodified": "2026-11-21T03:44:04+00:00", "mac": "ENC[]", "version": "3.13.3""#;

    fn check(keys: &str) -> Result<Metadata, Error> {
        Metadata::parse(&crate::json::read(&format!("{{{keys}, {REST}}}"))?)
    }

    #[test]
    fn keys_are_tried_age_first_then_pgp_then_the_rest() {
        let metadata = check(
            r#""kms": [{"arn": "arn:1", "created_at": "2020-01-01T00:00:00Z", "enc": "e"}],
               "pgp": [{"fp": "F", "created_at": "2020-01-01T00:00:00Z", "enc": "p"}],
               "gcp_kms": null,
               "hc_vault": [{"vault_address": "https://v", "engine_path": "transit", "key_name": "k",
                             "created_at": "2020-01-01T00:00:00Z", "enc": "vault:v1:x"}],
               "age": [{"recipient": "age1a", "enc": "a"}, {"recipient": "age1b", "enc": "b"}]"#,
        )
        .unwrap();
        let names: Vec<String> = metadata.groups()[0]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "age age1a",
                "age age1b",
                "pgp F",
                "hc_vault https://v transit/k",
                "kms arn:1"
            ]
        );
        assert_eq!(metadata.threshold(), 1);
        assert_eq!(metadata.last_modified(), "2026-11-21T03:44:04Z");
    }

    #[test]
    fn all_groups_are_needed_where_no_threshold_is_set() {
        let groups = r#""key_groups": [{"age": [{"recipient": "a"}]}, {"age": [{"recipient": "b"}]},
            {"age": [{"recipient": "c"}]}]"#;
        assert_eq!(check(groups).unwrap().threshold(), 3);
        let with = |threshold: &str| check(&format!("{groups}, \"shamir_threshold\": {threshold}"));
        assert_eq!(with("2").unwrap().threshold(), 2);
        assert_eq!(with("\"2\"").unwrap().threshold(), 2);
        assert_eq!(with("0").unwrap().threshold(), 3);
        assert!(with("-1").is_err() && with("256").is_err() && with("[]").is_err());
    }

    #[test]
    fn keys_at_the_top_outdo_key_groups() {
        let both = r#""age": [{"recipient": "a"}],
            "key_groups": [{"age": [{"recipient": "b"}]}, {"age": [{"recipient": "c"}]}]"#;
        assert_eq!(check(both).unwrap().groups().len(), 1);
    }

    #[test]
    fn a_block_of_another_shape_is_refused() {
        for bad in [
            r#""age": []"#,
            r#""age": {"recipient": "a"}"#,
            r#""age": ["a"]"#,
            r#""age": [{"recipient": ["a"]}]"#,
            r#""pgp": [{"fp": "F", "enc": "p"}]"#,
            r#""age": [{"recipient": "a"}], "mac_only_encrypted": "maybe""#,
            r#""age": [{"recipient": "a"}], "encrypted_regex": "a", "encrypted_suffix": "b""#,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
