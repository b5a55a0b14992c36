//! A secret of a key-value mount, as Vault answered it: only the field that is wanted is ever decoded.

use std::collections::BTreeMap;

use keys_protocol::{Secret, printable};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

use super::answer::Answer;
use super::mount::{Engine, Mount};

/// The answer to a read, not decoded further than to its parts.
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) mount: Mount,
}

/// A table of JSON whose values are still text.
pub(super) type Table<'a> = BTreeMap<String, &'a RawValue>;

/// An answer.
#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
    /// Empty for what is kept; engines that make a secret for each reader give it a lease.
    #[serde(default)]
    lease_id: String,
}

/// What KV v2 has in it.
#[derive(Deserialize)]
pub(super) struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

/// What KV v2 knows about a version.
#[derive(Deserialize, Default)]
pub(super) struct Metadata {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
    #[serde(default)]
    pub(super) version: u64,
}

impl Found {
    /// Returns why there is nothing: KV v2 answers 404 for a version that was deleted, too, and says so.
    pub(super) fn absent(answer: &Answer, path: &str) -> Option<Failure> {
        let body: Body<'_> = serde_json::from_slice(answer.body.expose()).ok()?;
        let found: Versioned<'_> = serde_json::from_str(body.data.get()).ok()?;
        let Metadata {
            deletion_time,
            destroyed,
            version,
        } = found.metadata;
        if destroyed {
            return Some(
                Failure::source(format!("version {version} was destroyed"))
                    .hint("nothing brings it back: write the secret again"),
            );
        }
        if deletion_time.is_empty() {
            return None;
        }
        let when = printable(&deletion_time, 40);
        Some(
            Failure::source(format!("version {version} was deleted at {when}")).hint(format!(
                "`vault kv undelete -versions={version} {path}` brings it back"
            )),
        )
    }

    /// Returns all fields, as the JSON that Vault wrote.
    pub(super) fn whole(&self) -> Result<Secret, Failure> {
        Ok(Secret::new(self.data()?.get().as_bytes().to_vec()))
    }

    /// Takes a field out, as `vault kv get -field` would print it, without the newline.
    pub(super) fn field(&self, steps: &[String], path: &str) -> Result<Secret, Failure> {
        let mut value = self.data()?;
        for (depth, step) in steps.iter().enumerate() {
            let shown = printable(&steps[..=depth].join("/"), 120);
            let table = table(value).ok_or_else(|| {
                let above = printable(&steps[..depth].join("/"), 120);
                Failure::source(format!("field `{above}` holds no fields at {path}"))
            })?;
            value = table
                .get(step)
                .copied()
                .filter(|value| value.get() != "null")
                .ok_or_else(|| {
                    Failure::source(format!("no field `{shown}` at {path}"))
                        .hint(format!("fields there: {}", names(&table)))
                })?;
        }
        text(value).map_err(|what| {
            let shown = printable(&steps.join("/"), 120);
            let failure = Failure::source(format!("field `{shown}` is {what} at {path}"));
            match table(value) {
                Some(table) => failure.hint(format!("fields in it: {}", names(&table))),
                None => failure,
            }
        })
    }

    /// Returns the fields, not decoded.
    pub(super) fn data(&self) -> Result<&RawValue, Failure> {
        let body: Body<'_> = self.answer.parse()?;
        match self.mount.engine {
            // Only where the manifest said that it is key-value.
            Engine::V1 if !body.lease_id.is_empty() => Err(Failure::source(
                "a secret with a lease: the mount makes one for each reader, and is not key-value",
            )),
            Engine::V1 => Ok(body.data),
            Engine::V2 => {
                let found: Versioned<'_> =
                    serde_json::from_str(body.data.get()).map_err(|_| unreadable())?;
                found.data.ok_or_else(unreadable)
            }
        }
    }
}

/// The answer is of another kind.
pub(super) fn unreadable() -> Failure {
    Failure::source("an answer that is not one of a key-value mount")
}

/// Returns the parts of an object.
pub(super) fn table(value: &RawValue) -> Option<Table<'_>> {
    serde_json::from_str(value.get()).ok()
}

/// How many names a hint lists.
const LISTED: usize = 20;

