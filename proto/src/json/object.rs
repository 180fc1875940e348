//! An object being written, member by member.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::write;
use crate::client::InappropriateJson;

/// An open object at the end of a buffer. Knows where commas go.
///
/// Names are those of the protocol and are not escaped.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// Begins a member; the caller appends the value to what it gets.
    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if self.is_empty { b"\"" } else { b",\"" });
        self.is_empty = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Begins a member whose name is data, not of the protocol.
    pub(crate) fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        write::string(name, self.out);
        self.out.push(b':');
        self.out
    }

    /// Written unless false.
    pub(crate) fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.member(name).extend_from_slice(b"true");
        }
    }

    /// Written unless 0.
    pub(crate) fn number<N: itoa::Integer + Default + PartialEq>(&mut self, name: &str, value: N) {
        if value != N::default() {
            write::number(value, self.member(name));
        }
    }

    pub(crate) fn number_always(&mut self, name: &str, value: impl itoa::Integer) {
        write::number(value, self.member(name));
    }

    /// Written unless empty.
    pub(crate) fn string(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.string_always(name, value);
        }
    }

    pub(crate) fn string_always(&mut self, name: &str, value: &str) {
        write::string(value, self.member(name));
    }

    /// Raw JSON, written unless empty.
    pub(crate) fn raw(&mut self, name: &str, payload: &Bytes) -> Result<(), InappropriateJson> {
        if payload.is_empty() { Ok(()) } else { write::raw(payload, self.member(name)) }
    }

    /// A message, written unless absent.
    pub(crate) fn message<T>(
        &mut self,
        name: &str,
        message: Option<&T>,
        write: impl FnOnce(&T, &mut Object<'_>) -> Result<(), InappropriateJson>,
    ) -> Result<(), InappropriateJson> {
        match message {
            Some(message) => object(self.member(name), |object| write(message, object)),
            None => Ok(()),
        }
    }

    /// A list of messages, written unless empty.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        list: &[T],
        write: impl FnMut(&T, &mut Object<'_>) -> Result<(), InappropriateJson>,
    ) -> Result<(), InappropriateJson> {
        if list.is_empty() { Ok(()) } else { self.list_always(name, list, write) }
    }

    pub(crate) fn list_always<T>(
        &mut self,
        name: &str,
        list: &[T],
        mut write: impl FnMut(&T, &mut Object<'_>) -> Result<(), InappropriateJson>,
    ) -> Result<(), InappropriateJson> {
        let out = self.member(name);
        out.push(b'[');
        for (place, element) in list.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            object(out, |object| write(element, object))?;
        }
        out.push(b']');
        Ok(())
    }

    /// A map of messages, written even if empty.
    pub(crate) fn map_always<T>(
        &mut self,
        name: &str,
        map: &BTreeMap<String, T>,
        mut write: impl FnMut(&T, &mut Object<'_>) -> Result<(), InappropriateJson>,
    ) -> Result<(), InappropriateJson> {
        let out = self.member(name);
        out.push(b'{');
        for (place, (key, value)) in map.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write::string(key, out);
            out.push(b':');
            object(out, |object| write(value, object))?;
        }
        out.push(b'}');
        Ok(())
    }

    /// A map of strings, written unless empty.
    pub(crate) fn strings(&mut self, name: &str, map: &BTreeMap<String, String>) {
        if map.is_empty() {
            return;
        }
        let out = self.member(name);
        out.push(b'{');
        for (place, (key, value)) in map.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write::string(key, out);
            out.push(b':');
            write::string(value, out);
        }
        out.push(b'}');
    }
}

/// Appends an object with the members that `write` adds. On error `out` is left with a part of it.
pub(crate) fn object(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Object<'_>) -> Result<(), InappropriateJson>,
) -> Result<(), InappropriateJson> {
    let mut object = Object::open(out);
    write(&mut object)?;
    object.close();
    Ok(())
}
