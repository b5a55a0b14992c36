//! How a source is written in the manifest: a table that names one kind, and what may stand beside it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::resolve::shape::{As, Encoding, Shape, ShapedSource};

use super::{Name, Source};

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("source", Self::KINDS, SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Source, A::Error> {
        let (mut form, mut encoding, mut found) = (None, None, None);
        while let Some(name) = table.next_key::<Name>()? {
            match name {
                Name::As => form = table.next_value()?,
                Name::Encoding => encoding = table.next_value()?,
                kind => {
                    let source = Source::next(kind, &mut table)?;
                    if found.is_some() {
                        return Err(A::Error::custom(
                            "two kinds side by side: a source is of one",
                        ));
                    }
                    found = source;
                }
            }
        }
        let kinds = || format!("no kind: one of {} is wanted", Source::KINDS.join(", "));
        let source = found.ok_or_else(|| A::Error::custom(kinds()))?;
        let shape = Shape::of(form, encoding).map_err(A::Error::custom)?;
        Ok(match shape {
            Some(shape) => Source::Shaped(ShapedSource::new(source, shape)),
            None => source,
        })
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let form = generator.subschema_for::<Option<As>>();
        let encoding = generator.subschema_for::<Option<Encoding>>();
        let kind = |(name, doc, schema): (&str, &str, Schema)| {
            json_schema!({
                "type": "object",
                "description": doc.trim(),
                "properties": { name: schema, "as": form, "encoding": encoding },
                "required": [name],
                "additionalProperties": false,
            })
        };
        let kinds: Vec<Schema> = Self::schemas(generator).into_iter().map(kind).collect();
        json_schema!({
            "description": "Where a secret comes from.",
            "oneOf": kinds,
        })
    }
}
