//! Things done at an even rate by several threads that block, each with a client of its own, and how late they were done.
//!
//! What is due is due whether or not the one before it is done: a server that falls behind is seen to. Threads inherit
//! the CPU of the caller.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::redis::Bench;

/// How long the caller sleeps between looks at what the threads do.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What is done, and how often.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) per_second: f64,
    pub(super) time: Duration,
}

/// What came of it.
pub(super) struct Done {
    /// From when each was due until it was done, ascending.
    latencies: Vec<Duration>,
    /// Until the last was done; the caller may notice it later.
    pub(super) elapsed: Duration,
}

impl Pace {
    pub(super) fn count(self) -> usize {
        (self.per_second * self.time.as_secs_f64()).round() as usize
    }

    /// Does `one` for each number below `count`, in turns by the clients; the caller calls `look` now and then.
    pub(super) fn run<C: Send>(
        self,
        bench: &Bench,
        clients: &mut [C],
        one: impl Fn(&mut C, usize) -> Result<()> + Sync,
        mut look: impl FnMut(Duration) -> Result<()>,
    ) -> Result<Done> {
        let (start, step) = (Instant::now() + Duration::from_millis(20), clients.len());
        let one = &one;
        let alone = move |client: &mut C, first: usize| -> Result<(Vec<Duration>, Duration)> {
            let mut latencies = Vec::with_capacity(self.count() / step + 1);
            for number in (first..self.count()).step_by(step) {
                bench.go_on()?;
                let due = start + Duration::from_secs_f64(number as f64 / self.per_second);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                one(client, number)?;
                latencies.push(due.elapsed());
            }
            Ok((latencies, start.elapsed()))
        };
        let done = thread::scope(|threads| -> Result<Done> {
            let of_client = |(first, client)| threads.spawn(move || alone(client, first));
            let running: Vec<_> = clients.iter_mut().enumerate().map(of_client).collect();
            while !running.iter().all(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(LOOK_INTERVAL.min(self.time / 10));
                look(start.elapsed())?;
            }
            let mut done = Done { latencies: Vec::with_capacity(self.count()), elapsed: Duration::ZERO };
            for thread in running {
                let (latencies, elapsed) = thread.join().map_err(|_| anyhow!("a client panicked"))??;
                done.latencies.extend(latencies);
                done.elapsed = done.elapsed.max(elapsed);
            }
            done.latencies.sort_unstable();
            Ok(done)
        })?;
        if done.elapsed > self.time.mul_f64(1.05) + Duration::from_secs(1) {
            println!("  it took {:.1} s instead of {:.1} s", done.elapsed.as_secs_f64(), self.time.as_secs_f64());
        }
        Ok(done)
    }
}

impl Done {
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share was done within, in microseconds.
    pub(super) fn latency_us(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let found = self.latencies.get(rank.saturating_sub(1));
        found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The tail would be that of another share.
    #[test]
    fn a_percentile_is_that_of_its_rank() {
        let latencies = (1..=200).map(Duration::from_millis).collect();
        let done = Done { latencies, elapsed: Duration::from_secs(1) };
        assert_eq!(done.latency_us(0.5), 100_000.0);
        assert_eq!(done.latency_us(0.99), 198_000.0);
        assert_eq!(done.latency_us(1.0), 200_000.0);
        assert_eq!(done.count(), 200);
        assert!(Done { latencies: vec![], elapsed: Duration::ZERO }.latency_us(0.5).is_nan());
    }

    // Less would be done than is divided by.
    #[test]
    fn the_number_of_things_follows_from_rate_and_time() {
        let pace = Pace { per_second: 2000.0, time: Duration::from_millis(1500) };
        assert_eq!(pace.count(), 3000);
    }
}
