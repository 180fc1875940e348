//! `connect`: server-side subscriptions, and the reply that comes before everything else. Runs on the core of the
//! connection.

use std::sync::Arc;

use gyre_proto::client::{ConnectRequest, ConnectResult, Reply, ServerSideSubscription};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use super::credentials::{Credentials, Refusal};
use crate::backend::BackendError;
use crate::engine::Engine;
use crate::hub::flag;
use crate::limits::REFUSED_LINGER_MS;
use crate::message::SubscribeFacts;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::session::{Entering, Heartbeat, Joining, Phase, Work};
use crate::subscription::{Plan, Unavailable};
use crate::token::ConnectionToken;

const CONNECT: Refused<'static> = Refused { command: "connect", channel: "" };

impl Engine {
    pub(super) fn connect(&mut self, conn: ConnId, id: u32, mut request: Box<ConnectRequest>, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if session.phase != Phase::Connecting {
            tracing::info!(client = %session.client, user = &*session.user, "second connect");
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let client = session.client;
        if !self.rules.proxies.emulated_headers.is_empty() {
            self.keep_headers(conn, std::mem::take(&mut request.headers));
        }
        let credentials = match self.rules.proxies.connect {
            _ if !request.token.is_empty() => self.credentials_of_token(client, &request),
            Some(proxy) => return self.ask_who_connects(conn, id, proxy, request, out),
            None => self.without_token(conn, &request),
        };
        self.connect_as(conn, id, credentials, out);
    }

    /// It is known who connects, or that nobody may.
    pub(super) fn connect_as(
        &mut self,
        conn: ConnId,
        id: u32,
        credentials: Result<Credentials, Refusal>,
        out: &mut dyn Outlet,
    ) {
        match credentials {
            Ok(Credentials { token, data, plans, is_only }) => {
                let entering = Entering { id, token, data, plans, ..Entering::default() };
                match is_only {
                    true => self.count_others(conn, entering, out),
                    false => self.ask_for_seat(conn, entering, out),
                }
            }
            Err(Refusal::Disconnect(why)) => {
                tracing::debug!(
                    client = self.client_of(conn),
                    code = why.code,
                    reason = &*why.reason,
                    "connection refused"
                );
                self.disconnect(conn, &why, out);
            }
            Err(Refusal::Error(error)) => self.refuse_connect(conn, id, error, out),
        }
    }

    /// Lets the connection in.
    pub(crate) fn enter(&mut self, conn: ConnId, entering: Entering, out: &mut dyn Outlet) {
        let Entering { id, token, data, plans, has_seat, .. } = entering;
        if let Some(session) = self.sessions.of_mut(conn) {
            session.has_seat = has_seat;
        }
        let mut joining = self.admit(conn, id, token, out);
        joining.data = data;
        self.join(conn, plans, joining, out);
    }

    /// Error reply; the connection is of no more use and is dropped when its peer does not do it first.
    pub(super) fn refuse_connect(&mut self, conn: ConnId, id: u32, error: Error, out: &mut dyn Outlet) {
        self.refuse(conn, id, CONNECT, error, out);
        self.linger(conn, out);
    }

    /// Likewise with an error of the application.
    pub(super) fn refuse_connect_as_told(&mut self, conn: ConnId, id: u32, error: BackendError, out: &mut dyn Outlet) {
        self.reply_application_error(conn, id, CONNECT, error, out);
        self.linger(conn, out);
    }

    fn linger(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let deadline_ms = self.now.after(REFUSED_LINGER_MS);
        if let Some(session) = self.sessions.of_mut(conn) {
            session.phase = Phase::Refused;
            session.heartbeat_at_ms = deadline_ms;
            out.set_timer(conn, deadline_ms);
        }
    }

    /// Gives the session its identity.
    fn admit(&mut self, conn: ConnId, id: u32, token: ConnectionToken, out: &mut dyn Outlet) -> Box<Joining> {
        let expire_at_s = token.expire_at;
        // Who cannot refresh need not know.
        let is_told = expire_at_s != 0 && self.rules.proxies.refresh.is_none();
        let ttl_s = if is_told { self.now.ttl_s(expire_at_s) } else { 0 };
        let delay_ms = self.expiry_delay_ms();
        let keeps_meta = self.rules.proxies.keeps_meta;
        if let Some(session) = self.sessions.of_mut(conn) {
            session.phase = Phase::Joining;
            session.forget_user_of_handshake();
            session.user = token.user.into();
            session.info = token.info.map_or_else(Box::default, |info| info.to_vec().into());
            if expire_at_s != 0 {
                session.expire_at_ms = self.now.mono_of(expire_at_s, delay_ms);
            }
            if let Some(meta) = token.meta
                && keeps_meta
            {
                session.set_meta(meta);
            }
        }
        self.counters.connects += 1;
        self.counters.connected += 1;
        if self.sessions.list(conn)
            && let Some(user) = self.sessions.of(conn).map(|s| s.user.clone())
        {
            self.tell_user(&user, true, out);
        }
        Box::new(Joining { id, ttl_s, ..Joining::default() })
    }

    /// Sets the server-side subscriptions up; the reply goes out when all home cores have answered.
    fn join(&mut self, conn: ConnId, plans: Vec<Plan>, joining: Box<Joining>, out: &mut dyn Outlet) {
        let mut joining = joining;
        if plans.is_empty() {
            return self.connected(conn, &mut joining, out);
        }
        // Parked first: deliveries for channels that are ready are kept back in the pending work.
        let seq = self.next_seq(conn);
        self.park(conn, seq, Work::Connect(joining));
        for mut plan in plans {
            let facts = self.begin_subscription(conn, seq, &mut plan, out);
            let Some(mut pending) = self.sessions.of_mut(conn).and_then(|s| s.pending.take()) else { return };
            let is_unavailable = matches!(facts, Some(Err(_)));
            if let Work::Connect(joining) = &mut pending.work {
                match facts {
                    Some(Ok(facts)) => self.join_server_side(conn, plan, facts, joining, out),
                    Some(Err(Unavailable)) => {}
                    None => joining.waiting.push(plan),
                }
            }
            let Some(session) = self.sessions.of_mut(conn) else { return };
            session.pending = Some(pending);
            if is_unavailable {
                return self.disconnect(conn, &Disconnect::INTERNAL, out);
            }
        }
        let Some(mut pending) = self.sessions.of_mut(conn).and_then(|s| s.pending.take()) else { return };
        match &mut pending.work {
            Work::Connect(joining) if joining.waiting.is_empty() => {
                self.connected(conn, joining, out);
                self.resume(conn, *pending, out);
            }
            _ => {
                if let Some(session) = self.sessions.of_mut(conn) {
                    session.pending = Some(pending);
                }
            }
        }
    }

    /// One server-side subscription is ready.
    pub(super) fn join_server_side(
        &mut self,
        conn: ConnId,
        plan: Plan,
        facts: SubscribeFacts,
        joining: &mut Joining,
        out: &mut dyn Outlet,
    ) {
        let Some(result) = self.commit_subscription(conn, &plan, facts, out) else { return };
        if plan.flags & flag::EMIT_JOIN_LEAVE != 0
            && let Some(session) = self.sessions.of(conn)
        {
            joining.joins.push((plan.channel.clone(), Arc::new(session.client_info(&plan.info))));
        }
        joining.done.push((plan.channel, result));
    }

    /// All is set up: the reply, then what was kept back, then the joins.
    pub(super) fn connected(&mut self, conn: ConnId, joining: &mut Joining, out: &mut dyn Outlet) {
        let client_rules = &self.rules.client;
        let (interval_ms, timeout_ms) = (client_rules.ping_interval_ms, client_rules.pong_timeout_ms);
        let first_ping_ms = interval_ms / 2 + self.rng.u64(0..=(interval_ms / 2).saturating_sub(1));
        let time = if client_rules.connect_include_server_time { self.now.unix_ms } else { 0 };
        let Some(session) = self.sessions.of_mut(conn) else { return };
        session.phase = Phase::Connected;
        (session.heartbeat, session.heartbeat_at_ms) = match interval_ms {
            0 => (Heartbeat::Off, u64::MAX),
            _ => (Heartbeat::Ping, self.now.after(first_ping_ms)),
        };
        let deadline_ms = session.next_deadline_ms();
        let result = ConnectResult {
            client: session.client.to_string(),
            version: self.version.to_string(),
            expires: joining.ttl_s != 0,
            ttl: joining.ttl_s,
            data: std::mem::take(&mut joining.data),
            subs: joining
                .done
                .drain(..)
                .map(|(channel, result)| ServerSideSubscription { channel: channel.into(), result: Some(result) })
                .collect(),
            ping: interval_ms.div_ceil(1000) as u32,
            pong: interval_ms != 0 && timeout_ms != 0,
            time,
            ..ConnectResult::default()
        };
        out.set_timer(conn, deadline_ms);
        self.reply(conn, Reply::connect(joining.id, result), out);
        // A JSON client that recovers what is not JSON is gone now.
        let Some(session) = self.sessions.of(conn) else { return };
        tracing::debug!(client = %session.client, user = &*session.user, "connection established");
        for subscription in &session.subscriptions {
            self.hub.subscriber_mut(subscription.channel, subscription.index).flags &= !flag::HELD_BACK;
        }
        self.deliver_held_back(conn, &std::mem::take(&mut joining.held_back), out);
        for (channel, info) in joining.joins.drain(..) {
            self.announce(conn, &channel, info, out);
        }
    }
}
