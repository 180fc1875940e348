//! What runs now: counters and histograms that the generator's cores publish and the screen thread reads.
//!
//! One slot per core behind its own mutex. A core updates its slot about every 100 ms with [`Live::publish`], never per
//! delivery, so the lock is practically free; the reader takes everything with [`Live::take`] once a second.
//! The locks are never held across anything that waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One hour: nothing that a run measures takes longer; larger values are counted as this one.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// An empty histogram of microseconds. Three digits: an error of at most 0.1 %, in about 180 KiB.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "constants that the crate accepts")]
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds of a histogram")
}

/// What has happened since the start of the run, of one core or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Connections begun.
    pub dialled: u64,
    /// Connections that are open now and have their connect reply.
    pub open: u64,
    /// Subscriptions that are live now.
    pub subscribed: u64,
    /// Connections that did not come about.
    pub connect_failed: u64,
    /// Connections that the server ended and the workload did not ask to end.
    pub closed: u64,
    /// Publications that the server accepted.
    pub published: u64,
    /// Publications that it did not.
    pub publish_failed: u64,
    /// Publications of the schedule that were due and never made.
    pub not_made: u64,
    /// Deliveries that must arrive for the publications accepted so far.
    pub expected: u64,
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Gaps in a subscriber's sequence of a channel that were not filled.
    pub lost: u64,
    /// Deliveries that repeat one.
    pub duplicated: u64,
    /// Deliveries that come after a later one.
    pub disordered: u64,
    /// Pings of the server that were answered.
    pub pings: u64,
    /// Bytes read from the sockets.
    pub bytes_in: u64,
    /// Bytes written to the sockets.
    pub bytes_out: u64,
    /// How far the generator has been behind its schedule at worst.
    pub late_us_max: u64,
    /// What went wrong how often: `connect: ECONNREFUSED`, `disconnect 3501`, `error 105`, `http 503`.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another core's counts; the worst lag is the worse one.
    pub fn add(&mut self, other: &Self) {
        self.dialled += other.dialled;
        self.open += other.open;
        self.subscribed += other.subscribed;
        self.connect_failed += other.connect_failed;
        self.closed += other.closed;
        self.published += other.published;
        self.publish_failed += other.publish_failed;
        self.not_made += other.not_made;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.disordered += other.disordered;
        self.pings += other.pings;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.late_us_max = self.late_us_max.max(other.late_us_max);
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }

    /// Counts one error under its name.
    pub fn error(&mut self, name: &str) {
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => _ = self.errors.insert(name.to_owned(), 1),
        }
    }

    /// All errors together.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Histograms of microseconds, by what they measure.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// From the intended time of a publication to its arrival at a subscriber.
    pub delivery: Histogram<u64>,
    /// From the dial to the connect reply; how many dials are under way at once is bounded, so they have no intended time.
    pub connect: Histogram<u64>,
    /// From the intended time of a publication to the server's reply.
    pub publish: Histogram<u64>,
    /// From the loss of a connection to the end of its recovery.
    pub recovery: Histogram<u64>,
    /// How far behind its schedule the generator did what it did; says whether to believe the others.
    pub lag: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let empty = histogram();
        Self {
            delivery: empty.clone(),
            connect: empty.clone(),
            publish: empty.clone(),
            recovery: empty.clone(),
            lag: empty,
        }
    }
}

impl Latencies {
    /// Adds another core's samples. All histograms come from [`histogram`], so their bounds agree.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), (_, theirs)) in self.each_mut().into_iter().zip(other.each()) {
            if !theirs.is_empty() {
                _ = mine.add(theirs);
            }
        }
    }

    /// Forgets the samples, keeps the memory.
    pub fn clear(&mut self) {
        for (_, histogram) in self.each_mut() {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
    }

    /// Names as they appear in the record, with their histograms.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &Histogram<u64>); 5] {
        [
            ("delivery", &self.delivery),
            ("connect", &self.connect),
            ("publish", &self.publish),
            ("recovery", &self.recovery),
            ("lag", &self.lag),
        ]
    }

    fn each_mut(&mut self) -> [(&'static str, &mut Histogram<u64>); 5] {
        [
            ("delivery", &mut self.delivery),
            ("connect", &mut self.connect),
            ("publish", &mut self.publish),
            ("recovery", &mut self.recovery),
            ("lag", &mut self.lag),
        ]
    }
}

