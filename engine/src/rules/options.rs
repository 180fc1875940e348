//! The options of one namespace. Cores read them for every command; they never change after the start or a reload.

use regex::Regex;

use super::DataFormat;
use crate::backend::ProxyId;

/// What is allowed and kept in the channels of one namespace. `Default` allows and keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct ChannelOptions {
    /// Subscribers are listed.
    pub presence: bool,
    /// Joins and leaves are told to those who asked for them.
    pub join_leave: bool,
    /// Every subscriber is told, asked or not.
    pub force_push_join_leave: bool,

    /// Publications kept; history is on when this and [`Self::history_ttl_s`] are above 0.
    pub history_size: usize,
    /// Life of the kept publications since the last one, in seconds.
    pub history_ttl_s: u64,
    /// Life of epoch and top offset since the last access, in seconds; 0 = [`super::Rules::history_meta_ttl_s`].
    pub history_meta_ttl_s: u64,
    /// All subscriptions are positioned.
    pub force_positioning: bool,
    /// Clients may ask for positioning.
    pub allow_positioning: bool,
    /// All subscriptions are recoverable, and thereby positioned.
    pub force_recovery: bool,
    /// Clients may ask for recovery.
    pub allow_recovery: bool,

    /// What recovery hands over.
    pub recovery_mode: RecoveryMode,
    /// Every subscription gets the latest publication, asked for or not.
    pub auto_cache_recover: bool,

    /// Backends that are asked or told.
    pub proxies: ChannelProxies,
    /// Told when its channels become occupied and vacated.
    pub state: Option<StateEvents>,

    /// Users may subscribe without token.
    pub allow_subscribe_for_client: bool,
    /// Widens the former to the anonymous user.
    pub allow_subscribe_for_anonymous: bool,
    /// Users may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Widens the former two to the anonymous user.
    pub allow_publish_for_anonymous: bool,
    /// Users may read presence and ask for joins and leaves.
    pub allow_presence_for_client: bool,
    /// Subscribers may.
    pub allow_presence_for_subscriber: bool,
    /// Widens the former two to the anonymous user.
    pub allow_presence_for_anonymous: bool,
    /// Users may read history and ask for positioning and recovery.
    pub allow_history_for_client: bool,
    /// Subscribers may.
    pub allow_history_for_subscriber: bool,
    /// Widens the former two to the anonymous user.
    pub allow_history_for_anonymous: bool,
    /// A list of users in the name says who may subscribe.
    pub allow_user_limited_channels: bool,

    /// Must be found in the name after the namespace; replaces the rule that names are ASCII. See [`super::go_regex`].
    pub channel_regex: Option<Regex>,
    /// What publications must look like. Already the global setting where the namespace has none.
    pub publication_data_format: DataFormat,
}

/// See [`ChannelOptions::recovery_mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Everything that was missed.
    #[default]
    Stream,
    /// The latest publication only.
    Cache,
}

/// Which backend is asked about what; `None` = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelProxies {
    /// A client subscribes.
    pub subscribe: Option<ProxyId>,
    /// A client publishes.
    pub publish: Option<ProxyId>,
    /// A subscription has expired.
    pub sub_refresh: Option<ProxyId>,
    /// There is no publication to recover in [`RecoveryMode::Cache`].
    pub cache_empty: Option<ProxyId>,
}

/// Which changes of state are told, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateEvents {
    /// The backend.
    pub proxy: ProxyId,
    /// Of first subscribers.
    pub occupied: bool,
    /// Of channels left by their last subscriber.
    pub vacated: bool,
}

impl ChannelOptions {
    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && self.history_ttl_s > 0
    }
}
