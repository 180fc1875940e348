//! What one core counts and measures, and how it gets out.
//!
//! Shared by the core's handler and the tasks of its HTTP publishers, never by another thread: everything goes to
//! `Live` in one go about ten times a second. Samples of the warm-up are shown but not kept.

use gyre_io::DriverStats;
use rustix::time::{ClockId, clock_gettime};

use super::Window;
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
    pub(crate) measure_until_us: u64,
    /// What has come between the two.
    window: Window,
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
        Self { measure_from_us: u64::MAX, measure_until_us: u64::MAX, ..Self::default() }
    }

    /// A subscriber got a publication.
    pub(crate) fn delivered(&mut self, now_us: u64) {
        self.counts.delivered += 1;
        self.window.delivered += u64::from(self.is_measured(now_us));
    }

    /// The server has accepted so many publications.
    pub(crate) fn published(&mut self, count: u64, now_us: u64) {
        self.counts.published += count;
        self.window.published += count * u64::from(self.is_measured(now_us));
    }

    fn is_measured(&self, now_us: u64) -> bool {
        (self.measure_from_us..self.measure_until_us).contains(&now_us)
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
        shared.leave_result(CoreResult { counts: self.counts.clone(), measured, window: self.window });
    }
}

/// CPU time of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates divide by the length of the measured part: what comes before or after it would make a server faster.
    #[test]
    fn only_what_comes_within_the_window_counts() {
        let mut tally = Tally::new();
        tally.delivered(5);
        (tally.measure_from_us, tally.measure_until_us) = (100, 200);
        for now_us in [99, 100, 150, 199, 200, 300] {
            tally.delivered(now_us);
            tally.published(2, now_us);
        }
        assert_eq!(tally.window, Window { us: 0, published: 6, delivered: 3 });
        assert_eq!((tally.counts.published, tally.counts.delivered), (12, 7));
    }
}
