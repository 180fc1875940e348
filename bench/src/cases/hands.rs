//! An outlet that counts: the engine's surroundings without anything behind them.
//!
//! Cheap on purpose, so that what is measured is the engine. The palette is an index, an outbox is a number.

use std::sync::Arc;

use gyre_engine::backend::{BackendAsker, BackendCall};
use gyre_engine::{Act, CallId, FrameId, HomeReply, Message, Outlet, StoreCall, SurveyReply, Ticket};
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

/// See the module.
#[derive(Default)]
pub(super) struct Hands {
    frames: u32,
    /// Frames queued to connections.
    pub(super) pushes: u64,
    /// Connections ended: none, when a case is right.
    pub(super) closed: u64,
}

impl Outlet for Hands {
    fn frame(&mut self, _encoding: Encoding, _message: &[u8]) -> FrameId {
        self.frames = self.frames.wrapping_add(1);
        FrameId(self.frames)
    }

    fn push(&mut self, _conn: ConnId, _frame: FrameId) {
        self.pushes += 1;
    }

    fn unsent(&mut self, _conn: ConnId) -> usize {
        0
    }

    fn close(&mut self, _conn: ConnId, _why: &Disconnect) {
        self.closed += 1;
    }

    fn set_timer(&mut self, _conn: ConnId, _deadline_ms: u64) {}

    fn send(&mut self, _to: CoreId, _message: Message) {}

    fn answer(&mut self, _call: CallId, _reply: HomeReply) {}

    fn surveyed(&mut self, _call: CallId, _reply: SurveyReply) {}

    fn store(&mut self, _ticket: Ticket, _channel: &str, _call: StoreCall<'_>) -> bool {
        false
    }

    fn backend(&mut self, _asker: BackendAsker, _call: Box<BackendCall>) {}

    fn tell_nodes(&mut self, _asker: BackendAsker, _act: Arc<Act>) -> bool {
        false
    }

    fn user_online(&mut self, _user: &str, _now_s: i64) {}

    fn user_active(&mut self, _asker: BackendAsker, _user: &str, _now_s: i64) -> bool {
        false
    }

    fn is_congested(&self) -> bool {
        false
    }
}
