//! Which Redis servers a node uses and how: the addresses and options of one `redis` object as plain values, without any
//! contradiction left in them. Made when a configuration is checked and when a node starts; nothing is resolved or dialled
//! here, and only `tls`, which is asked for apart, opens files.
//!
//! What the URL of a shard says counts for that shard; the options count where the URL is silent. Must never put an
//! address into an error or a `Debug` text as it was written, because there may be a password in it.

mod address;
mod decode;
mod endpoint;
mod limits;
mod query;
mod tls;
mod trust;

pub(crate) use endpoint::Endpoint;
pub(crate) use tls::pem;

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use crate::config::types::{Redis, Secret, Tls};
use address::{Address, Kind};
use anyhow::anyhow;
use gyre_io::redis::Handshake;
use limits::{database, timeout_ms};

/// What `connect_timeout`, `io_timeout` and `presence_ttl` are when a variable sets them to zero.
const CONNECT_TIMEOUT_MS: u64 = 1000;
const IO_TIMEOUT_MS: u64 = 4000;
const PRESENCE_TTL_MS: u64 = 60_000;

/// As many as a cluster has slots: more would share them again.
const PARTITIONS_MAX: u32 = 16_384;

/// What can be spread evenly, as in the reference.
const EVEN_PARTITIONS: RangeInclusive<u32> = 16..=4096;

/// One `redis` object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedisOptions {
    /// In the order of the configuration, which decides which channels a shard has. Not empty.
    pub(crate) shards: Vec<Shard>,
    /// Starts every key and Pub/Sub channel.
    pub(crate) prefix: String,
    /// Lists in place of streams.
    pub(crate) history_use_lists: bool,
    /// Whole seconds, at least 1.
    pub(crate) presence_ttl_s: u64,
    /// Expiry of hash fields in place of sorted sets.
    pub(crate) presence_hash_field_ttl: bool,
    /// Entries per user, for fast statistics.
    pub(crate) presence_user_mapping: bool,
    /// Sharded Pub/Sub; only possible with clusters.
    pub(crate) partitions: Option<Partitions>,
}

/// Channels of a cluster share slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partitions {
    pub(crate) count: NonZeroU32,
    /// Their tags spread evenly over the slots.
    pub(crate) are_even: bool,
}

/// One independent Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// Where in the `redis` object it is written: `address.[1]`.
    pub(crate) option: String,
    pub(crate) topology: Topology,
    pub(crate) auth: Auth,
    /// Always 0 for clusters.
    pub(crate) db: u32,
    pub(crate) tls: Option<TlsOptions>,
    /// Empty = none.
    pub(crate) client_name: String,
    /// RESP3 is not tried.
    pub(crate) force_resp2: bool,
    /// Connections to replicas too; only possible with a cluster or Sentinels, and `Standalone` may yet be a cluster.
    pub(crate) replica_client: bool,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) io_timeout_ms: u64,
}

/// How many servers a shard has and how they are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server, unless it turns out to be of a cluster.
    Standalone(Endpoint),
    /// The primary that Sentinels name.
    Sentinel(Sentinels),
    /// Any node that answers knows the others. Not empty.
    Cluster { seeds: Vec<Endpoint> },
}

/// The Sentinels of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sentinels {
    /// Not empty.
    pub(crate) master_name: String,
    /// Not empty.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) auth: Auth,
    pub(crate) tls: Option<TlsOptions>,
    /// Empty = none.
    pub(crate) client_name: String,
}

/// Both empty = no authentication; only a password = the default user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// TLS towards a server. PEM values are the text, its base64 or a path, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsOptions {
    /// Empty = none; then there is no key either.
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Secret,
    /// Empty = what the host trusts.
    pub(crate) server_ca_pem: String,
    pub(crate) insecure_skip_verify: bool,
    /// Empty = the name that is dialled.
    pub(crate) server_name: String,
}

/// What cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Path of the option inside the `redis` object, with the number of the entry in a list.
    pub(crate) option: String,
    /// What is wrong or was expected; quotes nothing that may be secret.
    pub(crate) message: String,
}

impl Mistake {
    /// The error, with the path of the `redis` object.
    pub(crate) fn in_section(self, section: &str) -> anyhow::Error {
        anyhow!("{section}.{}: {}", self.option, self.message)
    }
}

