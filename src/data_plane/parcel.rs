//! What travels through the mesh: engine messages between cores, and the little that cores and the control thread say
//! to each other.

use std::sync::Arc;

use bytes::Bytes;
use gyre_engine::rules::Rules;
use gyre_engine::{CallId, Counters, Counts, Message};
use gyre_io::DriverStats;
use gyre_io::redis::Servers;
use gyre_proto::ids::CoreId;

use super::StoreStats;

/// One message in a ring. Small, so that rings stay small: a tag and a pointer.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// From core to core.
    Engine(Message),
    /// From a core to the control thread.
    ToControl(ToControl),
    /// From the control thread to a core.
    FromControl(FromControl),
}

#[derive(Debug)]
pub(crate) enum ToControl {
    /// A core's totals, about once a second.
    Snapshot(Box<Snapshot>),
    /// Somebody asks for the metrics page.
    Scrape { core: CoreId, call: CallId },
    /// All connections of a core that is shutting down are gone.
    Drained,
    /// A core has reason to doubt what it was told of the servers of this shard.
    Doubt(usize),
    /// A message between nodes has come.
    FromNodes(Box<[u8]>),
    /// Whether Redis took what was to be told to other nodes.
    Published { number: u64, ok: bool },
}

#[derive(Debug)]
pub(crate) enum FromControl {
    /// Answer to [`ToControl::Scrape`].
    Page { call: CallId, text: Box<Bytes> },
    /// Rules of a reloaded configuration.
    Rules(Arc<Rules>),
    /// Close every connection with 3001.
    Shutdown,
    /// What was found out about the servers of a shard.
    Servers { shard: usize, servers: Arc<Servers> },
}

/// What a core reports of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) core: u16,
    pub(crate) counts: Counts,
    pub(crate) counters: Counters,
    pub(crate) driver: DriverStats,
    pub(crate) api: ApiCounters,
    /// Messages that wait for a full ring.
    pub(crate) backlog: usize,
    /// `None` = everything is kept in memory.
    pub(crate) store: Option<StoreStats>,
}

/// Server API calls of one core.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiCounters {
    /// By method: calls, and errors by code.
    pub(crate) calls: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) errors: std::collections::BTreeMap<(&'static str, u32), u64>,
    /// Upgrades refused because of their origin.
    pub(crate) refused_origins: u64,
    /// Because of `client.connection_limit`.
    pub(crate) refused_by_limit: u64,
    /// Because of `client.connection_rate_limit`.
    pub(crate) refused_by_rate: u64,
}

const _: () = assert!(size_of::<Parcel>() <= 32);
