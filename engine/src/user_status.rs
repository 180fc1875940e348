//! User status: who is connected, said by the home core of the user, and who is active, said by the client itself with
//! a call of the built-in method `update_user_status` (pro-features.md section 2).
//!
//! Nothing is kept here: each fact goes to the store of user status through the outlet, at once. Runs on the home core of
//! a user or on the core of the connection, and never waits: a call is parked until the store has answered.

use bytes::Bytes;
use gyre_proto::client::{Reply, RpcResult};
use gyre_proto::codes::Error;
use gyre_proto::ids::ConnId;

use crate::backend::BackendAsker;
use crate::engine::Engine;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::session::Work;

/// The method that is answered here instead of by a backend.
pub(crate) const METHOD: &str = "update_user_status";

impl Engine {
    /// A client says that its user is active. Only with [`crate::rules::RpcRules::has_user_status`].
    pub(crate) fn update_user_status(&mut self, conn: ConnId, id: u32, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let user = session.user.clone();
        if user.is_empty() {
            return self.refuse(conn, id, Refused { command: "rpc", channel: "" }, Error::PERMISSION_DENIED, out);
        }
        let seq = self.next_seq(conn);
        match out.user_active(BackendAsker { conn, seq }, &user, self.now.unix_s()) {
            true => self.park(conn, seq, Work::UserStatus { id }),
            // The outage has had its log line.
            false => self.reply_error(conn, id, Error::INTERNAL, out),
        }
    }

    /// What came of [`Outlet::user_active`]. Answers to reservations that are gone are dropped.
    pub fn user_status_updated(&mut self, asker: BackendAsker, ok: bool, out: &mut dyn Outlet) {
        let BackendAsker { conn, seq } = asker;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let is_awaited = |pending: &mut Box<crate::session::Pending>| pending.awaits(seq).is_some();
        let Some(pending) = session.pending.take_if(is_awaited) else { return };
        let Work::UserStatus { id } = pending.work else {
            debug_assert!(false, "{:?} does not wait for user status", pending.work);
            return;
        };
        match ok {
            true => self.reply(conn, Reply::rpc(id, RpcResult { data: Bytes::from_static(b"{}") }), out),
            false => self.reply_error(conn, id, Error::INTERNAL, out),
        }
        self.resume(conn, *pending, out);
    }

    /// The first connection of a user to this node has come; this is the user's home.
    pub(crate) fn user_came(&mut self, user: &str, out: &mut dyn Outlet) {
        if self.rules.rpc.has_user_status && !user.is_empty() {
            out.user_online(user, self.now.unix_s());
        }
    }

    /// Renews the users whose time has come; called every turn. `true` = there are more.
    pub(crate) fn renew_users(&mut self, out: &mut dyn Outlet) -> bool {
        if !self.rules.rpc.has_user_status || self.is_shutting_down {
            return false;
        }
        let interval_ms = self.rules.client.presence_update_interval_ms;
        let now_s = self.now.unix_s();
        self.users.go_round(self.now.mono_ms, interval_ms, |user| out.user_online(user, now_s))
    }
}
