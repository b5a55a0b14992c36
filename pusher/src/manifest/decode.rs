//! Reads a tree into types: a serde data format whose errors know the way to what is wrong.

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::problem::Problem;
use super::tree::{Member, Node, Step, Value};
use crate::spelling::nearest;

type Outcome<T> = Result<T, Problem>;

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Time => Err(Problem::invalid_type(self.value.unexpected(), &visitor)),
            Value::List(nodes) => visitor.visit_seq(Items { nodes, next: 0 }),
            Value::Table(members) => visitor.visit_map(Members { members, next: 0 }),
        }
    }

    /// A JSON writer may say `null` for what it leaves out.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    /// A struct is a table only: serde would take a list of its fields as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        match &self.value {
            Value::Table(members) => visitor.visit_map(Members { members, next: 0 }),
            other => Err(Problem::invalid_type(other.unexpected(), &"a table")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        match &self.value {
            Value::Text(word) if variants.contains(&word.as_str()) => {
                visitor.visit_enum(StrDeserializer::new(word))
            }
            // Only what is nearly right is repeated: anything else may be a secret in the wrong place.
            Value::Text(word) if nearest(word, variants.iter().copied()).is_some() => {
                Err(Problem::unknown_variant(word, variants))
            }
            Value::Table(members) => match members.as_slice() {
                [only] => visitor.visit_enum(Variant(only)),
                several => {
                    let found = several.iter().map(|member| member.name.clone()).collect();
                    Err(Problem::not_one(found, variants))
                }
            },
            other => {
                let expected = format!("one of {}", variants.join(", "));
                Err(Problem::invalid_type(
                    other.unexpected(),
                    &expected.as_str(),
                ))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    nodes: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let Some(node) = self.nodes.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(node)
            .map(Some)
            .map_err(|problem| problem.inside(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len() - self.next)
    }
}

struct Members<'de> {
    members: &'de [Member],
    /// The member whose name is read next; its predecessor's value is read next.
    next: usize,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Problem;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let Some(member) = self.members.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(BorrowedStrDeserializer::new(&member.name))
            .map(Some)
            .map_err(|problem: Problem| problem.of_name().inside(member.name.as_str()))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<T::Value> {
        let Some(member) = self
            .next
            .checked_sub(1)
            .and_then(|index| self.members.get(index))
        else {
            return Err(Problem::new("a value was read before its name"));
        };
        seed.deserialize(&member.node)
            .map_err(|problem| problem.inside(member.name.as_str()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len() - self.next)
    }
}

/// The one member of a table: its name is the variant, its value what the variant holds.
struct Variant<'de>(&'de Member);

impl Variant<'_> {
    fn step(&self) -> Step {
        Step::Name(self.0.name.clone())
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Outcome<(T::Value, Self)> {
        let name = BorrowedStrDeserializer::new(&self.0.name);
        match seed.deserialize(name) {
            Ok(value) => Ok((value, self)),
            Err(problem) => Err(Problem::of_name(problem).inside(self.step())),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Problem;

    fn unit_variant(self) -> Outcome<()> {
        Err(Problem::new("this word stands alone, without a value").inside(self.step()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Outcome<T::Value> {
        seed.deserialize(&self.0.node)
            .map_err(|problem| problem.inside(self.step()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Outcome<V::Value> {
        self.0
            .node
            .deserialize_any(visitor)
            .map_err(|problem| problem.inside(self.step()))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        self.0
            .node
            .deserialize_struct("", fields, visitor)
            .map_err(|problem| problem.inside(self.step()))
    }
}
