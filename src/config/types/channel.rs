//! `channel.*`: the syntax of channel names and the options of namespaces.

use super::values::{DataFormat, count, duration, limit, text};
use serde::Deserialize;
use std::time::Duration;

/// `channel.*`
#[derive(Debug, Clone, Deserialize)]
pub struct Channel {
    /// Longest name a client may subscribe to, bytes; `None` = unlimited.
    #[serde(deserialize_with = "limit")]
    pub max_length: Option<usize>,
    /// Marks channels that need a subscription token; empty = feature off.
    pub private_prefix: String,
    /// Ends the namespace part at its first occurrence; empty = no namespaces.
    pub namespace_boundary: String,
    /// Starts the list of users at its last occurrence; empty = feature off.
    pub user_boundary: String,
    /// Separates users in that list; empty = the list is one user.
    pub user_separator: String,
    /// Lifetime of a stream's offset and epoch without activity; already applied to every namespace that has no own.
    #[serde(deserialize_with = "duration")]
    pub history_meta_ttl: Duration,
    /// Already applied to every namespace that has no own.
    pub publication_data_format: DataFormat,
    /// Options of channels without a namespace.
    pub without_namespace: ChannelOptions,
    /// In configuration order; names are unique.
    pub namespaces: Vec<Namespace>,
}

/// One item of `channel.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    /// `^[-a-zA-Z0-9_.]{2,}$`
    pub name: String,
    /// What its channels do and allow.
    #[serde(flatten)]
    pub options: ChannelOptions,
}

/// Options of a namespace or of `channel.without_namespace`; named as in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "each option is described once, in the schema table")]
pub struct ChannelOptions {
    pub presence: bool,
    pub join_leave: bool,
    pub force_push_join_leave: bool,

    /// Publications kept; history is on when this and `history_ttl` are both positive.
    #[serde(deserialize_with = "count")]
    pub history_size: usize,
    /// Whole seconds.
    #[serde(deserialize_with = "duration")]
    pub history_ttl: Duration,
    /// Whole seconds; the global value when the namespace has none.
    #[serde(deserialize_with = "duration")]
    pub history_meta_ttl: Duration,
    pub force_positioning: bool,
    pub allow_positioning: bool,
    pub force_recovery: bool,
    pub allow_recovery: bool,

    pub allow_subscribe_for_client: bool,
    pub allow_subscribe_for_anonymous: bool,
    pub allow_publish_for_client: bool,
    pub allow_publish_for_subscriber: bool,
    pub allow_publish_for_anonymous: bool,
    pub allow_presence_for_client: bool,
    pub allow_presence_for_subscriber: bool,
    pub allow_presence_for_anonymous: bool,
    pub allow_history_for_client: bool,
    pub allow_history_for_subscriber: bool,
    pub allow_history_for_anonymous: bool,
    pub allow_user_limited_channels: bool,

    /// Checked to compile; searched in the part of the name after the boundary. Replaces the ASCII check.
    #[serde(deserialize_with = "text")]
    pub channel_regex: Option<String>,
    /// The global value when the namespace has none.
    pub publication_data_format: DataFormat,
}
