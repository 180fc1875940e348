//! What one core counts and measures, and how it gets out.
//!
//! Shared by the core's handler and the tasks of its HTTP publishers, never by another thread: everything goes to
//! `Live` in one go about ten times a second. Samples of the warm-up are shown but not kept.

use gyre_io::DriverStats;
use rustix::time::{ClockId, clock_gettime};

use super::shared::{CoreResult, Shared};
use crate::live::{Counts, LATENCY_US_MAX, Latencies};

/// Counters and histograms of one core.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// Of the measured part, since the last report.
    pub(crate) fresh: Latencies,
    /// Of the warm-up, since the last report.
    pub(crate) warm: Latencies,
    /// Of the measured part, in all.
    measured: Latencies,
    /// What was to be sent before this is warm-up.
    pub(crate) measure_from_us: u64,
    /// Something has changed since the last report.
    pub(crate) dirty: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    Delivery,
    Publish,
    Lag,
    Connect,
    Recovery,
}

impl Tally {
    /// Nothing yet, and everything is warm-up until told otherwise.
    pub(crate) fn new() -> Self {
        Self { measure_from_us: u64::MAX, ..Self::default() }
    }

    /// A latency that counts from `intended_us`.
    pub(crate) fn sample(&mut self, what: Sample, intended_us: u64, now_us: u64) {
        self.dirty = true;
        let is_warm_up = intended_us < self.measure_from_us && !matches!(what, Sample::Connect | Sample::Recovery);
        let latencies = if is_warm_up { &mut self.warm } else { &mut self.fresh };
        let histogram = match what {
            Sample::Delivery => &mut latencies.delivery,
            Sample::Publish => &mut latencies.publish,
            Sample::Lag => &mut latencies.lag,
            Sample::Connect => &mut latencies.connect,
            Sample::Recovery => &mut latencies.recovery,
        };
        let latency_us = now_us.saturating_sub(intended_us).clamp(1, LATENCY_US_MAX);
        histogram.saturating_record(latency_us);
        if what == Sample::Lag {
            self.counts.late_us_max = self.counts.late_us_max.max(latency_us);
        }
    }

    pub(crate) fn error(&mut self, name: &str) {
        self.dirty = true;
        self.counts.error(name);
    }

    /// Hands everything over.
    pub(crate) fn report(&mut self, shared: &Shared, core: usize, stats: &DriverStats) {
        self.dirty = false;
        self.counts.bytes_in = stats.bytes_in;
        self.counts.bytes_out = stats.bytes_out;
        self.measured.add(&self.fresh);
        shared.live.publish(core, &self.counts, &mut self.fresh, cpu_ns());
        if self.warm.each().iter().any(|(_, histogram)| !histogram.is_empty()) {
            shared.live.publish(core, &self.counts, &mut self.warm, cpu_ns());
        }
    }

    /// Leaves the totals at the end of the run.
    pub(crate) fn leave(&mut self, shared: &Shared, core: usize, stats: &DriverStats) {
        self.report(shared, core, stats);
        let measured = std::mem::take(&mut self.measured);
        shared.leave_result(CoreResult { counts: self.counts.clone(), measured });
    }
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
