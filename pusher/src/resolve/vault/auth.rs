//! How we log in, as the manifest says it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::resolve::command::CommandSource;

/// How we log in.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Auth {
    /// A file that holds a token.
    TokenFile(PathBuf),
    /// A command that prints a token.
    TokenCommand(CommandSource),
    /// A file that holds the wrapping token of a login, which can be opened once.
    WrappedTokenFile(PathBuf),
    /// The AppRole method.
    Approle(AppRole),
    /// The JWT method.
    Jwt(Jwt),
    /// The TLS certificate method, with `client_cert_file` and `client_key_file`.
    Cert(Cert),
    /// A user name and a password, for the userpass method and those that take the same (ldap, okta, radius).
    Userpass(UserPass),
}

/// Something secret that a login takes; it never is in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    File(PathBuf),
    Command(CommandSource),
    /// Asked for on the terminal.
    Prompt,
}

impl Proof {
    fn of(file: Option<PathBuf>, command: Option<CommandSource>) -> Option<Self> {
        match (file, command) {
            (Some(file), None) => Some(Self::File(file)),
            (None, Some(command)) => Some(Self::Command(command)),
            _ => None,
        }
    }
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

/// How the secret id comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretId {
    Plain(Proof),
    /// As a wrapping token that can be opened once.
    Wrapped(Proof),
}

/// `auth = { approle = { role_id_file = "role-id", secret_id_command = ["pass", "vault/secret-id"] } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppRoleTable {
    /// The role id, or `role_id_file`.
    role_id: Option<String>,
    /// A file that holds the role id.
    role_id_file: Option<PathBuf>,
    /// A file that holds the secret id; or one of the next three.
    secret_id_file: Option<PathBuf>,
    /// A command that prints the secret id.
    secret_id_command: Option<CommandSource>,
    /// A file that holds the wrapping token of a secret id.
    wrapped_secret_id_file: Option<PathBuf>,
    /// A command that prints the wrapping token of a secret id.
    wrapped_secret_id_command: Option<CommandSource>,
    /// Where the method is mounted, if not at `approle`.
    mount: Option<String>,
}

impl TryFrom<AppRoleTable> for AppRole {
    type Error = &'static str;

    fn try_from(table: AppRoleTable) -> Result<Self, Self::Error> {
        let plain = Proof::of(table.secret_id_file, table.secret_id_command);
        let wrapped = Proof::of(
            table.wrapped_secret_id_file,
            table.wrapped_secret_id_command,
        );
        Ok(Self {
            role_id: match (table.role_id, table.role_id_file) {
                (Some(id), None) => RoleId::Given(id),
                (None, Some(file)) => RoleId::File(file),
                _ => return Err("one of `role_id` and `role_id_file` is wanted"),
            },
            secret_id: match (plain, wrapped) {
                (Some(plain), None) => SecretId::Plain(plain),
                (None, Some(wrapped)) => SecretId::Wrapped(wrapped),
                _ => {
                    return Err(
                        "one of `secret_id_file`, `secret_id_command` and their `wrapped_` forms is wanted",
                    );
                }
            },
            mount: mounted(table.mount, "approle")?,
        })
    }
}

/// A role and a signed token of another system.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "JwtTable")]
#[schemars(with = "JwtTable")]
pub(crate) struct Jwt {
    /// The method's default role if there is none.
    pub(super) role: Option<String>,
    pub(super) token: Proof,
    pub(super) mount: String,
}

/// `auth = { jwt = { role = "deploy", jwt_file = "/run/ci/token" } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwtTable {
    /// The role, if not the method's default one.
    role: Option<String>,
    /// A file that holds the JWT, or `jwt_command`.
    jwt_file: Option<PathBuf>,
    /// A command that prints the JWT.
    jwt_command: Option<CommandSource>,
    /// Where the method is mounted, if not at `jwt`.
    mount: Option<String>,
}

impl TryFrom<JwtTable> for Jwt {
    type Error = &'static str;

    fn try_from(table: JwtTable) -> Result<Self, Self::Error> {
        Ok(Self {
            role: table.role,
            token: Proof::of(table.jwt_file, table.jwt_command)
                .ok_or("one of `jwt_file` and `jwt_command` is wanted")?,
            mount: mounted(table.mount, "jwt")?,
        })
    }
}

/// The role to be taken on by a certificate.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "CertTable")]
#[schemars(with = "CertTable")]
pub(crate) struct Cert {
    /// Any that the certificate is good for if there is none.
    pub(super) role: Option<String>,
    pub(super) mount: String,
}

/// `auth = { cert = { role = "deploy" } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CertTable {
    /// The role, if not any that the certificate is good for.
    role: Option<String>,
    /// Where the method is mounted, if not at `cert`.
    mount: Option<String>,
}

impl TryFrom<CertTable> for Cert {
    type Error = &'static str;

    fn try_from(table: CertTable) -> Result<Self, Self::Error> {
        Ok(Self {
            role: table.role,
            mount: mounted(table.mount, "cert")?,
        })
    }
}

/// A user with a password.
#[derive(Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(try_from = "UserPassTable")]
#[schemars(with = "UserPassTable")]
pub(crate) struct UserPass {
    pub(super) username: String,
    pub(super) password: Proof,
    pub(super) mount: String,
}

/// `auth = { userpass = { username = "alice" } }`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserPassTable {
    /// The user.
    username: String,
    /// A file that holds the password. Without it and `password_command`: the terminal is asked.
    password_file: Option<PathBuf>,
    /// A command that prints the password.
    password_command: Option<CommandSource>,
    /// Where the method is mounted, if not at `userpass`.
    mount: Option<String>,
}

impl TryFrom<UserPassTable> for UserPass {
    type Error = &'static str;

    fn try_from(table: UserPassTable) -> Result<Self, Self::Error> {
        let password = match (table.password_file, table.password_command) {
            (None, None) => Proof::Prompt,
            (file, command) => Proof::of(file, command)
                .ok_or("at most one of `password_file` and `password_command` is wanted")?,
        };
        Ok(Self {
            username: component(table.username).ok_or("a user name is one component of a path")?,
            password,
            mount: mounted(table.mount, "userpass")?,
        })
    }
}

/// Returns where a method is mounted: something that can only be a part of a path below `auth/`.
pub(super) fn mounted(given: Option<String>, usual: &str) -> Result<String, &'static str> {
    let Some(mount) = given else {
        return Ok(usual.to_owned());
    };
    let mount = mount.trim_end_matches('/');
    let parts: Option<Vec<String>> = mount
        .split('/')
        .map(|part| component(part.to_owned()))
        .collect();
    parts
        .map(|parts| parts.join("/"))
        .ok_or("a mount is written as it is, without `..`, `?`, `%` and control characters")
}

/// Returns `part` if it is one component of a path and nothing else.
pub(super) fn component(part: String) -> Option<String> {
    let odd = |c: char| matches!(c, '/' | '?' | '%' | '\\' | '#') || c.is_control();
    (!matches!(&*part, "" | "." | "..") && !part.contains(odd)).then_some(part)
}
