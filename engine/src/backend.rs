//! What the application's backend is asked about, and what it says (proxies.md): plain values between the engine, which
//! decides when to ask and what the answer means, and the control thread, which knows how to reach a backend.
//!
//! A call belongs to a reservation of a session, or to nobody's session; its reply comes back through
//! [`Engine::backend_answered`](crate::Engine::backend_answered), always, exactly once, in a later turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::ConnId;

use crate::rules::Overrides;
use crate::session::ClientId;

/// A proxy of the configuration: its place in the table that the rules were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(pub u16);

/// Who waits for a backend. A reply for another generation than the session's is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendAsker {
    /// The connection.
    pub conn: ConnId,
    /// Generation of its reservation.
    pub seq: u32,
}

/// One call.
#[derive(Clone, Debug)]
pub struct BackendCall {
    /// Whom to ask.
    pub proxy: ProxyId,
    /// On whose behalf; `None` = on nobody's.
    pub client: Option<BackendClient>,
    /// What has happened.
    pub event: BackendEvent,
}

/// What every call about a client says of it.
#[derive(Clone, Debug)]
pub struct BackendClient {
    /// Its id.
    pub client: ClientId,
    /// How it talks.
    pub encoding: Encoding,
    /// As calls name it: `websocket`.
    pub transport: &'static str,
    /// Empty = anonymous, or not known yet.
    pub user: Box<str>,
    /// `None` = no proxy wants any.
    pub headers: Option<Arc<ClientHeaders>>,
    /// JSON that came with its credentials; empty = none.
    pub meta: Bytes,
}

/// Headers of a client that some proxy forwards; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHeaders {
    /// Of the request that the connection began with.
    pub transport: Vec<(Box<str>, Box<[u8]>)>,
    /// Said in the connect command; not to be trusted.
    pub emulated: Vec<(Box<str>, Box<str>)>,
}

/// See [`BackendCall`].
#[derive(Clone, Debug)]
pub enum BackendEvent {
    /// A client connects without token. Answered by [`BackendResult::Connect`].
    Connect {
        /// Of the connect command; empty = none.
        data: Bytes,
        /// Name of the client program.
        name: String,
        /// Its version.
        version: String,
        /// Server-side subscriptions that the client knows of.
        channels: Vec<String>,
    },
    /// A connection is about to expire. Answered by [`BackendResult::Refresh`].
    Refresh,
    /// A client subscribes. Answered by [`BackendResult::Subscribe`].
    Subscribe {
        /// Full name.
        channel: Box<str>,
        /// Of the command; empty = none.
        data: Bytes,
    },
    /// A client publishes. Answered by [`BackendResult::Publish`].
    Publish {
        /// Full name.
        channel: Box<str>,
        /// What it wants to publish.
        data: Bytes,
    },
    /// A subscription has expired. Answered by [`BackendResult::SubRefresh`].
    SubRefresh {
        /// Full name.
        channel: Box<str>,
    },
    /// A client calls. Answered by [`BackendResult::Rpc`].
    Rpc {
        /// Which method.
        method: String,
        /// Its argument; empty = none.
        data: Bytes,
    },
    /// A subscriber asked for the latest publication, and there is none. Answered by [`BackendResult::CacheEmpty`].
    CacheEmpty {
        /// Full name.
        channel: Box<str>,
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendReply {
    /// Unreachable, too slow, or not understood; logged already.
    Failed,
    /// Not asked: too many calls wait for this backend; logged already.
    Busy,
    /// The client is to be closed.
    Disconnect(Disconnect),
    /// The command is to be answered with an error.
    Error(BackendError),
    /// There was neither error nor disconnect, and no result either.
    NoResult,
    /// The result, of the kind that the event asks for.
    Result(Box<BackendResult>),
}

/// An error of the application, passed on as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendError {
    /// Number.
    pub code: u32,
    /// Text.
    pub message: String,
    /// The client may try again by itself.
    pub temporary: bool,
}

/// Results by event. Payloads are decoded: of `x` and `b64x` only the one that counts is here.
#[derive(Clone, Debug, PartialEq)]
pub enum BackendResult {
    /// Of [`BackendEvent::Connect`].
    Connect(ConnectAnswer),
    /// Of [`BackendEvent::Refresh`].
    Refresh(RefreshAnswer),
    /// Of [`BackendEvent::Subscribe`].
    Subscribe(SubscribeAnswer),
    /// Of [`BackendEvent::Publish`].
    Publish(PublishAnswer),
    /// Of [`BackendEvent::SubRefresh`].
    SubRefresh(SubRefreshAnswer),
    /// Of [`BackendEvent::Rpc`]: data, empty = none.
    Rpc(Bytes),
    /// Of [`BackendEvent::CacheEmpty`]: whether the backend has published something into the channel.
    CacheEmpty(bool),
}

/// Credentials, and what comes with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectAnswer {
    /// Empty = anonymous.
    pub user: String,
    /// Unix seconds; 0 = never.
    pub expire_at_s: i64,
    /// Connection info; empty = none.
    pub info: Bytes,
    /// For the connect reply; empty = none.
    pub data: Bytes,
    /// Server-side subscriptions without options.
    pub channels: Vec<String>,
    /// Those with options; they win over the former.
    pub subs: BTreeMap<String, SubscribeAnswer>,
    /// JSON, for later calls; empty = none.
    pub meta: Bytes,
}

