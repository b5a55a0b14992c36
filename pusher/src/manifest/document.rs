//! What a manifest file may say: the fields as serde reads them, and their JSON Schema.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use keys_protocol::{KeyName, Mode, Principal, Signal, UnitName, UnitPattern};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::host::{Destination, HostError, HostName, Tag};
use crate::host_key::HostKey;
use crate::identity::AgeSettings;
use crate::resolve::vault::VaultSettings;
use crate::source::Source;

use super::Offline;

/// What should be where: hosts, the keys they have, and where the secrets in them come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "keys manifest")]
pub(super) struct Document {
    /// What this manifest calls itself to hosts, 1 to 200 bytes. A key is removed only by the manifest it came from.
    /// Without it: the name of this machine and the path of the file.
    #[schemars(length(min = 1, max = 200))]
    pub(super) id: Option<String>,
    /// Where Vault or OpenBao is, and how to log in there.
    pub(super) vault: Option<VaultSettings>,
    /// More Vaults by name, for `from` in a source; each says its `address` and `auth` itself.
    #[serde(default)]
    pub(super) vaults: BTreeMap<String, VaultSettings>,
    /// Which identities open age and sops files.
    pub(super) age: Option<AgeSettings>,
    /// Who signs the bundles of sealed keys.
    pub(super) sealing: Option<SealingTable>,
    /// How hosts are reached.
    #[serde(default)]
    pub(super) ssh: Ssh,
    /// The hosts by name.
    #[serde(default)]
    #[schemars(schema_with = "hosts")]
    pub(super) hosts: BTreeMap<HostName, HostTable>,
    /// The keys by name: the path below `/run/keys`.
    #[serde(default)]
    #[schemars(schema_with = "shared_keys")]
    pub(super) keys: BTreeMap<KeyName, KeyTable>,
}

/// How hosts are reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ssh {
    /// The `ssh_config` to use instead of the user's and the system's; a path relative to the manifest's folder.
    pub(super) config: Option<String>,
    /// How long to wait for a connection, 1 s to 1 h. Without it: `"10s"`.
    #[schemars(with = "Option<String>")]
    pub(super) connect_timeout: Option<Wait>,
    /// How many hosts are served at once, 1 to 1024. Without it: 16.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) parallel: Option<i64>,
}

/// Who signs the bundles of sealed keys, and how long they are good.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SealingTable {
    /// The ssh key that signs, for `ssh-keygen -Y sign`: a private key, or the public half of one that the ssh agent has;
    /// relative to the manifest's folder.
    pub(super) sign_with: String,
    /// After how many days a bundle is refused, 1 to 3650. Without it: 30.
    #[schemars(range(min = 1, max = 3650))]
    pub(super) expire_days: Option<i64>,
}

/// One host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTable {
    /// Where ssh finds it: `user@host:port`, each part but the host optional, the host a name, an address (IPv6 in
    /// brackets) or an alias of `ssh_config`. Without it: the host's name.
    #[schemars(with = "Option<String>")]
    pub(super) ssh: Option<Destination>,
    /// Words that keys and `--tag` can name it by.
    #[serde(default)]
    #[schemars(
        with = "Vec<String>",
        inner(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$"))
    )]
    pub(super) tags: Vec<Tag>,
    /// Its public host key: `ssh-ed25519 AAAA…`. Without it, the key must be in the user's `known_hosts`.
    #[schemars(with = "Option<String>")]
    pub(super) host_key: Option<HostKey>,
    /// Whether the agent is started by `sudo`, because the login is not root's. Without it: false.
    pub(super) sudo: Option<bool>,
    /// Keys of this host alone.
    #[serde(default)]
    #[schemars(schema_with = "own_keys")]
    pub(super) keys: BTreeMap<KeyName, KeyTable>,
}

