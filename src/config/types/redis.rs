//! `engine.redis`, `broker.redis`, `presence_manager.redis`: what an operator says about Redis, before addresses are taken
//! apart (`settings::redis` does that). Addresses are secrets, since they may hold a password.

use super::values::Secret;
use serde::Deserialize;

/// One of the three objects. Durations are nanoseconds as written, so that a negative one can be told from none.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Redis {
    /// One shard each; counts when the other two lists are empty.
    pub(crate) address: Vec<Secret>,
    /// One cluster each; counts first.
    pub(crate) cluster_address: Vec<Secret>,
    /// One group of Sentinels each; counts second.
    pub(crate) sentinel_address: Vec<Secret>,
    /// For dialling.
    pub(crate) connect_timeout: i64,
    /// For one request.
    pub(crate) io_timeout: i64,
    /// Not for clusters.
    pub(crate) db: i64,
    /// ACL user, empty = the default one.
    pub(crate) user: String,
    /// Empty = none.
    pub(crate) password: Secret,
    /// What connections announce, empty = nothing.
    pub(crate) client_name: String,
    /// RESP3 is not tried.
    pub(crate) force_resp2: bool,
    /// ACL user towards Sentinels.
    pub(crate) sentinel_user: String,
    /// Towards Sentinels.
    pub(crate) sentinel_password: Secret,
    /// What connections announce to Sentinels.
    pub(crate) sentinel_client_name: String,
    /// Name of the primary that Sentinels watch.
    pub(crate) sentinel_master_name: String,
    /// Towards Redis.
    pub(crate) tls: Tls,
    /// Towards Sentinels.
    pub(crate) sentinel_tls: Tls,
    /// Connections to replicas.
    pub(crate) replica_client: ReplicaClient,
    /// Starts every key and Pub/Sub channel.
    pub(crate) prefix: String,
    /// Lists in place of streams; not an option of presence managers.
    #[serde(default)]
    pub(crate) history_use_lists: bool,
    /// Not an option of brokers, like the next two.
    #[serde(default)]
    pub(crate) presence_ttl: i64,
    /// Expiry of hash fields in place of sorted sets.
    #[serde(default)]
    pub(crate) presence_hash_field_ttl: bool,
    /// Entries per user.
    #[serde(default)]
    pub(crate) presence_user_mapping: bool,
    /// Not an option of brokers either.
    #[serde(default)]
    pub(crate) channel_state: Option<ChannelState>,
    /// Sharded Pub/Sub of a cluster, 0 = without; not an option of presence managers, like the next.
    #[serde(default)]
    pub(crate) sharded_pub_sub_partitions: i64,
    /// Partitions that spread evenly over slots.
    #[serde(default)]
    pub(crate) use_precomputed_partition_tags: bool,
}

/// `channel_state.*`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct ChannelState {
    /// Nanoseconds, as other durations of the object.
    pub(crate) vacated_event_delay: i64,
    /// 0 = the default of 128.
    pub(crate) num_partitions: i64,
    /// Events that may wait in a partition; 0 = the default.
    pub(crate) event_queue_limit: i64,
}

/// A `tls` object of a peer that is dialled. PEM options hold the text, its base64 or a path, as written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Tls {
    /// Nothing else of the object counts while off.
    pub(crate) enabled: bool,
    /// Certificate chain, empty = none.
    pub(crate) cert_pem: String,
    /// Key of the certificate.
    pub(crate) key_pem: Secret,
    /// Trusted certificates, empty = those of the host.
    pub(crate) server_ca_pem: String,
    /// Any certificate is fine.
    pub(crate) insecure_skip_verify: bool,
    /// Expected in the certificate, empty = the name that was dialled.
    pub(crate) server_name: String,
}

/// `replica_client.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ReplicaClient {
    /// Keeps them.
    pub(crate) enabled: bool,
}
