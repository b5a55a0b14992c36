//! Where a secret comes from, as the manifest says it.

mod form;
mod table;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use keys_protocol::printable;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::resolve::shape::{Shape, ShapedSource};
use crate::resolve::{self, Answers, Kind as _, Run};

pub(crate) use form::Form;

/// Makes [`Source`] of the kinds that there are, each with its file in `resolve/`.
macro_rules! sources {
    ($($(#[doc = $doc:literal])* $kind:ident($module:ident::$form:ident)),* $(,)?) => {
        /// Where a secret comes from: `{ vault = "kv/web#cert" }` and the like.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Source {
            $($(#[doc = $doc])* $kind(resolve::$module::$form),)*
            /// One of the others with `as` or `encoding`.
            Shaped(resolve::shape::ShapedSource),
        }

        /// The names in a source's table.
        #[derive(serde::Deserialize, Clone, Copy, PartialEq, Eq)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Name {
            As,
            Encoding,
            $($kind,)*
        }

        impl Source {
            /// Those names but `as` and `encoding`.
            const KINDS: &[&str] = &[$(stringify!($module)),*];

            /// Reads the kind that stands under `name`; nothing if that is none.
            fn next<'de, A: MapAccess<'de>>(name: Name, table: &mut A) -> Result<Option<Self>, A::Error> {
                match name {
                    Name::As | Name::Encoding => Ok(None),
                    $(Name::$kind => table.next_value().map(Self::$kind).map(Some),)*
                }
            }

            /// Returns what each kind is written as, with what it is.
            fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, &'static str, Schema)> {
                vec![$((
                    stringify!($module),
                    concat!($($doc),*),
                    generator.subschema_for::<resolve::$module::$form>(),
                )),*]
            }
        }

        impl Source {
            /// Returns this source and its parts with `{host}` replaced.
            pub(crate) fn for_host(&self, host: &str) -> Self {
                let mut source = match self {
                    $(Self::$kind(source) => Self::$kind(source.for_host(host)),)*
                    Self::Shaped(source) => Self::Shaped(source.for_host(host)),
                };
                for part in source.parts_mut() {
                    *part = part.for_host(host);
                }
                source
            }

            /// Returns what is asked once for all sources that share it.
            pub(crate) fn origin(&self) -> Self {
                match self {
                    $(Self::$kind(source) => Self::$kind(source.origin()),)*
                    Self::Shaped(source) => Self::Shaped(source.origin()),
                }
            }

            /// Returns this source as it gives a map in JSON.
            pub(crate) fn into_json(self) -> Self {
                match self {
                    $(Self::$kind(source) => Self::$kind(source.into_json()),)*
                    Self::Shaped(source) => Self::Shaped(source),
                }
            }

            /// Returns the sources that this one takes from.
            pub(crate) fn parts(&self) -> Vec<&Self> {
                match self {
                    $(Self::$kind(source) => source.parts(),)*
                    Self::Shaped(source) => source.parts(),
                }
            }

            /// Returns the sources that this one takes from, to be changed.
            pub(crate) fn parts_mut(&mut self) -> Vec<&mut Self> {
                match self {
                    $(Self::$kind(source) => source.parts_mut(),)*
                    Self::Shaped(source) => source.parts_mut(),
                }
            }

            fn names_vault(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(source) => source.vault(),)*
                    Self::Shaped(_) => None,
                }
            }

            fn makes_anew(&self) -> bool {
                match self {
                    $(Self::$kind(source) => source.is_volatile(),)*
                    Self::Shaped(_) => false,
                }
            }

            /// Asks this origin, and takes what each of `wanted` names out of the answer.
            pub(crate) async fn ask(self, wanted: Vec<Self>, run: Arc<Run>) -> Answers {
                match self {
                    $(Self::$kind(origin) => {
                        let wanted = wanted.into_iter().filter_map(|source| match source {
                            Self::$kind(source) => Some(source),
                            _ => None,
                        });
                        origin.ask(wanted.collect(), run).await
                    })*
                    Self::Shaped(source) => source.ask(Vec::new(), run).await,
                }
            }
        }

        impl fmt::Display for Source {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$kind(source) => source.fmt(f),)*
                    Self::Shaped(source) => source.fmt(f),
                }
            }
        }
    };
}

