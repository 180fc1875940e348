//! How sessions end: closed by the server, gone with their connection, all at once at shutdown. Runs on the core of the
//! session. Ending one costs up to a hundred calls to other cores, so a shutdown is taken in slices.

use gyre_proto::codes::Disconnect;
use gyre_proto::ids::ConnId;

use crate::engine::Engine;
use crate::limits::SHUTDOWN_SLICE;
use crate::outlet::Outlet;
use crate::session::{Phase, Work};

impl Engine {
    /// Ends a connection and forgets its session. Members of its channels are told.
    pub fn disconnect(&mut self, conn: ConnId, why: &Disconnect, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        tracing::debug!(client = %session.client, user = &*session.user, code = why.code, reason = &*why.reason,
            "connection closed by the server");
        self.counters.count_disconnect(why.code);
        out.close(conn, why);
        self.closed(conn, out);
    }

    /// A connection is gone: its subscriptions end. Harmless when the engine has ended it itself.
    pub fn closed(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        match session.pending.take().map(|pending| pending.work) {
            Some(Work::Subscribe { plan, .. } | Work::ServerSide { plan, .. }) => {
                self.cancel_subscription(conn, &plan, out)
            }
            Some(Work::Connect(joining)) => {
                for plan in &joining.waiting {
                    self.cancel_subscription(conn, plan, out);
                }
            }
            _ => {}
        }
        while let Some(last) = self.sessions.of(conn).and_then(|s| s.subscriptions.len().checked_sub(1)) {
            self.end_subscription(conn, last, out);
        }
        let Some(session) = self.sessions.remove(conn) else { return };
        if matches!(session.phase, Phase::Connected | Phase::Joining) {
            self.counters.connected -= 1;
        }
        if session.has_seat {
            self.give_seat_back(&session.user, out);
        }
        if self.sessions.unlist(&session) {
            self.tell_user(&session.user, false, out);
        }
    }

    /// Ends every connection with 3001, in slices, and takes no new ones.
    pub fn shutdown(&mut self, out: &mut dyn Outlet) {
        self.is_shutting_down = true;
        self.to_shut_down = self.sessions.conns();
        self.continue_shutdown(out);
    }

    /// Ends some of the connections that are left. `true` = there is more to do right away.
    pub(crate) fn continue_shutdown(&mut self, out: &mut dyn Outlet) -> bool {
        for _ in 0..SHUTDOWN_SLICE {
            // While others cannot keep up, room in a ring is what wakes this core.
            if self.to_shut_down.is_empty() || out.is_congested() {
                return false;
            }
            if let Some(conn) = self.to_shut_down.pop() {
                self.disconnect(conn, &Disconnect::SHUTDOWN, out);
            }
        }
        true
    }
}
