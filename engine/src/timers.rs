//! What happens to a session when its time has come: stale, ping, pong overdue, expiry, the periodic look at its
//! subscriptions.

use gyre_proto::Encoding;
use gyre_proto::client::{PING_JSON, PING_PROTOBUF};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::ConnId;

use crate::engine::Engine;
use crate::hub::flag;
use crate::message::{Caller, HistoryOptions, HomeCall};
use crate::outlet::Outlet;
use crate::position::Position;
use crate::session::{Heartbeat, Phase};

impl Engine {
    /// The timer of a connection fired.
    pub fn timeout(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.of(conn) else { return };
        if session.expire_at_ms <= now_ms {
            match self.rules.proxies.refresh {
                Some(proxy) => self.ask_refresh(conn, proxy, out),
                None => return self.expired(conn, out),
            }
        }
        let Some(session) = self.sessions.of(conn) else { return };
        if session.heartbeat_at_ms <= now_ms {
            self.heartbeat(conn, out);
        }
        if self.sessions.of(conn).is_some_and(|session| session.tick_at_ms <= now_ms) {
            self.tick(conn, out);
        }
        if let Some(session) = self.sessions.of(conn) {
            out.set_timer(conn, session.next_deadline_ms());
        }
    }

    fn heartbeat(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let interval_ms = self.rules.client.ping_interval_ms;
        let timeout_ms = self.rules.client.pong_timeout_ms;
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.of_mut(conn) else { return };
        match (session.heartbeat, session.phase) {
            // It came with credentials in time; what its channels wait for has deadlines of its own.
            (Heartbeat::Deadline, Phase::Joining) => session.heartbeat_at_ms = u64::MAX,
            (Heartbeat::Deadline, Phase::Refused) => self.disconnect(conn, &Disconnect::CONNECTION_CLOSED, out),
            (Heartbeat::Deadline, _) => {
                tracing::info!(client = %session.client, "stale connection");
                self.disconnect(conn, &Disconnect::STALE, out);
            }
            (Heartbeat::Ping, _) => {
                // Paced by the clock, not by when the timer was looked at, unless the core was stopped for long.
                let due_ms = session.heartbeat_at_ms.max(now_ms.saturating_sub(interval_ms / 2));
                (session.heartbeat, session.heartbeat_at_ms) = match timeout_ms {
                    0 => (Heartbeat::Ping, due_ms + interval_ms),
                    _ => (Heartbeat::Pong, due_ms + timeout_ms),
                };
                let encoding = session.encoding;
                let ping = if encoding == Encoding::Json { PING_JSON } else { PING_PROTOBUF };
                let frame = out.frame(encoding, ping);
                out.push(conn, frame);
            }
            (Heartbeat::Pong, _) => {
                tracing::info!(client = %session.client, user = &*session.user, "no pong");
                self.disconnect(conn, &Disconnect::NO_PONG, out);
            }
            (Heartbeat::Off, _) => session.heartbeat_at_ms = u64::MAX,
        }
    }

    /// Subscriptions that have expired end; positions that were not confirmed for long are compared with the stream.
    fn tick(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let interval_ms = self.rules.client.presence_update_interval_ms;
        let check_delay_ms = self.rules.client.channel_position_check_delay_ms;
        let expired_before_s = self.now.unix_s() - (self.rules.client.expired_sub_close_delay_ms / 1000) as i64;
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.of(conn) else { return };
        let mut expired = Vec::new();
        let mut unconfirmed = Vec::new();
        let mut needs_tick = false;
        for subscription in &session.subscriptions {
            let expire_at_s = subscription.extra.as_ref().map_or(0, |extra| extra.expire_at_s);
            let channel = self.hub.channel(subscription.channel);
            let subscriber = channel.subscribers[subscription.index as usize];
            needs_tick |= expire_at_s != 0 || subscriber.has(flag::POSITIONED);
            if expire_at_s != 0 && expire_at_s <= expired_before_s {
                expired.push(subscription.channel);
            } else if subscriber.has(flag::POSITIONED)
                && channel.fan_out.is_none()
                && now_ms >= channel.checked_at_ms.saturating_add(check_delay_ms)
            {
                unconfirmed.push((subscription.channel, subscriber.offset));
            }
        }
        for (id, offset) in unconfirmed {
            // A position lost just before may have ended the subscription, or the whole session.
            if self.sessions.of(conn).is_none_or(|session| session.subscription(id).is_none()) {
                continue;
            }
            let channel = self.hub.channel_mut(id);
            channel.checked_at_ms = now_ms;
            let held = Position { offset, epoch: channel.epoch };
            let name = channel.name.clone();
            let meta_ttl_ms = HistoryOptions::of(&self.rules, &name).meta_ttl_ms;
            let call = HomeCall::CheckPosition { core: self.core, held, meta_ttl_ms };
            self.call_home(Caller::None, &name, call, out);
        }
        for id in expired {
            // One of those before may have ended the session, or a position lost this subscription.
            if self.sessions.of(conn).is_some_and(|session| session.subscription(id).is_some()) {
                self.subscription_expired(conn, id, out);
            }
        }
        if let Some(session) = self.sessions.of_mut(conn) {
            session.tick_at_ms = if needs_tick { self.now.after(interval_ms) } else { u64::MAX };
        }
    }

    /// The stream of a channel is at `top`, and nothing on the way leads there: whoever is behind has missed something.
    pub(crate) fn top_is(&mut self, channel: &str, top: Position, out: &mut dyn Outlet) {
        let Some(id) = self.hub.find(channel) else { return };
        let local = self.hub.channel(id);
        if local.fan_out.is_some() {
            return;
        }
        let is_gone = local.epoch != top.epoch;
        let behind = |s: &&crate::hub::Subscriber| s.has(flag::POSITIONED) && (is_gone || s.offset < top.offset);
        let lost: Vec<_> = local.subscribers.iter().filter(behind).map(|s| s.conn).collect();
        for conn in lost {
            self.insufficient_state(conn, id, out);
        }
    }

    /// The stream of a channel is not at `held`: whoever still holds that position has missed something.
    pub(crate) fn position_lost(&mut self, channel: &str, held: Position, out: &mut dyn Outlet) {
        let Some(id) = self.hub.find(channel) else { return };
        let local = self.hub.channel(id);
        // With a fan-out running, subscribers are behind for no other reason than that; the next check will tell.
        if local.epoch != held.epoch || local.fan_out.is_some() {
            return;
        }
        // A publication that was on its way during the check has moved subscribers on; those are fine.
        let behind = |s: &&crate::hub::Subscriber| s.has(flag::POSITIONED) && s.offset == held.offset;
        let lost: Vec<_> = local.subscribers.iter().filter(behind).map(|s| s.conn).collect();
        for conn in lost {
            self.insufficient_state(conn, id, out);
        }
    }
}
