//! How the servers of one shard are found: once before the node starts, and again whenever they may be others.
//!
//! On the thread that starts the node, then on the shard's own thread of discovery; blocks for as long as its servers let
//! it wait. What was found is checked before it is told: it answers, lets the node in and takes writes.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use gyre_io::redis::Servers;

use super::conversation::{Conversation, Reach};
use super::probe::check_streams;
use super::resolve::is_fixed;
use super::standalone;
use super::trouble::{Trouble, What};
use crate::settings::redis::{self, Shard, Topology};

/// A server that is loading its data is waited for that long at the start. More would hide from a supervisor that the node
/// does not start; a restart of a Redis with a gigabyte of data takes some seconds.
const LOADING_MAX: Duration = Duration::from_secs(10);
const LOADING_RETRY: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Search {
    /// Path of the address in the configuration.
    option: String,
    reach: Reach,
    way: Way,
}

/// Where to look.
enum Way {
    Standalone(redis::Endpoint),
}

/// What a look has found.
pub(super) struct Seen {
    pub(super) servers: Servers,
    /// With the primary, or with a node of the cluster.
    conversation: Conversation,
    version: String,
}

impl Search {
    pub(super) fn new(section: &str, shard: Shard) -> anyhow::Result<Self> {
        let option = format!("{section}.{}", shard.option);
        if shard.tls.is_some() {
            return Err(anyhow!("{option}: TLS towards redis is not built yet; use an address without it"));
        }
        let reach = Reach {
            what: What::Redis,
            handshake: shard.handshake(),
            connect_timeout: Duration::from_millis(shard.connect_timeout_ms.max(1)),
        };
        let way = match shard.topology {
            Topology::Standalone(endpoint) => Way::Standalone(endpoint),
            Topology::Sentinel(_) => return Err(anyhow!("{option}: Sentinels are not built yet")),
            Topology::Cluster { .. } => return Err(anyhow!("{option}: clusters are not built yet")),
        };
        Ok(Self { option, reach, way })
    }

    /// The servers at the start of the node.
    ///
    /// # Errors
    /// The option and what is wrong with it.
    pub(super) fn first(&mut self, prefix: &str) -> anyhow::Result<Arc<Servers>> {
        let found = self.when_loaded().and_then(|mut seen| {
            check_streams(&mut seen.conversation, prefix)?;
            Ok(seen)
        });
        let seen = found.map_err(|trouble| anyhow!("{}: {trouble}", self.option))?;
        let version = if seen.version.is_empty() { "unknown" } else { &*seen.version };
        tracing::info!(
            option = self.option,
            mode = self.mode(),
            primary = shown(&seen.servers),
            version,
            "redis found"
        );
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

    /// Looks once. `in_use` is what was found before.
    pub(super) fn look(&mut self, in_use: Option<&Servers>) -> Result<Seen, Trouble> {
        match &self.way {
            Way::Standalone(endpoint) => {
                let in_use = in_use.map(|Servers::One(in_use)| in_use);
                let (conversation, server) = standalone::look(&self.reach, endpoint, in_use)?;
                Ok(Seen {
                    servers: Servers::One(conversation.place().endpoint.clone()),
                    conversation,
                    version: server.version,
                })
            }
        }
    }

    /// Whether its servers are the same for ever.
    pub(super) fn is_over(&self) -> bool {
        match &self.way {
            Way::Standalone(endpoint) => is_fixed(endpoint),
        }
    }

    /// How often to look without a reason.
    pub(super) fn every(&self) -> Option<Duration> {
        match &self.way {
            Way::Standalone(_) => None,
        }
    }

    pub(super) fn option(&self) -> &str {
        &self.option
    }

    fn mode(&self) -> &'static str {
        match &self.way {
            Way::Standalone(_) => "standalone",
        }
    }
}

/// For a log line.
pub(super) fn shown(servers: &Servers) -> String {
    match servers {
        Servers::One(endpoint) => endpoint.to_string(),
    }
}
