//! Errors of Redis in the log: one line for a streak, not one for each publication.

use gyre_io::redis::ReplyError;

use crate::limits::REFUSED_LOG_MS;

/// On a core's thread.
#[derive(Default)]
pub(super) struct Refusals {
    /// Since the last line.
    count: u64,
    next_log_ms: u64,
    total: u64,
}

impl Refusals {
    /// Redis has answered with an error.
    pub(super) fn note(&mut self, error: &ReplyError, now_ms: u64) {
        self.total += 1;
        self.count += 1;
        if now_ms >= self.next_log_ms {
            let count = std::mem::take(&mut self.count);
            self.next_log_ms = now_ms + REFUSED_LOG_MS;
            tracing::error!(error = %error.message(), count, "redis refused commands of this core");
        }
    }

    /// Errors so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}
