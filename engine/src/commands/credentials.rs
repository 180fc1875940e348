//! Who connects, and which channels come with that: from a token, from a backend, from a trusted header, or from nowhere
//! (client-protocol.md 6.1). Runs on the core of the connection; a backend may be asked in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use gyre_proto::client::ConnectRequest;
use gyre_proto::codes::{Disconnect, Error};
use gyre_proto::ids::ConnId;

use crate::backend::{BackendEvent, BackendReply, BackendResult, ConnectAnswer, ProxyId, SubscribeAnswer};
use crate::engine::Engine;
use crate::hub::flag;
use crate::limits::EXPIRY_MAX_S;
use crate::outlet::Outlet;
use crate::rules::{self, Asked, Requested};
use crate::session::{ClientId, Work};
use crate::subscription::Plan;
use crate::token::{ConnectionToken, SubscriptionClaims, TokenError};

/// Why a connect ends without a session.
pub(super) enum Refusal {
    Error(Error),
    Disconnect(Disconnect),
}

/// What a connect brings.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) token: ConnectionToken,
    /// For the connect reply; empty = none.
    pub(super) data: Bytes,
    /// Server-side subscriptions to set up.
    pub(super) plans: Vec<Plan>,
    /// The other connections of the user have to go.
    pub(super) is_only: bool,
}

