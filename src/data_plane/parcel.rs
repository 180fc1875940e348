//! What travels through the mesh: engine messages between cores, and the little that cores and the control thread say
//! to each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use globset::GlobBuilder;
use gyre_engine::backend::{BackendAsker, BackendCall, BackendReply, ProxyId, StateEvent};
use gyre_engine::rules::Rules;
use gyre_engine::{Act, CallId, Counters, Counts, Message, SurveyReply, SurveyWhat};
use gyre_io::DriverStats;
use gyre_io::redis::Servers;
use gyre_proto::api::{Batch, Command, Reply};
use gyre_proto::ids::CoreId;

use super::api::{CallError, Protocol};
use super::{StateSnapshot, StoreStats};
use crate::settings::Settings;

/// One message in a ring. Small, so that rings stay small: a tag and a pointer.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// From core to core.
    Engine(Message),
    /// From any core to core 0, which carries the workers of channel state: its calls have queued an event in this
    /// partition.
    Appended(u32),
    /// From a core to the control thread.
    ToControl(ToControl),
    /// From the control thread to a core.
    FromControl(FromControl),
}

#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a parcel holds two words and a tag")]
pub(crate) enum ToControl {
    /// A core's totals, about once a second.
    Snapshot(Box<Snapshot>),
    /// Somebody asks for the metrics page.
    Scrape { core: CoreId, call: CallId },
    /// All connections of a core that is shutting down are gone.
    Drained,
    /// A core has reason to doubt what it was told of the servers of this shard.
    Doubt(usize),
    /// What this core's sessions have met, those of other nodes have to meet too. Answered by [`FromControl::Told`].
    Act { core: CoreId, call: CallId, act: Arc<Act> },
    /// Answered by [`FromControl::Nodes`].
    Nodes { core: CoreId, call: CallId },
    /// A question to the other nodes. Answered by [`FromControl::Found`].
    Survey { core: CoreId, call: CallId, question: Box<Question> },
    /// From core 0: what all cores say to [`FromControl::Survey`].
    Surveyed { number: u64, shares: Box<Vec<SurveyReply>> },
    /// From core 0: messages of other nodes arrive from now on, for the first time or again.
    HearsNodes,
    /// From core 0: one of them.
    FromNodes(Box<[u8]>),
    /// From core 0: what came of [`FromControl::Publish`].
    Published { number: u64, ok: bool },
    /// Answer to [`FromControl::Api`].
    Api { number: u64, reply: Box<ApiReply> },
    /// Answered by [`FromControl::Backend`].
    Backend { core: CoreId, asker: BackendAsker, call: Box<BackendCall> },
    /// Answered by [`FromControl::StateTold`].
    StateEvents { core: CoreId, number: u64, batch: Box<StateBatch> },
}

#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a parcel holds two words and a tag")]
pub(crate) enum FromControl {
    /// Answer to [`ToControl::Scrape`].
    Page { call: CallId, text: Box<Bytes> },
    /// Rules of a reloaded configuration.
    Rules(Arc<Rules>),
    /// Close every connection with 3001.
    Shutdown,
    /// What was found out about the servers of a shard.
    Servers { shard: usize, servers: Arc<Servers> },
    /// Answer to [`ToControl::Act`]: whether the other nodes have been told.
    Told { call: CallId, ok: bool },
    /// Answer to [`ToControl::Nodes`]: all but this one.
    Nodes { call: CallId, nodes: Box<Vec<NodeInfo>> },
    /// Answer to [`ToControl::Survey`]: subscribers by channel; `None` = some node did not answer.
    Found { call: CallId, found: Option<Box<HashMap<String, u32>>> },
    /// Another node was asked for this.
    Act(Arc<Act>),
    /// To core 0: another node asks all cores.
    Survey { number: u64, what: Box<SurveyWhat> },
    /// A call of the server API that came in on the control thread. Answered by [`ToControl::Api`].
    Api { number: u64, call: Box<ApiCall> },
    /// Answer to [`ToControl::Backend`].
    Backend { asker: BackendAsker, reply: Box<BackendReply> },
    /// Answer to [`ToControl::StateEvents`]: whether the backend has taken them.
    StateTold { number: u64, ok: bool },
    /// To core 0: so many nodes are alive, this one included.
    NodesAre(u32),
    /// To core 0: a message to other nodes. Answered by [`ToControl::Published`].
    Publish { number: u64, message: Box<ToNodes> },
}

