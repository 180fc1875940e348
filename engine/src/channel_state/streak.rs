//! A backend that fails, in the log: when that begins and when it is over, not each time.

use crate::limits::STATE_LOG_MS;

/// Of one backend.
#[derive(Debug, Default)]
pub(super) struct Streak {
    /// A line says that it fails.
    is_failing: bool,
    failures: u64,
    next_log_ms: u64,
}

impl Streak {
    /// What came of a delivery.
    pub(super) fn note(&mut self, name: &str, ok: bool, now_ms: u64) {
        self.failures += u64::from(!ok);
        // Partitions deliver side by side: while it fails now and then it fails.
        if ok != self.is_failing || now_ms < self.next_log_ms {
            return;
        }
        self.next_log_ms = now_ms + STATE_LOG_MS * u64::from(!ok) / 2;
        if ok {
            let failures = std::mem::take(&mut self.failures);
            tracing::info!(proxy = name, failures, "channel state events are delivered again");
        } else {
            tracing::warn!(proxy = name, "cannot deliver channel state events; they wait and are sent again");
        }
        self.is_failing = !ok;
    }
}

/// Events that there was no room for, in the log: now and then.
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
