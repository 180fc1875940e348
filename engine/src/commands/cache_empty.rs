//! Subscribers in cache mode who find no publication: the backend is asked for one before they are answered
//! (pro-features.md section 3). On the core of the session; nothing here waits.
//!
//! The reservation stays meanwhile: the home core counts the subscriber as there, and everything published is on its way
//! or kept. Whatever the backend says, the home core is then asked again, so that what the subscriber is handed over and
//! what is delivered after it fit together without anything being kept back here.

use gyre_proto::codes::Error;
use gyre_proto::ids::ConnId;

use crate::backend::{BackendAsker, BackendCall, BackendEvent, BackendReply, BackendResult};
use crate::engine::Engine;
use crate::message::{Caller, HistoryOptions, HomeCall, PositionCall, SubscribeCall, SubscribeFacts};
use crate::outlet::Outlet;
use crate::rules::RecoveryMode;
use crate::session::{Phase, Work};
use crate::subscription::{Plan, WhenEmpty};

impl Engine {
    /// What the namespace says about recovery: its mode, and whether it takes place although the client has not asked.
    pub(crate) fn settle_recovery(&self, plan: &mut Plan) {
        if !plan.recoverable {
            return;
        }
        let Some(resolved) = self.rules.resolve(&plan.channel) else { return };
        let options = resolved.options;
        let (mode, is_automatic) = (options.recovery_mode, options.auto_cache_recover);
        let cache_empty = options.proxies.cache_empty.filter(|_| options.has_history());
        if mode != RecoveryMode::Cache {
            return;
        }
        if plan.recover.is_none() && (is_automatic || plan.cache_recover) {
            plan.recover_from(0, "", 1);
        }
        let Some(from) = &mut plan.recover else { return };
        from.mode = mode;
        plan.when_empty = cache_empty.map_or(WhenEmpty::Take, WhenEmpty::Ask);
    }

    /// Asks the backend for a publication if there is none and it is to be asked. `true` = its answer takes the
    /// subscription up again.
    pub(crate) fn asks_for_publication(
        &mut self,
        conn: ConnId,
        plan: &mut Plan,
        facts: &SubscribeFacts,
        out: &mut dyn Outlet,
    ) -> bool {
        let WhenEmpty::Ask(proxy) = plan.when_empty else { return false };
        if !facts.is_cache_empty {
            return false;
        }
        let seq = self.next_seq(conn);
        plan.when_empty = WhenEmpty::Asked(seq);
        let event = BackendEvent::CacheEmpty { channel: plan.channel.clone() };
        out.backend(BackendAsker { conn, seq }, Box::new(BackendCall { proxy, client: None, event }));
        true
    }

    /// The same for facts that have come to a parked command: it waits on.
    pub(super) fn parked_asks_for_publication(
        &mut self,
        conn: ConnId,
        channel: &str,
        facts: &SubscribeFacts,
        out: &mut dyn Outlet,
    ) -> bool {
        if !facts.is_cache_empty {
            return false;
        }
        let Some(mut pending) = self.sessions.of_mut(conn).and_then(|s| s.pending.take()) else { return false };
        let plan = plans_of(&mut pending.work).iter_mut().find(|plan| *plan.channel == *channel);
        let is_asked = plan.is_some_and(|plan| self.asks_for_publication(conn, plan, facts, out));
        if let Some(session) = self.sessions.of_mut(conn) {
            session.pending = Some(pending);
        }
        is_asked
    }

    /// The backend has answered. `false` = nothing here waits for that.
    pub(crate) fn publication_asked_for(
        &mut self,
        asker: BackendAsker,
        reply: &BackendReply,
        out: &mut dyn Outlet,
    ) -> bool {
        let BackendAsker { conn, seq } = asker;
        let Some(session) = self.sessions.of_mut(conn) else { return false };
        let Some(pending) = &mut session.pending else { return false };
        let parked_seq = pending.seq;
        let mut plans = plans_of(&mut pending.work).iter_mut();
        let Some(plan) = plans.find(|plan| plan.when_empty == WhenEmpty::Asked(seq)) else { return false };
        // Once is enough: it may stay empty.
        plan.when_empty = WhenEmpty::Take;
        let (channel, recover) = (plan.channel.clone(), plan.recover.clone());
        let encoding = session.encoding;
        let has_answered =
            matches!(reply, BackendReply::Result(result) if matches!(**result, BackendResult::CacheEmpty(_)));
        if !has_answered {
            self.publication_refused(conn, &channel, out);
            return true;
        }
        let meta_ttl_ms = HistoryOptions::of(&self.rules, &channel).meta_ttl_ms;
        // The presence entry was made the first time.
        let position = Some(PositionCall { meta_ttl_ms, recover });
        let call = HomeCall::Subscribe(SubscribeCall { core: self.core, encoding, member: None, position });
        let caller = Caller::Session { core: self.core, conn, seq: parked_seq };
        if let Some(reply) = self.call_home(caller, &channel, call, out) {
            self.facts(conn, parked_seq, &channel, reply, out);
        }
        true
    }

    /// The subscription does not come about; whoever asked for it may try again.
    fn publication_refused(&mut self, conn: ConnId, channel: &str, out: &mut dyn Outlet) {
        let Some(mut pending) = self.sessions.of_mut(conn).and_then(|s| s.pending.take()) else { return };
        match &mut pending.work {
            Work::Subscribe { id, plan } => {
                self.cancel_subscription(conn, plan, out);
                self.subscribe_unavailable(conn, *id, channel, out);
            }
            Work::ServerSide { act, plan } => {
                self.cancel_subscription(conn, plan, out);
                let why = "the backend cannot be asked for a publication";
                tracing::error!(client = self.client_of(conn), channel, "cannot subscribe: {why}");
                self.act_failed(*act);
            }
            Work::Connect(joining) => {
                for plan in joining.waiting.drain(..) {
                    self.cancel_subscription(conn, &plan, out);
                }
                while let Some(last) = self.sessions.of(conn).and_then(|s| s.subscriptions.len().checked_sub(1)) {
                    self.end_subscription(conn, last, out);
                }
                if let Some(session) = self.sessions.of_mut(conn) {
                    // Nothing but the time to leave is left to wait for.
                    (session.tick_at_ms, session.expire_at_ms) = (u64::MAX, u64::MAX);
                    self.counters.connected -= u64::from(session.phase == Phase::Joining);
                }
                // What waits behind is of no use to a connection that is refused.
                return self.refuse_connect(conn, joining.id, Error::INTERNAL, out);
            }
            _ => {}
        }
        self.resume(conn, *pending, out);
    }
}

/// The subscriptions that a parked command still sets up.
fn plans_of(work: &mut Work) -> &mut [Plan] {
    match work {
        Work::Subscribe { plan, .. } | Work::ServerSide { plan, .. } => std::slice::from_mut(plan),
        Work::Connect(joining) => &mut joining.waiting,
        _ => &mut [],
    }
}
