//! `client.*`: what one client connection may do and how long the node waits for it.

use super::proxy::ClientProxies;
use super::values::{Secret, duration, limit, switch};
use serde::Deserialize;
use std::time::Duration;

/// `client.*`; durations that can be switched off with a negative value are `Option`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Client {
    /// Globs for the `Origin` header; empty refuses every request that has one, `*` accepts all.
    pub(crate) allowed_origins: Vec<String>,
    /// Verifies connection tokens, and subscription tokens unless those have their own section.
    pub(crate) token: Token,
    /// Separate verifier for subscription tokens.
    pub(crate) subscription_token: SubscriptionToken,
    /// Backends that are asked about connections.
    pub(crate) proxy: ClientProxies,
    /// A connection without credentials becomes the anonymous user.
    pub(crate) allow_anonymous_connect_without_token: bool,
    /// A connection token with an empty user is refused.
    pub(crate) disallow_anonymous_connection_tokens: bool,
    /// No authentication and no permission checks.
    pub(crate) insecure: bool,
    /// Token signatures are not checked (claims still are).
    pub(crate) insecure_skip_token_signature_verify: bool,
    /// Time between pings of the node, `None` = no pings.
    #[serde(deserialize_with = "switch")]
    pub(crate) ping_interval: Option<Duration>,
    /// How long a pong may take, `None` = not checked.
    #[serde(deserialize_with = "switch")]
    pub(crate) pong_timeout: Option<Duration>,
    /// Grace for refreshing an expired connection.
    #[serde(deserialize_with = "duration")]
    pub(crate) expired_close_delay: Duration,
    /// Grace for refreshing an expired subscription.
    #[serde(deserialize_with = "duration")]
    pub(crate) expired_sub_close_delay: Duration,
    /// A connection that sent no connect command is closed after this, `None` = never.
    #[serde(deserialize_with = "switch")]
    pub(crate) stale_close_delay: Option<Duration>,
    /// Subscriptions per connection, `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) channel_limit: Option<usize>,
    /// Outgoing bytes a connection may have queued, `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) queue_max_size: Option<usize>,
    /// Presence refresh tick; position and expiry checks ride on it. `None` = off.
    #[serde(deserialize_with = "switch")]
    pub(crate) presence_update_interval: Option<Duration>,
    /// A positioned subscription is compared with its stream this often, `None` = never.
    #[serde(deserialize_with = "switch")]
    pub(crate) channel_position_check_delay: Option<Duration>,
    /// Client connections of this node, `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) connection_limit: Option<usize>,
    /// Connections of one user on this node, `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) user_connection_limit: Option<usize>,
    /// New client connections per second on this node, `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) connection_rate_limit: Option<usize>,
    /// `time` in the connect reply.
    pub(crate) connect_include_server_time: bool,
    /// Cap of one client history call, `None` = none.
    #[serde(deserialize_with = "limit")]
    pub(crate) history_max_publication_limit: Option<usize>,
    /// Cap of one recovery, `None` = none.
    #[serde(deserialize_with = "limit")]
    pub(crate) recovery_max_publication_limit: Option<usize>,
    /// Header of the handshake that says who the user is when nobody else does, empty = none.
    pub(crate) user_id_http_header: String,
    /// Server-side subscription of every user to a channel of its own.
    pub(crate) subscribe_to_user_personal_channel: UserPersonalChannel,
}

/// `client.token.*` and the same keys of `client.subscription_token`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Token {
    /// Enables HS256, HS384, HS512.
    pub(crate) hmac_secret_key: Secret,
    /// Tried after `hmac_secret_key` fails.
    pub(crate) hmac_previous_secret_key: Secret,
    /// Unix seconds of this node's clock after which the previous key is not tried, 0 = no end.
    pub(crate) hmac_previous_secret_key_valid_until: i64,
    /// `aud` must contain this, empty = not checked.
    pub(crate) audience: String,
    /// `aud` must have an item that matches, empty = not checked.
    pub(crate) audience_regex: String,
    /// `iss` must equal this, empty = not checked.
    pub(crate) issuer: String,
    /// `iss` must match, empty = not checked.
    pub(crate) issuer_regex: String,
    /// Claim that holds the user id, empty = `sub`.
    pub(crate) user_id_claim: String,
}

/// `client.subscription_token.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SubscriptionToken {
    /// Off: `client.token` verifies subscription tokens. On: nothing is inherited from it.
    pub(crate) enabled: bool,
    /// The verifier's settings.
    #[serde(flatten)]
    pub(crate) token: Token,
}

/// `client.subscribe_to_user_personal_channel.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UserPersonalChannel {
    /// On for every user with an id.
    pub(crate) enabled: bool,
    /// Namespace of the personal channel, empty = none.
    pub(crate) personal_channel_namespace: String,
    /// A new connection of a user closes the older ones.
    pub(crate) single_connection: bool,
}
