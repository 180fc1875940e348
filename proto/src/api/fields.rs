//! How a JSON object becomes a request, key by key: exact key or the key in another case, the last duplicate wins,
//! unknown keys are skipped, `null` means "not given" except for payloads.
//!
//! Derived readers fail on duplicates, and a key in two spellings is one; hence this. Checking the text, and `null`
//! inside lists and maps, are the affair of `json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::json;

/// The body is not one JSON object of the types wanted (HTTP 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body is not a JSON object of the request's shape")]
pub struct DecodeError;

/// Decodes the body of a call. `null` is a request without fields.
///
/// Bytes that are not UTF-8 read as U+FFFD. Nesting is bounded, beyond any real payload, so that no body can exhaust the
/// stack.
pub fn decode<T: Fields>(body: &[u8]) -> Result<T, DecodeError> {
    let text = String::from_utf8_lossy(body);
    let Object(request) = json::decode(text.as_bytes()).map_err(|_| DecodeError)?;
    Ok(request)
}

/// A message decoded from a JSON object.
pub trait Fields: Default {
    /// Takes the value of `key`, which is in lower case.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error>;
}

/// The value of the key at hand; to be taken by exactly one of the methods.
pub struct Value<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> Value<'_, A> {
    /// A string, bool or number in range. `null` leaves an earlier duplicate in force.
    pub(crate) fn scalar<T: Deserialize<'de>>(self, field: &mut T) -> Result<(), A::Error> {
        if let Some(value) = self.0.next_value()? {
            *field = value;
        }
        Ok(())
    }

    /// A list of strings; a `null` in it is an empty one.
    pub(crate) fn strings(self, field: &mut Vec<String>) -> Result<(), A::Error> {
        *field = self.0.next_value()?;
        Ok(())
    }

    /// An object of strings; a `null` in it is an empty one.
    pub(crate) fn string_map(self, field: &mut BTreeMap<String, String>) -> Result<(), A::Error> {
        *field = self.0.next_value()?;
        Ok(())
    }

    /// Any JSON value, kept as it is spelt; `null` is the four bytes `null`.
    pub(crate) fn payload(self, field: &mut Bytes) -> Result<(), A::Error> {
        let Raw(text) = self.0.next_value()?;
        *field = text;
        Ok(())
    }

    /// A message inside the message.
    pub(crate) fn message<T: Fields>(self, field: &mut Option<T>) -> Result<(), A::Error> {
        *field = self.0.next_value::<Option<Object<T>>>()?.map(|object| object.0);
        Ok(())
    }

    /// As [`Self::message`], for those of which few are set.
    pub(super) fn boxed_message<T: Fields>(self, field: &mut Option<Box<T>>) -> Result<(), A::Error> {
        *field = self.0.next_value::<Option<Object<T>>>()?.map(|object| Box::new(object.0));
        Ok(())
    }

    /// A list of messages, of which some are `null`.
    pub(super) fn messages_or_null<T: Fields>(self, field: &mut Vec<Option<T>>) -> Result<(), A::Error> {
        let list: Vec<Option<Object<T>>> = self.0.next_value()?;
        *field = list.into_iter().map(|object| object.map(|object| object.0)).collect();
        Ok(())
    }

    /// A list of messages; a `null` in it is an empty one.
    pub(crate) fn messages<T: Fields>(self, field: &mut Vec<T>) -> Result<(), A::Error> {
        let list: Vec<Object<T>> = self.0.next_value()?;
        *field = list.into_iter().map(|object| object.0).collect();
        Ok(())
    }

    /// An object of messages; a `null` in it is an empty one.
    pub(crate) fn message_map<T: Fields>(self, field: &mut BTreeMap<String, T>) -> Result<(), A::Error> {
        let map: BTreeMap<String, Object<T>> = self.0.next_value()?;
        *field = map.into_iter().map(|(key, object)| (key, object.0)).collect();
        Ok(())
    }

    /// Whatever it is.
    pub(crate) fn skip(self) -> Result<(), A::Error> {
        self.0.next_value::<IgnoredAny>().map(drop)
    }
}

struct Raw(Bytes);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        json::raw_bytes(reader).map(Self)
    }
}

/// A message, read from an object or from `null`.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<T, A::Error> {
        let mut message = T::default();
        while let Some(Key(key)) = members.next_key()? {
            message.field(&key, Value(&mut members))?;
        }
        Ok(message)
    }
}

/// A key in lower case.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        let is_lower = !key.bytes().any(|byte| byte.is_ascii_uppercase());
        Ok(Key(if is_lower { key.into() } else { key.to_ascii_lowercase().into() }))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(key.to_ascii_lowercase().into()))
    }
}