/// New expiry of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RefreshAnswer {
    /// It has expired for good.
    pub is_expired: bool,
    /// Unix seconds.
    pub expire_at_s: i64,
    /// Connection info from now on; `None` = what it was.
    pub info: Option<Bytes>,
    /// Meta from now on; `None` = what it was.
    pub meta: Option<Bytes>,
}

/// Options of a subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeAnswer {
    /// Unix seconds; 0 = never.
    pub expire_at_s: i64,
    /// Channel info; empty = none.
    pub info: Bytes,
    /// For the subscribe reply or push; empty = none.
    pub data: Bytes,
    /// Instead of the options of the namespace.
    pub overrides: Overrides,
    /// The latest publication comes with the subscription. Only in connect answers.
    pub cache_recover: bool,
}

/// What is published instead, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishAnswer {
    /// `None` = what the client sent.
    pub data: Option<Bytes>,
    /// Keep it out of the stream.
    pub skip_history: bool,
    /// Attached to the publication.
    pub tags: BTreeMap<String, String>,
    /// A second publish with the same key does nothing; empty = none.
    pub idempotency_key: String,
    /// Send deltas to subscribers that negotiated them.
    pub delta: bool,
    /// Dropped unless larger than the one stored; 0 = none.
    pub version: u64,
    /// Versions of different epochs are not compared.
    pub version_epoch: String,
}

/// New expiry of a subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubRefreshAnswer {
    /// It has expired for good.
    pub is_expired: bool,
    /// Unix seconds; 0 = never from now on.
    pub expire_at_s: i64,
    /// Channel info from now on; `None` = what it was.
    pub info: Option<Bytes>,
}

/// A change of a channel's state that the backend is told of (pro-features.md section 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEvent {
    /// Unix time at which it was queued, ms.
    pub time_ms: u64,
    /// Full name.
    pub channel: Box<str>,
    /// `occupied` or `vacated`.
    pub kind: StateEventKind,
}

/// See [`StateEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateEventKind {
    /// The first subscriber has come.
    Occupied,
    /// The last one has gone, some time ago.
    Vacated,
}

impl StateEventKind {
    /// The last subscriber has gone.
    pub fn is_vacated(self) -> bool {
        self == Self::Vacated
    }

    /// As backends and the queue in the store know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Occupied => "occupied",
            Self::Vacated => "vacated",
        }
    }
}
