//! What goes into the workers of channel state at the start, and what they say of themselves.

use crate::backend::ProxyId;

/// What the workers of a node are made of.
#[derive(Clone, Debug)]
pub struct WorkersOptions {
    /// Of the node, new at every start.
    pub node_uid: String,
    /// How many partitions there are; the same on all nodes.
    pub partitions: u32,
    /// The backends, with their names for the operator: each has a queue in every partition.
    pub backends: Vec<(ProxyId, Box<str>)>,
    /// How long nothing expires after nobody could reach the store, ms: until clients have renewed their entries.
    pub grace_ms: u64,
    /// For jitter.
    pub seed: u64,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersStats {
    /// Events that backends have taken: occupied, vacated.
    pub delivered: [u64; 2],
    /// Batches that a backend did not take.
    pub failed: u64,
    /// Channels whose time was over, with an event.
    pub vacated: u64,
    /// Those without, as the queue was full.
    pub dropped: u64,
    /// Leases lost.
    pub lost: u64,
    /// Now held.
    pub held: usize,
    /// Of those, partitions in which nothing expires for a while.
    pub in_grace: usize,
}
