//! When users were last active and online: connections of a core to the Redis that this is kept in, or a share in those
//! of the core's store, and what to do with what comes on them.
//!
//! On a core's thread, inside its turn. Commands collect in the clients and go out with the turn (`calls.rs`); answers
//! are handed over when nobody else has hold of the engine. Nothing here waits, and nothing is repeated: `online` comes
//! again with the next round, and whoever asked for anything else is told that it failed.

mod calls;

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gyre_io::redis::{Event, Messages, Servers, Shard, ShardOptions, Use};
use gyre_io::{Closed, Driver};
use gyre_proto::ids::ConnId;

use super::store::{Store, StoreStats, Streak};
use calls::Waiters;
pub(super) use calls::{StatusAsk, UserFacts, answered, hand_over};

/// See the module.
pub(super) struct UserStatus {
    place: Place,
    /// Of the connections of `place`, not handed over yet.
    events: Vec<Event>,
    waiters: Waiters,
    /// What the name of every key begins with.
    prefix: Box<str>,
    expire_ms: i64,
    /// Errors of Redis.
    refusals: Streak,
    /// Of the connections of `place`.
    stats: StoreStats,
    /// A name being put together.
    name: Vec<u8>,
}

/// What every core makes its own of.
#[derive(Clone)]
pub(crate) struct UserStatusOptions {
    pub(crate) place: StatusPlace,
    /// Starts every key.
    pub(crate) prefix: String,
    /// Since the last update.
    pub(crate) expire_ms: u64,
}

/// See [`UserStatusOptions`].
#[derive(Clone)]
pub(crate) enum StatusPlace {
    Own {
        /// Not empty.
        shards: Vec<StatusShard>,
        /// Shards that discovery counts before these.
        others: usize,
        /// Cores that have not been connected to all of them yet.
        unready: Arc<AtomicUsize>,
    },
    /// These shards of the store. Not empty.
    Store(Range<usize>),
}

#[derive(Clone)]
pub(crate) struct StatusShard {
    pub(crate) options: ShardOptions,
    pub(crate) servers: Arc<Servers>,
}

impl UserStatusOptions {
    /// Connections of one core, with room for those that are ending while others begin.
    pub(crate) fn connections_max(&self) -> u32 {
        match &self.place {
            StatusPlace::Own { shards, .. } => {
                2 * shards
                    .iter()
                    .map(|shard| Shard::connections_max(&shard.servers, Messages::None) as u32)
                    .sum::<u32>()
            }
            StatusPlace::Store(_) => 0,
        }
    }
}

enum Place {
    Own(Own),
    Store(Range<usize>),
}

struct Own {
    shards: Vec<Shard>,
    others: usize,
    unready: Arc<AtomicUsize>,
    has_been_up: bool,
}

impl UserStatus {
    pub(super) fn new(options: UserStatusOptions, seed: u64) -> Self {
        let shard = |(at, shard): (usize, StatusShard)| {
            // Other numbers than those of the store, which begins with the same seed.
            let seed = (!seed).wrapping_add(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Shard::new(ShardOptions { seed, ..shard.options }, shard.servers)
        };
        let place = match options.place {
            StatusPlace::Store(range) => Place::Store(range),
            StatusPlace::Own { shards, others, unready } => {
                let shards = shards.into_iter().enumerate().map(shard).collect();
                Place::Own(Own { shards, others, unready, has_been_up: false })
            }
        };
        Self {
            place,
            events: Vec::new(),
            waiters: Waiters::default(),
            prefix: format!("{}.user_status.", options.prefix).into(),
            expire_ms: i64::try_from(options.expire_ms).unwrap_or(i64::MAX),
            refusals: Streak::default(),
            stats: StoreStats::default(),
            name: Vec::new(),
        }
    }

    /// Among so many shards a user has its own.
    fn shards_count(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(match &self.place {
            Place::Own(own) => own.shards.len() as u32,
            Place::Store(range) => range.len() as u32,
        })
    }

    fn own(&mut self) -> (&mut [Shard], &mut Vec<Event>) {
        let shards = match &mut self.place {
            Place::Own(own) => &mut own.shards[..],
            Place::Store(_) => &mut [],
        };
        (shards, &mut self.events)
    }

    /// Once per turn, before anything is asked.
    pub(super) fn turn(&mut self, driver: &mut Driver) {
        let (shards, events) = self.own();
        shards.iter_mut().for_each(|shard| shard.turn(driver, &mut |event| events.push(event)));
    }

    /// Whether a connection is one of these.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        matches!(&self.place, Place::Own(own) if own.shards.iter().any(|shard| shard.has(conn)))
    }

