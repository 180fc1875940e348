//! What happens to connections and subscriptions that expire when their backend decides: it is asked by the clock, and
//! its answer prolongs or ends them (proxies.md 4.2, 4.5). No command waits for that. Runs on the core of the session.

use bytes::Bytes;
use gyre_proto::codes::{Disconnect, Unsubscribe};
use gyre_proto::ids::ConnId;

use crate::asking::About;
use crate::backend::{BackendEvent, BackendReply, BackendResult, ProxyId};
use crate::engine::Engine;
use crate::hub::{ChannelId, flag};
use crate::limits::{EXPIRY_MAX_S, PROLONGED_BUSY_S, PROLONGED_UNASKED_S};
use crate::outlet::Outlet;

impl Engine {
    /// How long after its expiry a connection is closed, or its backend asked.
    pub(crate) fn expiry_delay_ms(&self) -> u64 {
        match self.rules.proxies.refresh {
            Some(_) => 0,
            None => self.rules.client.expired_close_delay_ms,
        }
    }

    /// The connection has expired.
    pub(crate) fn ask_refresh(&mut self, conn: ConnId, proxy: ProxyId, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        session.expire_at_ms = u64::MAX;
        if !session.has_asked(About::Connection) {
            self.ask_aside(conn, proxy, BackendEvent::Refresh, About::Connection, out);
        }
    }

    pub(crate) fn refresh_answered(&mut self, conn: ConnId, reply: BackendReply, out: &mut dyn Outlet) {
        let now_s = self.now.unix_s();
        let (expire_at_s, info, meta) = match reply {
            BackendReply::Failed => (now_s + PROLONGED_UNASKED_S, None, None),
            BackendReply::Busy => (now_s + self.rng.i64(PROLONGED_BUSY_S), None, None),
            BackendReply::Result(result) => match *result {
                BackendResult::Refresh(answer) if !answer.is_expired && answer.expire_at_s > now_s => {
                    (answer.expire_at_s.min(now_s + EXPIRY_MAX_S), answer.info, answer.meta)
                }
                _ => return self.expired(conn, out),
            },
            BackendReply::NoResult | BackendReply::Error(_) | BackendReply::Disconnect(_) => {
                return self.expired(conn, out);
            }
        };
        let expire_at_ms = self.now.mono_of(expire_at_s, 0);
        let keeps_meta = self.rules.proxies.keeps_meta;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        session.expire_at_ms = expire_at_ms;
        if let Some(meta) = meta
            && keeps_meta
        {
            session.set_meta(meta);
        }
        let has_new_info = info.is_some();
        if let Some(info) = info {
            session.info = info.to_vec().into();
        }
        out.set_timer(conn, session.next_deadline_ms());
        if has_new_info {
            self.renew_presence_everywhere(conn, out);
        }
    }

    /// The time of a connection is over.
    pub(crate) fn expired(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        if let Some(session) = self.sessions.of(conn) {
            tracing::info!(client = %session.client, user = &*session.user, "connection expired");
        }
        self.disconnect(conn, &Disconnect::EXPIRED, out);
    }

    /// Whether subscriptions to a channel are prolonged by a backend, so that clients need not know of it.
    pub(crate) fn backend_prolongs(&self, channel: &str) -> bool {
        self.rules.resolve(channel).is_some_and(|resolved| resolved.options.proxies.sub_refresh.is_some())
    }

    /// A subscription has expired; whoever may prolong it is asked, else it ends.
    pub(crate) fn subscription_expired(&mut self, conn: ConnId, id: ChannelId, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let about = About::Subscription(id);
        if session.has_asked(about) {
            return;
        }
        let channel = &self.hub.channel(id).name;
        match self.rules.resolve(channel).and_then(|resolved| resolved.options.proxies.sub_refresh) {
            Some(proxy) => {
                let event = BackendEvent::SubRefresh { channel: channel.clone() };
                self.ask_aside(conn, proxy, event, about, out);
            }
            None => self.end_expired_subscription(conn, id, out),
        }
    }

    pub(crate) fn sub_refresh_answered(
        &mut self,
        conn: ConnId,
        id: ChannelId,
        reply: BackendReply,
        out: &mut dyn Outlet,
    ) {
        let now_s = self.now.unix_s();
        let (expire_at_s, info) = match reply {
            BackendReply::Failed => (now_s + PROLONGED_UNASKED_S, None),
            BackendReply::Busy => (now_s + self.rng.i64(PROLONGED_BUSY_S), None),
            BackendReply::Result(result) => match *result {
                BackendResult::SubRefresh(answer)
                    if !answer.is_expired && (answer.expire_at_s <= 0 || answer.expire_at_s > now_s) =>
                {
                    (answer.expire_at_s.clamp(0, now_s + EXPIRY_MAX_S), answer.info)
                }
                _ => return self.end_expired_subscription(conn, id, out),
            },
            BackendReply::NoResult | BackendReply::Error(_) | BackendReply::Disconnect(_) => {
                return self.end_expired_subscription(conn, id, out);
            }
        };
        self.prolong_subscription(conn, id, expire_at_s, info, out);
    }

    fn prolong_subscription(
        &mut self,
        conn: ConnId,
        id: ChannelId,
        expire_at_s: i64,
        info: Option<Bytes>,
        out: &mut dyn Outlet,
    ) {
        let Some(session) = self.sessions.of_mut(conn) else { return };
        let Some(slot) = session.subscription(id) else { return };
        let extra = session.subscriptions[slot].extra.get_or_insert_default();
        extra.expire_at_s = expire_at_s;
        let has_new_info = info.is_some();
        if let Some(info) = info {
            extra.info = info;
        }
        if has_new_info {
            self.renew_presence(conn, slot, out);
        }
    }

    fn end_expired_subscription(&mut self, conn: ConnId, id: ChannelId, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let Some(slot) = session.subscription(id) else { return };
        let channel = self.hub.channel(id);
        tracing::info!(client = %session.client, user = &*session.user, channel = &*channel.name, "subscription expired");
        let index = session.subscriptions[slot].index as usize;
        if channel.subscribers[index].has(flag::SERVER_SIDE) {
            return self.disconnect(conn, &Disconnect::SUBSCRIPTION_EXPIRED, out);
        }
        self.unsubscribe_with_push(conn, slot, &Unsubscribe::EXPIRED, out);
    }
}
