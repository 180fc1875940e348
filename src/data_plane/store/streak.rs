//! What goes wrong for each command or message, in the log: one line for a streak, not one for each publication.

use crate::limits::REFUSED_LOG_MS;

/// On a core's thread; of one kind of trouble.
#[derive(Default)]
pub(in crate::data_plane) struct Streak {
    /// Since the last line.
    count: u64,
    next_log_ms: u64,
    total: u64,
}

impl Streak {
    /// It went wrong once more. `Some` = a line is due, for so many of them.
    pub(in crate::data_plane) fn note(&mut self, now_ms: u64) -> Option<u64> {
        self.total += 1;
        self.count += 1;
        if now_ms < self.next_log_ms {
            return None;
        }
        self.next_log_ms = now_ms + REFUSED_LOG_MS;
        Some(std::mem::take(&mut self.count))
    }

    /// How often so far.
    pub(in crate::data_plane) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever can publish garbage, or a Redis that refuses everything, would fill the disk with lines.
    #[test]
    fn a_streak_is_a_line_now_and_then() {
        let mut streak = Streak::default();
        let lines: Vec<u64> = (0..3 * REFUSED_LOG_MS).filter_map(|now_ms| streak.note(now_ms)).collect();
        assert_eq!(lines, [1, REFUSED_LOG_MS, REFUSED_LOG_MS]);
        assert_eq!(streak.total(), 3 * REFUSED_LOG_MS);
    }
}
