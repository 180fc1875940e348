//! `connect`: credentials, server-side subscriptions, and the reply that comes before everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use gyre_proto::client::{ConnectRequest, ConnectResult, Reply, ServerSideSubscription};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::engine::Engine;
use crate::hub::flag;
use crate::limits::REFUSED_LINGER_MS;
use crate::message::SubscribeFacts;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules::{self, Asked, Requested};
use crate::session::{ClientId, Entering, Heartbeat, Joining, Phase, Work};
use crate::subscription::{Plan, Unavailable};
use crate::token::{ConnectionToken, SubscriptionClaims, TokenError};

/// Why a connect ends without a session.
enum Refusal {
    Error(Error),
    Disconnect(Disconnect),
}

impl Engine {
    pub(super) fn connect(&mut self, conn: ConnId, id: u32, request: ConnectRequest, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if session.phase != Phase::Connecting {
            tracing::info!(client = %session.client, user = &*session.user, "second connect");
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let client = session.client;
        let admitted = self.credentials(client, &request).and_then(|token| {
            let plans = self.server_side_plans(&token, &request)?;
            Ok((token, plans))
        });
        let (token, plans) = match admitted {
            Ok(admitted) => admitted,
            Err(Refusal::Disconnect(why)) => {
                tracing::debug!(%client, code = why.code, reason = &*why.reason, "connection refused");
                return self.disconnect(conn, &why, out);
            }
            Err(Refusal::Error(error)) => return self.refuse_connect(conn, id, error, out),
        };
        self.ask_for_seat(conn, Entering { id, token, plans, has_seat: false }, out);
    }

    /// Lets the connection in.
    pub(crate) fn enter(&mut self, conn: ConnId, entering: Entering, out: &mut dyn Outlet) {
        let Entering { id, token, plans, has_seat } = entering;
        if let Some(session) = self.sessions.of_mut(conn) {
            session.has_seat = has_seat;
        }
        let joining = self.admit(conn, id, token, out);
        self.join(conn, plans, joining, out);
    }

    /// Error reply; the connection is of no more use and is dropped when its peer does not do it first.
    fn refuse_connect(&mut self, conn: ConnId, id: u32, error: Error, out: &mut dyn Outlet) {
        self.refuse(conn, id, Refused { command: "connect", channel: "" }, error, out);
        let deadline_ms = self.now.after(REFUSED_LINGER_MS);
        if let Some(session) = self.sessions.of_mut(conn) {
            session.phase = Phase::Refused;
            session.heartbeat_at_ms = deadline_ms;
            out.set_timer(conn, deadline_ms);
        }
    }

    /// Who connects (client-protocol.md 6.1).
    fn credentials(&self, client: ClientId, request: &ConnectRequest) -> Result<ConnectionToken, Refusal> {
        let rules = &self.rules;
        if !request.token.is_empty() {
            let now_s = self.now.unix_s();
            let mut token = match rules.tokens.connection.verify_connection(&request.token, now_s) {
                Ok(token) => token,
                Err(TokenError::Expired) => return Err(Refusal::Error(Error::TOKEN_EXPIRED)),
                Err(TokenError::Internal) => return Err(Refusal::Error(Error::INTERNAL)),
                Err(TokenError::Invalid(why)) => {
                    tracing::info!(%client, why, "invalid connection token");
                    return Err(Refusal::Disconnect(Disconnect::INVALID_TOKEN));
                }
            };
            if token.user.is_empty() && rules.client.disallow_anonymous_connection_tokens {
                tracing::info!(%client, "anonymous connection tokens are not allowed");
                return Err(Refusal::Disconnect(Disconnect::PERMISSION_DENIED));
            }
            if rules.client.insecure {
                token.expire_at = 0;
            }
            if token.expire_at != 0 && token.expire_at < now_s {
                return Err(Refusal::Error(Error::EXPIRED));
            }
            return Ok(token);
        }
        if rules.client.allow_anonymous_connect_without_token || rules.client.insecure {
            return Ok(ConnectionToken::default());
        }
        tracing::info!(%client, "client credentials not found");
        Err(Refusal::Disconnect(Disconnect::BAD_REQUEST))
    }

    /// The channels that the connection is subscribed to by the server.
    fn server_side_plans(&self, token: &ConnectionToken, request: &ConnectRequest) -> Result<Vec<Plan>, Refusal> {
        let nothing = SubscriptionClaims::default();
        let unknown = || Refusal::Error(Error::UNKNOWN_CHANNEL);
        let mut plans = BTreeMap::new();
        for (channel, claims) in &token.subs {
            let mut plan = self.server_side_plan(token, request, channel, claims).ok_or_else(unknown)?;
            plan.from_connection_token = true;
            plans.insert(channel.clone(), plan);
        }
        if let Some(channel) = self.rules.personal_channel(&token.user) {
            let plan = self.server_side_plan(token, request, &channel, &nothing).ok_or_else(unknown)?;
            plans.insert(channel, plan);
        }
        for channel in request.subs.keys() {
            match rules::connect_requested_channel(&self.rules, channel, &token.user) {
                Requested::Subscribe if !plans.contains_key(channel) => {
                    let plan = self.server_side_plan(token, request, channel, &nothing);
                    plans.extend(plan.map(|plan| (channel.clone(), plan)));
                }
                Requested::Subscribe | Requested::Skip => {}
                Requested::UnknownNamespace => return Err(Refusal::Disconnect(Disconnect::BAD_REQUEST)),
            }
        }
        if plans.len() > self.rules.client.channel_limit {
            tracing::info!(user = token.user, limit = self.rules.client.channel_limit, "channel limit reached");
            return Err(Refusal::Disconnect(Disconnect::CHANNEL_LIMIT));
        }
        Ok(plans.into_values().collect())
    }

    /// `None` = the namespace is unknown.
    fn server_side_plan(
        &self,
        token: &ConnectionToken,
        request: &ConnectRequest,
        channel: &str,
        claims: &SubscriptionClaims,
    ) -> Option<Plan> {
        let resolved = self.rules.resolve(channel)?;
        let asked = Asked::default();
        let grants = rules::subscription_grants(resolved.options, &self.rules, &token.user, &asked, &claims.overrides);
        let mut plan = Plan::new(channel, &grants);
        plan.flags |= flag::SERVER_SIDE | flag::HELD_BACK;
        plan.info = claims.info.clone().unwrap_or_default();
        plan.data = claims.data.clone().unwrap_or_default();
        if let Some(known) = request.subs.get(channel)
            && known.recover
        {
            plan.recover_from(known.offset, &known.epoch, self.rules.client.recovery_max_publication_limit);
        }
        Some(plan)
    }

    /// Gives the session its identity.
    fn admit(&mut self, conn: ConnId, id: u32, token: ConnectionToken, out: &mut dyn Outlet) -> Box<Joining> {
        let expire_at_s = token.expire_at;
        let ttl_s = if expire_at_s == 0 { 0 } else { self.now.ttl_s(expire_at_s) };
        let close_delay_ms = self.rules.client.expired_close_delay_ms;
        if let Some(session) = self.sessions.of_mut(conn) {
            session.phase = Phase::Joining;
            session.user = token.user.into();
            session.info = token.info.map_or_else(Box::default, |info| info.to_vec().into());
            if expire_at_s != 0 {
                session.expire_at_ms = self.now.mono_of(expire_at_s, close_delay_ms);
            }
        }
        self.counters.connects += 1;
        self.counters.connected += 1;
        if self.sessions.list(conn)
            && let Some(user) = self.sessions.of(conn).map(|s| s.user.clone())
        {
            self.tell_user(&user, true, out);
        }
        Box::new(Joining { id, ttl_s, waiting: Vec::new(), done: Vec::new(), joins: Vec::new(), held_back: Vec::new() })
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
