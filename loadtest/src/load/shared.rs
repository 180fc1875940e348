//! What the main thread and the cores of the generator share: orders one way, status the other.
//!
//! The main thread writes orders and wakes the cores; a core compares one number per turn and reads them when they
//! changed. A core writes its status at most every few milliseconds. The locks are held for a copy, never across a wait.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gyre_io::mesh::Sleeper;

use super::Window;
use super::spec::Spec;
use crate::live::{Counts, Latencies, Live};

/// One run's common ground.
pub(crate) struct Shared {
    pub(crate) spec: Spec,
    pub(crate) live: Arc<Live>,
    /// Zero of the run's clock.
    origin: Instant,
    version: AtomicU64,
    orders: Mutex<Orders>,
    sleepers: Vec<Sleeper>,
    status: Vec<Mutex<Status>>,
    results: Mutex<Vec<CoreResult>>,
    /// By numbered channel: the last publication that the server has accepted.
    tops: Vec<AtomicU32>,
    /// What went wrong outside of the cores' counters.
    pub(crate) failures: Mutex<Vec<String>>,
}

/// What the cores are to do. Times are microseconds of the run's clock; `u64::MAX` is "not yet".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    /// Since when clients are dialled.
    pub(crate) connect_from_us: u64,
    /// When the load of publications runs. An end of 0: what is still due is not to be made any more.
    pub(crate) publish_from_us: u64,
    pub(crate) publish_until_us: u64,
    /// What was to be sent before this is warm-up.
    pub(crate) measure_from_us: u64,
    /// When clients are made to leave and come back.
    pub(crate) churn_from_us: u64,
    pub(crate) churn_until_us: u64,
    /// How often everything was to be published once to every channel.
    pub(crate) broadcasts: u32,
    /// How often all connections were to be dropped.
    pub(crate) drops: u32,
    /// Whether clients whose connection the server ended come back.
    pub(crate) returning: bool,
    /// Whether publishers are to be connected.
    pub(crate) publishers: bool,
    /// How often deliveries that are missing were to be counted, and whether those of the last time are lost.
    pub(crate) scans: u32,
    pub(crate) settle: bool,
    /// Since when clients leave.
    pub(crate) leave_from_us: u64,
    pub(crate) stop: bool,
}

impl Orders {
    /// What a core starts from, whatever was ordered meanwhile.
    pub(crate) const NONE: Self = Self {
        connect_from_us: u64::MAX,
        publish_from_us: u64::MAX,
        publish_until_us: u64::MAX,
        measure_from_us: u64::MAX,
        churn_from_us: u64::MAX,
        churn_until_us: u64::MAX,
        broadcasts: 0,
        drops: 0,
        returning: false,
        publishers: false,
        scans: 0,
        settle: false,
        leave_from_us: u64::MAX,
        stop: false,
    };
}

/// How far a core is.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Status {
    /// Version of the orders it has seen.
    pub(crate) version: u64,
    /// Clients with all replies they wait for.
    pub(crate) ready: u64,
    /// Clients that are not tried any more.
    pub(crate) given_up: u64,
    /// Clients that were ready at least once.
    pub(crate) ever_ready: u64,
    /// Clients that were never ready and of whose connections at least one has failed.
    pub(crate) never_ready: u64,
    /// Clients given up on their way back.
    pub(crate) not_returned: u64,
    /// Connections of clients and publishers, in whatever state.
    pub(crate) connections: u64,
    /// Publishers that can publish.
    pub(crate) publishers: u64,
    /// Whether publications are due, or unanswered.
    pub(crate) publishing: bool,
    /// Publications without an answer.
    pub(crate) unanswered: u64,
    /// The last scan done, and what was missing.
    pub(crate) scans: u32,
    pub(crate) missing: u64,
    /// Pings of the client that got the fewest.
    pub(crate) pings_min: u32,
}

/// What a core leaves behind.
pub(crate) struct CoreResult {
    pub(crate) counts: Counts,
    pub(crate) measured: Latencies,
    pub(crate) window: Window,
}

impl Shared {
    pub(crate) fn new(spec: Spec, live: Arc<Live>, cores: usize) -> std::io::Result<Self> {
        let sleepers = (0..cores).map(|_| Sleeper::new()).collect::<Result<_, _>>()?;
        let tops = (0..spec.layout.channels).map(|_| AtomicU32::new(0)).collect();
        Ok(Self {
            spec,
            live,
            origin: Instant::now(),
            version: AtomicU64::new(0),
            orders: Mutex::new(Orders::NONE),
            sleepers,
            status: (0..cores).map(|_| Mutex::default()).collect(),
            results: Mutex::default(),
            tops,
            failures: Mutex::default(),
        })
    }

    /// Microseconds since the start of the run; the one clock of everything.
    pub(crate) fn now_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    pub(crate) fn cores(&self) -> usize {
        self.sleepers.len()
    }

    pub(crate) fn sleeper(&self, core: usize) -> Sleeper {
        self.sleepers[core].clone()
    }

    /// Main thread: changes the orders and tells all cores.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) -> u64 {
        let mut orders = lock(&self.orders);
        change(&mut orders);
        let version = self.version.fetch_add(1, Ordering::Release) + 1;
        drop(orders);
        for sleeper in &self.sleepers {
            sleeper.wake();
        }
        version
    }

    /// A core: the orders, if they are not those of `version` any more.
    pub(crate) fn orders_since(&self, version: u64) -> Option<(u64, Orders)> {
        if self.version.load(Ordering::Acquire) == version {
            return None;
        }
        let orders = lock(&self.orders);
        Some((self.version.load(Ordering::Acquire), *orders))
    }

    /// A core: how far it is.
    pub(crate) fn set_status(&self, core: usize, status: Status) {
        *lock(&self.status[core]) = status;
    }

    /// Main thread: how far all cores are together. The version is that of the slowest.
    pub(crate) fn status(&self) -> Status {
        let mut all = Status { version: u64::MAX, scans: u32::MAX, pings_min: u32::MAX, ..Status::default() };
        for status in &self.status {
            let status = *lock(status);
            all.version = all.version.min(status.version);
            all.scans = all.scans.min(status.scans);
            all.pings_min = all.pings_min.min(status.pings_min);
            all.ready += status.ready;
            all.given_up += status.given_up;
            all.ever_ready += status.ever_ready;
            all.never_ready += status.never_ready;
            all.not_returned += status.not_returned;
            all.connections += status.connections;
            all.publishers += status.publishers;
            all.unanswered += status.unanswered;
            all.missing += status.missing;
            all.publishing |= status.publishing;
        }
        all
    }

    /// The server has accepted a publication of a numbered channel.
    pub(crate) fn accepted(&self, channel: usize, sequence: u32) {
        // Relaxed: the main thread orders a scan only after the publishers' status, behind a lock, says they are done.
        self.tops[channel].fetch_max(sequence, Ordering::Relaxed);
    }

    /// The last accepted publication of a numbered channel.
    pub(crate) fn top(&self, channel: usize) -> u32 {
        self.tops[channel].load(Ordering::Relaxed)
    }

    pub(crate) fn leave_result(&self, result: CoreResult) {
        lock(&self.results).push(result);
    }

    pub(crate) fn take_results(&self) -> Vec<CoreResult> {
        std::mem::take(&mut lock(&self.results))
    }
}

/// A core that panics ends the process, so no other thread sees a poisoned lock that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
