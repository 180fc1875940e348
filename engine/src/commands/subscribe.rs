//! `subscribe` and `unsubscribe`. Run on the core of the connection; a backend may be asked in between.

use std::sync::Arc;

use gyre_proto::client::{Reply, SubscribeRequest};
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::backend::{BackendEvent, BackendReply, BackendResult, ProxyId, SubscribeAnswer};
use crate::engine::Engine;
use crate::hub::flag;
use crate::limits::EXPIRY_MAX_S;
use crate::message::SubscribeFacts;
use crate::outlet::Outlet;
use crate::replies::Refused;
use crate::rules::{self, Asked, Overrides, Source};
use crate::session::Work;
use crate::subscription::{Plan, Unavailable};
use crate::token::{SubscriptionToken, TokenError};

/// Flag of a subscribe request: answer 112 rather than an unrecovered success.
const REJECT_UNRECOVERED: i64 = 2;
/// Subscription types of the protocol beyond the plain stream.
const TYPE_SHARED_POLL: i32 = 4;

/// What came of the checks of a subscribe.
enum Granted {
    Here(Box<Plan>),
    /// If this backend agrees.
    By(ProxyId),
}

/// Who grants a channel.
enum Authority {
    Rules,
    Token(SubscriptionToken),
    Backend(ProxyId),
}