sources! {
    /// A field of a Vault or OpenBao key-value secret.
    Vault(vault::VaultSource),
    /// A new AppRole secret id, wrapped: for a service that logs in to Vault itself.
    VaultSecretId(vault_secret_id::SecretIdSource),
    /// A value of a SOPS file, or the whole file.
    Sops(sops::SopsSource),
    /// An age-encrypted file.
    Age(age::AgeSource),
    /// A file below the manifest's folder, as it is.
    File(file::FileSource),
    /// What a program prints.
    Command(command::CommandSource),
    /// What the user types.
    Prompt(prompt::PromptSource),
    /// A secret that is made where there is none yet, and kept from then on.
    Generate(generate::GenerateSource),
    /// The public half of a private key that another source gives.
    Public(public::PublicSource),
    /// The secret of another key of the same host.
    Key(key::KeySource),
    /// Several secrets in one text.
    Template(template::TemplateSource),
}

impl Source {
    /// Returns this source and all that it takes from.
    fn tree(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(source) = all.get(next).copied() {
            next += 1;
            all.extend(source.parts());
        }
        all
    }

    /// Returns which of `[vaults]` are asked or written to.
    pub(crate) fn vaults(&self) -> Vec<&str> {
        let all = self.tree().into_iter();
        all.filter_map(Self::names_vault).collect()
    }

    /// Returns those of this source and its parts that make a value there never was before.
    pub(crate) fn volatile(&self) -> Vec<&Self> {
        let all = self.tree().into_iter();
        all.filter(|source| source.makes_anew()).collect()
    }

    /// Returns whether asking makes a value that there never was before.
    pub(crate) fn is_volatile(&self) -> bool {
        !self.volatile().is_empty()
    }

    /// Returns whether Vault is asked.
    pub(crate) fn is_from_vault(&self) -> bool {
        let vault = |source: &&Self| match source {
            Self::Vault(_) | Self::VaultSecretId(_) => true,
            Self::Generate(made) => made.is_in_vault(),
            _ => false,
        };
        self.tree().iter().any(vault)
    }

    /// Returns whether this gives a key for each field of a map, and not one secret.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Shaped(source) if source.is_folder())
    }

    /// Returns what stands for a field of this folder.
    pub(crate) fn field(&self, name: String) -> Self {
        Self::Shaped(ShapedSource::new(self.clone(), Shape::Field(name)))
    }
}

/// Returns a text of the manifest as messages show it.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    printable(text, LONGEST)
}

/// Replaces `{host}` in `text`.
pub(crate) fn for_host(text: &str, host: &str) -> String {
    text.replace("{host}", host)
}

/// The way down to a value inside a document: `a/b`, or `["a", "b/c"]` where names hold a `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Steps(pub(crate) Vec<String>);

