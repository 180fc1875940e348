//! Finds out which Redis servers each shard has, so that the cores never have to.
//!
//! Every shard is looked at once before the node takes its first connection; Redis down, or not fit for the node, ends the
//! start. From then on each shard whose servers can change has one thread, which may block, so that a shard that does not
//! answer delays no other. It looks when somebody doubts what is known, from time to time without that, and when Sentinels
//! announce a failover. Only changes are told. Must never tell of servers that were not checked, nor hold a password in a text.

mod bell;
mod cluster;
mod conversation;
mod probe;
mod resolve;
mod search;
mod sentinel;
mod standalone;
mod stream;
#[cfg(test)]
mod tests;
mod thread;
mod trouble;

use std::sync::Arc;

use anyhow::Context as _;
use gyre_io::redis::Servers;

use crate::settings::redis::{Partitions, Shard};
use bell::Bell;
use search::Search;

/// The threads. They end when it is dropped, each after the look that it is at.
pub(crate) struct Discovery {
    /// One for each shard; none where the servers cannot change.
    bells: Vec<Option<Arc<Bell>>>,
}

/// The servers of a shard are others than was told before.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shard: usize,
    pub(crate) servers: Arc<Servers>,
}

/// Takes what was found, on the thread that found it.
pub(crate) type Tell = Arc<dyn Fn(Found) + Send + Sync>;

/// A shard whose servers are to be found.
pub(crate) struct Sought<'a> {
    /// Where the configuration has it: `engine.redis`.
    pub(crate) section: &'static str,
    /// What begins every key.
    pub(crate) prefix: &'a str,
    pub(crate) shard: &'a Shard,
    /// It is to have sharded Pub/Sub.
    pub(crate) partitions: Option<Partitions>,
}

/// Looks at every shard, blocking, and keeps an eye on them from then on.
///
/// # Errors
/// The first shard whose servers cannot be used, by the path of its option, and the remedy.
pub(crate) fn start<'a>(
    sought: impl Iterator<Item = Sought<'a>>,
    tell: Tell,
) -> anyhow::Result<(Discovery, Vec<Arc<Servers>>)> {
    let mut searches = Vec::new();
    let mut servers = Vec::new();
    for Sought { section, prefix, shard, partitions } in sought {
        let mut search = Search::new(section, shard)?;
        servers.push(search.first(prefix, partitions.is_some())?);
        searches.push(search);
    }
    let mut discovery = Discovery { bells: Vec::with_capacity(searches.len()) };
    for (shard, search) in searches.into_iter().enumerate() {
        let started = if search.is_over() {
            None
        } else {
            let (servers, tell) = (Arc::clone(&servers[shard]), Arc::clone(&tell));
            Some(thread::start(shard, search, servers, tell).context("cannot start a thread of discovery")?)
        };
        discovery.bells.push(started);
    }
    Ok((discovery, servers))
}

impl Discovery {
    /// The servers of a shard may be others than was told: look now. Never blocks, and may be called often.
    pub(crate) fn doubt(&self, shard: usize) {
        if let Some(Some(bell)) = self.bells.get(shard) {
            bell.ring();
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.bells.iter().flatten().for_each(|bell| bell.end());
    }
}
