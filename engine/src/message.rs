//! What cores say to each other: calls to the home core of a channel and their replies, deliveries, acts on sessions.
//!
//! Messages between one pair of cores keep their order; the engine relies on it (a reply to a subscribe is seen before
//! any publication that the home core accepted after it). They are small: a tag and a pointer.

use std::sync::Arc;

use gyre_proto::Encoding;
use gyre_proto::client::{ClientInfo, Publication};
use gyre_proto::ids::{ConnId, CoreId};

use crate::acts::Act;
use crate::delivery::Delivery;
use crate::position::Position;
use crate::rules::{RecoveryMode, Rules};
use crate::seats::{SeatAnswer, SeatRequest};
use crate::session::ClientId;

/// Number of a server API call that waits on its core; chosen by the data plane.
pub type CallId = u64;

/// A message from one core to another.
#[derive(Debug)]
pub enum Message {
    /// To the home core of a channel.
    Call(Box<HomeRequest>),
    /// From a home core to the caller's core.
    Reply(Box<HomeResponse>),
    /// From a home core to a core with subscribers.
    Deliver(Arc<Delivery>),
    /// To every core: do something with the sessions of a user. Nobody waits for it.
    Act(Arc<Act>),
    /// To every core: report.
    Survey(Box<Survey>),
    /// Back to the core that asked.
    Surveyed(CallId, Box<SurveyReply>),
    /// To the home core of a user: the first connection of this user on a core came (`true`), or the last one went.
    User(Box<str>, bool),
    /// To the home core of a user: may one more connection of it come in?
    TakeSeat(Box<SeatRequest>),
    /// The answer to that.
    Seat(Box<SeatAnswer>),
    /// To the home core of a user: a connection with a seat has gone.
    GiveSeatBack(Box<str>),
    /// New rules after a reload.
    Rules(Arc<Rules>),
}

/// Who waits for the reply of a home core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody.
    None,
    /// A command of a session. `seq` is the generation of its reservation: a reply with another one is stale.
    Session {
        /// Where the session lives.
        core: CoreId,
        /// Its connection.
        conn: ConnId,
        /// See above.
        seq: u32,
    },
    /// A server API call.
    Api {
        /// Where it waits.
        core: CoreId,
        /// Its number there.
        call: CallId,
    },
}

/// A call to the home core of `channel`.
#[derive(Debug)]
pub struct HomeRequest {
    /// Who gets the reply.
    pub caller: Caller,
    /// Full name.
    pub channel: Box<str>,
    /// What to do.
    pub call: HomeCall,
}

/// A reply of a home core.
#[derive(Debug)]
pub struct HomeResponse {
    /// From the request.
    pub caller: Caller,
    /// From the request.
    pub channel: Box<str>,
    /// What came of it.
    pub reply: HomeReply,
}

/// How long a stream and its items live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Publications kept; 0 = no history.
    pub size: usize,
    /// Life of the items since the last publication, ms; 0 = no history.
    pub ttl_ms: u64,
    /// Life of epoch and top offset since the last access, ms.
    pub meta_ttl_ms: u64,
}

impl HistoryOptions {
    /// The options of `channel`; all zero when its namespace is unknown.
    pub fn of(rules: &Rules, channel: &str) -> Self {
        let Some(resolved) = rules.resolve(channel) else { return Self::default() };
        let options = resolved.options;
        let meta_ttl_s = match options.history_meta_ttl_s {
            0 => rules.history_meta_ttl_s,
            own => own,
        };
        Self {
            size: options.history_size,
            ttl_ms: options.history_ttl_s.saturating_mul(1000),
            meta_ttl_ms: meta_ttl_s.saturating_mul(1000),
        }
    }

    /// Whether publications are kept at all.
    pub fn is_on(&self) -> bool {
        self.size > 0 && self.ttl_ms > 0
    }
}

/// What a home core is asked to do with its channel.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every call is a publish, and a box would be one more allocation")]
pub enum HomeCall {
    /// Note the interest of `core`; add presence; read the position or recover. Answered by [`HomeReply::Subscribed`].
    Subscribe(SubscribeCall),
    /// A subscriber left, or will not come after all. Not answered.
    Unsubscribe(UnsubscribeCall),
    /// Tell the members that one has joined. Not answered.
    Join(Arc<ClientInfo>),
    /// A member has other info from now on. Not answered.
    Renew(ClientId, Arc<ClientInfo>),
    /// Answered by [`HomeReply::Published`].
    Publish(PublishCall),
    /// Answered by [`HomeReply::History`].
    History(HistoryCall),
    /// Answered by [`HomeReply::Done`].
    HistoryRemove,
    /// Answered by [`HomeReply::Presence`].
    Presence,
    /// Answered by [`HomeReply::PresenceStats`].
    PresenceStats,
    /// Compare a held position with the top; answered by [`HomeReply::PositionLost`] only when they differ.
    CheckPosition {
        /// Which core asks.
        core: CoreId,
        /// Where its subscribers believe the top to be.
        held: Position,
        /// As in [`HistoryOptions`].
        meta_ttl_ms: u64,
    },
}

/// See [`HomeCall::Subscribe`].
#[derive(Debug)]
pub struct SubscribeCall {
    /// Core of the subscriber.
    pub core: CoreId,
    /// Its encoding.
    pub encoding: Encoding,
    /// Presence entry to add.
    pub member: Option<(ClientId, Arc<ClientInfo>)>,
    /// Set when the subscription is positioned.
    pub position: Option<PositionCall>,
}

