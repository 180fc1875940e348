//! The engine's outlet on a real core: frames go to the driver, messages to the mesh, answers to waiting HTTP tasks.

use std::sync::Arc;

use gyre_engine::backend::{BackendAsker, BackendCall};
use gyre_engine::{Act, CallId, FrameId, HomeReply, Message, Outlet, StoreCall, SurveyReply, Ticket};
use gyre_io::mesh::Port;
use gyre_io::{Driver, FrameKind};
use gyre_proto::Encoding;
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

use super::calls::{Answer, Calls};
use super::parcel::{Parcel, ToControl};
use super::store::Store;
use super::user_status::UserStatus;

pub(super) struct Hands<'a> {
    pub(super) core: CoreId,
    /// Where the control thread is in the mesh.
    pub(super) control: usize,
    pub(super) driver: &'a mut Driver,
    pub(super) port: &'a mut Port<Parcel>,
    pub(super) calls: &'a mut Calls,
    /// `None` = every channel is kept in memory.
    pub(super) store: Option<&'a mut Store>,
    /// `None` = no status of users is kept.
    pub(super) user_status: Option<&'a mut UserStatus>,
}

impl Outlet for Hands<'_> {
    fn frame(&mut self, encoding: Encoding, message: &[u8]) -> FrameId {
        let kind = match encoding {
            Encoding::Json => FrameKind::JsonMessage,
            Encoding::Protobuf => FrameKind::ProtobufMessage,
        };
        FrameId(self.driver.frame(kind, message).0)
    }

    fn push(&mut self, conn: ConnId, frame: FrameId) {
        self.driver.push(conn, gyre_io::FrameId(frame.0));
    }

    fn unsent(&mut self, conn: ConnId) -> usize {
        self.driver.unsent(conn) as usize
    }

    fn close(&mut self, conn: ConnId, why: &Disconnect) {
        let code = why.code as u16;
        if *why == Disconnect::CONNECTION_CLOSED {
            self.driver.abort(conn);
        } else if *why == Disconnect::SLOW {
            // What is queued is what the peer does not take: it would only delay the close.
            self.driver.close_discarding(conn, code, &why.reason);
        } else {
            self.driver.close(conn, code, &why.reason);
        }
    }

    fn set_timer(&mut self, conn: ConnId, deadline_ms: u64) {
        match deadline_ms {
            u64::MAX => self.driver.clear_timer(conn),
            _ => self.driver.set_timer(conn, deadline_ms),
        }
    }

    fn send(&mut self, to: CoreId, message: Message) {
        self.port.send(usize::from(to.0), Parcel::Engine(message));
    }

    fn answer(&mut self, call: CallId, reply: HomeReply) {
        self.calls.answer(call, Answer::Home(reply));
    }

    fn surveyed(&mut self, call: CallId, reply: SurveyReply) {
        self.calls.part(call, reply);
    }

    fn store(&mut self, ticket: Ticket, channel: &str, call: StoreCall<'_>) -> bool {
        let now_ms = self.driver.now_ms();
        let Some(store) = self.store.as_deref_mut() else { return false };
        let is_taken = store.ask(ticket, channel, call, now_ms);
        if store.has_own_answers() {
            // No socket will wake the core for them.
            self.driver.wake_within(std::time::Duration::ZERO);
        }
        is_taken
    }

    fn backend(&mut self, asker: BackendAsker, call: Box<BackendCall>) {
        self.port.send(self.control, Parcel::ToControl(ToControl::Backend { core: self.core, asker, call }));
    }

    fn tell_nodes(&mut self, asker: BackendAsker, act: Arc<Act>) -> bool {
        if self.store.is_none() {
            return false;
        }
        let call = self.calls.for_session(asker);
        self.port.send(self.control, Parcel::ToControl(ToControl::Act { core: self.core, call, act }));
        true
    }

    fn user_online(&mut self, user: &str, now_s: i64) {
        if let Some(status) = self.user_status.as_deref_mut() {
            status.online(self.store.as_deref_mut(), user, now_s, self.driver.now_ms());
        }
    }

    fn user_active(&mut self, asker: BackendAsker, user: &str, now_s: i64) -> bool {
        let (store, now_ms) = (self.store.as_deref_mut(), self.driver.now_ms());
        let status = self.user_status.as_deref_mut();
        status.is_some_and(|status| status.active(store, asker, user, now_s, now_ms))
    }

    fn is_congested(&self) -> bool {
        is_congested(self.port)
    }
}

/// Whether other cores cannot keep up with this one.
pub(super) fn is_congested(port: &Port<Parcel>) -> bool {
    port.backlog_len() > crate::limits::CONGESTED_BACKLOG
}
