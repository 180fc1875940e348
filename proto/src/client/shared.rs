//! Messages that occur inside others, in both directions.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

/// What others see of a connection.
#[derive(Clone, PartialEq, Message)]
pub struct ClientInfo {
    /// User id; empty = anonymous.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Client id, a UUID.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Info of the connection; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_info: Bytes,
    /// Info of the subscription; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "4")]
    pub chan_info: Bytes,
}

/// Data published into a channel.
///
/// The wire numbers 9 (`time`) and 15 (`prev_data`) are for brokers and never go to clients: they have no field here.
#[derive(Clone, PartialEq, Message)]
pub struct Publication {
    /// Payload, or a delta patch.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// Who published, when it was a client.
    #[prost(message, optional, tag = "5")]
    pub info: Option<ClientInfo>,
    /// Place in the stream; 0 = the channel keeps no history.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    /// Given by the publisher.
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: BTreeMap<String, String>,
    /// `data` is a fossil patch.
    #[prost(bool, tag = "8")]
    pub delta: bool,
    /// Real channel when delivered by a wildcard subscription.
    #[prost(string, tag = "10")]
    pub channel: String,
    /// Map and shared poll: key.
    #[prost(string, tag = "11")]
    pub key: String,
    /// Map: the key was removed.
    #[prost(bool, tag = "12")]
    pub removed: bool,
    /// Ordered map: score.
    #[prost(sint64, tag = "13")]
    pub score: i64,
    /// Epoch of the stream; set when `offset` is exactly 1.
    #[prost(string, tag = "14")]
    pub epoch: String,
    /// Version given by the publisher.
    #[prost(uint64, tag = "16")]
    pub version: u64,
}

impl ClientInfo {
    /// Appends the Protobuf form, as stores keep it.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }

    /// Reads that form; `None` if it is malformed.
    pub fn read(bytes: &Bytes) -> Option<Self> {
        Self::decode(bytes.clone()).ok()
    }
}

impl Publication {
    /// Appends the Protobuf form, as stores keep it.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.encode_raw(out);
    }

    /// Reads that form; `None` if it is malformed.
    pub fn read(bytes: &Bytes) -> Option<Self> {
        Self::decode(bytes.clone()).ok()
    }
}

/// Stream position: offset and epoch.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize, Message)]
#[serde(default)]
pub struct StreamPosition {
    /// Offset in the stream.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Epoch of the stream; empty = any.
    #[prost(string, tag = "2")]
    pub epoch: String,
}

/// A tags filter: a comparison when `op` is empty, else a combination of `nodes`.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct FilterNode {
    /// Empty, `and`, `or`, `not`.
    #[prost(string, tag = "1")]
    pub op: String,
    /// Tag compared.
    #[prost(string, tag = "2")]
    pub key: String,
    /// Comparison: `eq`, `neq`, `in`, `nin`, `ex`, `nex`, `sw`, `ew`, `ct`, `gt`, `gte`, `lt`, `lte`.
    #[prost(string, tag = "3")]
    pub cmp: String,
    /// Value compared with.
    #[prost(string, tag = "4")]
    pub val: String,
    /// Values of `in` and `nin`.
    #[prost(string, repeated, tag = "5")]
    pub vals: Vec<String>,
    /// What `op` combines.
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<Self>,
}

/// Shared poll: an item tracked.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct KeyedItem {
    /// Key of the item.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Version that the client has.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// Shared poll: items tracked under one signature.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct TrackBatch {
    /// Made by the application for exactly these items.
    #[prost(string, tag = "1")]
    pub signature: String,
    /// What to track.
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<KeyedItem>,
}
