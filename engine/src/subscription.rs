//! A subscription from reservation to farewell, the same for client-side and server-side ones.
//!
//! `begin` reserves the channel and names what the home core must do; `commit` turns the facts into a subscriber.
//! Between the two nothing else of the connection runs, and a connection that goes away gives the reservation back.

use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::Encoding;
use gyre_proto::client::{ClientInfo, Push, SubscribeResult};
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::ConnId;

use crate::asking::About;
use crate::backend::ProxyId;
use crate::engine::Engine;
use crate::hub::{ChannelId, Subscriber, flag};
use crate::message::{
    Caller, HistoryOptions, HomeCall, HomeReply, PositionCall, RecoverFrom, SubscribeCall, SubscribeFacts,
    UnsubscribeCall,
};
use crate::outlet::Outlet;
use crate::position::Epoch;
use crate::rules::{Grants, RecoveryMode};
use crate::session::{Subscription, SubscriptionExtra};

/// A subscription that was granted and is being set up.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) channel: Box<str>,
    /// Bits of [`flag`].
    pub(crate) flags: u16,
    pub(crate) recoverable: bool,
    pub(crate) from_connection_token: bool,
    /// The client asked to recover, whether it may or not.
    pub(crate) was_recovering: bool,
    /// Answer error 112 rather than set up a subscription that could not recover.
    pub(crate) reject_unrecovered: bool,
    pub(crate) recover: Option<RecoverFrom>,
    /// In cache mode the latest publication is handed over although the client has not asked for it.
    pub(crate) cache_recover: bool,
    pub(crate) when_empty: WhenEmpty,
    /// Channel info.
    pub(crate) info: Bytes,
    /// For the subscribe reply.
    pub(crate) data: Bytes,
    /// Unix seconds; 0 = never.
    pub(crate) expire_at_s: i64,
    /// Set by `begin`.
    pub(crate) id: Option<ChannelId>,
}

/// What is done when recovery in cache mode finds no publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenEmpty {
    /// The client is told so.
    Take,
    /// This backend is asked for one first.
    Ask(ProxyId),
    /// It has been asked, under this number.
    Asked(u32),
}

/// The store of the channel cannot be asked (error 100).
#[derive(Debug)]
pub(crate) struct Unavailable;

impl Plan {
    pub(crate) fn new(channel: &str, grants: &Grants) -> Self {
        let mut flags = 0;
        let mut set = |on: bool, bit: u16| flags |= if on { bit } else { 0 };
        set(grants.positioned || grants.recoverable, flag::POSITIONED);
        set(grants.emit_presence, flag::PRESENCE);
        set(grants.emit_join_leave, flag::EMIT_JOIN_LEAVE);
        set(grants.push_join_leave, flag::PUSH_JOIN_LEAVE);
        Self {
            channel: channel.into(),
            flags,
            recoverable: grants.recoverable,
            from_connection_token: false,
            was_recovering: false,
            reject_unrecovered: false,
            recover: None,
            cache_recover: false,
            when_empty: WhenEmpty::Take,
            info: Bytes::new(),
            data: Bytes::new(),
            expire_at_s: 0,
            id: None,
        }
    }

    /// Asks for missed publications; of effect only when the subscription is recoverable.
    pub(crate) fn recover_from(&mut self, offset: u64, epoch: &str, limit: usize) {
        self.was_recovering = true;
        if self.recoverable {
            self.recover = Some(RecoverFrom { offset, epoch: epoch.into(), limit, mode: RecoveryMode::Stream });
        }
    }
}

impl Engine {
    /// Reserves the channel and asks its home core. `Some` = answered at once; `Err` = the store cannot be asked, and the
    /// reservation is given back. `None` = the facts come later; a backend may be asked before they do.
    pub(crate) fn begin_subscription(
        &mut self,
        conn: ConnId,
        seq: u32,
        plan: &mut Plan,
        out: &mut dyn Outlet,
    ) -> Option<Result<SubscribeFacts, Unavailable>> {
        self.settle_recovery(plan);
        let session = self.sessions.of(conn)?;
        let encoding = session.encoding;
        let member =
            (plan.flags & flag::PRESENCE != 0).then(|| (session.client, Arc::new(session.client_info(&plan.info))));
        if encoding == Encoding::Protobuf {
            plan.flags |= flag::PROTOBUF;
        }
        plan.id = Some(self.hub.reserve(&plan.channel, encoding));
        let position = (plan.flags & flag::POSITIONED != 0).then(|| PositionCall {
            meta_ttl_ms: HistoryOptions::of(&self.rules, &plan.channel).meta_ttl_ms,
            recover: plan.recover.clone(),
        });
        let call = HomeCall::Subscribe(SubscribeCall { core: self.core, encoding, member, position });
        let caller = Caller::Session { core: self.core, conn, seq };
        match self.call_home(caller, &plan.channel, call, out)? {
            HomeReply::Subscribed(facts) if self.asks_for_publication(conn, plan, &facts, out) => None,
            HomeReply::Subscribed(facts) => Some(Ok(facts)),
            _ => {
                self.cancel_subscription(conn, plan, out);
                Some(Err(Unavailable))
            }
        }
    }

