//! Which Redis a node's channels and presence entries are kept in, if any: the three sections of the configuration that
//! say so, brought together. Made once at start.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Context as _, bail};
use gyre_engine::scripts::{Keys, StateKeys, Tagging};
use gyre_io::redis::{Messages, Outages, Servers, ShardOptions};

use super::proxies::Proxies;
use super::redis::{Partitions, RedisOptions};
use crate::config::types::{ChannelState, Config, EngineType, Redis};
use crate::data_plane::{self, PresenceOptions, StateOptions, StoreOptions, StoreShard};
use crate::discovery::Sought;

/// See the module.
pub(crate) struct StoreSettings {
    broker: Section,
    presence: PresenceIn,
    state: StateSettings,
}

/// Of `channel_state`.
#[derive(Debug, PartialEq, Eq)]
struct StateSettings {
    partitions: NonZeroU32,
    vacated_delay_ms: u64,
    queue_max: u64,
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
        let state = StateSettings::new(presence.2.channel_state, config.engine.redis.channel_state);
        Ok(Some(Self { broker: section(broker.0, broker.2)?, presence: in_presence, state }))
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

    /// Which of [`Self::shards`] are those of a section, if any.
    pub(crate) fn shards_of(&self, path: &str) -> Option<Range<usize>> {
        let first = self.shards().position(|sought| sought.section == path)?;
        Some(first..first + self.shards().filter(|sought| sought.section == path).count())
    }

    /// What cores make their stores of. `servers` are those of [`Self::shards`].
    ///
    /// # Errors
    /// A prefix that would tear the keys of a channel apart in a cluster; TLS options that cannot be used.
    pub(crate) fn store(
        &self,
        node_uid: &str,
        cores: u16,
        servers: &[Arc<Servers>],
        proxies: &Proxies,
    ) -> anyhow::Result<StoreOptions> {
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
                    messages: if partitions.is_some() { Messages::Slots } else { Messages::Channels },
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
        let presence = match &self.presence {
            PresenceIn::Memory => None,
            PresenceIn::Broker => Some(&self.broker),
            PresenceIn::Own(own) => Some(own),
        };
        // Without any backend there is nobody to tell, whatever a reload may bring: it brings no new ones.
        let state = presence.filter(|_| !proxies.list.is_empty()).map(|section| StateOptions {
            keys: StateKeys::new(&section.options.prefix, self.state.partitions),
            vacated_delay_ms: self.state.vacated_delay_ms,
            queue_max: self.state.queue_max,
            proxies: proxies.list.iter().map(|proxy| proxy.name.as_str().into()).collect(),
        });
        Ok(StoreOptions {
            shards,
            broker: NonZeroU32::new(self.broker.options.shards.len() as u32).context("no shard")?,
            presence: match &self.presence {
                PresenceIn::Memory => PresenceOptions::Here,
                PresenceIn::Broker => stored(true, &self.broker),
                PresenceIn::Own(own) => stored(false, own),
            },
            state,
            prefix: self.broker.options.prefix.clone(),
            node_uid: node_uid.to_owned(),
            unready: Arc::new(AtomicUsize::new(usize::from(cores))),
        })
    }
}

/// What `num_partitions` and `event_queue_limit` are when they are 0.
const STATE_PARTITIONS: NonZeroU32 = NonZeroU32::new(128).unwrap();
const STATE_QUEUE_MAX: i64 = 100_000;
/// What `vacated_event_delay` is when nobody says anything.
const STATE_VACATED_DELAY: Duration = Duration::from_secs(5);

impl StateSettings {
    /// `own` counts, that of a presence manager with shards of its own perhaps; one that says nothing leaves it to the
    /// engine's.
    fn new(own: Option<ChannelState>, engines: Option<ChannelState>) -> Self {
        let silent = ChannelState {
            vacated_event_delay: STATE_VACATED_DELAY.as_nanos() as i64,
            num_partitions: STATE_PARTITIONS.get().into(),
            event_queue_limit: STATE_QUEUE_MAX,
        };
        let written = own.filter(|own| *own != silent).or(engines).unwrap_or(silent);
        let partitions = u32::try_from(written.num_partitions).ok().and_then(NonZeroU32::new);
        let queue_max = Some(written.event_queue_limit).filter(|max| *max > 0).unwrap_or(STATE_QUEUE_MAX);
        Self {
            partitions: partitions.unwrap_or(STATE_PARTITIONS),
            // What is between two milliseconds is the later one: 0 alone means at once.
            vacated_delay_ms: written.vacated_event_delay.max(0).unsigned_abs().div_ceil(1_000_000),
            queue_max: queue_max.unsigned_abs(),
        }
    }
}

fn section(path: &'static str, redis: &Redis) -> anyhow::Result<Section> {
    let options = RedisOptions::new(redis);
    let options = options.map_err(|mistake| mistake.in_section(path))?;
    Ok(Section { path, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of all channels would be looked for in other places than those of the other nodes, or wait for as long as
    /// nobody wants.
    #[test]
    fn channel_state() {
        let of = |delay, partitions, queue| {
            Some(ChannelState { vacated_event_delay: delay, num_partitions: partitions, event_queue_limit: queue })
        };
        let silent = of(5_000_000_000, 128, 100_000);
        let is = |own, engines| {
            let state = StateSettings::new(own, engines);
            (state.vacated_delay_ms, state.partitions.get(), state.queue_max)
        };
        assert_eq!(is(None, None), (5000, 128, 100_000));
        assert_eq!(is(of(0, 0, 0), silent), (0, 128, 100_000), "0 from the environment");
        assert_eq!(is(silent, of(1, 16, 7)), (1, 16, 7), "the engine's counts where the manager's says nothing");
        assert_eq!(is(of(2_000_000, 3, 4), of(1, 16, 7)), (2, 3, 4));
    }
}
