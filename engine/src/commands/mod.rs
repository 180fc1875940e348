//! The commands of the client protocol: which handler takes one, and how parked ones go on when their facts arrive.
//!
//! A handler either answers at once or parks the command; commands of a connection run strictly one after another.

mod cache_empty;
mod connect;
mod credentials;
mod publish;
mod read;
mod refresh;
mod rpc;
mod subscribe;

use gyre_proto::client::{Command, Reply};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::engine::{Engine, is_pong};
use crate::message::HomeReply;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::session::{Heartbeat, Phase, PublishInFlight, Work};

impl Engine {
    /// Runs one command (client-protocol.md section 5).
    pub(crate) fn run(&mut self, conn: ConnId, command: Command, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let is_connecting = session.phase == Phase::Connecting;
        let id = command.id;
        if is_connecting && command.connect.is_none() {
            tracing::info!(client = %session.client, "command before connect");
            self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        } else if is_pong(&command) {
            self.pong(conn, out);
        } else if let Some(request) = command.connect {
            self.connect(conn, id, request, out);
        } else if command.ping.is_some() && has_other_request(&command) {
            self.refuse(conn, id, Refused { command: "ping", channel: "" }, Error::NOT_AVAILABLE, out);
        } else if let Some(request) = command.subscribe {
            self.subscribe(conn, id, *request, out);
        } else if let Some(request) = command.unsubscribe {
            self.unsubscribe(conn, id, &request.channel, out);
        } else if let Some(request) = command.publish {
            self.publish(conn, id, request, out);
        } else if let Some(request) = command.presence {
            self.presence(conn, id, &request.channel, out);
        } else if let Some(request) = command.presence_stats {
            self.presence_stats(conn, id, &request.channel, out);
        } else if let Some(request) = command.history {
            self.history(conn, id, request, out);
        } else if let Some(request) = command.rpc {
            self.rpc(conn, id, request, out);
        } else if command.send.is_some() {
            self.disconnect(conn, &Disconnect::NOT_AVAILABLE, out);
        } else if let Some(request) = command.refresh {
            self.refresh(conn, id, &request.token, out);
        } else if let Some(request) = command.sub_refresh {
            self.sub_refresh(conn, id, &request, out);
        } else {
            tracing::info!(client = %self.client_of(conn), "unknown command");
            self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
    }

    /// A pong is good for exactly one ping.
    fn pong(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let interval_ms = self.rules.client.ping_interval_ms;
        let timeout_ms = self.rules.client.pong_timeout_ms;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        if session.heartbeat != Heartbeat::Pong {
            tracing::info!(client = %session.client, user = &*session.user, "pong without ping");
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        session.heartbeat = Heartbeat::Ping;
        session.heartbeat_at_ms += interval_ms - timeout_ms;
        let deadline_ms = session.next_deadline_ms();
        out.set_timer(conn, deadline_ms);
    }

    /// Facts for a parked command; late ones, of another generation, are dropped.
    pub(crate) fn facts(&mut self, conn: ConnId, seq: u32, channel: &str, reply: HomeReply, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let Some(nth) = session.pending.as_ref().and_then(|pending| pending.awaits(seq)) else { return };
        if let HomeReply::Subscribed(facts) = &reply
            && self.parked_asks_for_publication(conn, channel, facts, out)
        {
            return;
        }
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let Some(mut pending) = session.pending.take() else { return };
        match (&mut pending.work, reply) {
            (Work::Connect(joining), HomeReply::Subscribed(facts)) => {
                let Some(at) = joining.waiting.iter().position(|plan| *plan.channel == *channel) else { return };
                let plan = joining.waiting.swap_remove(at);
                self.join_server_side(conn, plan, facts, joining, out);
                if !joining.waiting.is_empty() {
                    // Not all there: wait on, unless a clash of epochs has ended the connection.
                    if let Some(session) = self.sessions.of_mut(conn) {
                        session.pending = Some(pending);
                    }
                    return;
                }
                self.connected(conn, joining, out);
            }
            (Work::CountOthers(entering), reply @ (HomeReply::PresenceStats { .. } | HomeReply::Unavailable)) => {
                self.others_counted(conn, std::mem::take(&mut **entering), &reply, out);
            }
            (Work::Subscribe { id, plan }, HomeReply::Subscribed(facts)) => {
                self.subscribe_commit(conn, *id, plan, facts, out);
            }
            (Work::Subscribe { id, plan }, HomeReply::Unavailable) => {
                self.cancel_subscription(conn, plan, out);
                self.subscribe_unavailable(conn, *id, &plan.channel, out);
            }
            (Work::ServerSide { plan, .. }, HomeReply::Subscribed(facts)) => {
                self.server_side_commit(conn, plan, facts, out);
            }
            (Work::ServerSide { act, plan }, HomeReply::Unavailable) => {
                self.cancel_subscription(conn, plan, out);
                self.server_side_unavailable(conn, *act, &plan.channel);
            }
            (Work::Connect(_), HomeReply::Unavailable) => {
                // With the others that wait, which the end gives back.
                if let Some(session) = self.sessions.of_mut(conn) {
                    session.pending = Some(pending);
                }
                return self.disconnect(conn, &Disconnect::INTERNAL, out);
            }
            (Work::History { id } | Work::Presence { id } | Work::PresenceStats { id }, HomeReply::Unavailable) => {
                self.reply_error(conn, *id, Error::INTERNAL, out)
            }
            (
                Work::Publish { waiting, .. },
                reply @ (HomeReply::Published(_) | HomeReply::Congested | HomeReply::Unavailable),
            ) => {
                let result = match reply {
                    HomeReply::Published(_) => Ok(()),
                    _ => Err(Error::INTERNAL),
                };
                if let Err(error) = result {
                    self.log_refusal(conn, Refused { command: "publish", channel }, error);
                }
                waiting[nth].result = Some(result);
                while let Some(&PublishInFlight { id, result: Some(result), .. }) = waiting.front() {
                    waiting.pop_front();
                    self.publish_reply(conn, id, result, out);
                }
                if !waiting.is_empty() {
                    if let Some(session) = self.sessions.of_mut(conn) {
                        session.pending = Some(pending);
                    }
                    return;
                }
            }
            (Work::History { id }, HomeReply::History(facts)) => self.history_read(conn, *id, facts, out),
            (Work::Presence { id }, HomeReply::Presence(members)) => {
                self.presence_read(conn, *id, &members, out);
            }
            (Work::PresenceStats { id }, HomeReply::PresenceStats { clients, users }) => {
                self.presence_stats_read(conn, *id, clients, users, out);
            }
            (work, reply) => debug_assert!(false, "{work:?} cannot go on with {reply:?}"),
        }
        self.resume(conn, *pending, out);
    }

    fn publish_reply(&mut self, conn: ConnId, id: u32, result: Result<(), Error>, out: &mut dyn Outlet) {
        match result {
            Ok(()) => self.reply(conn, Reply::publish(id), out),
            Err(error) => self.reply_error(conn, id, error, out),
        }
    }
}

/// Whether something besides `ping` is asked for.
fn has_other_request(command: &Command) -> bool {
    command.subscribe.is_some()
        || command.unsubscribe.is_some()
        || command.publish.is_some()
        || command.presence.is_some()
        || command.presence_stats.is_some()
        || command.history.is_some()
        || command.rpc.is_some()
        || command.send.is_some()
        || command.refresh.is_some()
        || command.sub_refresh.is_some()
}
