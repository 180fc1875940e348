//! What clients send.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

use super::shared::{FilterNode, StreamPosition, TrackBatch};
use crate::json;

/// One command. At most one request is meant to be present; with id 0 and no `send` it is a pong.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct Command {
    /// Chosen by the client, copied into the reply.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Authenticate.
    #[prost(message, optional, boxed, tag = "4")]
    pub connect: Option<Box<ConnectRequest>>,
    /// Subscribe to a channel.
    #[prost(message, optional, boxed, tag = "5")]
    pub subscribe: Option<Box<SubscribeRequest>>,
    /// Leave a channel.
    #[prost(message, optional, tag = "6")]
    pub unsubscribe: Option<UnsubscribeRequest>,
    /// Publish into a channel.
    #[prost(message, optional, tag = "7")]
    pub publish: Option<PublishRequest>,
    /// Who is subscribed.
    #[prost(message, optional, tag = "8")]
    pub presence: Option<PresenceRequest>,
    /// How many are subscribed.
    #[prost(message, optional, tag = "9")]
    pub presence_stats: Option<PresenceStatsRequest>,
    /// Read a stream.
    #[prost(message, optional, tag = "10")]
    pub history: Option<HistoryRequest>,
    /// Client pings are not supported.
    #[prost(message, optional, tag = "11")]
    pub ping: Option<PingRequest>,
    /// A message that wants no reply.
    #[prost(message, optional, tag = "12")]
    pub send: Option<SendRequest>,
    /// Call the application.
    #[prost(message, optional, tag = "13")]
    pub rpc: Option<RpcRequest>,
    /// New connection token.
    #[prost(message, optional, tag = "14")]
    pub refresh: Option<RefreshRequest>,
    /// New subscription token, or shared-poll tracking.
    #[prost(message, optional, tag = "15")]
    pub sub_refresh: Option<SubRefreshRequest>,
}

/// First command of a connection; the only message a client of a unidirectional transport sends.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct ConnectRequest {
    /// Connection JWT.
    #[prost(string, tag = "1")]
    pub token: String,
    /// For the connect proxy; JSON, or any bytes in Protobuf.
    #[serde(deserialize_with = "json::raw_bytes")]
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Server-side subscriptions that the client knows, with their positions.
    #[prost(btree_map = "string, message", tag = "3")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// Name of the client application.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "5")]
    pub version: String,
    /// Emulated HTTP headers, for proxies only.
    #[prost(btree_map = "string, string", tag = "6")]
    pub headers: BTreeMap<String, String>,
    /// Bit field; bit 1 asks for dictionary compression, which Gyre does not start.
    #[prost(int64, tag = "7")]
    pub flag: i64,
    /// Dictionary known to the client; ignored.
    #[prost(string, tag = "8")]
    pub dict: String,
    /// Dictionary profile; ignored.
    #[prost(string, tag = "9")]
    pub profile: String,
}

/// Asks for a subscription.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct SubscribeRequest {
    /// Required, except inside [`ConnectRequest::subs`].
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Subscription JWT.
    #[prost(string, tag = "2")]
    pub token: String,
    /// Recover from `epoch` and `offset`.
    #[prost(bool, tag = "3")]
    pub recover: bool,
    /// Epoch last seen.
    #[prost(string, tag = "6")]
    pub epoch: String,
    /// Offset last seen.
    #[prost(uint64, tag = "7")]
    pub offset: u64,
    /// For the subscribe proxy; JSON, or any bytes in Protobuf.
    #[serde(deserialize_with = "json::raw_bytes")]
    #[prost(bytes = "bytes", tag = "8")]
    pub data: Bytes,
    /// Asks for positioning.
    #[prost(bool, tag = "9")]
    pub positioned: bool,
    /// Asks for recovery, which implies positioning.
    #[prost(bool, tag = "10")]
    pub recoverable: bool,
    /// Asks for join and leave pushes.
    #[prost(bool, tag = "11")]
    pub join_leave: bool,
    /// Empty or `fossil`.
    #[prost(string, tag = "12")]
    pub delta: String,
    /// Tags filter.
    #[prost(message, optional, boxed, tag = "13")]
    pub tf: Option<Box<FilterNode>>,
    /// Bit 1: channel compaction; bit 2: answer 112 rather than an unrecovered success.
    #[prost(int64, tag = "14")]
    pub flag: i64,
    /// 0 stream, 1 map, 2 map of clients, 3 map of users, 4 shared poll.
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    /// Map: 0 live, 1 stream, 2 state.
    #[prost(int32, tag = "16")]
    pub phase: i32,
    /// Map: page of the state.
    #[prost(string, tag = "17")]
    pub cursor: String,
    /// Map: size of a page.
    #[prost(int32, tag = "18")]
    pub limit: i32,
    /// Ordered map: ascending.
    #[prost(bool, tag = "19")]
    pub asc: bool,
}

/// Leaves a channel.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct UnsubscribeRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// Publishes into a channel.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct PublishRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Payload; JSON, or any bytes in Protobuf.
    #[serde(deserialize_with = "json::raw_bytes")]
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// 0 stream, 1 map.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// Map: key.
    #[prost(string, tag = "4")]
    pub key: String,
    /// Map: remove the key.
    #[prost(bool, tag = "5")]
    pub removed: bool,
}

/// Asks who is subscribed.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct PresenceRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// Asks how many are subscribed.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct PresenceStatsRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// Reads a stream.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct HistoryRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Publications wanted: 0 = position only, negative = as many as allowed.
    #[prost(int32, tag = "7")]
    pub limit: i32,
    /// Strictly after (reverse: before) this position.
    #[prost(message, optional, tag = "8")]
    pub since: Option<StreamPosition>,
    /// Newest first.
    #[prost(bool, tag = "9")]
    pub reverse: bool,
}

/// Client pings are not supported; the field exists to be refused.
#[derive(Clone, Copy, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct PingRequest {}

/// Calls the application.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct RpcRequest {
    /// Argument; JSON, or any bytes in Protobuf.
    #[serde(deserialize_with = "json::raw_bytes")]
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Chooses the proxy.
    #[prost(string, tag = "2")]
    pub method: String,
}

/// A message that wants no reply.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct SendRequest {
    /// Payload; JSON, or any bytes in Protobuf.
    #[serde(deserialize_with = "json::raw_bytes")]
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// A new connection token.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct RefreshRequest {
    /// Connection JWT.
    #[prost(string, tag = "1")]
    pub token: String,
}

/// A new subscription token, or shared-poll tracking.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct SubRefreshRequest {
    /// Required.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Subscription JWT.
    #[prost(string, tag = "2")]
    pub token: String,
    /// 0 token refresh, 1 track, 2 untrack.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// Items to track.
    #[prost(message, repeated, tag = "4")]
    pub track: Vec<TrackBatch>,
    /// Keys to untrack.
    #[prost(string, repeated, tag = "5")]
    pub untrack: Vec<String>,
}