/// One key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    /// The hosts that have it: names, or `@tag` for all hosts with that tag.
    #[schemars(with = "Option<Vec<String>>", length(min = 1))]
    pub(super) hosts: Option<Vec<Place>>,
    /// Where its secret comes from. `{host}` in it stands for the host's name.
    pub(super) source: Source,
    /// The user that owns it, by name or number. Without it: root.
    #[schemars(with = "Option<String>")]
    pub(super) owner: Option<Principal>,
    /// Its group, by name or number. Without it: root.
    #[schemars(with = "Option<String>")]
    pub(super) group: Option<Principal>,
    /// Its permission bits, three or four octal digits in quotes. Without it: `"0400"`.
    #[schemars(with = "Option<String>", regex(pattern = "^0?[0-7][0-7][0-7]$"))]
    pub(super) mode: Option<Mode>,
    /// Whether every user of the host may read it, which a mode like `"0444"` asks for. Without it: false.
    pub(super) public: Option<bool>,
    /// What becomes of it when the host reboots: `sealed` puts it into the encrypted bundle that the host opens by itself;
    /// with `never` it is not there until it is sent again. Without it: `never`.
    pub(super) offline: Option<Offline>,
    /// Services that are restarted when it changes, if they run: names, or patterns such as `web-*.service`.
    #[serde(default)]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "\\.service$")))]
    pub(super) restart_units: Vec<UnitPattern>,
    /// Services that are reloaded when it changes, if they run; restarted, if they cannot reload.
    #[serde(default)]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "\\.service$")))]
    pub(super) reload_units: Vec<UnitPattern>,
    /// Services whose main process gets a signal when it changes, if they run: `{ "x.service" = "SIGHUP" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) signal_units: BTreeMap<UnitPattern, Signal>,
    /// Services that are started when it comes or changes, if they do not run; names alone.
    #[serde(default)]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "\\.service$")))]
    pub(super) start_units: Vec<UnitName>,
    /// Services that are stopped when it is removed.
    #[serde(default)]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "\\.service$")))]
    pub(super) stop_units: Vec<UnitPattern>,
    /// What happens besides when it is replaced: `"restart-dependents"` restarts whatever is bound to its unit.
    pub(super) on_change: Option<OnChange>,
}

/// What happens besides when a key is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnChange {
    /// What is bound to its unit is restarted: by `Requires=`, `BindsTo=`, `Requisite=` or `PartOf=`.
    RestartDependents,
}

/// An entry of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Place {
    Host(HostName),
    Tagged(Tag),
}

/// A time from 1 second to 1 hour, written `10s` or `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Wait(pub(super) Duration);

impl FromStr for Place {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text.strip_prefix('@') {
            Some(tag) => tag.parse().map(Self::Tagged),
            None => text.parse().map(Self::Host),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

/// Not a time that can be waited for.
pub(super) struct WaitError;

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time from 1s to 1h is expected, such as 10s or 2m")
    }
}

impl TryFrom<String> for Wait {
    type Error = WaitError;

    fn try_from(text: String) -> Result<Self, WaitError> {
        let parsed: SignedDuration = text.parse().map_err(|_| WaitError)?;
        let wait = Duration::try_from(parsed).map_err(|_| WaitError)?;
        let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
        // ssh counts in whole seconds.
        (allowed.contains(&wait) && wait.subsec_nanos() == 0)
            .then_some(Self(wait))
            .ok_or(WaitError)
    }
}

/// Returns the JSON Schema of a document.
pub(super) fn schema() -> String {
    let schema = schemars::schema_for!(Document);
    format!("{:#}", schema.as_value())
}

fn hosts(generator: &mut SchemaGenerator) -> Schema {
    let host = generator.subschema_for::<HostTable>();
    let names = json_schema!({ "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$" });
    json_schema!({ "type": "object", "propertyNames": names, "additionalProperties": host })
}

/// A key that stands by itself says which hosts have it.
fn shared_keys(generator: &mut SchemaGenerator) -> Schema {
    keys(generator, &json_schema!({ "required": ["hosts"] }))
}

/// A key that stands at its host says nothing of hosts.
fn own_keys(generator: &mut SchemaGenerator) -> Schema {
    keys(
        generator,
        &json_schema!({ "not": { "required": ["hosts"] } }),
    )
}

fn keys(generator: &mut SchemaGenerator, rule: &Schema) -> Schema {
    let key = generator.subschema_for::<KeyTable>();
    let part = "[A-Za-z0-9_+@][A-Za-z0-9._+@-]{0,127}";
    let names = json_schema!({ "pattern": format!("^{part}(/{part}){{0,7}}$"), "maxLength": 255 });
    json_schema!({
        "type": "object",
        "propertyNames": names,
        "additionalProperties": { "allOf": [key, rule] },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::super::Manifest;
    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/manifest.md");

    /// The names of all fields below `schema`, those in the definitions as well.
    fn fields(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                for (name, member) in members {
                    if let ("properties", Value::Object(properties)) = (name.as_str(), member) {
                        found.extend(properties.keys().cloned());
                    }
                    fields(member, found);
                }
            }
            Value::Array(members) => members.iter().for_each(|member| fields(member, found)),
            _ => {}
        }
    }

    #[test]
    fn the_reference_has_a_row_for_every_field_and_no_other() {
        let mut known = BTreeSet::new();
        fields(&serde_json::from_str(&schema()).unwrap(), &mut known);
        let rows: BTreeSet<String> = REFERENCE
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect();
        assert_eq!(rows, known);
    }

    #[test]
    fn every_example_of_the_reference_is_a_manifest() {
        let examples: Vec<&str> = REFERENCE
            .split("```toml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        assert_eq!(examples.len(), 5);
        for example in examples {
            if let Err(failure) = Manifest::parse(example, Path::new("/x/keys.toml")) {
                panic!("{failure}: {:?}\n{example}", failure.advice());
            }
        }
    }
}
