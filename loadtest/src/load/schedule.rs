//! When things are to happen: fixed at the start of a phase, never by what happened before.
//!
//! A schedule that waits for the last event hides exactly the delays that a load test is to find ("coordinated
//! omission"). Pure; the clock is an argument.

/// Events at a constant rate. Event n is due at `start + n / rate`, rounded up to a whole tick.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Schedule {
    start_us: u64,
    /// Nanoseconds between two events: exact enough for 10^9 events.
    step_ns: u64,
    /// A core that has few events per second wakes up once per tick for all that are due.
    tick_us: u64,
    taken: u64,
}

impl Schedule {
    /// Part `part` of `parts` equal ones of a schedule with `rate` events per second: the parts take turns.
    pub(crate) fn new(start_us: u64, rate: f64, part: usize, parts: usize, tick_us: u64) -> Self {
        let parts = parts.max(1);
        let step_ns = (1e9 / rate.max(1e-6) * parts as f64) as u64;
        let offset_us = step_ns / 1000 * part as u64 / parts as u64;
        Self { start_us: start_us + offset_us, step_ns: step_ns.max(1), tick_us: tick_us.max(1), taken: 0 }
    }

    /// When the next event is due.
    pub(crate) fn next_us(&self) -> u64 {
        let at = (u128::from(self.taken) * u128::from(self.step_ns) / 1000) as u64;
        self.start_us + at.next_multiple_of(self.tick_us)
    }

    /// How many events are due before a time and were not taken.
    pub(crate) fn due_before(&self, until_us: u64) -> u64 {
        // Event n is before it if n * step, rounded up to a tick, is at most the last tick before it.
        let Some(last_us) = until_us.checked_sub(self.start_us + 1) else { return 0 };
        let end_ns = u128::from(last_us / self.tick_us * self.tick_us + 1) * 1000;
        (end_ns.div_ceil(u128::from(self.step_ns)) as u64).saturating_sub(self.taken)
    }

    /// Takes the next event if it is due; returns when it was to happen.
    pub(crate) fn take(&mut self, now_us: u64) -> Option<u64> {
        let at = self.next_us();
        if at > now_us {
            return None;
        }
        self.taken += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate that is not kept, or drifts, makes every result wrong.
    #[test]
    fn the_parts_together_have_the_rate() {
        for (rate, parts, tick_us) in [(1000.0, 1, 1), (20_000.0, 60, 20_000), (3.0, 2, 1), (333_333.0, 7, 1000)] {
            let mut parts: Vec<_> = (0..parts).map(|part| Schedule::new(5_000, rate, part, parts, tick_us)).collect();
            let mut taken = 0u64;
            for now_us in (0..=10_005_000).step_by(5_000) {
                for schedule in &mut parts {
                    while let Some(at) = schedule.take(now_us) {
                        assert!((5_000..=now_us).contains(&at));
                        taken += 1;
                    }
                }
            }
            let expected = rate * 10.0;
            assert!(
                (taken as f64 - expected).abs() <= parts.len() as f64 * (1.0 + rate * tick_us as f64 / 1e6),
                "{taken}"
            );
        }
    }

    /// After a stall everything that was due is still due, at its old time: no omission.
    #[test]
    fn a_stall_changes_nothing() {
        let mut steady = Schedule::new(0, 100.0, 0, 1, 1);
        let mut stalled = steady;
        let all: Vec<_> = (0..1_000_000).step_by(10_000).filter_map(|now_us| steady.take(now_us)).collect();
        let late: Vec<_> = std::iter::from_fn(|| stalled.take(990_000)).collect();
        assert_eq!(all, late);
        assert_eq!(stalled.next_us(), 1_000_000);
    }
    /// Publications that a dead server has kept from being made must all be told, and no others.
    #[test]
    fn what_is_left_is_what_would_be_taken() {
        for (rate, parts, tick_us) in [(50.0, 1, 1), (3.0, 2, 1), (333_333.0, 7, 1000), (20_000.0, 60, 20_000)] {
            for part in 0..parts {
                let schedule = Schedule::new(5_000, rate, part, parts, tick_us);
                for until_us in [0, 5_000, 5_001, 24_999, 25_000, 25_001, 1_805_000, 1_805_001] {
                    let mut taken = schedule;
                    let mut count = 0;
                    while until_us > 0 && taken.take(until_us - 1).is_some() {
                        count += 1;
                    }
                    assert_eq!(schedule.due_before(until_us), count, "{schedule:?} {until_us}");
                    assert_eq!(taken.due_before(until_us), 0);
                }
            }
        }
    }
}
