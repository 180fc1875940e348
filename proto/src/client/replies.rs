//! What the server sends.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::pushes::Push;
use super::shared::{ClientInfo, Publication};
use crate::codes;

/// One reply: an error, a result or a push. With nothing set it is the server's ping.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// Id of the command answered; 0 for pushes.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Why the command failed; excludes any result.
    #[prost(message, optional, tag = "2")]
    pub error: Option<ErrorBody>,
    /// Something the client did not ask for just now.
    #[prost(message, optional, tag = "4")]
    pub push: Option<Push>,
    /// Result of `connect`.
    #[prost(message, optional, tag = "5")]
    pub connect: Option<ConnectResult>,
    /// Result of `subscribe`.
    #[prost(message, optional, tag = "6")]
    pub subscribe: Option<SubscribeResult>,
    /// Result of `unsubscribe`.
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: Option<UnsubscribeResult>,
    /// Result of `publish`.
    #[prost(message, optional, tag = "8")]
    pub publish: Option<PublishResult>,
    /// Result of `presence`.
    #[prost(message, optional, tag = "9")]
    pub presence: Option<PresenceResult>,
    /// Result of `presence_stats`.
    #[prost(message, optional, tag = "10")]
    pub presence_stats: Option<PresenceStatsResult>,
    /// Result of `history`.
    #[prost(message, optional, tag = "11")]
    pub history: Option<HistoryResult>,
    /// Result of `ping`; never sent.
    #[prost(message, optional, tag = "12")]
    pub ping: Option<PingResult>,
    /// Result of `rpc`.
    #[prost(message, optional, tag = "13")]
    pub rpc: Option<RpcResult>,
    /// Result of `refresh`.
    #[prost(message, optional, tag = "14")]
    pub refresh: Option<RefreshResult>,
    /// Result of `sub_refresh`.
    #[prost(message, optional, tag = "15")]
    pub sub_refresh: Option<SubRefreshResult>,
}

impl Reply {
    /// Says that command `id` failed.
    pub fn error(id: u32, error: codes::Error) -> Self {
        Self { id, error: Some(error.into()), ..Self::default() }
    }

    /// Carries a push.
    pub fn push(push: Push) -> Self {
        Self { push: Some(push), ..Self::default() }
    }

    /// Answers `connect`.
    pub fn connect(id: u32, result: ConnectResult) -> Self {
        Self { id, connect: Some(result), ..Self::default() }
    }

    /// Answers `subscribe`.
    pub fn subscribe(id: u32, result: SubscribeResult) -> Self {
        Self { id, subscribe: Some(result), ..Self::default() }
    }

    /// Answers `unsubscribe`.
    pub fn unsubscribe(id: u32) -> Self {
        Self { id, unsubscribe: Some(UnsubscribeResult {}), ..Self::default() }
    }

    /// Answers `publish`.
    pub fn publish(id: u32) -> Self {
        Self { id, publish: Some(PublishResult {}), ..Self::default() }
    }

    /// Answers `presence`.
    pub fn presence(id: u32, result: PresenceResult) -> Self {
        Self { id, presence: Some(result), ..Self::default() }
    }

    /// Answers `presence_stats`.
    pub fn presence_stats(id: u32, result: PresenceStatsResult) -> Self {
        Self { id, presence_stats: Some(result), ..Self::default() }
    }

    /// Answers `history`.
    pub fn history(id: u32, result: HistoryResult) -> Self {
        Self { id, history: Some(result), ..Self::default() }
    }

    /// Answers `rpc`.
    pub fn rpc(id: u32, result: RpcResult) -> Self {
        Self { id, rpc: Some(result), ..Self::default() }
    }

    /// Answers `refresh`.
    pub fn refresh(id: u32, result: RefreshResult) -> Self {
        Self { id, refresh: Some(result), ..Self::default() }
    }

    /// Answers `sub_refresh`.
    pub fn sub_refresh(id: u32, result: SubRefreshResult) -> Self {
        Self { id, sub_refresh: Some(result), ..Self::default() }
    }
}

/// `Error` of the protocol.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorBody {
    /// See [`codes::Error`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Never empty.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The client may try again by itself.
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}

impl From<codes::Error> for ErrorBody {
    fn from(error: codes::Error) -> Self {
        Self { code: error.code, message: error.message.into(), temporary: error.temporary }
    }
}