    /// Makes the connection a subscriber. `None` = recovery failed and was demanded; the reservation is given back.
    pub(crate) fn commit_subscription(
        &mut self,
        conn: ConnId,
        plan: &Plan,
        facts: SubscribeFacts,
        out: &mut dyn Outlet,
    ) -> Option<SubscribeResult> {
        let id = plan.id?;
        let is_rejected = |from: &RecoverFrom| plan.reject_unrecovered && from.mode == RecoveryMode::Stream;
        if plan.recover.as_ref().is_some_and(is_rejected) && !facts.recovered {
            self.cancel_subscription(conn, plan, out);
            return None;
        }
        self.count_recovery(plan, &facts);
        if let Some(top) = facts.top {
            self.adopt_epoch(id, top.epoch, out);
        }
        let is_client_side = plan.flags & flag::SERVER_SIDE == 0;
        let expires = plan.expire_at_s != 0 && is_client_side && !self.backend_prolongs(&plan.channel);
        let session = self.sessions.of_mut(conn)?;
        let top = facts.top.map_or(0, |top| top.offset);
        let slot = session.subscriptions.len() as u16;
        let flags = plan.flags & !flag::EMIT_JOIN_LEAVE;
        let subscriber = Subscriber { conn, offset: top, slot, flags, since: 0 };
        let index = self.hub.admit(id, subscriber);
        let has_extra = !plan.info.is_empty() || plan.expire_at_s != 0 || plan.from_connection_token;
        let extra = has_extra.then(|| {
            Box::new(SubscriptionExtra {
                info: plan.info.clone(),
                expire_at_s: plan.expire_at_s,
                from_connection_token: plan.from_connection_token,
            })
        });
        session.subscriptions.push(Subscription { channel: id, index, extra });
        if session.tick_at_ms == u64::MAX && (plan.expire_at_s != 0 || plan.flags & flag::POSITIONED != 0) {
            session.tick_at_ms = self.now.after(self.rules.client.presence_update_interval_ms);
            let deadline = session.next_deadline_ms();
            out.set_timer(conn, deadline);
        }
        let positioned = plan.flags & flag::POSITIONED != 0;
        Some(SubscribeResult {
            expires,
            ttl: if expires { self.now.ttl_s(plan.expire_at_s) } else { 0 },
            recoverable: plan.recoverable,
            epoch: facts.top.map_or_else(String::new, |top| top.epoch.as_str().to_owned()),
            publications: facts.publications.iter().map(|p| (**p).clone()).collect(),
            recovered: facts.recovered,
            offset: match (&plan.recover, facts.recovered) {
                (Some(from), true) => from.offset,
                _ => top,
            },
            positioned,
            data: plan.data.clone(),
            was_recovering: plan.was_recovering,
            ..SubscribeResult::default()
        })
    }

    /// Tells the members that a new one has come; from now on they are told when it leaves, too. Nothing happens when
    /// the reply that goes before could not be given and has ended the connection.
    pub(crate) fn announce(&mut self, conn: ConnId, channel: &str, info: Arc<ClientInfo>, out: &mut dyn Outlet) {
        let Some(id) = self.hub.find(channel) else { return };
        let Some(session) = self.sessions.of(conn) else { return };
        let Some(slot) = session.subscription(id) else { return };
        self.hub.subscriber_mut(id, session.subscriptions[slot].index).flags |= flag::EMIT_JOIN_LEAVE;
        self.call_home(Caller::None, channel, HomeCall::Join(info), out);
    }

