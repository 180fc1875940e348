//! Subscriptions and expiry that the server API gives to connected sessions.
//!
//! A channel is set up as for a client that asks for it, with a push in place of the reply. Runs on the core of the
//! session; the home core of the channel may be another one.

use std::sync::Arc;

use gyre_proto::client::{Push, Refresh, Subscribe};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::ConnId;

use crate::acts::{RefreshAct, SubscribeAct};
use crate::asking::About;
use crate::engine::Engine;
use crate::hub::flag;
use crate::limits::EXPIRY_MAX_S;
use crate::message::SubscribeFacts;
use crate::outlet::Outlet;
use crate::rules::{self, Asked};
use crate::session::Work;
use crate::subscription::{Plan, Unavailable};

/// Why a session does not get a channel.
enum Refusal {
    /// It has it, or is on its way out.
    NotNeeded,
    /// The API call fails.
    Failed(&'static str),
    Disconnect(Disconnect),
}

impl Engine {
    /// server-api.md 4.3. `number` is the act's.
    pub(crate) fn subscribe_by_server(&mut self, conn: ConnId, act: &SubscribeAct, number: u32, out: &mut dyn Outlet) {
        let mut plan = match self.server_side_check(conn, act) {
            Ok(plan) => plan,
            Err(Refusal::NotNeeded) => return,
            Err(Refusal::Disconnect(why)) => return self.disconnect(conn, &why, out),
            Err(Refusal::Failed(why)) => {
                tracing::error!(client = self.client_of(conn), channel = &*act.channel, "cannot subscribe: {why}");
                return self.act_failed(number);
            }
        };
        let seq = self.next_seq(conn);
        match self.begin_subscription(conn, seq, &mut plan, out) {
            Some(Ok(facts)) => self.server_side_commit(conn, &plan, facts, out),
            Some(Err(Unavailable)) => self.server_side_unavailable(conn, number, &plan.channel),
            None => self.park(conn, seq, Work::ServerSide { act: number, plan: Box::new(plan) }),
        }
    }

    fn server_side_check(&self, conn: ConnId, act: &SubscribeAct) -> Result<Plan, Refusal> {
        let rules = &*self.rules;
        let Some(session) = self.sessions.of(conn) else { return Err(Refusal::NotNeeded) };
        // A backend that repeats a call has what it wants.
        if self.is_subscribed(session, &act.channel) {
            return Err(Refusal::NotNeeded);
        }
        let limit = rules.client.channels_max();
        if session.subscriptions.len() >= limit {
            let (client, user) = (&session.client, &*session.user);
            tracing::info!(%client, user, limit, "channel limit reached");
            return Err(Refusal::Disconnect(Disconnect::CHANNEL_LIMIT));
        }
        let Some(resolved) = rules.resolve(&act.channel) else { return Err(Refusal::Failed("unknown channel")) };
        if act.expire_at_s > 0 && act.expire_at_s < self.now.unix_s() {
            return Err(Refusal::Failed("expire_at is in the past"));
        }
        let asked = Asked::default();
        let grants = rules::subscription_grants(resolved.options, rules, &session.user, &asked, &act.overrides);
        let mut plan = Plan::new(&act.channel, &grants);
        plan.flags |= flag::SERVER_SIDE;
        plan.info = act.info.clone();
        plan.data = act.data.clone();
        plan.expire_at_s = act.expire_at_s.max(0);
        if let Some((offset, epoch)) = &act.recover_since {
            plan.recover_from(*offset, epoch, rules.client.recovery_max_publication_limit);
        }
        Ok(plan)
    }

    /// The push, what was missed, the join, in this order.
    pub(crate) fn server_side_commit(
        &mut self,
        conn: ConnId,
        plan: &Plan,
        facts: SubscribeFacts,
        out: &mut dyn Outlet,
    ) {
        let Some(result) = self.commit_subscription(conn, plan, facts, out) else { return };
        let channel = || plan.channel.to_string();
        let subscribe = Subscribe {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: result.data,
        };
        self.push(conn, Push { channel: channel(), subscribe: Some(subscribe), ..Push::default() }, out);
        for publication in result.publications {
            self.push(conn, Push { channel: channel(), publication: Some(publication), ..Push::default() }, out);
        }
        let Some(session) = self.sessions.of(conn) else { return };
        let (client, user, channel) = (&session.client, &*session.user, &*plan.channel);
        tracing::debug!(%client, user, channel, "subscribed by the server");
        if plan.flags & flag::EMIT_JOIN_LEAVE != 0 {
            let info = Arc::new(session.client_info(&plan.info));
            self.announce(conn, channel, info, out);
        }
    }

    pub(crate) fn server_side_unavailable(&mut self, conn: ConnId, number: u32, channel: &str) {
        tracing::error!(client = self.client_of(conn), channel, "cannot subscribe: the store cannot be asked");
        self.act_failed(number);
    }

    /// server-api.md 4.6.
    pub(crate) fn refresh_by_server(&mut self, conn: ConnId, act: &RefreshAct, out: &mut dyn Outlet) {
        let now_s = self.now.unix_s();
        if act.is_expired || (act.expire_at_s > 0 && act.expire_at_s <= now_s) {
            return self.disconnect(conn, &Disconnect::EXPIRED, out);
        }
        let expires = act.expire_at_s > 0;
        let expire_at_s = act.expire_at_s.min(now_s.saturating_add(EXPIRY_MAX_S));
        let delay_ms = self.expiry_delay_ms();
        let expire_at_ms = if expires { self.now.mono_of(expire_at_s, delay_ms) } else { u64::MAX };
        let has_new_info = expires && !act.info.is_empty();
        let Some(session) = self.sessions.of_mut(conn) else { return };
        // What a backend that is being asked will say is older than this.
        session.forget_question(About::Connection);
        session.expire_at_ms = expire_at_ms;
        if has_new_info {
            session.info = act.info.to_vec().into();
        }
        out.set_timer(conn, session.next_deadline_ms());
        if has_new_info {
            self.renew_presence_everywhere(conn, out);
        }
        let refresh = Refresh { expires, ttl: if expires { self.now.ttl_s(expire_at_s) } else { 0 } };
        self.push(conn, Push { refresh: Some(refresh), ..Push::default() }, out);
    }
}