    pub(super) fn dialled(&mut self, driver: &mut Driver, conn: ConnId) {
        if let Some(shard) = self.own().0.iter_mut().find(|shard| shard.has(conn)) {
            shard.dialled(driver, conn);
        }
    }

    pub(super) fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        let (shards, events) = self.own();
        if let Some(shard) = shards.iter_mut().find(|shard| shard.has(conn)) {
            shard.bytes(driver, conn, data, &mut |event| events.push(event));
        }
    }

    pub(super) fn closed(&mut self, driver: &mut Driver, conn: ConnId, why: Closed) {
        let (shards, events) = self.own();
        if let Some(shard) = shards.iter_mut().find(|shard| shard.has(conn)) {
            shard.closed(driver, conn, why, &mut |event| events.push(event));
        }
    }

    /// What was found out about a shard, if it is one of these.
    pub(super) fn servers_are(&mut self, driver: &mut Driver, shard: usize, servers: Arc<Servers>) {
        let events = &mut self.events;
        if let Place::Own(own) = &mut self.place
            && let Some(known) = shard.checked_sub(own.others).and_then(|at| own.shards.get_mut(at))
        {
            known.servers_are(driver, servers, &mut |event| events.push(event));
        }
    }

    /// Shards of which this core doubts what it was told, as discovery counts them, each once.
    pub(super) fn doubts(&mut self) -> impl Iterator<Item = usize> {
        let others = if let Place::Own(own) = &self.place { own.others } else { 0 };
        let shards = self.own().0.iter_mut().enumerate();
        shards.filter_map(move |(at, shard)| shard.takes_doubt().then_some(others + at))
    }

    /// Once per turn, after everything was asked.
    pub(super) fn flush(&mut self, driver: &mut Driver) {
        self.own().0.iter_mut().for_each(|shard| shard.flush(driver));
    }

    /// Connections that there are or will be in a moment.
    pub(super) fn connections(&self) -> usize {
        match &self.place {
            Place::Own(own) => own.shards.iter().map(Shard::connections).sum(),
            Place::Store(_) => 0,
        }
    }

    /// What has happened so far on connections of its own, and how things are now. `None` = there are none; the store
    /// counts what happens on its own.
    pub(super) fn stats(&self) -> Option<StoreStats> {
        let Place::Own(own) = &self.place else { return None };
        let in_flight = own.shards.iter().map(Shard::in_flight).sum();
        let is_up = own.shards.iter().all(|shard| shard.is_up(Use::Commands));
        Some(StoreStats { refused: self.refusals.total(), in_flight, is_up, ..self.stats.clone() })
    }

    /// Whether some core has not been connected to everything yet: whoever connects now might be told of an outage that is
    /// none. The store answers for its own shards.
    pub(super) fn is_starting(&mut self) -> bool {
        let Place::Own(own) = &mut self.place else { return false };
        if !own.has_been_up && own.shards.iter().all(|shard| shard.is_up(Use::Commands)) {
            own.has_been_up = true;
            own.unready.fetch_sub(1, Ordering::Relaxed);
        }
        own.unready.load(Ordering::Relaxed) > 0
    }

    /// The shard at a place among [`Self::shards_count`], and whether it is lent by the store.
    fn shard<'a>(place: &'a mut Place, store: Option<&'a mut Store>, at: usize) -> Option<(&'a mut Shard, bool)> {
        match place {
            Place::Own(own) => Some((own.shards.get_mut(at)?, false)),
            Place::Store(range) => Some((store?.lend(range.start + at)?, true)),
        }
    }
}