/// One core's slot.
#[derive(Debug, Default, Clone)]
pub struct CoreLive {
    /// Totals of this core since the start.
    pub counts: Counts,
    /// Samples since the last [`Live::take`].
    pub interval: Latencies,
    /// CPU time of the core's thread since its start.
    pub cpu_ns: u64,
}

/// All cores at one moment, merged.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// Totals of all cores since the start.
    pub counts: Counts,
    /// Samples of all cores since the snapshot before.
    pub interval: Latencies,
    /// CPU time of each core's thread since its start.
    pub cpu_ns: Vec<u64>,
}

/// Shared by the generator's cores, the screen thread and the signal handler.
#[derive(Debug)]
pub struct Live {
    cores: Vec<Mutex<CoreLive>>,
    phase: Mutex<String>,
    phase_changed: Condvar,
    stop: Arc<AtomicBool>,
}

impl Live {
    /// Slots for so many cores.
    #[must_use]
    pub fn new(cores: usize) -> Arc<Self> {
        let cores = (0..cores).map(|_| Mutex::new(CoreLive::default())).collect();
        let phase = Mutex::new("start".to_owned());
        Arc::new(Self { cores, phase, phase_changed: Condvar::new(), stop: Arc::default() })
    }

    /// Called by a core about every 100 ms: replaces its totals, adds `fresh` and empties it.
    pub fn publish(&self, core: usize, counts: &Counts, fresh: &mut Latencies, cpu_ns: u64) {
        {
            let mut slot = lock(&self.cores[core]);
            slot.counts.clone_from(counts);
            slot.interval.add(fresh);
            slot.cpu_ns = cpu_ns;
        }
        fresh.clear();
    }

    /// Merges all cores and empties their interval histograms.
    #[must_use]
    pub fn take(&self) -> Snapshot {
        let mut all = Snapshot::default();
        for core in &self.cores {
            let mut slot = lock(core);
            all.counts.add(&slot.counts);
            all.interval.add(&slot.interval);
            all.cpu_ns.push(slot.cpu_ns);
            slot.interval.clear();
        }
        all
    }

    /// Name of the running phase: `connect`, `warm-up`, `measure`, `drain`, ...
    #[must_use]
    pub fn phase(&self) -> String {
        lock(&self.phase).clone()
    }

    /// The phase as soon as it is another one than `known`, or that one after so long.
    #[must_use]
    pub fn phase_after(&self, known: &str, at_most: Duration) -> String {
        let phase = lock(&self.phase);
        let waited = self.phase_changed.wait_timeout_while(phase, at_most, |phase| *phase == known);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Enters a phase.
    pub fn enter(&self, phase: &str) {
        phase.clone_into(&mut lock(&self.phase));
        self.phase_changed.notify_all();
    }

    /// Whether the operator wants the run to end (Ctrl-C); the cores look at it in every turn.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The flag behind [`Self::is_stopping`], for the signal handler.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

/// A panic of another thread has not left these plain values half-written in a way that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the merge the screen would show one core only, or show a sample twice.
    #[test]
    fn take_merges_cores_and_empties_the_interval() {
        let live = Live::new(2);
        for core in 0..2 {
            let mut counts = Counts { delivered: 10, late_us_max: 5 + core as u64, ..Counts::default() };
            counts.error("error 105");
            let mut fresh = Latencies::default();
            fresh.delivery.saturating_record(100);
            live.publish(core, &counts, &mut fresh, 7);
            assert!(fresh.delivery.is_empty());
        }
        let snapshot = live.take();
        assert_eq!((snapshot.counts.delivered, snapshot.counts.late_us_max), (20, 6));
        assert_eq!(snapshot.counts.errors["error 105"], 2);
        assert_eq!((snapshot.interval.delivery.len(), snapshot.cpu_ns), (2, vec![7, 7]));
        let again = live.take();
        assert_eq!((again.counts.delivered, again.interval.delivery.len()), (20, 0));
    }
}