/// Result of `connect`.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectResult {
    /// Id of the connection, a UUID.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Version of the server, never empty.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Credentials expire and the client refreshes them.
    #[prost(bool, tag = "3")]
    pub expires: bool,
    /// Seconds until they expire; at least 1 with `expires`.
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
    /// From the connect proxy; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    /// Server-side subscriptions.
    #[prost(message, repeated, tag = "6")]
    pub subs: Vec<ServerSideSubscription>,
    /// Seconds between pings; 0 = none.
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    /// The client must answer pings.
    #[prost(bool, tag = "8")]
    pub pong: bool,
    /// Secret of the session on emulated and unidirectional transports.
    #[prost(string, tag = "9")]
    pub session: String,
    /// Node id on emulated transports.
    #[prost(string, tag = "10")]
    pub node: String,
    /// Unix ms; 0 = not told.
    #[prost(int64, tag = "11")]
    pub time: i64,
}

/// An entry of the map `subs`: a channel and what a subscribe to it would have answered.
///
/// Written out because a derived map leaves default values away, and an SDK reads fields of a value that is not there.
#[derive(Clone, PartialEq, Message)]
pub struct ServerSideSubscription {
    /// Key of the entry.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Value of the entry; always set.
    #[prost(message, optional, tag = "2")]
    pub result: Option<SubscribeResult>,
}

/// Result of `subscribe`.
#[derive(Clone, PartialEq, Message)]
pub struct SubscribeResult {
    /// The subscription expires and the client refreshes it.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds until it expires; at least 1 with `expires`.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    /// Recovery is on.
    #[prost(bool, tag = "3")]
    pub recoverable: bool,
    /// Epoch of the stream.
    #[prost(string, tag = "6")]
    pub epoch: String,
    /// Recovered, in ascending order.
    #[prost(message, repeated, tag = "7")]
    pub publications: Vec<Publication>,
    /// Nothing was missed beyond `publications`.
    #[prost(bool, tag = "8")]
    pub recovered: bool,
    /// The request's offset if recovered, else the top.
    #[prost(uint64, tag = "9")]
    pub offset: u64,
    /// Positioning is on.
    #[prost(bool, tag = "10")]
    pub positioned: bool,
    /// From the subscribe proxy or the token; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "11")]
    pub data: Bytes,
    /// Recovery was tried.
    #[prost(bool, tag = "12")]
    pub was_recovering: bool,
    /// Deltas were agreed upon.
    #[prost(bool, tag = "13")]
    pub delta: bool,
    /// Channel compaction id.
    #[prost(int64, tag = "14")]
    pub id: i64,
    /// 0 stream, 1 any map, 4 shared poll.
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    /// Map: 0 live, 1 stream, 2 state.
    #[prost(int32, tag = "16")]
    pub phase: i32,
    /// Map: next page; empty = no more.
    #[prost(string, tag = "17")]
    pub cursor: String,
    /// Map: a page of the state.
    #[prost(message, repeated, tag = "18")]
    pub state: Vec<Publication>,
    /// Milliseconds that the client waits between its publications.
    #[prost(uint32, tag = "19")]
    pub publish_debounce: u32,
}

/// Result of `unsubscribe`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct UnsubscribeResult {}

/// Result of `publish`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PublishResult {}

/// Result of `ping`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PingResult {}

/// Result of `presence`.
#[derive(Clone, PartialEq, Message)]
pub struct PresenceResult {
    /// By client id.
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: BTreeMap<String, ClientInfo>,
}

/// Result of `presence_stats`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct PresenceStatsResult {
    /// Connections.
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    /// Distinct users.
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}

/// Result of `history`.
#[derive(Clone, PartialEq, Message)]
pub struct HistoryResult {
    /// Oldest first, unless asked for in reverse.
    #[prost(message, repeated, tag = "1")]
    pub publications: Vec<Publication>,
    /// Epoch of the stream.
    #[prost(string, tag = "2")]
    pub epoch: String,
    /// Top offset of the stream.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

/// Result of `rpc`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcResult {
    /// JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// Result of `refresh`.
#[derive(Clone, PartialEq, Message)]
pub struct RefreshResult {
    /// Not filled by the server.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Not filled by the server.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Credentials expire again.
    #[prost(bool, tag = "3")]
    pub expires: bool,
    /// Seconds until they expire; at least 1 with `expires`.
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
}

/// Result of `sub_refresh`.
#[derive(Clone, PartialEq, Message)]
pub struct SubRefreshResult {
    /// The subscription expires again.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds until it expires; at least 1 with `expires`.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    /// Shared poll: current items.
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<Publication>,
}