/// What a positioned subscription wants to know.
#[derive(Debug)]
pub struct PositionCall {
    /// As in [`HistoryOptions`].
    pub meta_ttl_ms: u64,
    /// Set when missed publications are asked for.
    pub recover: Option<RecoverFrom>,
}

/// The last position a client has seen. An empty epoch matches any.
#[derive(Debug, Clone)]
pub struct RecoverFrom {
    /// Offset of the last publication seen.
    pub offset: u64,
    /// Epoch it was seen in.
    pub epoch: Box<str>,
    /// Publications returned at most; more missed ones mean that recovery fails. 0 = no bound. Of no meaning in cache mode.
    pub limit: usize,
    /// What is handed over.
    pub mode: RecoveryMode,
}

/// See [`HomeCall::Unsubscribe`].
#[derive(Debug)]
pub struct UnsubscribeCall {
    /// Presence entry to remove.
    pub client: Option<ClientId>,
    /// Set when the members are told.
    pub leave: Option<Arc<ClientInfo>>,
    /// Set when the core has no subscriber of this encoding any more.
    pub lost_interest: Option<(CoreId, Encoding)>,
}

/// See [`HomeCall::Publish`].
#[derive(Debug)]
pub struct PublishCall {
    /// Without offset; the home core assigns it.
    pub publication: Publication,
    /// Whether and how long it is kept.
    pub history: HistoryOptions,
    /// A later publication with the same key gets this one's result; empty = none.
    pub idempotency_key: Box<str>,
    /// Not stored unless above the stream's version; 0 = none.
    pub version: u64,
    /// Versions of another epoch are not compared.
    pub version_epoch: Box<str>,
}

/// See [`HomeCall::History`].
#[derive(Debug)]
pub struct HistoryCall {
    /// Publications wanted: 0 = position only, negative = all.
    pub limit: i64,
    /// Read strictly after (reverse: before) this offset; the epoch is checked unless empty.
    pub since: Option<(u64, Box<str>)>,
    /// From new to old.
    pub reverse: bool,
    /// As in [`HistoryOptions`].
    pub meta_ttl_ms: u64,
}

/// Replies of a home core.
#[derive(Debug)]
pub enum HomeReply {
    /// The interest is noted.
    Subscribed(SubscribeFacts),
    /// Position of the publication; [`Position::NONE`] when nothing was stored.
    Published(Position),
    /// The publication was not taken: other cores cannot keep up with this one (error 100).
    Congested,
    /// `Err` = the epoch asked for is gone (error 112).
    History(Result<HistoryFacts, Unrecoverable>),
    /// It is done.
    Done,
    /// The members, in no order.
    Presence(Vec<(ClientId, Arc<ClientInfo>)>),
    /// How many members there are.
    PresenceStats {
        /// Connections.
        clients: u32,
        /// Distinct users.
        users: u32,
    },
    /// The store could not be asked (error 100).
    Unavailable,
    /// The stream is no longer where the core believes it is.
    PositionLost(Position),
    /// The stream is here, and whatever led to it has been sent before.
    TopIs(Position),
}

/// The epoch asked for is not the stream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrecoverable;

/// What the home core found for a new subscription.
#[derive(Debug, Default)]
pub struct SubscribeFacts {
    /// Top of the stream at the moment the interest was noted. `None` for subscriptions without positioning.
    pub top: Option<Position>,
    /// Missed publications in ascending order; filled only when `recovered`.
    pub publications: Vec<Arc<Publication>>,
    /// Continuity is proven; in cache mode: the subscriber has the top, or gets it.
    pub recovered: bool,
    /// Recovery in cache mode found no publication at all.
    pub is_cache_empty: bool,
}

/// A page of history.
#[derive(Debug)]
pub struct HistoryFacts {
    /// Top of the stream.
    pub top: Position,
    /// In the order asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// A question to every core.
#[derive(Debug)]
pub struct Survey {
    /// Who asks.
    pub core: CoreId,
    /// Its number there.
    pub call: CallId,
    /// The question.
    pub what: SurveyWhat,
}

/// See [`Survey`].
#[derive(Debug, Clone)]
pub enum SurveyWhat {
    /// Channels with local subscribers whose names match; `None` = all.
    Channels(Option<globset::GlobMatcher>),
    /// Connections, users, channels, subscriptions.
    Counts,
    /// Do something with the sessions of a user; answered when they are through with it.
    Act(Arc<Act>),
}

/// One core's part of an answer.
#[derive(Debug)]
pub enum SurveyReply {
    /// Channel name and number of subscribers on the core.
    Channels(Vec<(Box<str>, u32)>),
    /// Sizes of its tables.
    Counts(Counts),
    /// Whether the act was done to all sessions that it was meant for.
    Done(bool),
}

/// Sizes of one core's tables; summed over the cores they describe the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connected sessions on this core.
    pub clients: u64,
    /// Distinct users whose home is this core.
    pub users: u64,
    /// Channels with subscribers whose home is this core.
    pub channels: u64,
    /// Subscriptions on this core.
    pub subscriptions: u64,
}

impl Counts {
    /// Adds another core's.
    pub fn add(&mut self, other: Self) {
        self.clients += other.clients;
        self.users += other.users;
        self.channels += other.channels;
        self.subscriptions += other.subscriptions;
    }
}
