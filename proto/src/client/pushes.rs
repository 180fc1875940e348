//! What the server sends unasked.

use bytes::Bytes;

use super::replies::ServerSideSubscription;
use super::shared::{ClientInfo, Publication};
use crate::codes;

/// Something about a channel or the connection. Exactly one body is meant to be present.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Push {
    /// Channel compaction id; replaces `channel` when set.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Channel; empty for pushes about the connection.
    #[prost(string, tag = "2")]
    pub channel: String,
    /// Data was published (`pub` on the wire).
    #[prost(message, optional, tag = "4")]
    pub publication: Option<Publication>,
    /// Somebody subscribed.
    #[prost(message, optional, tag = "5")]
    pub join: Option<Join>,
    /// Somebody left.
    #[prost(message, optional, tag = "6")]
    pub leave: Option<Leave>,
    /// The server ended a subscription.
    #[prost(message, optional, tag = "7")]
    pub unsubscribe: Option<Unsubscribe>,
    /// Data for this connection alone.
    #[prost(message, optional, tag = "8")]
    pub message: Option<Message>,
    /// The server began a subscription.
    #[prost(message, optional, tag = "9")]
    pub subscribe: Option<Subscribe>,
    /// Unidirectional transports: the connection is authenticated.
    #[prost(message, optional, boxed, tag = "10")]
    pub connect: Option<Box<Connect>>,
    /// The server is about to close.
    #[prost(message, optional, tag = "11")]
    pub disconnect: Option<Disconnect>,
    /// The expiry of the connection has changed.
    #[prost(message, optional, tag = "12")]
    pub refresh: Option<Refresh>,
}

/// Somebody subscribed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Join {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

/// Somebody left.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leave {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

/// The server ended a subscription; see [`codes::Unsubscribe`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unsubscribe {
    /// Never 0: an SDK indexes the key.
    #[prost(uint32, tag = "2")]
    pub code: u32,
    /// Never empty: an SDK indexes the key.
    #[prost(string, tag = "3")]
    pub reason: String,
}

impl From<&codes::Unsubscribe> for Unsubscribe {
    fn from(why: &codes::Unsubscribe) -> Self {
        Self { code: why.code, reason: why.reason.to_string() }
    }
}

/// Data for one connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// The server began a subscription.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    /// Recovery is on.
    #[prost(bool, tag = "1")]
    pub recoverable: bool,
    /// Epoch of the stream.
    #[prost(string, tag = "4")]
    pub epoch: String,
    /// Top offset of the stream.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// Positioning is on.
    #[prost(bool, tag = "6")]
    pub positioned: bool,
    /// From the API call; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "7")]
    pub data: Bytes,
}

/// Unidirectional transports: the connection is authenticated. Fields as in [`super::ConnectResult`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Connect {
    /// Id of the connection, a UUID.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Version of the server, never empty.
    #[prost(string, tag = "2")]
    pub version: String,
    /// From the connect proxy; JSON, or any bytes in Protobuf.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    /// Server-side subscriptions.
    #[prost(message, repeated, tag = "4")]
    pub subs: Vec<ServerSideSubscription>,
    /// Credentials expire and the client refreshes them.
    #[prost(bool, tag = "5")]
    pub expires: bool,
    /// Seconds until they expire.
    #[prost(uint32, tag = "6")]
    pub ttl: u32,
    /// Seconds between pings; 0 = none.
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    /// The client must answer pings.
    #[prost(bool, tag = "8")]
    pub pong: bool,
    /// Secret of the session.
    #[prost(string, tag = "9")]
    pub session: String,
    /// Node id.
    #[prost(string, tag = "10")]
    pub node: String,
    /// Unix ms; 0 = not told.
    #[prost(int64, tag = "11")]
    pub time: i64,
}

/// The server is about to close; see [`codes::Disconnect`]. The legacy field `reconnect` (3) is never set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Disconnect {
    /// Wire number.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Wire text.
    #[prost(string, tag = "2")]
    pub reason: String,
}

impl From<&codes::Disconnect> for Disconnect {
    fn from(why: &codes::Disconnect) -> Self {
        Self { code: why.code, reason: why.reason.to_string() }
    }
}

/// The expiry of the connection has changed.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Refresh {
    /// Credentials expire again.
    #[prost(bool, tag = "1")]
    pub expires: bool,
    /// Seconds until they expire.
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
}
