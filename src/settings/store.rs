//! Which Redis a node's channels and presence entries are kept in, if any: the three sections of the configuration that
//! say so, brought together. Made once at start.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context as _, bail};
use gyre_engine::scripts::{Keys, Tagging};
use gyre_io::redis::{Outages, Servers, ShardOptions};

use super::redis::{Partitions, RedisOptions};
use crate::config::types::{Config, EngineType, Redis};
use crate::data_plane::{self, PresenceOptions, StoreOptions, StoreShard};
use crate::discovery::Sought;

/// See the module.
pub(crate) struct StoreSettings {
    broker: Section,
    presence: PresenceIn,
}

enum PresenceIn {
    Memory,
    /// What the broker uses.
    Broker,
    Own(Section),
}

struct Section {
    path: &'static str,
    options: RedisOptions,
}

impl StoreSettings {
    /// `None` = everything is kept in this process.
    ///
    /// # Errors
    /// Addresses and options that cannot be used, with their path.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Option<Self>> {
        let engine = ("engine.redis", config.engine.r#type, &config.engine.redis);
        let broker = match &config.broker {
            half if half.enabled => ("broker.redis", half.r#type, &half.redis),
            _ => engine,
        };
        let presence = match &config.presence_manager {
            half if half.enabled => ("presence_manager.redis", half.r#type, &half.redis),
            _ => engine,
        };
        if broker.1 != EngineType::Redis {
            return Ok(None);
        }
        let in_presence = match presence.1 {
            EngineType::Redis if presence.0 == broker.0 => PresenceIn::Broker,
            EngineType::Redis => PresenceIn::Own(section(presence.0, presence.2)?),
            _ => PresenceIn::Memory,
        };
        Ok(Some(Self { broker: section(broker.0, broker.2)?, presence: in_presence }))
    }

    /// For the operator: `redis (standalone)`.
    pub(crate) fn mode(&self) -> String {
        let broker = self.broker.options.mode();
        match &self.presence {
            PresenceIn::Broker => format!("redis ({broker})"),
            PresenceIn::Memory => format!("redis ({broker}), presence in memory"),
            PresenceIn::Own(own) => format!("redis ({broker}), presence in redis ({})", own.options.mode()),
        }
    }

    /// The shards of the broker, then those of a presence manager of its own.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Sought<'_>> {
        let own = match &self.presence {
            PresenceIn::Own(own) => Some(own),
            _ => None,
        };
        let broker = (Some(&self.broker), self.broker.options.partitions);
        // Presence has no Pub/Sub.
        let sections =
            [broker, (own, None)].into_iter().filter_map(|(section, partitions)| Some((section?, partitions)));
        sections.flat_map(|(Section { path, options }, partitions)| {
            options.shards.iter().map(move |shard| Sought { section: path, prefix: &options.prefix, shard, partitions })
        })
    }

    /// What cores make their stores of. `servers` are those of [`Self::shards`].
    ///
    /// # Errors
    /// A prefix that would tear the keys of a channel apart in a cluster; TLS options that cannot be used.
    pub(crate) fn store(&self, node_uid: &str, cores: u16, servers: &[Arc<Servers>]) -> anyhow::Result<StoreOptions> {
        let mut shards = Vec::new();
        let outages = Arc::<Outages>::default();
        for (Sought { section, prefix, shard, partitions }, servers) in self.shards().zip(servers) {
            let tagging = match (&**servers, partitions) {
                (Servers::One(_), None) => Tagging::Standalone,
                (Servers::One(_), Some(_)) => bail!(
                    "{section}.{}: is no Redis Cluster, which sharded_pub_sub_partitions needs; name a cluster or set it to 0",
                    shard.option
                ),
                (Servers::Cluster(_), None) => Tagging::Cluster,
                (Servers::Cluster(_), Some(Partitions { count, are_even: false })) => Tagging::Partitions(count),
                (Servers::Cluster(_), Some(Partitions { count, are_even: true })) => Tagging::EvenPartitions(count),
            };
            let tls = shard.tls.as_ref().map(|tls| tls.client("tls").map_err(|mistake| mistake.in_section(section)));
            let tls = tls.transpose()?;
            shards.push(StoreShard {
                options: ShardOptions {
                    handshake: shard.handshake(),
                    connect_timeout_ms: shard.connect_timeout_ms,
                    tls,
                    seed: 0,
                    scripts: data_plane::scripts(),
                    outages: Arc::clone(&outages),
                    sharded: partitions.is_some(),
                },
                servers: Arc::clone(servers),
                keys: Keys::new(prefix, tagging).with_context(|| section.to_owned())?,
            });
        }
        let stored = |is_brokers, section: &Section| PresenceOptions::Stored {
            is_brokers,
            ttl_s: section.options.presence_ttl_s,
            has_user_mapping: section.options.presence_user_mapping,
        };
        Ok(StoreOptions {
            shards,
            broker: NonZeroU32::new(self.broker.options.shards.len() as u32).context("no shard")?,
            presence: match &self.presence {
                PresenceIn::Memory => PresenceOptions::Here,
                PresenceIn::Broker => stored(true, &self.broker),
                PresenceIn::Own(own) => stored(false, own),
            },
            state: None,
            prefix: self.broker.options.prefix.clone(),
            node_uid: node_uid.to_owned(),
            unready: Arc::new(AtomicUsize::new(usize::from(cores))),
        })
    }
}

fn section(path: &'static str, redis: &Redis) -> anyhow::Result<Section> {
    let options = RedisOptions::new(redis);
    let options = options.map_err(|mistake| mistake.in_section(path))?;
    Ok(Section { path, options })
}
