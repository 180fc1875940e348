//! What the operator allows: channel options, limits and timings, as plain data with pure functions.
//!
//! One `Rules` value is shared, read-only, by all cores; a reload replaces it whole, so that a command sees one
//! consistent set. Nothing here looks at a clock, does I/O or may panic on what a client sends.
//!
//! `names` finds the options of a channel, `permissions` and `grants` decide, `validate` refuses contradictions at
//! start. The control thread builds the value from the configuration; cores only read it.

mod data_format;
mod go_regex;
mod grants;
mod names;
mod namespaces;
mod options;
mod permissions;
mod validate;

pub use data_format::{DataFormat, check_data_format};
pub use go_regex::go_regex;
pub use grants::{Asked, Grants, Overrides, subscription_grants};
pub use names::Resolved;
pub use namespaces::Namespaces;
pub use options::{ChannelOptions, ChannelProxies, RecoveryMode, StateEvents};
pub use permissions::{
    Requested, Source, connect_requested_channel, may_publish, may_read_history, may_read_presence,
    subscribe_without_token,
};

use hashbrown::HashMap;

use crate::backend::ProxyId;
use crate::limits::CHANNELS_PER_SESSION_MAX;
use crate::token::Verifiers;

/// Everything that the engine takes from the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Options of channels whose name has no namespace.
    pub without_namespace: ChannelOptions,
    /// Options of the others.
    pub namespaces: Namespaces,
    /// How channel names are read.
    pub channel: ChannelSyntax,
    /// Life of the epoch and top offset of a stream since the last access, in seconds; namespaces may override it.
    pub history_meta_ttl_s: u64,
    /// Limits and timings of client connections.
    pub client: ClientRules,
    /// Who may connect and subscribe.
    pub tokens: Verifiers,
    /// Which backends are asked about connections.
    pub proxies: ClientProxies,
    /// What clients can call.
    pub rpc: RpcRules,
}

impl Default for Rules {
    /// The documented defaults: no namespaces, no permissions, no keys.
    fn default() -> Self {
        Self {
            without_namespace: ChannelOptions::default(),
            namespaces: Namespaces::default(),
            channel: ChannelSyntax::default(),
            history_meta_ttl_s: 720 * 3600,
            client: ClientRules::default(),
            tokens: Verifiers::default(),
            proxies: ClientProxies::default(),
            rpc: RpcRules::default(),
        }
    }
}

/// Backends that are asked about connections, and what they may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientProxies {
    /// When a client comes without token.
    pub connect: Option<ProxyId>,
    /// When a connection is about to expire.
    pub refresh: Option<ProxyId>,
    /// Headers of connect commands that some proxy forwards, in lower case.
    pub emulated_headers: Vec<Box<str>>,
    /// Some proxy is told the meta of connections; it is forgotten otherwise.
    pub keeps_meta: bool,
}

/// Methods that clients can call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcRules {
    /// Ends the namespace of a method at its first occurrence; empty = there are no namespaces.
    pub namespace_boundary: String,
    /// Who is asked for methods without namespace; `None` = nobody (108).
    pub without_namespace: Option<ProxyId>,
    /// By namespace; one that is not here is unknown (104).
    pub namespaces: HashMap<Box<str>, Option<ProxyId>>,
    /// Answered here, with nothing.
    pub ping_method: Option<Box<str>>,
    /// `update_user_status` is answered here.
    pub has_user_status: bool,
}

/// How channel names are read. An empty marker switches its feature off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSyntax {
    /// Longest name that a client may subscribe to, in bytes; 0 = the default of 255, negative = no bound.
    pub max_length: i64,
    /// Start of channels that need a subscription token.
    pub private_prefix: String,
    /// Ends the namespace; the first one counts.
    pub namespace_boundary: String,
    /// Starts the list of users; the last one counts.
    pub user_boundary: String,
    /// Between the users of the list.
    pub user_separator: String,
}

impl Default for ChannelSyntax {
    fn default() -> Self {
        Self {
            max_length: 255,
            private_prefix: "$".to_owned(),
            namespace_boundary: ":".to_owned(),
            user_boundary: "#".to_owned(),
            user_separator: ",".to_owned(),
        }
    }
}

/// Limits and timings of client connections; `Default` has the documented defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRules {
    /// Nobody needs credentials or permissions. Tokens that are given are still verified.
    pub insecure: bool,
    /// A connect without token is the anonymous user.
    pub allow_anonymous_connect_without_token: bool,
    /// A token with an empty user is refused (3507).
    pub disallow_anonymous_connection_tokens: bool,
    /// Channels of one connection (106, or 3505 at connect).
    pub channel_limit: usize,
    /// Connections of one user on this node (3504); the anonymous user has no limit.
    pub user_connection_limit: usize,
    /// Client connections of this node. For the data plane, which refuses handshakes over it.
    pub connection_limit: usize,
    /// New client connections per second on this node. For the data plane as well.
    pub connection_rate_limit: u64,
    /// Bytes waiting for one connection before it is too slow (3008).
    pub queue_max_size: usize,
    /// 0 = no pings.
    pub ping_interval_ms: u64,
    /// 0 = pongs are not waited for.
    pub pong_timeout_ms: u64,
    /// Time to present credentials (3502).
    pub stale_close_delay_ms: u64,
    /// Grace after the expiry of a connection (3005).
    pub expired_close_delay_ms: u64,
    /// Grace after the expiry of a subscription (2501, 3006).
    pub expired_sub_close_delay_ms: u64,
    /// Period of the tick that looks at presence, positions and subscription expiry.
    pub presence_update_interval_ms: u64,
    /// Time between two checks of one subscription's position.
    pub channel_position_check_delay_ms: u64,
    /// Publications in one history reply.
    pub history_max_publication_limit: usize,
    /// Publications in one recovery.
    pub recovery_max_publication_limit: usize,
    /// The connect reply carries the time.
    pub connect_include_server_time: bool,
    /// Every user is subscribed to a channel of its own.
    pub personal_channel: Option<PersonalChannel>,
}

impl ClientRules {
    /// Channels that one session can have: as many as it may, and never more than can be told apart.
    pub(crate) fn channels_max(&self) -> usize {
        self.channel_limit.min(CHANNELS_PER_SESSION_MAX)
    }
}

/// The channel that belongs to one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonalChannel {
    /// Empty = the channel has no namespace.
    pub namespace: String,
    /// A new connection of the user closes the older ones.
    pub single_connection: bool,
}

impl Default for ClientRules {
    fn default() -> Self {
        Self {
            insecure: false,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            channel_limit: 128,
            user_connection_limit: usize::MAX,
            connection_limit: usize::MAX,
            connection_rate_limit: u64::MAX,
            queue_max_size: 1024 * 1024,
            ping_interval_ms: 25_000,
            pong_timeout_ms: 8_000,
            stale_close_delay_ms: 10_000,
            expired_close_delay_ms: 25_000,
            expired_sub_close_delay_ms: 25_000,
            presence_update_interval_ms: 27_000,
            channel_position_check_delay_ms: 40_000,
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            connect_include_server_time: false,
            personal_channel: None,
        }
    }
}
