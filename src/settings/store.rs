//! Which Redis a node's channels and presence entries are kept in, if any: the three sections of the configuration that
//! say so, brought together. Made once at start.

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use gyre_engine::scripts::{Keys, Tagging};
use gyre_io::redis::{Servers, ShardOptions};

use super::redis::{Mistake, RedisOptions, Shard};
use crate::config::types::{Config, EngineType, Redis};
use crate::data_plane::{PresenceOptions, StoreOptions, StoreShard};

/// See the module.
pub(crate) struct StoreSettings {
    broker: RedisOptions,
    presence: PresenceIn,
}

enum PresenceIn {
    Memory,
    /// What the broker uses.
    Broker,
    Own(RedisOptions),
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
            EngineType::Redis => PresenceIn::Own(options(presence.0, presence.2)?),
            _ => PresenceIn::Memory,
        };
        Ok(Some(Self { broker: options(broker.0, broker.2)?, presence: in_presence }))
    }

    /// For the operator: `redis (standalone)`.
    pub(crate) fn mode(&self) -> String {
        match &self.presence {
            PresenceIn::Broker => format!("redis ({})", self.broker.mode()),
            PresenceIn::Memory => format!("redis ({}), presence in memory", self.broker.mode()),
            PresenceIn::Own(own) => format!("redis ({}), presence in redis ({})", self.broker.mode(), own.mode()),
        }
    }

    /// The broker's, then those of a presence manager of its own, with the prefix of each.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (&Shard, &str)> {
        let own = match &self.presence {
            PresenceIn::Own(own) => Some(own),
            _ => None,
        };
        [Some(&self.broker), own]
            .into_iter()
            .flatten()
            .flat_map(|options| options.shards.iter().map(|shard| (shard, &*options.prefix)))
    }

    /// What cores make their stores of. `servers` are those of [`Self::shards`].
    ///
    /// # Errors
    /// A prefix that would tear the keys of a channel apart in a cluster; TLS options that cannot be used.
    pub(crate) fn store(&self, node_uid: &str, servers: &[Arc<Servers>]) -> anyhow::Result<StoreOptions> {
        let mut shards = Vec::new();
        for ((shard, prefix), servers) in self.shards().zip(servers) {
            shards.push(StoreShard {
                options: ShardOptions {
                    handshake: shard.handshake(),
                    connect_timeout_ms: shard.connect_timeout_ms,
                    seed: 0,
                },
                servers: Arc::clone(servers),
                keys: Keys::new(prefix, Tagging::Standalone)?,
            });
        }
        let stored = |is_brokers, options: &RedisOptions| PresenceOptions::Stored {
            is_brokers,
            ttl_s: options.presence_ttl_s,
            has_user_mapping: options.presence_user_mapping,
        };
        Ok(StoreOptions {
            shards,
            broker: NonZeroU32::new(self.broker.shards.len() as u32).context("no shard")?,
            presence: match &self.presence {
                PresenceIn::Memory => PresenceOptions::Here,
                PresenceIn::Broker => stored(true, &self.broker),
                PresenceIn::Own(own) => stored(false, own),
            },
            prefix: self.broker.prefix.clone(),
            node_uid: node_uid.to_owned(),
        })
    }
}

fn options(section: &str, redis: &Redis) -> anyhow::Result<RedisOptions> {
    RedisOptions::new(redis).map_err(|Mistake { option, message }| anyhow!("{section}.{option}: {message}"))
}
