//! The `[vault]` table: which server, and who we are there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::resolve::command::CommandSource;

/// The `[vault]` table. What is not there is taken from the environment, as the `vault` command does.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VaultSettings {
    /// Where the server is; else `VAULT_ADDR`.
    pub(crate) address: Option<String>,
    /// The namespace; else `VAULT_NAMESPACE`.
    pub(crate) namespace: Option<String>,
    /// The certificates that sign the server's, in PEM; else `VAULT_CACERT`, else the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// How we log in; else `VAULT_TOKEN`, else `~/.vault-token`.
    pub(crate) auth: Option<Auth>,
}

/// How we log in.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Auth {
    /// A file that holds a token.
    TokenFile(PathBuf),
    /// The AppRole method.
    Approle(AppRole),
}

/// Role id and secret id, and where the method is mounted.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "AppRoleTable")]
#[schemars(with = "AppRoleTable")]
pub(crate) struct AppRole {
    pub(super) role_id: RoleId,
    pub(super) secret_id: SecretId,
    pub(super) mount: String,
}

/// The role id is no secret; it may be in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoleId {
    Given(String),
    File(PathBuf),
}

/// The secret id never is in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretId {
    File(PathBuf),
    Command(CommandSource),
}

/// `auth = { approle = { role_id_file = "role-id", secret_id_command = ["pass", "vault/secret-id"] } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppRoleTable {
    /// The role id, or `role_id_file`.
    role_id: Option<String>,
    /// A file that holds the role id.
    role_id_file: Option<PathBuf>,
    /// A file that holds the secret id, or `secret_id_command`.
    secret_id_file: Option<PathBuf>,
    /// A command that prints the secret id.
    secret_id_command: Option<CommandSource>,
    /// Where the method is mounted, if not at `approle`.
    mount: Option<String>,
}

impl TryFrom<AppRoleTable> for AppRole {
    type Error = &'static str;

    fn try_from(table: AppRoleTable) -> Result<Self, Self::Error> {
        Ok(Self {
            role_id: match (table.role_id, table.role_id_file) {
                (Some(id), None) => RoleId::Given(id),
                (None, Some(file)) => RoleId::File(file),
                _ => return Err("one of `role_id` and `role_id_file` is wanted"),
            },
            secret_id: match (table.secret_id_file, table.secret_id_command) {
                (Some(file), None) => SecretId::File(file),
                (None, Some(command)) => SecretId::Command(command),
                _ => return Err("one of `secret_id_file` and `secret_id_command` is wanted"),
            },
            mount: table.mount.unwrap_or_else(|| "approle".into()),
        })
    }
}
