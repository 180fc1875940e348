//! How the servers of one shard are found: once before the node starts, and again whenever they may be others.
//!
//! On the thread that starts the node, then on the shard's own thread of discovery; blocks for as long as its servers let
//! it wait. What was found is checked before it is told: it answers, lets the node in and takes writes.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use gyre_io::redis::{Handshake, Servers};

use super::cluster::{self, Cluster};
use super::conversation::{Conversation, Reach};
use super::probe::{check_sharded, check_streams};
use super::resolve::is_fixed;
use super::sentinel::{self, Sentinels};
use super::standalone::{self, first};
use super::trouble::{Trouble, What};
use crate::settings::redis::{self, Shard, TlsOptions, Topology};

/// A server that is loading its data is waited for that long at the start. More would hide from a supervisor that the node
/// does not start; a restart of a Redis with a gigabyte of data takes some seconds.
const LOADING_MAX: Duration = Duration::from_secs(10);
const LOADING_RETRY: Duration = Duration::from_millis(200);

/// Time to the next look after one that has failed, or has found what cannot last.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Primaries of a cluster that are tried at the start: one that can be reached shows that the addresses are right.
const PRIMARIES_TRIED_MAX: usize = 3;

/// See the module.
pub(super) struct Search {
    /// Path of the address in the configuration.
    option: String,
    reach: Reach,
    way: Way,
    /// What was found last is not about to change.
    is_settled: bool,
}

/// Where to look.
enum Way {
    Standalone(redis::Endpoint),
    Sentinel(Box<Sentinels>),
    Cluster(Cluster),
}

/// What a look has found.
pub(super) struct Seen {
    pub(super) servers: Servers,
    /// With the primary, or with a node of the cluster.
    conversation: Conversation,
    version: String,
}

impl Search {
    /// # Errors
    /// What cannot be used of the options of TLS.
    pub(super) fn new(section: &str, shard: &Shard) -> anyhow::Result<Self> {
        let tls = |options: &Option<TlsOptions>, object| {
            let tls = options.as_ref().map(|options| options.client(object)).transpose();
            tls.map_err(|mistake| anyhow!("{section}.{}: {}", mistake.option, mistake.message))
        };
        let reach = Reach {
            what: What::Redis,
            handshake: shard.handshake(),
            connect_timeout: Duration::from_millis(shard.connect_timeout_ms.max(1)),
            tls: tls(&shard.tls, "tls")?,
        };
        let way = match &shard.topology {
            Topology::Standalone(endpoint) => Way::Standalone(endpoint.clone()),
            Topology::Cluster { seeds } => Way::Cluster(Cluster::new(seeds.clone())),
            Topology::Sentinel(of) => {
                let handshake = Handshake {
                    user: of.auth.user.clone(),
                    password: of.auth.password.expose().to_owned(),
                    db: 0,
                    client_name: of.client_name.clone(),
                    ..reach.handshake.clone()
                };
                let tls = tls(&of.tls, "sentinel_tls")?;
                let reach = Reach { what: What::Sentinel, handshake, tls, ..reach.clone() };
                Way::Sentinel(Box::new(Sentinels::new(of.master_name.clone(), of.endpoints.clone(), reach)))
            }
        };
        Ok(Self { option: format!("{section}.{}", shard.option), reach, way, is_settled: true })
    }

    /// The servers at the start of the node.
    ///
    /// # Errors
    /// The option and what is wrong with it.
    pub(super) fn first(&mut self, prefix: &str, is_sharded: bool) -> anyhow::Result<Arc<Servers>> {
        let seen = self.when_loaded().and_then(|mut seen| {
            check_streams(&mut seen.conversation, prefix)?;
            if is_sharded && let Servers::Cluster(_) = seen.servers {
                check_sharded(&mut seen.conversation, prefix)?;
            }
            self.check_primaries(&seen.servers)?;
            Ok(seen)
        });
        let seen = seen.map_err(|trouble| anyhow!("{}: {trouble}", self.option))?;
        let version = if seen.version.is_empty() { "unknown" } else { &*seen.version };
        let (option, mode, primary) = (&*self.option, self.mode(), shown(&seen.servers));
        tracing::info!(option, mode, primary, version, "redis found");
        self.reach.hurry();
        if let Way::Sentinel(sentinels) = &mut self.way {
            sentinels.hurry();
        }
        Ok(Arc::new(seen.servers))
    }

    fn when_loaded(&mut self) -> Result<Seen, Trouble> {
        let began = Instant::now();
        let mut was_told = false;
        loop {
            match self.look(None) {
                Err(trouble) if trouble.will_pass() && began.elapsed() < LOADING_MAX => {
                    if !was_told {
                        tracing::warn!(option = self.option, %trouble, "waiting for redis");
                    }
                    was_told = true;
                    thread::sleep(LOADING_RETRY);
                }
                seen => return seen,
            }
        }
    }