/// Why a subscribe is refused.
enum Refusal {
    Error(Error),
    /// The operator has been told the reason.
    Told(Error),
    Disconnect(Disconnect),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Engine {
    pub(super) fn subscribe(&mut self, conn: ConnId, id: u32, request: SubscribeRequest, out: &mut dyn Outlet) {
        match self.subscribe_check(conn, &request) {
            Ok(Granted::Here(plan)) => self.subscribe_as(conn, id, *plan, out),
            Ok(Granted::By(proxy)) => {
                let event =
                    BackendEvent::Subscribe { channel: request.channel.as_str().into(), data: request.data.clone() };
                self.ask_and_park(conn, proxy, event, Work::AskSubscribe { id, request: Box::new(request) }, out);
            }
            Err(Refusal::Disconnect(why)) => self.disconnect(conn, &why, out),
            Err(Refusal::Told(error)) => self.reply_error(conn, id, error, out),
            Err(Refusal::Error(error)) => {
                self.refuse(conn, id, Refused { command: "subscribe", channel: &request.channel }, error, out);
            }
        }
    }

    /// The backend has decided (proxies.md 4.3).
    pub(crate) fn subscribe_answered(
        &mut self,
        conn: ConnId,
        id: u32,
        request: &SubscribeRequest,
        reply: BackendReply,
        out: &mut dyn Outlet,
    ) {
        let what = Refused { command: "subscribe", channel: &request.channel };
        let answer = match reply {
            BackendReply::NoResult => SubscribeAnswer::default(),
            BackendReply::Result(result) => match *result {
                BackendResult::Subscribe(answer) => answer,
                _ => return self.backend_refused(conn, id, what, BackendReply::Failed, out),
            },
            refusal => return self.backend_refused(conn, id, what, refusal, out),
        };
        if answer.expire_at_s > 0 && answer.expire_at_s < self.now.unix_s() {
            return self.refuse(conn, id, what, Error::EXPIRED, out);
        }
        // What the client wishes is not asked for here: the backend has seen to that.
        match self.plan(conn, request, &Asked::default(), &answer.overrides) {
            Some(mut plan) => {
                plan.expire_at_s = answer.expire_at_s.clamp(0, self.now.unix_s() + EXPIRY_MAX_S);
                plan.info = answer.info;
                plan.data = answer.data;
                self.subscribe_as(conn, id, plan, out);
            }
            // A reload has taken the namespace away.
            None => self.refuse(conn, id, what, Error::UNKNOWN_CHANNEL, out),
        }
    }

    /// Sets a subscription up that was granted.
    fn subscribe_as(&mut self, conn: ConnId, id: u32, mut plan: Plan, out: &mut dyn Outlet) {
        let seq = self.next_seq(conn);
        match self.begin_subscription(conn, seq, &mut plan, out) {
            Some(Ok(facts)) => self.subscribe_commit(conn, id, &plan, facts, out),
            Some(Err(Unavailable)) => self.subscribe_unavailable(conn, id, &plan.channel, out),
            None => self.park(conn, seq, Work::Subscribe { id, plan: Box::new(plan) }),
        }
    }

    /// Everything that is known without the home core (client-protocol.md 8.1-8.3).
    fn subscribe_check(&self, conn: ConnId, request: &SubscribeRequest) -> Result<Granted, Refusal> {
        let rules = &*self.rules;
        let channel = &*request.channel;
        let Some(session) = self.sessions.of(conn) else {
            return Err(Refusal::Disconnect(Disconnect::STALE));
        };
        if channel.is_empty() {
            return Err(Refusal::Disconnect(Disconnect::BAD_REQUEST));
        }
        if request.r#type == TYPE_SHARED_POLL {
            return Err(Error::NOT_AVAILABLE.into());
        }
        if !matches!(&*request.delta, "" | "fossil") {
            return Err(Refusal::Disconnect(Disconnect::BAD_REQUEST));
        }
        if rules.name_is_too_long(channel) {
            return Err(Error::BAD_REQUEST.into());
        }
        if self.hub.find(channel).is_some_and(|id| session.subscription(id).is_some()) {
            return Err(Error::ALREADY_SUBSCRIBED.into());
        }
        if session.subscriptions.len() >= rules.client.channels_max() {
            return Err(Error::LIMIT_EXCEEDED.into());
        }
        let resolved = rules.resolve(channel).ok_or(Error::UNKNOWN_CHANNEL)?;
        if !rules.name_is_valid(channel, &resolved) {
            return Err(Error::BAD_REQUEST.into());
        }
        if request.r#type != 0 {
            return Err(Error::PERMISSION_DENIED.into());
        }
        let authority = self.subscribe_authorize(session, request)?;
        if request.tf.is_some() {
            return Err(Error::BAD_REQUEST.into());
        }
        let token = match authority {
            Authority::Rules => None,
            Authority::Token(token) => Some(token),
            Authority::Backend(proxy) => return Ok(Granted::By(proxy)),
        };
        let asked =
            Asked { positioned: request.positioned, recoverable: request.recoverable, join_leave: request.join_leave };
        let nothing = Overrides::default();
        let overrides = token.as_ref().map_or(&nothing, |token| &token.overrides);
        let mut plan = self.plan(conn, request, &asked, overrides).ok_or(Error::UNKNOWN_CHANNEL)?;
        if let Some(token) = token {
            if token.expire_at != 0 && token.expire_at < self.now.unix_s() {
                return Err(Error::EXPIRED.into());
            }
            plan.expire_at_s = token.expire_at;
            plan.info = token.info.unwrap_or_default();
            plan.data = token.data.unwrap_or_default();
        }
        Ok(Granted::Here(Box::new(plan)))
    }

    /// `None` = the namespace is unknown.
    fn plan(&self, conn: ConnId, request: &SubscribeRequest, asked: &Asked, overrides: &Overrides) -> Option<Plan> {
        let rules = &*self.rules;
        let session = self.sessions.of(conn)?;
        let resolved = rules.resolve(&request.channel)?;
        let grants = rules::subscription_grants(resolved.options, rules, &session.user, asked, overrides);
        let mut plan = Plan::new(&request.channel, &grants);
        plan.reject_unrecovered = request.flag & REJECT_UNRECOVERED != 0;
        if request.recover {
            plan.recover_from(request.offset, &request.epoch, rules.client.recovery_max_publication_limit);
        }
        Some(plan)
    }

    /// Whether the session may have the channel, or who is to say so.
    fn subscribe_authorize(
        &self,
        session: &crate::session::Session,
        request: &SubscribeRequest,
    ) -> Result<Authority, Refusal> {
        let rules = &*self.rules;
        let channel = &*request.channel;
        if request.token.is_empty() {
            if rules.is_private(channel) {
                let (client, user) = (&session.client, &*session.user);
                tracing::warn!(%client, user, channel, "private channel requires a subscription token");
                return Err(Refusal::Told(Error::PERMISSION_DENIED));
            }
            let resolved = rules.resolve(channel).ok_or(Error::UNKNOWN_CHANNEL)?;
            let source = rules::subscribe_without_token(rules, channel, &resolved, &session.user)?;
            return match (source, resolved.options.proxies.subscribe) {
                (Source::Proxy, Some(proxy)) => Ok(Authority::Backend(proxy)),
                _ => Ok(Authority::Rules),
            };
        }
        let (client, user) = (&session.client, &*session.user);
        let verifier = rules.tokens.for_subscriptions();
        let token = match verifier.verify_subscription(&request.token, self.now.unix_s()) {
            Ok(token) => token,
            Err(TokenError::Expired) => return Err(Error::TOKEN_EXPIRED.into()),
            Err(TokenError::Internal) => return Err(Error::INTERNAL.into()),
            Err(TokenError::Invalid(why)) => {
                tracing::info!(%client, user, channel, why, "invalid subscription token");
                return Err(Refusal::Told(Error::PERMISSION_DENIED));
            }
        };
        if !token_fits(&token, session, channel) {
            tracing::info!(%client, user, channel, "subscription token is for another channel, user or client");
            return Err(Refusal::Disconnect(Disconnect::INVALID_TOKEN));
        }
        Ok(Authority::Token(token))
    }

    pub(super) fn subscribe_commit(
        &mut self,
        conn: ConnId,
        id: u32,
        plan: &Plan,
        facts: SubscribeFacts,
        out: &mut dyn Outlet,
    ) {
        let Some(result) = self.commit_subscription(conn, plan, facts, out) else {
            let what = Refused { command: "subscribe", channel: &plan.channel };
            return self.refuse(conn, id, what, Error::UNRECOVERABLE_POSITION, out);
        };
        self.reply(conn, Reply::subscribe(id, result), out);
        if let Some(session) = self.sessions.of(conn) {
            let (client, user, channel) = (&session.client, &*session.user, &*plan.channel);
            tracing::debug!(%client, user, channel, "subscribed");
        }
        if plan.flags & flag::EMIT_JOIN_LEAVE != 0
            && let Some(session) = self.sessions.of(conn)
        {
            let info = Arc::new(session.client_info(&plan.info));
            self.announce(conn, &plan.channel, info, out);
        }
    }

    /// Other than upstream, which closes the connection: the SDK asks again for this channel alone, with a backoff.
    pub(super) fn subscribe_unavailable(&mut self, conn: ConnId, id: u32, channel: &str, out: &mut dyn Outlet) {
        self.refuse(conn, id, Refused { command: "subscribe", channel }, Error::INTERNAL, out);
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, id: u32, channel: &str, out: &mut dyn Outlet) {
        if channel.is_empty() {
            return self.disconnect(conn, &Disconnect::BAD_REQUEST, out);
        }
        let found = self.hub.find(channel);
        if let Some(slot) = found.and_then(|id| self.sessions.of(conn)?.subscription(id)) {
            self.end_subscription(conn, slot, out);
        }
        self.counters.unsubscribes += 1;
        self.reply(conn, Reply::unsubscribe(id), out);
    }
}

/// Whether a valid subscription token was made for this channel, user and connection.
pub(super) fn token_fits(token: &SubscriptionToken, session: &crate::session::Session, channel: &str) -> bool {
    *token.channel == *channel
        && *token.user == *session.user
        && (token.client.is_empty() || *token.client == *session.client.to_string())
}
