//! Several commands in one body: the batch of today, and the stream of objects of the clients before it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::fields::{DecodeError, Fields, Object, Value, decode};
use super::messages::{BatchRequest, Command};
use crate::json;

/// A [`BatchRequest`] as JSON can spell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In the order of the replies; `None` = a `null` among them.
    pub commands: Vec<Option<Command>>,
    /// Run them side by side instead of one after another.
    pub parallel: bool,
}

impl From<BatchRequest> for Batch {
    fn from(request: BatchRequest) -> Self {
        Self { commands: request.commands.into_iter().map(Some).collect(), parallel: request.parallel }
    }
}

impl Fields for Batch {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "commands" => value.messages_or_null(&mut self.commands),
            "parallel" => value.scalar(&mut self.parallel),
            _ => value.skip(),
        }
    }
}

impl Fields for Command {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "publish" => value.boxed_message(&mut self.publish),
            "broadcast" => value.boxed_message(&mut self.broadcast),
            "subscribe" => value.boxed_message(&mut self.subscribe),
            "unsubscribe" => value.boxed_message(&mut self.unsubscribe),
            "disconnect" => value.boxed_message(&mut self.disconnect),
            "presence" => value.boxed_message(&mut self.presence),
            "presence_stats" => value.boxed_message(&mut self.presence_stats),
            "history" => value.boxed_message(&mut self.history),
            "history_remove" => value.boxed_message(&mut self.history_remove),
            "info" => value.boxed_message(&mut self.info),
            "rpc" => value.boxed_message(&mut self.rpc),
            "refresh" => value.boxed_message(&mut self.refresh),
            "channels" => value.boxed_message(&mut self.channels),
            "update_user_status" => value.boxed_message(&mut self.update_user_status),
            "get_user_status" => value.boxed_message(&mut self.get_user_status),
            "delete_user_status" => value.boxed_message(&mut self.delete_user_status),
            _ => value.skip(),
        }
    }
}

/// Reads a body of objects with nothing but white space between them, one per call of [`Self::next`]: what comes before
/// a mistake has been read, and is carried out, by then.
///
/// A body without any is a mistake too.
pub struct LegacyCalls<'a> {
    text: Cow<'a, str>,
    at: usize,
}

impl<'a> LegacyCalls<'a> {
    /// Bytes that are not UTF-8 read as U+FFFD.
    pub fn new(body: &'a [u8]) -> Self {
        Self { text: String::from_utf8_lossy(body), at: 0 }
    }
}

impl Iterator for LegacyCalls<'_> {
    type Item = Result<LegacyCall, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.text.as_bytes()[self.at..];
        if self.at > 0 && rest.iter().all(|byte| b" \n\r\t".contains(byte)) {
            return None;
        }
        let read = json::decode_first::<Object<Spelt>>(rest);
        Some(read.map_err(|_| DecodeError).map(|(Object(spelt), len)| {
            self.at += len;
            LegacyCall { id: spelt.id, command: command(spelt.method.0, &spelt.params) }
        }))
    }
}

/// One object of such a body.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyCall {
    /// To be repeated in the reply unless 0.
    pub id: u32,
    /// Without any method if the one that was given is not known here; `None` = its parameters are missing or wrong.
    pub command: Option<Command>,
}

#[derive(Default)]
struct Spelt {
    id: u32,
    method: Method,
    params: Bytes,
}

impl Fields for Spelt {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "id" => value.scalar(&mut self.id),
            "method" => value.scalar(&mut self.method),
            "params" => value.payload(&mut self.params),
            _ => value.skip(),
        }
    }
}

/// By number, which may be one of no method.
#[derive(Clone, Copy, Default)]
struct Method(i64);

/// By number; 13 was never given out. The last of them are methods of other editions and versions.
const METHODS: [&str; 40] = [
    "PUBLISH",
    "BROADCAST",
    "UNSUBSCRIBE",
    "DISCONNECT",
    "PRESENCE",
    "PRESENCE_STATS",
    "HISTORY",
    "HISTORY_REMOVE",
    "CHANNELS",
    "INFO",
    "RPC",
    "SUBSCRIBE",
    "REFRESH",
    "",
    "CONNECTIONS",
    "UPDATE_USER_STATUS",
    "GET_USER_STATUS",
    "DELETE_USER_STATUS",
    "BLOCK_USER",
    "UNBLOCK_USER",
    "REVOKE_TOKEN",
    "INVALIDATE_USER_TOKENS",
    "DEVICE_REGISTER",
    "DEVICE_UPDATE",
    "DEVICE_REMOVE",
    "DEVICE_LIST",
    "DEVICE_TOPIC_LIST",
    "DEVICE_TOPIC_UPDATE",
    "USER_TOPIC_LIST",
    "USER_TOPIC_UPDATE",
    "SEND_PUSH_NOTIFICATION",
    "UPDATE_PUSH_STATUS",
    "CANCEL_PUSH",
    "MAP_PUBLISH",
    "MAP_REMOVE",
    "MAP_READ_STATE",
    "MAP_READ_STREAM",
    "MAP_STATS",
    "MAP_CLEAR",
    "SHARED_POLL_PUBLISH",
];

/// `None` if the parameters are not those of the method.
fn command(method: i64, params: &[u8]) -> Option<Command> {
    fn read<T: Fields>(params: &[u8]) -> Option<Option<Box<T>>> {
        Some(Some(Box::new(decode(params).ok()?)))
    }
    let mut command = Command::default();
    match method {
        0 => command.publish = read(params)?,
        1 => command.broadcast = read(params)?,
        2 => command.unsubscribe = read(params)?,
        3 => command.disconnect = read(params)?,
        4 => command.presence = read(params)?,
        5 => command.presence_stats = read(params)?,
        6 => command.history = read(params)?,
        7 => command.history_remove = read(params)?,
        8 => command.channels = read(params)?,
        9 => command.info = Some(Box::default()),
        10 => command.rpc = read(params)?,
        11 => command.subscribe = read(params)?,
        12 => command.refresh = read(params)?,
        15 => command.update_user_status = read(params)?,
        16 => command.get_user_status = read(params)?,
        17 => command.delete_user_status = read(params)?,
        _ => {}
    }
    Some(command)
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(MethodVisitor)
    }
}

struct MethodVisitor;

impl Visitor<'_> for MethodVisitor {
    type Value = Method;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("name or number of a method")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Method, E> {
        let is_name = |known: &&str| !known.is_empty() && known.eq_ignore_ascii_case(name);
        let number = METHODS.iter().position(is_name).ok_or_else(|| E::custom("unknown method"))?;
        Ok(Method(number as i64))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Method, E> {
        i32::try_from(number).map(|number| Method(number.into())).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Method, E> {
        i32::try_from(number).map(|number| Method(number.into())).map_err(E::custom)
    }
}