    /// A cluster behind a translation of addresses tells such as nobody outside can reach.
    fn check_primaries(&self, servers: &Servers) -> Result<(), Trouble> {
        let Servers::Cluster(map) = servers else { return Ok(()) };
        if map.primaries().is_empty() {
            return Ok(());
        }
        let some = map.primaries().iter().take(PRIMARIES_TRIED_MAX).cloned();
        let reached = first(some, |primary| Conversation::begin(&self.reach, primary));
        reached.map(drop).map_err(|trouble| {
            Trouble::Unfit(format!(
                "the cluster names nodes that cannot be used from here: {trouble}, or see its options cluster-announce-ip \
                 and cluster-announce-hostname"
            ))
        })
    }

    /// Looks once. `in_use` is what was found before.
    pub(super) fn look(&mut self, in_use: Option<&Servers>) -> Result<Seen, Trouble> {
        let (conversation, server) = match &mut self.way {
            Way::Sentinel(sentinels) => sentinels.look(&self.reach)?,
            Way::Cluster(cluster) => {
                let view = cluster.look(&self.reach)?;
                self.is_settled = view.is_ok;
                return Ok(view.into());
            }
            Way::Standalone(endpoint) => {
                let in_use = match in_use {
                    Some(Servers::One(in_use)) => Some(in_use),
                    Some(Servers::Cluster(_)) | None => None,
                };
                let (conversation, server) = standalone::look(&self.reach, endpoint, in_use)?;
                // Keys have other names in a cluster, and the node has begun with those of one server.
                if server.is_cluster && in_use.is_some() {
                    let at = conversation.place();
                    return Err(Trouble::Unfit(format!(
                        "redis at {at} has become a node of a cluster; restart the node to use it as one"
                    )));
                }
                // One address is enough to know a cluster.
                if server.is_cluster {
                    let mut cluster = Cluster::new(vec![endpoint.clone()]);
                    let view = cluster.look(&self.reach)?;
                    self.is_settled = view.is_ok;
                    self.way = Way::Cluster(cluster);
                    return Ok(view.into());
                }
                (conversation, server)
            }
        };
        let servers = Servers::One(conversation.place().clone());
        Ok(Seen { servers, conversation, version: server.version })
    }

    /// Whether its servers are the same for ever.
    pub(super) fn is_over(&self) -> bool {
        matches!(&self.way, Way::Standalone(endpoint) if is_fixed(endpoint))
    }

    /// When to look again without a reason.
    pub(super) fn every(&self) -> Option<Duration> {
        match self.way {
            _ if !self.is_settled => Some(RETRY),
            Way::Standalone(_) => None,
            Way::Sentinel(_) => Some(sentinel::EVERY),
            Way::Cluster(_) => Some(cluster::EVERY),
        }
    }

    /// How long a doubt lasts although a look has found nothing new.
    pub(super) fn doubted(&self) -> Duration {
        match self.way {
            // The primary was asked and is one.
            Way::Standalone(_) | Way::Sentinel(_) => Duration::ZERO,
            Way::Cluster(_) => cluster::DOUBTED,
        }
    }

    /// Who may say something unasked.
    pub(super) fn listening(&self) -> Option<&Conversation> {
        match &self.way {
            Way::Sentinel(sentinels) => sentinels.listening(),
            Way::Standalone(_) | Way::Cluster(_) => None,
        }
    }

    /// Whether something was said that is a reason to look.
    pub(super) fn was_told(&mut self) -> bool {
        match &mut self.way {
            Way::Sentinel(sentinels) => sentinels.was_switched(),
            Way::Standalone(_) | Way::Cluster(_) => false,
        }
    }

    pub(super) fn option(&self) -> &str {
        &self.option
    }

    fn mode(&self) -> &'static str {
        match self.way {
            Way::Standalone(_) => "standalone",
            Way::Sentinel(_) => "sentinel",
            Way::Cluster(_) => "cluster",
        }
    }
}

impl From<cluster::View> for Seen {
    fn from(view: cluster::View) -> Self {
        Self { servers: Servers::Cluster(view.map), conversation: view.conversation, version: view.version }
    }
}

/// For a log line.
pub(super) fn shown(servers: &Servers) -> String {
    /// Primaries of a cluster that are named.
    const SHOWN_MAX: usize = 16;
    match servers {
        Servers::One(endpoint) => endpoint.to_string(),
        Servers::Cluster(map) => {
            let mut all: Vec<String> = map.primaries().iter().take(SHOWN_MAX).map(ToString::to_string).collect();
            if map.primaries().len() > SHOWN_MAX {
                all.push(format!("and {} more", map.primaries().len() - SHOWN_MAX));
            }
            all.join(", ")
        }
    }
}
