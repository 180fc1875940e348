//! What goes wrong with calls of one proxy, in the log: its first failure, then how many there were, at most once a second,
//! and when it is over. A backend that is down for a night must not fill a disk. Of calls that are repeated until they
//! succeed only when that begins and when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BACKEND_LOG_MS, BACKEND_OUTAGE_LOG_MS};

const PAUSE: Duration = Duration::from_millis(BACKEND_LOG_MS);
const OUTAGE_PAUSE: Duration = Duration::from_millis(BACKEND_OUTAGE_LOG_MS);

/// One kind of trouble.
#[derive(Default)]
pub(super) struct Trouble {
    /// `None` = there is none.
    streak: Option<Streak>,
}

struct Streak {
    failures: u64,
    last: Instant,
    last_line: Instant,
}

impl Trouble {
    /// It went wrong once more. `Some` = a line is due, for so many of the streak.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        let Some(streak) = &mut self.streak else {
            self.streak = Some(Streak { failures: 1, last: now, last_line: now });
            return Some(1);
        };
        streak.failures += 1;
        streak.last = now;
        if now < streak.last_line + PAUSE {
            return None;
        }
        streak.last_line = now;
        Some(streak.failures)
    }

    /// It went well. `Some` = for the first time after so many failures, and for long enough.
    pub(super) fn went_well(&mut self, now: Instant) -> Option<u64> {
        let streak = self.streak.take_if(|streak| now >= streak.last + PAUSE)?;
        Some(streak.failures)
    }
}

/// Calls that are repeated until they succeed: an outage is a line when it begins and one when it is over. One soon after
/// another that is over soon is none.
#[derive(Default)]
pub(super) struct Outage {
    /// Since the last success.
    failures: u64,
    /// A line says that it has begun.
    is_told: bool,
    last_told: Option<Instant>,
}

impl Outage {
    /// It went wrong once more. Whether a line is due.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures += 1;
        if self.is_told || self.last_told.is_some_and(|last| now < last + OUTAGE_PAUSE) {
            return false;
        }
        (self.is_told, self.last_told) = (true, Some(now));
        true
    }

    /// It went well. `Some` = a line is due: after so many failures.
    pub(super) fn went_well(&mut self) -> Option<u64> {
        let failures = std::mem::take(&mut self.failures);
        std::mem::take(&mut self.is_told).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator has to see that a backend fails and that it is back, and nothing else of the log must drown in it.
    #[test]
    fn a_streak_is_a_line_a_second() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(trouble.went_well(at(0)), None);
        let lines: Vec<u64> = (0..2_500).filter_map(|ms| trouble.failed(at(ms))).collect();
        assert_eq!(lines, [1, 1_001, 2_001]);
        assert_eq!(trouble.went_well(at(2_600)), None, "it may fail again at once");
        assert_eq!(trouble.failed(at(2_700)), None);
        assert_eq!(trouble.went_well(at(3_700)), Some(2_501));
        assert_eq!(trouble.went_well(at(3_700)), None);
        assert_eq!(trouble.failed(at(3_701)), Some(1));
    }

    /// An operator would take a backend that is back for one that is still away, or the disk would fill.
    #[test]
    fn an_outage_has_a_beginning_and_an_end() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(outage.went_well(), None);
        assert_eq!([0, 1, 60_000].map(|ms| outage.failed(at(ms))), [true, false, false]);
        assert_eq!((outage.went_well(), outage.went_well()), (Some(3), None));
        assert!(outage.failed(at(60_001)), "another one, long after the first line");
        assert_eq!(outage.went_well(), Some(1));
        assert!(!outage.failed(at(60_002)), "soon after the last line");
        assert_eq!(outage.went_well(), None, "its end is as silent as its beginning");
        let lasting = [60_003, 60_001 + BACKEND_OUTAGE_LOG_MS - 1, 60_001 + BACKEND_OUTAGE_LOG_MS];
        assert_eq!(lasting.map(|ms| outage.failed(at(ms))), [false, false, true], "unless it lasts");
        assert_eq!(outage.went_well(), Some(3));
    }
}