impl Steps {
    /// Splits `text` at each `/`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::of(text.split('/').map(str::to_owned).collect())
    }

    fn of(steps: Vec<String>) -> Result<Self, String> {
        if steps.iter().any(String::is_empty) {
            return Err("a name after `#` is empty".into());
        }
        Ok(Self(steps))
    }

    /// Returns these steps with `{host}` replaced.
    pub(crate) fn for_host(&self, host: &str) -> Self {
        Self(self.0.iter().map(|step| for_host(step, host)).collect())
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Steps;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names joined by `/`, or a list of names")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Steps, E> {
                Steps::parse(text).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Steps, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(names))?;
                Steps::of(names).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Steps {
    fn schema_name() -> Cow<'static, str> {
        "steps".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Source, String> {
        #[derive(serde::Deserialize)]
        struct Line {
            source: Source,
        }
        toml::from_str(text)
            .map(|line: Line| line.source)
            .map_err(|e| e.message().to_owned())
    }

    fn check(text: &str, shown: &str) {
        match read(&format!("source = {text}")) {
            Ok(source) => assert_eq!(source.to_string(), shown, "{text}"),
            Err(error) => assert_eq!(error, shown, "{text}"),
        }
    }

    #[test]
    fn short_and_long_forms_say_the_same() {
        check(r#"{ vault = "kv/web#tls/cert" }"#, "vault kv/web#tls/cert");
        check(
            r#"{ vault = { path = "web", mount = "kv", field = ["tls", "cert"] } }"#,
            "vault kv/web#tls/cert",
        );
        check(
            r#"{ vault = { path = "kv/a#b", field = "c", version = 3 } }"#,
            "vault kv/a#b#c (version 3)",
        );
        check(
            r#"{ vault_secret_id = { role = "web", wrap_ttl = "90s" } }"#,
            "vault secret id of web",
        );
        check(r#"{ vault = "kv/web" }"#, "vault kv/web");
        check(
            r#"{ vault = { path = "web#cert", mount = "kv/team/", engine = 2, from = "lab" } }"#,
            "vault kv/team/web#cert from lab",
        );
        check(r#"{ sops = "a#b.yaml#c/d" }"#, "sops a#b.yaml#c/d");
        check(
            r#"{ sops = { file = "x.json", key = ["c/d"] } }"#,
            "sops x.json#c/d",
        );
        check(r#"{ sops = "whole.env" }"#, "sops whole.env");
        check(r#"{ age = "a.age" }"#, "age a.age");
        check(
            r#"{ age = { file = "a.age", identities = ["~/.ssh/id"] } }"#,
            "age a.age",
        );
        check(r#"{ file = "secrets/x" }"#, "file secrets/x");
        check(
            r#"{ command = ["pass", "show", "a b"] }"#,
            "command pass show a b",
        );
        check(
            r#"{ command = { argv = ["op"], timeout = "2m", trim = "newline" } }"#,
            "command op",
        );
    }

    #[test]
    fn what_a_vault_source_cannot_be_is_said() {
        check(
            r#"{ vault = "web" }"#,
            "a Vault path is a mount and a path: `kv/web`",
        );
        check(r#"{ vault = "kv/web#" }"#, "a name after `#` is empty");
        check(
            r#"{ vault = "kv/../sys#x" }"#,
            "no component of a Vault path may be empty, `.` or `..`",
        );
        check(
            r#"{ vault = "sys/seal#x" }"#,
            "`sys/` is no place for secrets",
        );
        check(
            r#"{ vault = { path = "kv/web#x", engine = 3 } }"#,
            "the key-value engine has the versions 1 and 2",
        );
        check(
            "{ vault = 3 }",
            "invalid type: integer `3`, expected its short form or a table",
        );
        check(
            r#"{ vault = { path = "kv/x", fields = "a" } }"#,
            "unknown field `fields`, expected one of `path`, `field`, `mount`, `version`, `engine`, `from`",
        );
    }

    #[test]
    fn what_a_source_cannot_be_is_said() {
        check(
            r#"{ file = "/etc/shadow" }"#,
            "the path is relative to the manifest's folder",
        );
        check("{ command = [] }", "a command names a program");
        check(
            r#"{ command = "pass show x" }"#,
            "invalid type: string \"pass show x\", expected a sequence",
        );
        check(
            r#"{ command = { argv = ["x"], timeout = "0s" } }"#,
            "a timeout is a time like `30s`, up to an hour",
        );
        check(
            r#"{ valt = "x" }"#,
            "unknown field `valt`, expected one of `as`, `encoding`, `vault`, `vault_secret_id`, `sops`, `age`, `file`, `command`, `prompt`, `generate`, `public`, `key`, `template`",
        );
    }

    #[test]
    fn the_host_is_put_into_every_text() {
        let source = read(r#"source = { vault = "kv/{host}/x#{host}" }"#).unwrap();
        assert_eq!(
            source.for_host("pigeon").to_string(),
            "vault kv/pigeon/x#pigeon"
        );
        let source = read(r#"source = { command = ["get", "{host}:x"] }"#).unwrap();
        assert_eq!(source.for_host("a").to_string(), "command get a:x");
    }

    #[test]
    fn fields_of_one_path_have_one_origin() {
        let origin = |text| read(text).unwrap().origin();
        assert_eq!(
            origin(r#"source = { sops = "x.yaml#a" }"#),
            origin(r#"source = { sops = "x.yaml#b" }"#)
        );
        assert_ne!(
            origin(r#"source = { vault = "kv/a#x" }"#),
            origin(r#"source = { vault = { path = "kv/a", field = "x", version = 1 } }"#)
        );
    }
}
