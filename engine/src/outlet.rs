//! What the engine asks of its surroundings: a palette, per-connection outboxes, a timer per connection, the mesh.
//!
//! The data plane implements it over `io`, the simulator over plain vectors. Nothing here blocks or fails: a bound that
//! is hit (a slow consumer, a full ring) comes back to the engine later as an event of its own.

use std::sync::Arc;

use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

use crate::acts::Act;
use crate::backend::{BackendAsker, BackendCall};
use crate::message::{CallId, HomeReply, Message, SurveyReply};
use crate::store::{StoreCall, Ticket};

/// A prepared push on the palette of this core. Valid until the end of the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId(pub u32);

/// The engine's hands.
pub trait Outlet {
    /// Puts one encoded protocol message on the palette.
    fn frame(&mut self, encoding: Encoding, message: &[u8]) -> FrameId;
    /// Queues a frame of the palette to one connection.
    fn push(&mut self, conn: ConnId, frame: FrameId);
    /// Bytes queued to one connection that its socket has not taken, those of this turn included.
    fn unsent(&mut self, conn: ConnId) -> usize;
    /// Ends a connection; the engine has already forgotten its session. Code 3000 means without a close frame.
    fn close(&mut self, conn: ConnId, why: &Disconnect);
    /// Asks for [`crate::Engine::timeout`] at `deadline_ms` (monotonic), replacing the earlier request.
    fn set_timer(&mut self, conn: ConnId, deadline_ms: u64);
    /// Sends a message to the engine of another core, in order.
    fn send(&mut self, to: CoreId, message: Message);
    /// Completes a server API call that was waiting for a home core.
    fn answer(&mut self, call: CallId, reply: HomeReply);
    /// Hands one core's part of a survey to the call that asked for it.
    fn surveyed(&mut self, call: CallId, reply: SurveyReply);
    /// Asks the store about a channel whose home is this core. False = it cannot be asked now, and nothing was done.
    /// Otherwise one [`crate::Engine::stored`] follows, never from inside this call. Only called where the store keeps
    /// the channels ([`crate::EngineOptions::is_stored`]).
    fn store(&mut self, ticket: Ticket, channel: &str, call: StoreCall<'_>) -> bool;
    /// Asks a backend. One [`crate::Engine::backend_answered`] follows, never from inside this call, also when nobody can be
    /// reached.
    fn backend(&mut self, asker: BackendAsker, call: Box<BackendCall>);
    /// Has the other nodes do something to their sessions. False = there are none, and nothing was done. Otherwise one
    /// [`crate::Engine::nodes_told`] follows, never from inside this call.
    fn tell_nodes(&mut self, asker: BackendAsker, act: Arc<Act>) -> bool;
    /// Keeps in the store of user status that a user is connected at a time in unix s. Nobody waits for it, and it is lost
    /// while that store cannot be reached. Only called with [`crate::rules::RpcRules::has_user_status`], like the next.
    fn user_online(&mut self, user: &str, now_s: i64);
    /// Keeps that the user of a client is active at that time. False = it cannot be kept now, and nothing was done.
    /// Otherwise one [`crate::Engine::user_status_updated`] follows, never from inside this call.
    fn user_active(&mut self, asker: BackendAsker, user: &str, now_s: i64) -> bool;
    /// Whether other cores cannot keep up with this one; new publications are refused then.
    fn is_congested(&self) -> bool;
}