impl Engine {
    /// Keeps the headers that the client says it has, as far as a proxy forwards them.
    pub(super) fn keep_headers(&mut self, conn: ConnId, headers: BTreeMap<String, String>) {
        let wanted = &self.rules.proxies.emulated_headers;
        let emulated: Vec<(Box<str>, Box<str>)> = headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into_boxed_str(), value.into_boxed_str()))
            .filter(|(name, _)| wanted.contains(name))
            .collect();
        if let Some(session) = self.sessions.of_mut(conn)
            && !emulated.is_empty()
        {
            session.context.get_or_insert_default().set_emulated(emulated);
        }
    }

    /// Asks the backend who this is.
    pub(super) fn ask_who_connects(
        &mut self,
        conn: ConnId,
        id: u32,
        proxy: ProxyId,
        mut request: Box<ConnectRequest>,
        out: &mut dyn Outlet,
    ) {
        let event = BackendEvent::Connect {
            data: std::mem::take(&mut request.data),
            name: std::mem::take(&mut request.name),
            version: std::mem::take(&mut request.version),
            channels: request.subs.keys().cloned().collect(),
        };
        self.ask_and_park(conn, proxy, event, Work::AskConnect { id, request }, out);
    }

    /// It has answered (proxies.md 4.1).
    pub(crate) fn connect_answered(
        &mut self,
        conn: ConnId,
        id: u32,
        request: &ConnectRequest,
        reply: BackendReply,
        out: &mut dyn Outlet,
    ) {
        let credentials = match reply {
            BackendReply::NoResult => self.without_token(conn, request),
            BackendReply::Result(result) => match *result {
                BackendResult::Connect(answer) => self.credentials_of_answer(answer, request),
                _ => Err(Refusal::Error(Error::INTERNAL)),
            },
            BackendReply::Failed | BackendReply::Busy => Err(Refusal::Error(Error::INTERNAL)),
            BackendReply::Disconnect(why) => Err(Refusal::Disconnect(why)),
            BackendReply::Error(error) => return self.refuse_connect_as_told(conn, id, error, out),
        };
        self.connect_as(conn, id, credentials, out);
    }

    pub(super) fn credentials_of_token(
        &self,
        client: ClientId,
        request: &ConnectRequest,
    ) -> Result<Credentials, Refusal> {
        let token = self.verified(client, &request.token)?;
        self.with_channels(token, request)
    }

    /// Neither a token nor a backend says who this is.
    pub(super) fn without_token(&self, conn: ConnId, request: &ConnectRequest) -> Result<Credentials, Refusal> {
        if self.rules.client.allow_anonymous_connect_without_token || self.rules.client.insecure {
            return self.with_channels(ConnectionToken::default(), request);
        }
        // Last of all, so that nothing is done for this user that comes before: no channels, and the others may stay.
        if let Some(user) = self.sessions.of(conn).and_then(|session| session.user_of_handshake()) {
            let token = ConnectionToken { user: user.to_owned(), ..ConnectionToken::default() };
            return Ok(Credentials { token, ..Credentials::default() });
        }
        tracing::info!(client = self.client_of(conn), "client credentials not found");
        Err(Refusal::Disconnect(Disconnect::BAD_REQUEST))
    }

    fn verified(&self, client: ClientId, token: &str) -> Result<ConnectionToken, Refusal> {
        let rules = &self.rules;
        let now_s = self.now.unix_s();
        let mut token = match rules.tokens.connection.verify_connection(token, now_s) {
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
        Ok(token)
    }

    /// The channels of a token, the personal one, and those that the client asks for.
    fn with_channels(&self, token: ConnectionToken, request: &ConnectRequest) -> Result<Credentials, Refusal> {
        let nothing = SubscriptionClaims::default();
        let mut plans = BTreeMap::new();
        for (channel, claims) in &token.subs {
            let mut plan = self.server_side_plan(&token.user, request, channel, claims).ok_or_else(unknown)?;
            plan.from_connection_token = true;
            plans.insert(channel.clone(), plan);
        }
        self.add_personal_channel(&token.user, request, &mut plans)?;
        for channel in request.subs.keys() {
            match rules::connect_requested_channel(&self.rules, channel, &token.user) {
                Requested::Subscribe if !plans.contains_key(channel) => {
                    let plan = self.server_side_plan(&token.user, request, channel, &nothing);
                    plans.extend(plan.map(|plan| (channel.clone(), plan)));
                }
                Requested::Subscribe | Requested::Skip => {}
                Requested::UnknownNamespace => return Err(Refusal::Disconnect(Disconnect::BAD_REQUEST)),
            }
        }
        let plans = self.within_limit(&token.user, plans)?;
        let is_only = self.rules.is_only_connection(&token.user);
        Ok(Credentials { token, data: Bytes::new(), plans, is_only })
    }

    /// What the client asks for has been told to the backend, and is not looked at again.
    fn credentials_of_answer(&self, answer: ConnectAnswer, request: &ConnectRequest) -> Result<Credentials, Refusal> {
        let now_s = self.now.unix_s();
        let ConnectAnswer { user, expire_at_s, info, data, channels, subs, meta } = answer;
        if expire_at_s > 0 && expire_at_s < now_s {
            return Err(Refusal::Error(Error::EXPIRED));
        }
        let mut plans = BTreeMap::new();
        let plain = channels.into_iter().map(|channel| (channel, SubscribeAnswer::default()));
        for (channel, options) in plain.chain(subs) {
            let claims =
                SubscriptionClaims { info: Some(options.info), data: Some(options.data), overrides: options.overrides };
            let mut plan = self.server_side_plan(&user, request, &channel, &claims).ok_or_else(unknown)?;
            plan.cache_recover = options.cache_recover;
            plans.insert(channel, plan);
        }
        self.add_personal_channel(&user, request, &mut plans)?;
        let plans = self.within_limit(&user, plans)?;
        let is_only = self.rules.is_only_connection(&user);
        let some = |bytes: Bytes| (!bytes.is_empty()).then_some(bytes);
        let expire_at = expire_at_s.clamp(0, now_s + EXPIRY_MAX_S);
        let token = ConnectionToken { user, expire_at, info: some(info), meta: some(meta), subs: Vec::new() };
        Ok(Credentials { token, data, plans, is_only })
    }

    fn add_personal_channel(
        &self,
        user: &str,
        request: &ConnectRequest,
        plans: &mut BTreeMap<String, Plan>,
    ) -> Result<(), Refusal> {
        if let Some(channel) = self.rules.personal_channel(user) {
            let nothing = SubscriptionClaims::default();
            let plan = self.server_side_plan(user, request, &channel, &nothing).ok_or_else(unknown)?;
            plans.insert(channel, plan);
        }
        Ok(())
    }

    /// The plans to carry out. A channel without a name is passed over, as an application may list one by mistake.
    fn within_limit(&self, user: &str, mut plans: BTreeMap<String, Plan>) -> Result<Vec<Plan>, Refusal> {
        plans.remove("");
        let limit = self.rules.client.channels_max();
        if plans.len() > limit {
            tracing::info!(user, limit, "channel limit reached");
            return Err(Refusal::Disconnect(Disconnect::CHANNEL_LIMIT));
        }
        Ok(plans.into_values().collect())
    }

    /// `None` = the namespace is unknown.
    fn server_side_plan(
        &self,
        user: &str,
        request: &ConnectRequest,
        channel: &str,
        claims: &SubscriptionClaims,
    ) -> Option<Plan> {
        let resolved = self.rules.resolve(channel)?;
        let asked = Asked::default();
        let grants = rules::subscription_grants(resolved.options, &self.rules, user, &asked, &claims.overrides);
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
}

fn unknown() -> Refusal {
    Refusal::Error(Error::UNKNOWN_CHANNEL)
}
