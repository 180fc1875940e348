//! What the home core of a channel asks of the store outside of the process that keeps its truth, and what comes back.
//!
//! The engine names what is wanted; the data plane turns it into commands on a pipelined connection (Redis) and the
//! replies into these values; the simulator has a model. Nothing here waits: a call has a ticket, and its reply comes
//! in a later turn through [`Engine::stored`](crate::Engine::stored). Calls about one channel are carried out in the
//! order they were made.

use std::sync::Arc;

use gyre_proto::client::{ClientInfo, Publication};

use crate::message::{HistoryFacts, HistoryOptions};
use crate::position::{Epoch, Position};
use crate::rules::StateEvents;
use crate::session::ClientId;

/// Number of a call to the store, unique on its core.
pub type Ticket = u64;

/// What is asked about one channel.
#[derive(Debug)]
pub enum StoreCall<'a> {
    /// From now on hand over the channel's messages ([`Engine::heard`](crate::Engine::heard)). [`StoreReply::Done`] comes
    /// before the first of them that is promised.
    Hear,
    /// No more of them.
    Unhear,
    /// Tell all nodes that a member has joined.
    Join(&'a ClientInfo),
    /// Tell all nodes that a member has left.
    Leave(&'a ClientInfo),
    /// Number it, keep it, tell all nodes, as one step. Answered by [`StoreReply::Published`].
    Publish(StorePublish<'a>),
    /// The position, and a page of history. Answered by [`StoreReply::Read`].
    Read(StoreRead),
    /// Drop the items of the history; epoch and top offset stay.
    RemoveHistory,
    /// Add a presence entry, or renew its time to live.
    Enter(ClientId, &'a ClientInfo, Layout),
    /// Remove a presence entry. The user is needed to count it out.
    Exit(ClientId, &'a str, Layout),
    /// The presence entries. Answered by [`StoreReply::Members`].
    Members(Layout),
    /// How many there are. Answered by [`StoreReply::Counts`].
    Counts(Layout),
}

/// How presence entries of a channel are kept: if its state is told to a backend, together with the queue of what to tell.
pub type Layout = Option<StateEvents>;

/// See [`StoreCall::Publish`]. Without history and idempotency key nothing is kept.
#[derive(Debug)]
pub struct StorePublish<'a> {
    /// Without offset.
    pub publication: &'a Publication,
    /// Whether and how long it is kept.
    pub history: HistoryOptions,
    /// Of the stream, should it begin with this publication.
    pub new_epoch: Epoch,
    /// A later publication with the same key gets this one's result; empty = none.
    pub idempotency_key: &'a str,
    /// Not stored unless above the stream's version; 0 = none.
    pub version: u64,
    /// Versions of another epoch are not compared.
    pub version_epoch: &'a str,
}

/// See [`StoreCall::Read`].
#[derive(Debug)]
pub struct StoreRead {
    /// Publications wanted: 0 = position only, negative = all.
    pub limit: i64,
    /// Strictly after (reverse: before) this offset.
    pub since: Option<u64>,
    /// From new to old.
    pub reverse: bool,
    /// Life of epoch and top offset from now on, ms.
    pub meta_ttl_ms: u64,
    /// Of the stream, should there be none yet.
    pub new_epoch: Epoch,
}

/// What came of a call.
#[derive(Debug)]
pub enum StoreReply {
    /// It is done.
    Done,
    /// Position of the publication; [`Position::NONE`] when nothing was stored.
    Published(Position),
    /// As read at one moment.
    Read(HistoryFacts),
    /// In no order.
    Members(Vec<(ClientId, Arc<ClientInfo>)>),
    /// Clients and distinct users.
    Counts(u32, u32),
    /// The store could not be asked, or did not answer as it should; the data plane has logged why. Whether the call had
    /// an effect is not known.
    Failed,
}

/// A message of a channel from some node, this one included.
#[derive(Debug)]
pub enum Heard {
    /// [`Position::NONE`] without history.
    Publication(Publication, Position),
    /// A member has joined.
    Join(ClientInfo),
    /// A member has left.
    Leave(ClientInfo),
}
