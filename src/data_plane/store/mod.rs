//! The store of this core's channels: a client of each Redis shard, and the translation between what the engine asks and
//! what Redis says.
//!
//! On a core's thread, inside its turn. Commands collect in the clients and go out with the turn (`ask.rs`); what Redis
//! says is collected as events and handed to the engine when nobody else has hold of it (`answers.rs`). Nothing here
//! waits, and nothing is repeated: whether a lost command had an effect is not known.

mod again;
mod answers;
mod ask;
mod hearing;
mod members;
mod policy;
mod silence;
mod state;
mod stats;
mod streak;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gyre_engine::backend::ProxyId;
use gyre_engine::scripts::{Keys, shard_of};
use gyre_engine::{StateReply, StoreReply, Ticket};
use gyre_io::redis::{Event, Servers, Shard, ShardOptions, Use};
use gyre_io::{Closed, Driver};
use gyre_proto::ids::{ConnId, CoreId};

use hearing::Hearing;
use members::Members;
use silence::{Due, Silence};
pub(crate) use state::StateOptions;
pub(crate) use stats::StoreStats;
pub(super) use streak::Streak;

pub(super) use answers::{ForControl, hand_over};
pub(super) use ask::lent;
pub(crate) use ask::scripts;

/// See the module.
pub(super) struct Store {
    /// Those of the broker, then those of a presence manager with shards of its own.
    shards: Vec<Shard>,
    keys: Rc<[Keys]>,
    broker: Shards,
    presence: Presence,
    hearing: Hearing,
    /// By shard, not yet handed to the engine.
    events: Vec<(usize, Event)>,
    /// Answers of this process itself, handed over like those of Redis.
    own: Vec<(Ticket, StoreReply)>,
    /// Errors of Redis.
    refusals: Streak,
    /// Messages of channels that could not be read.
    malformed: Streak,
    /// Answers that are none.
    not_understood: Streak,
    stats: StoreStats,
    /// By shard.
    silences: Vec<Silence>,
    /// Of channels whose state is told; `None` = of none.
    state: Option<Rc<StateOptions>>,
    /// For the worker of channel states.
    state_answers: Vec<(u64, StateReply)>,
    /// Whose queues its steps have asked for, by their numbers.
    asked_queues: HashMap<u64, Box<[ProxyId]>>,
    /// Partitions with a new event for some backend.
    appended: BTreeSet<u32>,
    /// Events that there was no room for.
    dropped: Streak,
    unready: Arc<AtomicUsize>,
    has_been_up: bool,
    next_look_ms: u64,
    /// Names and a payload being put together.
    first: Vec<u8>,
    name: Vec<u8>,
    payload: Vec<u8>,
}

/// What every core makes its store of.
#[derive(Clone)]
pub(crate) struct StoreOptions {
    /// Those of the broker, then those of a presence manager with shards of its own.
    pub(crate) shards: Vec<StoreShard>,
    /// How many are the broker's.
    pub(crate) broker: NonZeroU32,
    pub(crate) presence: PresenceOptions,
    /// How channel states are kept, on the shards of presence; `None` = no backend is told of any.
    pub(crate) state: Option<StateOptions>,
    /// Starts the names of what nodes tell each other.
    pub(crate) prefix: String,
    pub(crate) node_uid: String,
    /// Cores that have not been connected to everything yet, of all that make a store of this.
    pub(crate) unready: Arc<AtomicUsize>,
}

impl StoreOptions {
    /// Connections of one core to Redis, with room for those that are ending while others begin.
    pub(crate) fn connections_max(&self) -> u32 {
        2 * self.shards.iter().map(|shard| shard.connections_max()).sum::<u32>()
    }
}

#[derive(Clone)]
pub(crate) struct StoreShard {
    pub(crate) options: ShardOptions,
    pub(crate) servers: Arc<Servers>,
    pub(crate) keys: Keys,
}

impl StoreShard {
    fn connections_max(&self) -> u32 {
        Shard::connections_max(&self.servers, self.options.messages) as u32
    }
}

/// Where presence entries are kept.
#[derive(Clone, Copy)]
pub(crate) enum PresenceOptions {
    /// In this process: only the node's own members are seen.
    Here,
    Stored {
        /// On the shards of the broker, or those after them.
        is_brokers: bool,
        ttl_s: u64,
        has_user_mapping: bool,
    },
}

/// Between two looks at what is late.
const LOOK_INTERVAL_MS: u64 = 250;

/// Some of the shards: channels are spread over them.
#[derive(Clone, Copy)]
struct Shards {
    first: usize,
    count: NonZeroU32,
}

impl Shards {
    fn of(self, channel: &str) -> usize {
        self.first + shard_of(channel, self.count) as usize
    }
}

enum Presence {
    Here(Members),
    Stored { shards: Shards, ttl_s: u64, has_user_mapping: bool },
}

