//! What application backends ask for, one message per method, every field of the protocol included.
//!
//! A field that was not given has its default. Fields that Gyre does not act on are decoded all the same: a wrong type
//! in them fails the call, as it always did.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::MapAccess;

use super::fields::{Fields, Value};
use crate::client::{FilterNode, StreamPosition};

/// Publish into one channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishRequest {
    /// Channel, required.
    pub channel: String,
    /// Payload: JSON text as it was spelt.
    pub data: Bytes,
    /// Payload in padded base64; wins over `data` when not empty.
    pub b64data: String,
    /// Keep it out of the stream.
    pub skip_history: bool,
    /// Attached to the publication.
    pub tags: BTreeMap<String, String>,
    /// A second publish with the same key within five minutes does nothing.
    pub idempotency_key: String,
    /// Send deltas to subscribers that negotiated them.
    pub delta: bool,
    /// Dropped unless larger than the one stored; 0 = none.
    pub version: u64,
    /// Versions of different epochs are not compared.
    pub version_epoch: String,
}

impl Fields for PublishRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "data" => value.payload(&mut self.data),
            "b64data" => value.scalar(&mut self.b64data),
            "skip_history" => value.scalar(&mut self.skip_history),
            "tags" => value.string_map(&mut self.tags),
            "idempotency_key" => value.scalar(&mut self.idempotency_key),
            "delta" => value.scalar(&mut self.delta),
            "version" => value.scalar(&mut self.version),
            "version_epoch" => value.scalar(&mut self.version_epoch),
            _ => value.skip(),
        }
    }
}

/// Publish into several channels. Fields as in [`PublishRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BroadcastRequest {
    /// Channels, required.
    pub channels: Vec<String>,
    /// Payload: JSON text as it was spelt.
    pub data: Bytes,
    /// Payload in padded base64; wins over `data` when not empty.
    pub b64data: String,
    /// Keep it out of the streams.
    pub skip_history: bool,
    /// Attached to the publications.
    pub tags: BTreeMap<String, String>,
    /// Per channel.
    pub idempotency_key: String,
    /// Send deltas to subscribers that negotiated them.
    pub delta: bool,
    /// Per channel.
    pub version: u64,
    /// Versions of different epochs are not compared.
    pub version_epoch: String,
}

impl Fields for BroadcastRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channels" => value.strings(&mut self.channels),
            "data" => value.payload(&mut self.data),
            "b64data" => value.scalar(&mut self.b64data),
            "skip_history" => value.scalar(&mut self.skip_history),
            "tags" => value.string_map(&mut self.tags),
            "idempotency_key" => value.scalar(&mut self.idempotency_key),
            "delta" => value.scalar(&mut self.delta),
            "version" => value.scalar(&mut self.version),
            "version_epoch" => value.scalar(&mut self.version_epoch),
            _ => value.skip(),
        }
    }
}

/// Who is subscribed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PresenceRequest {
    /// Channel, required.
    pub channel: String,
}

impl Fields for PresenceRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

/// How many are subscribed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PresenceStatsRequest {
    /// Channel, required.
    pub channel: String,
}

impl Fields for PresenceStatsRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

/// Read a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryRequest {
    /// Channel, required.
    pub channel: String,
    /// Publications wanted; 0 = only the top of the stream, negative = all.
    pub limit: i32,
    /// Read after this position, or before it when `reverse`.
    pub since: Option<StreamPosition>,
    /// Newest first.
    pub reverse: bool,
}

impl Fields for HistoryRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "channel" => value.scalar(&mut self.channel),
            "limit" => value.scalar(&mut self.limit),
            "since" => value.message(&mut self.since),
            "reverse" => value.scalar(&mut self.reverse),
            _ => value.skip(),
        }
    }
}

/// Empty a stream; its offset and epoch stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryRemoveRequest {
    /// Channel, required.
    pub channel: String,
}

impl Fields for HistoryRemoveRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        channel_alone(&mut self.channel, key, value)
    }
}

/// Which channels have subscribers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelsRequest {
    /// Glob; empty = all.
    pub pattern: String,
}

impl Fields for ChannelsRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "pattern" => value.scalar(&mut self.pattern),
            _ => value.skip(),
        }
    }
}

/// What the nodes are and do. Has no fields.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InfoRequest;

impl Fields for InfoRequest {
    fn field<'de, A: MapAccess<'de>>(&mut self, _: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        value.skip()
    }
}

fn channel_alone<'de, A: MapAccess<'de>>(channel: &mut String, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
    match key {
        "channel" => value.scalar(channel),
        _ => value.skip(),
    }
}

impl Fields for StreamPosition {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "offset" => value.scalar(&mut self.offset),
            "epoch" => value.scalar(&mut self.epoch),
            _ => value.skip(),
        }
    }
}

impl Fields for FilterNode {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, value: Value<'_, A>) -> Result<(), A::Error> {
        match key {
            "op" => value.scalar(&mut self.op),
            "key" => value.scalar(&mut self.key),
            "cmp" => value.scalar(&mut self.cmp),
            "val" => value.scalar(&mut self.val),
            "vals" => value.strings(&mut self.vals),
            "nodes" => value.messages(&mut self.nodes),
            _ => value.skip(),
        }
    }
}
