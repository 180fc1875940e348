//! `refresh` and `sub_refresh`: new tokens for a connection or a subscription that expires.

use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::client::{RefreshResult, Reply, SubRefreshRequest, SubRefreshResult};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::commands::subscribe::token_fits;
use crate::engine::Engine;
use crate::hub::flag;
use crate::message::{Caller, HomeCall};
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::session::SubscriptionExtra;
use crate::token::{ConnectionToken, TokenError};

impl Engine {
    /// client-protocol.md 15.1.
    pub(super) fn refresh(&mut self, conn: ConnId, id: u32, token: &str, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if token.is_empty() || self.rules.proxies.refresh.is_some() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let verified = self.rules.tokens.connection.verify_connection(token, self.now.unix_s());
        let token = match verified {
            Ok(token) if *token.user == *session.user => token,
            Ok(_) => {
                tracing::info!(client = %session.client, user = &*session.user, "refresh token of another user");
                return self.disconnect(conn, &Disconnect::INVALID_TOKEN, out);
            }
            Err(TokenError::Expired) => return self.disconnect(conn, &Disconnect::EXPIRED, out),
            Err(TokenError::Internal) => {
                return self.refuse(conn, id, Refused { command: "refresh", channel: "" }, Error::INTERNAL, out);
            }
            Err(TokenError::Invalid(why)) => {
                tracing::info!(client = %session.client, user = &*session.user, why, "invalid refresh token");
                return self.disconnect(conn, &Disconnect::INVALID_TOKEN, out);
            }
        };
        if token.expire_at != 0 && token.expire_at < self.now.unix_s() {
            return self.refuse(conn, id, Refused { command: "refresh", channel: "" }, Error::EXPIRED, out);
        }
        if !self.subscriptions_match(conn, &token) {
            return self.disconnect(conn, &Disconnect::INSUFFICIENT_STATE, out);
        }
        let expires = token.expire_at != 0 && !self.rules.client.insecure;
        let delay_ms = self.expiry_delay_ms();
        let keeps_meta = self.rules.proxies.keeps_meta;
        let expire_at_ms = if expires { self.now.mono_of(token.expire_at, delay_ms) } else { u64::MAX };
        if let Some(session) = self.sessions.of_mut(conn) {
            session.expire_at_ms = expire_at_ms;
            if let Some(info) = token.info {
                session.info = info.to_vec().into();
            }
            if let Some(meta) = token.meta
                && keeps_meta
            {
                session.set_meta(meta);
            }
            out.set_timer(conn, session.next_deadline_ms());
        }
        self.renew_presence_everywhere(conn, out);
        let ttl = if expires { self.now.ttl_s(token.expire_at) } else { 0 };
        let result = RefreshResult { expires, ttl, ..RefreshResult::default() };
        self.reply(conn, Reply::refresh(id, result), out);
    }

    /// The presence entries of a connection follow its info.
    pub(crate) fn renew_presence_everywhere(&mut self, conn: ConnId, out: &mut dyn Outlet) {
        let slots = self.sessions.of(conn).map_or(0, |session| session.subscriptions.len());
        for slot in 0..slots {
            self.renew_presence(conn, slot, out);
        }
    }

    /// The presence entry of a subscription follows the info of connection and subscription.
    pub(crate) fn renew_presence(&mut self, conn: ConnId, slot: usize, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        let subscription = &session.subscriptions[slot];
        let channel = self.hub.channel(subscription.channel);
        if !channel.subscribers[subscription.index as usize].has(flag::PRESENCE) {
            return;
        }
        let info = subscription.extra.as_ref().map_or(Bytes::new(), |extra| extra.info.clone());
        let call = HomeCall::Renew(session.client, Arc::new(session.client_info(&info)));
        let name = channel.name.clone();
        self.call_home(Caller::None, &name, call, out);
    }

    /// Whether the channels that the new token grants are the ones that the connection got from the old one.
    fn subscriptions_match(&self, conn: ConnId, token: &ConnectionToken) -> bool {
        let Some(session) = self.sessions.of(conn) else { return false };
        let is_subscribed = |channel: &str| self.is_subscribed(session, channel);
        let granted = |name: &str| token.subs.iter().any(|(channel, _)| channel == name);
        token.subs.iter().all(|(channel, _)| is_subscribed(channel))
            && session.subscriptions.iter().all(|subscription| {
                let from_token = subscription.extra.as_ref().is_some_and(|e| e.from_connection_token);
                !from_token || granted(&self.hub.channel(subscription.channel).name)
            })
    }

    /// client-protocol.md 15.2.
    pub(super) fn sub_refresh(&mut self, conn: ConnId, id: u32, request: &SubRefreshRequest, out: &mut dyn Outlet) {
        let Some(session) = self.sessions.of(conn) else { return };
        if request.channel.is_empty() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let what = Refused { command: "sub_refresh", channel: &request.channel };
        let found = self.hub.find(&request.channel);
        let Some(slot) = found.and_then(|id| session.subscription(id)) else {
            return self.refuse(conn, id, what, Error::PERMISSION_DENIED, out);
        };
        let subscription = &session.subscriptions[slot];
        let subscriber = &self.hub.channel(subscription.channel).subscribers[subscription.index as usize];
        if subscriber.has(flag::SERVER_SIDE) || self.backend_prolongs(&request.channel) {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        if request.token.is_empty() {
            return self.refuse(conn, id, what, Error::BAD_REQUEST, out);
        }
        let verifier = self.rules.tokens.for_subscriptions();
        let token = match verifier.verify_subscription(&request.token, self.now.unix_s()) {
            Ok(token) if token_fits(&token, session, &request.channel) => token,
            // Upstream answers an expired token with success and lets the subscription live for ever.
            Err(TokenError::Expired) => return self.refuse(conn, id, what, Error::TOKEN_EXPIRED, out),
            Err(TokenError::Internal) => return self.refuse(conn, id, what, Error::INTERNAL, out),
            Ok(_) | Err(TokenError::Invalid(_)) => {
                tracing::info!(client = %session.client, user = &*session.user, channel = &*request.channel,
                    "invalid subscription refresh token");
                return self.disconnect(conn, &Disconnect::INVALID_TOKEN, out);
            }
        };
        if token.expire_at != 0 && token.expire_at < self.now.unix_s() {
            return self.refuse(conn, id, what, Error::EXPIRED, out);
        }
        let tick_at_ms = self.now.after(self.rules.client.presence_update_interval_ms);
        if let Some(session) = self.sessions.of_mut(conn) {
            let subscription = &mut session.subscriptions[slot];
            let from_connection_token = subscription.extra.as_ref().is_some_and(|e| e.from_connection_token);
            subscription.extra = Some(Box::new(SubscriptionExtra {
                info: token.info.unwrap_or_default(),
                expire_at_s: token.expire_at,
                from_connection_token,
            }));
            session.tick_at_ms = session.tick_at_ms.min(tick_at_ms);
            out.set_timer(conn, session.next_deadline_ms());
        }
        self.renew_presence(conn, slot, out);
        let expires = token.expire_at != 0;
        let ttl = if expires { self.now.ttl_s(token.expire_at) } else { 0 };
        let result = SubRefreshResult { expires, ttl, ..SubRefreshResult::default() };
        self.reply(conn, Reply::sub_refresh(id, result), out);
    }
}