impl RedisOptions {
    /// # Errors
    /// The first option that cannot be used.
    pub(crate) fn new(redis: &Redis) -> Result<Self, Mistake> {
        Ok(Self {
            shards: shards(redis)?,
            prefix: redis.prefix.clone(),
            history_use_lists: redis.history_use_lists,
            presence_ttl_s: time("presence_ttl", redis.presence_ttl, PRESENCE_TTL_MS)?.div_ceil(1000),
            presence_hash_field_ttl: redis.presence_hash_field_ttl,
            presence_user_mapping: redis.presence_user_mapping,
            partitions: partitions(redis)?,
        })
    }

    /// For people: `standalone`, `cluster`, `sentinel`, or `sharded(3):cluster-x2,standalone`.
    pub(crate) fn mode(&self) -> String {
        let kinds: Vec<&str> = self.shards.iter().map(|shard| shard.topology.kind()).collect();
        let runs: Vec<String> = kinds
            .chunk_by(|one, next| one == next)
            .map(|run| match run.len() {
                1 => run[0].to_owned(),
                count => format!("{}-x{count}", run[0]),
            })
            .collect();
        match self.shards.len() {
            1 => runs.concat(),
            count => format!("sharded({count}):{}", runs.join(",")),
        }
    }
}

impl Shard {
    /// What a connection to one of its servers begins with.
    pub(crate) fn handshake(&self) -> Handshake {
        Handshake {
            user: self.auth.user.clone(),
            password: self.auth.password.expose().to_owned(),
            db: self.db,
            client_name: self.client_name.clone(),
            force_resp2: self.force_resp2,
            replica: false,
            io_timeout_ms: self.io_timeout_ms,
        }
    }
}

impl Topology {
    fn kind(&self) -> &'static str {
        match self {
            Self::Standalone(_) => "standalone",
            Self::Sentinel(_) => "sentinel",
            Self::Cluster { .. } => "cluster",
        }
    }

    fn is_unix(&self) -> bool {
        matches!(self, Self::Standalone(Endpoint::Unix(_)))
    }
}

/// Of the list that counts: clusters before Sentinels before addresses.
fn shards(redis: &Redis) -> Result<Vec<Shard>, Mistake> {
    let common = Common::new(redis)?;
    let (list, entries) = match (&redis.cluster_address[..], &redis.sentinel_address[..]) {
        ([], []) => ("address", &redis.address[..]),
        ([], entries) => ("sentinel_address", entries),
        (entries, _) => ("cluster_address", entries),
    };
    if entries.is_empty() {
        return mistake(list, "is empty; name at least one");
    }
    let shards = entries.iter().enumerate().map(|(index, entry)| {
        let address = match list {
            "address" => Address::parse(entry.expose()),
            "sentinel_address" => Address::seeds(Kind::Sentinel, entry.expose()),
            _ => Address::seeds(Kind::Cluster, entry.expose()),
        };
        let option = format!("{list}.[{index}]");
        let shard = address.and_then(|address| common.shard(option.clone(), address));
        shard.map_err(|message| Mistake { option, message })
    });
    shards.collect()
}

/// Options that count for every shard that does not say otherwise.
struct Common<'a> {
    redis: &'a Redis,
    db: u32,
    connect_timeout_ms: u64,
    io_timeout_ms: u64,
}

impl<'a> Common<'a> {
    fn new(redis: &'a Redis) -> Result<Self, Mistake> {
        for (option, name) in
            [("client_name", &redis.client_name), ("sentinel_client_name", &redis.sentinel_client_name)]
        {
            // The server takes no other.
            if name.bytes().any(|byte| !byte.is_ascii_graphic()) {
                return mistake(option, "can only have printable ASCII characters, and no spaces");
            }
        }
        for (object, tls) in [("tls", &redis.tls), ("sentinel_tls", &redis.sentinel_tls)] {
            let (there, missing) = match (tls.cert_pem.is_empty(), tls.key_pem.is_empty()) {
                (false, true) => ("cert_pem", "key_pem"),
                (true, false) => ("key_pem", "cert_pem"),
                _ => continue,
            };
            if tls.enabled {
                return mistake(&format!("{object}.{missing}"), &format!("is needed with {there}"));
            }
        }
        let Some(db) = database(&redis.db.to_string()) else {
            return mistake("db", "expected the number of a database, 0 or more");
        };
        Ok(Self {
            redis,
            db,
            connect_timeout_ms: time("connect_timeout", redis.connect_timeout, CONNECT_TIMEOUT_MS)?,
            io_timeout_ms: time("io_timeout", redis.io_timeout, IO_TIMEOUT_MS)?,
        })
    }

