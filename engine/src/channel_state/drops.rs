//! Events that there was no room for, in the log: now and then, not each time.

use crate::limits::STATE_LOG_MS;

/// Of all partitions.
#[derive(Debug, Default)]
pub(super) struct Drops {
    count: u64,
    next_log_ms: u64,
}

impl Drops {
    /// One more.
    pub(super) fn note(&mut self, partition: u32, now_ms: u64) {
        self.count += 1;
        if now_ms >= self.next_log_ms {
            self.next_log_ms = now_ms + STATE_LOG_MS;
            let count = std::mem::take(&mut self.count);
            tracing::warn!(partition, count, "a queue of channel state events is full; new ones are dropped");
        }
    }
}
