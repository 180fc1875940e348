//! What the methods answer. Methods without a result answer [`Empty`].

use std::collections::BTreeMap;

use crate::client::{ClientInfo, Publication};
use crate::codes::ApiError;

/// Result of `unsubscribe`, `disconnect` and `history_remove`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Empty;

/// Where a publication went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishResult {
    /// Its offset; 0 = the channel keeps no history.
    pub offset: u64,
    /// Epoch of the stream.
    pub epoch: String,
}

/// How a publish of a broadcast ended.
#[derive(Clone, Debug, PartialEq)]
pub enum PublishResponse {
    /// Published.
    Result(PublishResult),
    /// Not published.
    Error(ApiError),
}

/// One response per channel, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BroadcastResult {
    /// Left out when empty.
    pub responses: Vec<PublishResponse>,
}

/// Who is subscribed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PresenceResult {
    /// By client id.
    pub presence: BTreeMap<String, ClientInfo>,
}

/// How many are subscribed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PresenceStatsResult {
    /// Connections.
    pub num_clients: u32,
    /// Users.
    pub num_users: u32,
}

/// Part of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryResult {
    /// In the order asked for.
    pub publications: Vec<Publication>,
    /// Epoch of the stream.
    pub epoch: String,
    /// Top offset of the stream.
    pub offset: u64,
}

/// Channels that have subscribers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelsResult {
    /// By name.
    pub channels: BTreeMap<String, ChannelInfo>,
}

/// What is known of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChannelInfo {
    /// Connections subscribed.
    pub num_clients: u32,
}

/// The nodes of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InfoResult {
    /// Left out when empty.
    pub nodes: Vec<NodeResult>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeResult {
    /// Changes with every start.
    pub uid: String,
    /// From the configuration, or `<hostname>_<port>`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Connections.
    pub num_clients: u32,
    /// Users.
    pub num_users: u32,
    /// Channels with a subscriber.
    pub num_channels: u32,
    /// Seconds since the start.
    pub uptime: u32,
    /// Aggregated over an interval.
    pub metrics: Option<Metrics>,
    /// What the operating system says.
    pub process: Option<Process>,
    /// Subscriptions.
    pub num_subs: u32,
}

/// Metrics of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Seconds between two aggregations.
    pub interval: f64,
    /// Value by name; names are identifiers.
    pub items: BTreeMap<String, f64>,
}

/// Process of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Per cent of one core.
    pub cpu: f64,
    /// Resident memory, bytes.
    pub rss: i64,
}
