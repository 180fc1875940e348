//! `single_connection`: the newest connection of a user is its only one (auth.md section 7).
//!
//! Before a connection is let in, those are counted who are in the personal channel of its user. If there is somebody, all
//! other connections of the user are closed, on the other nodes and on every core of this one. Two that come at the same
//! moment may both find nobody there. Runs on the core of the connection; the connect is parked meanwhile.
//!
//! On this node it is the home core of the user that has the others closed, and lets the new one in behind that (`seats`).
//! So of two that come at the same moment and find somebody, one ends the other: the order of rings forbids that each is
//! let in before it hears that the other one has come, and both end.

use std::sync::Arc;

use gyre_proto::codes::Disconnect;
use gyre_proto::ids::{ConnId, CoreId};

use crate::acts::{Act, ActWhat};
use crate::backend::BackendAsker;
use crate::engine::Engine;
use crate::message::{Caller, HomeCall, HomeReply, Message};
use crate::outlet::Outlet;
use crate::session::{ClientId, Entering, Pending, Work};

impl Engine {
    /// Lets a connection in when the others of its user, if any, are on their way out.
    pub(crate) fn count_others(&mut self, conn: ConnId, entering: Entering, out: &mut dyn Outlet) {
        let Some(channel) = self.rules.personal_channel(&entering.token.user) else {
            return self.ask_for_seat(conn, entering, out);
        };
        let seq = self.next_seq(conn);
        let caller = Caller::Session { core: self.core, conn, seq };
        match self.call_home(caller, &channel, HomeCall::PresenceStats, out) {
            Some(reply) => self.others_counted(conn, entering, &reply, out),
            None => self.park(conn, seq, Work::CountOthers(Box::new(entering))),
        }
    }

    pub(crate) fn others_counted(&mut self, conn: ConnId, entering: Entering, reply: &HomeReply, out: &mut dyn Outlet) {
        match reply {
            HomeReply::PresenceStats { clients: 0, .. } => self.ask_for_seat(conn, entering, out),
            HomeReply::PresenceStats { .. } => self.replace_others(conn, entering, out),
            _ => {
                let (client, user) = (self.client_of(conn), &*entering.token.user);
                tracing::error!(client, user, "cannot count the connections of the user: the store cannot be asked");
                self.disconnect(conn, &Disconnect::INTERNAL, out);
            }
        }
    }

    fn replace_others(&mut self, conn: ConnId, mut entering: Entering, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let act = others_of(&entering.token.user, session.client);
        entering.is_replacing = true;
        let seq = self.next_seq(conn);
        // Waited for, so that they do not hear of it when this one is in already, and the next one has come to them.
        match out.tell_nodes(BackendAsker { conn, seq }, act) {
            true => self.park(conn, seq, Work::SendOthersAway(Box::new(entering))),
            false => self.ask_for_seat(conn, entering, out),
        }
    }

    /// On the home core of a user: has every core of this node close all of its connections but one.
    pub(crate) fn send_others_away(&mut self, user: &str, client: ClientId, out: &mut dyn Outlet) {
        let act = others_of(user, client);
        for core in (0..self.cores).map(CoreId).filter(|core| *core != self.core) {
            out.send(core, Message::Act(Arc::clone(&act)));
        }
        self.act(&act, None, out);
    }

    /// The other nodes have been told, or cannot be.
    pub fn nodes_told(&mut self, asker: BackendAsker, ok: bool, out: &mut dyn Outlet) {
        let BackendAsker { conn, seq } = asker;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let is_asked = |pending: &Pending| pending.seq == seq && matches!(pending.work, Work::SendOthersAway(_));
        let Some(mut parked) = session.pending.take_if(|pending| is_asked(pending)) else { return };
        let Work::SendOthersAway(entering) = &mut parked.work else { return };
        let entering = std::mem::take(&mut **entering);
        if !ok {
            let user = &*entering.token.user;
            tracing::error!(client = self.client_of(conn), user, "cannot tell the other nodes to close connections");
            return self.disconnect(conn, &Disconnect::INTERNAL, out);
        }
        self.ask_for_seat(conn, entering, out);
        self.resume(conn, *parked, out);
    }
}

fn others_of(user: &str, client: ClientId) -> Arc<Act> {
    Arc::new(Act {
        user: user.into(),
        client: "".into(),
        whitelist: vec![client.to_string().into()],
        what: ActWhat::Disconnect(Disconnect::CONNECTION_LIMIT),
    })
}
