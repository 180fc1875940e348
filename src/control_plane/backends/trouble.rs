//! What goes wrong with calls of one proxy, in the log: its first failure, then how many there were, at most once a second,
//! and when it is over. A backend that is down for a night must not fill a disk.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::BACKEND_LOG_MS;

const PAUSE: Duration = Duration::from_millis(BACKEND_LOG_MS);

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
}
