//! `channel.*`: the syntax of channel names and the options of namespaces.

use super::proxy::ChannelProxies;
use super::values::{DataFormat, RecoveryMode, count, duration, limit, text};
use serde::Deserialize;
use std::time::Duration;

/// `channel.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Channel {
    /// Longest name a client may subscribe to, bytes; `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub(crate) max_length: Option<usize>,
    /// Marks channels that need a subscription token; empty = feature off.
    pub(crate) private_prefix: String,
    /// Ends the namespace part at its first occurrence; empty = no namespaces.
    pub(crate) namespace_boundary: String,
    /// Starts the list of users at its last occurrence; empty = feature off.
    pub(crate) user_boundary: String,
    /// Separates users in that list; empty = the list is one user.
    pub(crate) user_separator: String,
    /// Lifetime of a stream's offset and epoch without activity; already applied to every namespace that has no own.
    #[serde(deserialize_with = "duration")]
    pub(crate) history_meta_ttl: Duration,
    /// What `default` stands for in names of proxies.
    pub(crate) proxy: ChannelProxies,
    /// Options of channels without a namespace.
    pub(crate) without_namespace: ChannelOptions,
    /// In configuration order; names are unique.
    pub(crate) namespaces: Vec<Namespace>,
}

/// One item of `channel.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Namespace {
    /// `^[-a-zA-Z0-9_.]{2,}$`
    pub(crate) name: String,
    /// What its channels do and allow.
    #[serde(flatten)]
    pub(crate) options: ChannelOptions,
}

/// Options of a namespace or of `channel.without_namespace`; named as in the configuration.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChannelOptions {
    pub(crate) presence: bool,
    pub(crate) join_leave: bool,
    pub(crate) force_push_join_leave: bool,

    /// Publications kept; history is on when this and `history_ttl` are both positive.
    #[serde(deserialize_with = "count")]
    pub(crate) history_size: usize,
    /// Whole seconds.
    #[serde(deserialize_with = "duration")]
    pub(crate) history_ttl: Duration,
    /// Whole seconds; the global value when the namespace has none.
    #[serde(deserialize_with = "duration")]
    pub(crate) history_meta_ttl: Duration,
    pub(crate) force_positioning: bool,
    pub(crate) allow_positioning: bool,
    pub(crate) force_recovery: bool,
    pub(crate) allow_recovery: bool,
    pub(crate) force_recovery_mode: RecoveryMode,
    pub(crate) auto_cache_recover: bool,

    pub(crate) subscribe_proxy_enabled: bool,
    pub(crate) subscribe_proxy_name: String,
    pub(crate) publish_proxy_enabled: bool,
    pub(crate) publish_proxy_name: String,
    pub(crate) sub_refresh_proxy_enabled: bool,
    pub(crate) sub_refresh_proxy_name: String,
    pub(crate) state_proxy_enabled: bool,
    pub(crate) state_proxy_name: String,
    /// Empty = all.
    pub(crate) state_events: Vec<String>,
    pub(crate) cache_empty_proxy_enabled: bool,
    pub(crate) cache_empty_proxy_name: String,

    pub(crate) allow_subscribe_for_client: bool,
    pub(crate) allow_subscribe_for_anonymous: bool,
    pub(crate) allow_publish_for_client: bool,
    pub(crate) allow_publish_for_subscriber: bool,
    pub(crate) allow_publish_for_anonymous: bool,
    pub(crate) allow_presence_for_client: bool,
    pub(crate) allow_presence_for_subscriber: bool,
    pub(crate) allow_presence_for_anonymous: bool,
    pub(crate) allow_history_for_client: bool,
    pub(crate) allow_history_for_subscriber: bool,
    pub(crate) allow_history_for_anonymous: bool,
    pub(crate) allow_user_limited_channels: bool,

    /// Checked to compile; searched in the part of the name after the boundary. Replaces the ASCII check.
    #[serde(deserialize_with = "text")]
    pub(crate) channel_regex: Option<String>,
    /// The global value when the namespace has none.
    pub(crate) publication_data_format: DataFormat,
}