impl Store {
    pub(super) fn new(options: StoreOptions, core: CoreId, seed: u64) -> Self {
        let broker = Shards { first: 0, count: options.broker };
        let first = options.broker.get() as usize;
        let others = NonZeroU32::new((options.shards.len() - first) as u32);
        let presence = match (options.presence, others) {
            (PresenceOptions::Here, _) => Presence::Here(Members::default()),
            (PresenceOptions::Stored { is_brokers, ttl_s, has_user_mapping }, others) => {
                let own = others.filter(|_| !is_brokers).map(|count| Shards { first, count });
                Presence::Stored { shards: own.unwrap_or(broker), ttl_s, has_user_mapping }
            }
        };
        let shard = |(at, shard): (usize, &StoreShard)| {
            let seed = seed.wrapping_add(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Shard::new(ShardOptions { seed, ..shard.options.clone() }, Arc::clone(&shard.servers))
        };
        Self {
            shards: options.shards.iter().enumerate().map(shard).collect(),
            keys: options.shards.iter().map(|shard| shard.keys.clone()).collect(),
            broker,
            presence,
            hearing: Hearing::new(&options.prefix, (core.0 == 0).then_some(&*options.node_uid), first),
            events: Vec::new(),
            own: Vec::new(),
            refusals: Streak::default(),
            malformed: Streak::default(),
            not_understood: Streak::default(),
            stats: StoreStats::default(),
            silences: options.shards.iter().map(|_| Silence::default()).collect(),
            state: options.state.filter(|_| matches!(options.presence, PresenceOptions::Stored { .. })).map(Rc::new),
            state_answers: Vec::new(),
            asked_queues: HashMap::new(),
            appended: BTreeSet::new(),
            dropped: Streak::default(),
            unready: options.unready,
            has_been_up: false,
            next_look_ms: 0,
            first: Vec::new(),
            name: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Once per turn, before anything is asked.
    pub(super) fn turn(&mut self, driver: &mut Driver) {
        let events = &mut self.events;
        for (at, shard) in self.shards.iter_mut().enumerate() {
            shard.turn(driver, &mut |event| events.push((at, event)));
        }
        if driver.now_ms() >= self.next_look_ms {
            self.next_look_ms = driver.now_ms() + LOOK_INTERVAL_MS;
            self.hear_again_what_was_refused(driver.now_ms());
            self.look_at_silences(driver);
        }
    }

    /// Messages that should come and do not.
    fn look_at_silences(&mut self, driver: &mut Driver) {
        let now_ms = driver.now_ms();
        for at in 0..self.broker.count.get() as usize {
            if !self.shards[at].is_up(Use::Messages) {
                continue;
            }
            match self.silences[at].due(now_ms) {
                Due::Nothing => {}
                Due::Probe => {
                    if !self.probe(at, now_ms) {
                        self.silences[at].not_probed();
                    }
                }
                Due::Restart => {
                    tracing::warn!(shard = at, "redis takes messages and delivers none; the connection is made anew");
                    self.stats.silences += 1;
                    let events = &mut self.events;
                    self.shards[at].restart_messages(driver, &mut |event| events.push((at, event)));
                }
            }
        }
    }

    /// Whether a connection is one to Redis.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.shards.iter().any(|shard| shard.has(conn))
    }

    pub(super) fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        if let Some((_, shard)) = shard_with(&mut self.shards, conn) {
            shard.dialled(driver, conn);
        }
    }

    pub(super) fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        let events = &mut self.events;
        if let Some((at, shard)) = shard_with(&mut self.shards, conn) {
            shard.bytes(driver, conn, data, &mut |event| events.push((at, event)));
        }
    }

    pub(super) fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        let events = &mut self.events;
        if let Some((at, shard)) = shard_with(&mut self.shards, conn) {
            shard.closed(driver, conn, why, &mut |event| events.push((at, event)));
        }
    }

    /// What was found out about a shard.
    pub(super) fn servers_are(&mut self, driver: &mut Driver, shard: usize, servers: Arc<Servers>) {
        let events = &mut self.events;
        if let Some(known) = self.shards.get_mut(shard) {
            known.servers_are(driver, servers, &mut |event| events.push((shard, event)));
        }
    }

    /// Shards of which this core doubts what it was told, each once.
    pub(super) fn doubts(&mut self) -> impl Iterator<Item = usize> {
        self.shards.iter_mut().enumerate().filter_map(|(at, shard)| shard.takes_doubt().then_some(at))
    }

    /// A shard, for what is no channel's; tokens are those of [`lent`].
    pub(super) fn lend(&mut self, at: usize) -> Option<&mut Shard> {
        self.shards.get_mut(at)
    }

    /// Once per turn, after everything was asked.
    pub(super) fn flush(&mut self, driver: &mut Driver) {
        self.shards.iter_mut().for_each(|shard| shard.flush(driver));
    }

    /// Connections to Redis that there are or will be in a moment.
    pub(super) fn connections(&self) -> usize {
        self.shards.iter().map(Shard::connections).sum()
    }

    /// Nothing waits for an answer of Redis.
    pub(super) fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.shards.iter().all(|shard| shard.in_flight() == 0)
    }

    /// There are answers of this process itself, for the next turn.
    pub(super) fn has_own_answers(&self) -> bool {
        !self.own.is_empty()
    }

    /// What has happened so far, and how things are now.
    pub(super) fn stats(&self) -> StoreStats {
        let in_flight = self.shards.iter().map(Shard::in_flight).sum();
        let (refused, malformed) = (self.refusals.total(), self.malformed.total());
        let state_dropped = self.dropped.total();
        StoreStats { refused, malformed, state_dropped, in_flight, is_up: self.is_up(), ..self.stats.clone() }
    }

    /// Whether the store of some core has not been connected to everything yet: whoever connects now, on whichever core,
    /// might be told of an outage that is none.
    pub(super) fn is_starting(&mut self) -> bool {
        if !self.has_been_up && self.is_up() {
            self.has_been_up = true;
            self.unready.fetch_sub(1, Ordering::Relaxed);
        }
        self.unready.load(Ordering::Relaxed) > 0
    }

    /// Every connection is ready.
    pub(super) fn is_up(&self) -> bool {
        let uses = [Use::Commands, Use::Messages, Use::SlotMessages];
        self.shards.iter().all(|shard| uses.iter().all(|what| shard.is_up(*what)))
    }
}

fn shard_with(shards: &mut [Shard], conn: ConnId) -> Option<(usize, &mut Shard)> {
    shards.iter_mut().enumerate().find(|(_, shard)| shard.has(conn))
}