/// Changes of channels' states, in order, for one backend.
#[derive(Debug)]
pub(crate) struct StateBatch {
    pub(crate) proxy: ProxyId,
    pub(crate) events: Vec<StateEvent>,
}

/// What is asked of the server API.
#[derive(Debug)]
pub(crate) enum ApiCall {
    One(Command),
    Batch(Batch),
}

/// Of the kind of its [`ApiCall`].
#[derive(Debug)]
pub(crate) enum ApiReply {
    One(Reply),
    Batch(Vec<Reply>),
}

/// A message to other nodes.
#[derive(Debug)]
pub(crate) struct ToNodes {
    /// Node id; `None` = to all.
    pub(crate) to: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

/// A call that waits on a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) core: CoreId,
    pub(crate) call: CallId,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeInfo {
    /// New at every start.
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) clients: u32,
    pub(crate) users: u32,
    pub(crate) channels: u32,
    pub(crate) subscriptions: u32,
    /// Since its start.
    pub(crate) uptime_s: u32,
}

impl NodeInfo {
    /// This node's.
    pub(crate) fn own(settings: &Settings, counts: &Counts) -> Self {
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            uid: settings.node_uid.clone(),
            name: settings.node_name.clone(),
            version: settings.version.to_string(),
            clients: number(counts.clients),
            users: number(counts.users),
            channels: number(counts.channels),
            subscriptions: number(counts.subscriptions),
            uptime_s: number(settings.started.elapsed().as_secs()),
        }
    }
}

/// A question to all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Channels with subscribers and how many; names match the glob, empty = all.
    Channels(Box<str>),
}

impl Question {
    /// As a node asks its cores.
    ///
    /// # Errors
    /// A pattern that is none.
    pub(crate) fn for_cores(&self) -> Result<SurveyWhat, globset::Error> {
        let Self::Channels(pattern) = self;
        if pattern.is_empty() {
            return Ok(SurveyWhat::Channels(None));
        }
        let glob = GlobBuilder::new(pattern).literal_separator(false).build()?;
        Ok(SurveyWhat::Channels(Some(glob.compile_matcher())))
    }
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
    /// Of the connections to Redis that user status has for itself; `None` = there are none.
    pub(crate) user_status: Option<StoreStats>,
    /// Only of the core that carries the workers of channel state.
    pub(crate) states: Option<StateSnapshot>,
}

/// Server API calls of one core.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiCounters {
    /// By method: calls, and errors by what was wrong.
    pub(crate) calls: std::collections::BTreeMap<(Protocol, &'static str), u64>,
    pub(crate) errors: std::collections::BTreeMap<(Protocol, &'static str, CallError), u64>,
    /// Upgrades refused because of their origin.
    pub(crate) refused_origins: u64,
    /// Because of `client.connection_limit`.
    pub(crate) refused_by_limit: u64,
    /// Because of `client.connection_rate_limit`.
    pub(crate) refused_by_rate: u64,
    /// Questions to all cores, and all nodes if there are others.
    pub(crate) surveys: Durations,
}

/// How long something took, by upper bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// How many took at most as long as [`Self::BOUNDS_MS`] says and longer than the bound before; longer than all: only in
    /// `count`.
    pub(crate) buckets: [u64; Self::BOUNDS_MS.len()],
    pub(crate) count: u64,
    pub(crate) sum: Duration,
}

impl Durations {
    /// Of a survey (observability.md 2.1).
    pub(crate) const BOUNDS_MS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

    pub(crate) fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        if let Some(at) = Self::BOUNDS_MS.iter().position(|bound| duration <= Duration::from_millis(*bound)) {
            self.buckets[at] += 1;
        }
    }
}

const _: () = assert!(size_of::<Parcel>() <= 32);