    /// Gives the reservation of a subscription back that will not come about.
    pub(crate) fn cancel_subscription(&mut self, conn: ConnId, plan: &Plan, out: &mut dyn Outlet) {
        let (Some(id), Some(session)) = (plan.id, self.sessions.of(conn)) else { return };
        let client = (plan.flags & flag::PRESENCE != 0).then_some(session.client);
        let encoding = session.encoding;
        self.release(id, encoding, client, None, out);
    }

    /// Ends a subscription: members are told, presence and interest go. The client is not told.
    pub(crate) fn end_subscription(&mut self, conn: ConnId, slot: usize, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let subscription = session.subscriptions.swap_remove(slot);
        session.forget_question(About::Subscription(subscription.channel));
        if let Some(moved) = session.subscriptions.get(slot) {
            self.hub.subscriber_mut(moved.channel, moved.index).slot = slot as u16;
        }
        let info = subscription.extra.map_or(Bytes::new(), |extra| extra.info);
        let (gone, moved) = self.hub.take_out(subscription.channel, subscription.index);
        for (conn, slot, index) in moved {
            if let Some(session) = self.sessions.of_mut(conn) {
                session.subscriptions[usize::from(slot)].index = index;
            }
        }
        let Some(session) = self.sessions.of(conn) else { return };
        let client = gone.has(flag::PRESENCE).then_some(session.client);
        let leave = gone.has(flag::EMIT_JOIN_LEAVE).then(|| Arc::new(session.client_info(&info)));
        let encoding = session.encoding;
        self.release(subscription.channel, encoding, client, leave, out);
    }

    fn release(
        &mut self,
        id: ChannelId,
        encoding: Encoding,
        client: Option<crate::session::ClientId>,
        leave: Option<Arc<ClientInfo>>,
        out: &mut dyn Outlet,
    ) {
        let name = self.hub.channel(id).name.clone();
        let lost_interest = self.hub.release(id, encoding).then_some((self.core, encoding));
        if lost_interest.is_some() || client.is_some() || leave.is_some() {
            let call = HomeCall::Unsubscribe(UnsubscribeCall { client, leave, lost_interest });
            self.call_home(Caller::None, &name, call, out);
        }
    }

    /// The server ends a subscription and says so. Server-side ones are ended the same way by the server API.
    pub(crate) fn unsubscribe_with_push(&mut self, conn: ConnId, slot: usize, why: &Unsubscribe, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let channel = self.hub.channel(session.subscriptions[slot].channel).name.to_string();
        self.end_subscription(conn, slot, out);
        self.push(conn, unsubscribe_push(channel, why), out);
    }

    /// A subscriber's position cannot be continued (client-protocol.md 9.2).
    pub(crate) fn insufficient_state(&mut self, conn: ConnId, id: ChannelId, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let Some(slot) = session.subscription(id) else { return };
        let channel = self.hub.channel(id);
        tracing::debug!(client = %session.client, channel = %channel.name, "insufficient state");
        let index = session.subscriptions[slot].index as usize;
        if channel.subscribers[index].has(flag::SERVER_SIDE) {
            self.disconnect(conn, &Disconnect::INSUFFICIENT_STATE, out);
        } else {
            self.unsubscribe_with_push(conn, slot, &Unsubscribe::INSUFFICIENT_STATE, out);
        }
    }

    /// Notes the epoch of a stream; subscribers who hold a position in another one have lost it.
    fn adopt_epoch(&mut self, id: ChannelId, epoch: Epoch, out: &mut dyn Outlet) {
        let channel = self.hub.channel_mut(id);
        channel.checked_at_ms = self.now.mono_ms;
        if std::mem::replace(&mut channel.epoch, epoch) == epoch {
            return;
        }
        let lost: Vec<_> = channel.subscribers.iter().filter(|s| s.has(flag::POSITIONED)).map(|s| s.conn).collect();
        for conn in lost {
            self.insufficient_state(conn, id, out);
        }
    }

    fn count_recovery(&mut self, plan: &Plan, facts: &SubscribeFacts) {
        self.counters.subscribes += 1;
        let Some(from) = &plan.recover else { return };
        self.counters.cache_recoveries += u64::from(from.mode == RecoveryMode::Cache);
        if facts.recovered {
            self.counters.recovered += 1;
            self.counters.recovered_publications += u64::from(!facts.publications.is_empty());
        } else {
            self.counters.unrecovered += 1;
        }
    }
}

pub(crate) fn unsubscribe_push(channel: String, why: &Unsubscribe) -> Push {
    Push { channel, unsubscribe: Some(why.into()), ..Push::default() }
}