    fn shard(&self, option: String, address: Address) -> Result<Shard, String> {
        let redis = self.redis;
        let Address { kind, mut endpoints, user, password, db, tls, query } = address;
        let topology = match kind {
            Kind::Standalone => Topology::Standalone(endpoints.swap_remove(0)),
            Kind::Cluster => Topology::Cluster { seeds: endpoints },
            Kind::Sentinel => {
                let master_name = query.sentinel_master_name.unwrap_or_else(|| redis.sentinel_master_name.clone());
                if master_name.is_empty() {
                    return Err("Sentinels need sentinel_master_name, the name of the primary they watch".to_owned());
                }
                Topology::Sentinel(Sentinels {
                    master_name,
                    endpoints,
                    auth: Auth {
                        user: query.sentinel_user.unwrap_or_else(|| redis.sentinel_user.clone()),
                        password: query.sentinel_password.unwrap_or_else(|| redis.sentinel_password.clone()),
                    },
                    tls: TlsOptions::new(query.sentinel_tls, &redis.sentinel_tls),
                    client_name: redis.sentinel_client_name.clone(),
                })
            }
        };
        let tls = TlsOptions::new(tls, &redis.tls);
        if tls.is_some() && topology.is_unix() {
            return Err(
                "Redis has no TLS on a Unix socket; turn tls off and write rediss:// for other shards".to_owned()
            );
        }
        Ok(Shard {
            option,
            auth: Auth {
                user: user.unwrap_or_else(|| redis.user.clone()),
                password: password.unwrap_or_else(|| redis.password.clone()),
            },
            db: if kind == Kind::Cluster { 0 } else { db.unwrap_or(self.db) },
            tls,
            client_name: redis.client_name.clone(),
            force_resp2: query.force_resp2.unwrap_or(redis.force_resp2),
            replica_client: query.replica_client.unwrap_or(redis.replica_client.enabled),
            connect_timeout_ms: query.connect_timeout_ms.unwrap_or(self.connect_timeout_ms),
            io_timeout_ms: query.io_timeout_ms.unwrap_or(self.io_timeout_ms),
            topology,
        })
    }
}

impl TlsOptions {
    /// A URL turns TLS on or off. An object that is off lends nothing to it, so that what was left behind in one (such as
    /// `insecure_skip_verify`) does not come into effect.
    fn new(of_url: Option<bool>, options: &Tls) -> Option<Self> {
        let is_on = of_url.unwrap_or(options.enabled);
        is_on.then(|| if options.enabled { Self::of(options) } else { Self::default() })
    }

    /// Those of an object that is on.
    pub(crate) fn of(options: &Tls) -> Self {
        Self {
            cert_pem: options.cert_pem.clone(),
            key_pem: options.key_pem.clone(),
            server_ca_pem: options.server_ca_pem.clone(),
            insecure_skip_verify: options.insecure_skip_verify,
            server_name: options.server_name.clone(),
        }
    }
}

fn partitions(redis: &Redis) -> Result<Option<Partitions>, Mistake> {
    let Some(count) = u32::try_from(redis.sharded_pub_sub_partitions).ok().filter(|count| *count <= PARTITIONS_MAX)
    else {
        return mistake("sharded_pub_sub_partitions", &format!("expected a number up to {PARTITIONS_MAX}, 0 is none"));
    };
    let are_even = redis.use_precomputed_partition_tags;
    if are_even && count > 0 && !(count.is_power_of_two() && EVEN_PARTITIONS.contains(&count)) {
        return mistake(
            "sharded_pub_sub_partitions",
            "expected a power of two from 16 to 4096, as use_precomputed_partition_tags is on",
        );
    }
    Ok(NonZeroU32::new(count).map(|count| Partitions { count, are_even }))
}

fn time(option: &str, nanos: i64, otherwise_ms: u64) -> Result<u64, Mistake> {
    match timeout_ms(nanos) {
        Ok(ms) => Ok(ms.unwrap_or(otherwise_ms)),
        Err(message) => mistake(option, &message),
    }
}

fn mistake<T>(option: &str, message: &str) -> Result<T, Mistake> {
    Err(Mistake { option: option.to_owned(), message: message.to_owned() })
}

#[cfg(test)]
mod tests;
