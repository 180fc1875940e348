//! Which Redis the status of users is kept in: one of its own, or the engine's. Made once at start.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use gyre_io::redis::{Messages, Outages, Servers, ShardOptions};

use super::StoreSettings;
use super::redis::RedisOptions;
use crate::config::types::Config;
use crate::data_plane::{self, StatusPlace, StatusShard, UserStatusOptions};
use crate::discovery::Sought;

const OWN: &str = "user_status.redis";
const ENGINE: &str = "engine.redis";

/// See the module.
pub(crate) struct UserStatusSettings {
    prefix: String,
    expire_ms: u64,
    place: Place,
}

enum Place {
    /// Connections of its own.
    Own { section: &'static str, redis: RedisOptions },
    /// These shards of the store, which are the engine's.
    Store(Range<usize>),
}

impl UserStatusSettings {
    /// `None` = none is kept.
    ///
    /// # Errors
    /// Addresses and options that cannot be used, with their path.
    pub(crate) fn new(config: &Config, store: Option<&StoreSettings>) -> anyhow::Result<Option<Self>> {
        let options = &config.user_status;
        if !options.enabled {
            return Ok(None);
        }
        let (section, redis) = match options.redis.reuse_from_engine {
            true => (ENGINE, &config.engine.redis),
            false => (OWN, &options.redis.own),
        };
        let redis = RedisOptions::new(redis).map_err(|mistake| mistake.in_section(section))?;
        let prefix = redis.prefix.clone();
        let of_store = match options.redis.reuse_from_engine {
            true => store.and_then(|store| store.shards_of(section)),
            false => None,
        };
        // Other sections may have taken the place of both halves of the engine: nobody is connected to its Redis then.
        let place = of_store.map_or_else(|| Place::Own { section, redis }, Place::Store);
        let expire_ms = u64::try_from(options.expire_interval.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(Self { prefix, expire_ms, place }))
    }

    /// Shards of its own.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Sought<'_>> {
        let own = match &self.place {
            Place::Own { section, redis } => Some((*section, redis)),
            Place::Store(_) => None,
        };
        own.into_iter().flat_map(|(section, redis)| {
            redis.shards.iter().map(move |shard| Sought { section, prefix: &redis.prefix, shard, partitions: None })
        })
    }

    /// What cores make theirs of. `servers` are those of [`Self::shards`], which come after `others` that discovery knows.
    ///
    /// # Errors
    /// TLS options that cannot be used.
    pub(crate) fn options(
        &self,
        cores: u16,
        servers: &[Arc<Servers>],
        others: usize,
    ) -> anyhow::Result<UserStatusOptions> {
        let place = match &self.place {
            Place::Store(range) => StatusPlace::Store(range.clone()),
            Place::Own { .. } => {
                let outages = Arc::<Outages>::default();
                let mut shards = Vec::new();
                for (Sought { section, shard, .. }, servers) in self.shards().zip(servers) {
                    let tls = shard.tls.as_ref().map(|tls| tls.client("tls"));
                    let tls = tls.transpose().map_err(|mistake| mistake.in_section(section))?;
                    let options = ShardOptions {
                        handshake: shard.handshake(),
                        connect_timeout_ms: shard.connect_timeout_ms,
                        tls,
                        seed: 0,
                        scripts: data_plane::scripts(),
                        outages: Arc::clone(&outages),
                        messages: Messages::None,
                    };
                    shards.push(StatusShard { options, servers: Arc::clone(servers) });
                }
                StatusPlace::Own { shards, others, unready: Arc::new(AtomicUsize::new(usize::from(cores))) }
            }
        };
        Ok(UserStatusOptions { place, prefix: self.prefix.clone(), expire_ms: self.expire_ms })
    }
}