fn names(table: &Table<'_>) -> String {
    let mut names: Vec<String> = table
        .keys()
        .take(LISTED)
        .map(|name| printable(name, 80))
        .collect();
    if names.is_empty() {
        return "none".into();
    }
    if table.len() > LISTED {
        names.push(format!("and {} more", table.len() - LISTED));
    }
    names.join(", ")
}

/// Returns a string as its bytes, and a number or boolean as the text that Vault wrote: `1.10` stays `1.10`.
fn text(value: &RawValue) -> Result<Secret, &'static str> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json)
            .map(|text: String| Secret::new(text.into_bytes()))
            .map_err(|_| "not text"),
        Some(b'{') => Err("a table"),
        Some(b'[') => Err("a list"),
        _ => Ok(Secret::new(json.as_bytes().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn check(engine: Engine, body: &str, field: &str, expected: Result<&str, &str>) {
        let answer = Answer {
            status: StatusCode::OK,
            retry_after: None,
            body: Secret::new(body.into()),
        };
        let steps: Vec<String> = field.split('/').map(str::to_owned).collect();
        let path = "kv/".to_owned();
        let mount = Mount { path, engine };
        let found = Found { answer, mount }.field(&steps, "kv/web");
        match (found, expected) {
            (Ok(secret), Ok(text)) => assert_eq!(secret.expose(), text.as_bytes(), "{field}"),
            (Err(failure), Err(text)) => {
                let hint = failure.advice().unwrap_or_default();
                assert_eq!(format!("{failure} ({hint})"), text, "{field}");
            }
            (Ok(_), Err(text)) => panic!("{field} was found, not: {text}"),
            (Err(failure), Ok(_)) => panic!("{field}: {failure}"),
        }
    }

    #[test]
    fn what_has_no_field_of_its_own_says_why() {
        let one = |body, expected| check(Engine::V1, body, "a", expected);
        one(r#"{"lease_id":"","data":{"a":"b"}}"#, Ok("b"));
        one(
            r#"{"lease_id":"database/creds/x/abc","data":{"a":"b"}}"#,
            Err(
                "a secret with a lease: the mount makes one for each reader, and is not key-value ()",
            ),
        );
        one(
            r#"{"data":{"a":"b"}"#,
            Err(
                "an answer that cannot be read (line 1, column 17) (is it Vault that answers at this address?)",
            ),
        );
        check(
            Engine::V2,
            r#"{"data":{"a":"hunter2"}}"#,
            "a",
            Err("an answer that is not one of a key-value mount ()"),
        );
    }

    #[test]
    fn a_field_is_what_the_vault_command_prints() {
        let body = r#"{"data":{"data":{"a":"x\n\u0000ü","n":1.10,"big":123456789012345678901234567890,
            "yes":true,"none":null,"empty":"","t":{"in/ner":"deep","l":[1]}},"metadata":{"version":3}}}"#;
        let v2 = |field, expected| check(Engine::V2, body, field, expected);
        v2("a", Ok("x\n\0ü"));
        v2("n", Ok("1.10"));
        v2("big", Ok("123456789012345678901234567890"));
        v2("yes", Ok("true"));
        v2("empty", Ok(""));
        v2("t/l", Err("field `t/l` is a list at kv/web ()"));
        v2(
            "t",
            Err("field `t` is a table at kv/web (fields in it: in/ner, l)"),
        );
        v2("a/b", Err("field `a` holds no fields at kv/web ()"));
        v2(
            "none",
            Err("no field `none` at kv/web (fields there: a, big, empty, n, none, t, yes)"),
        );
    }

    #[test]
    fn a_deleted_version_is_told_from_an_absent_one() {
        let why = |body: &str| {
            let answer = Answer {
                status: StatusCode::NOT_FOUND,
                retry_after: None,
                body: Secret::new(body.into()),
            };
            Found::absent(&answer, "kv/web").map(|failure| failure.to_string())
        };
        assert_eq!(why(r#"{"errors":[]}"#), None);
        assert_eq!(
            why(
                r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-02T03:04:05Z","destroyed":false,"version":2}}}"#
            ),
            Some("version 2 was deleted at 2026-01-02T03:04:05Z".into())
        );
        assert_eq!(
            why(
                r#"{"data":{"data":null,"metadata":{"deletion_time":"","destroyed":true,"version":1}}}"#
            ),
            Some("version 1 was destroyed".into())
        );
    }
}
