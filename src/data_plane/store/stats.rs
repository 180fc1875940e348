//! What a core counts about its store, and about connections to Redis beside it.

use gyre_io::redis::Use;

/// Since the start, if not said otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreStats {
    /// Connections lost, or attempts to connect that failed.
    pub(crate) lost_for_commands: u64,
    pub(crate) lost_for_messages: u64,
    /// Connections for messages that were made anew because none came.
    pub(crate) silences: u64,
    /// Commands answered with an error.
    pub(crate) refused: u64,
    /// Commands that failed with their connection.
    pub(crate) failed: u64,
    /// Commands that were not taken: not connected, or too many waiting.
    pub(crate) not_taken: u64,
    /// Batches of subscriptions that Redis refused.
    pub(crate) subscriptions_refused: u64,
    /// Messages of channels that could not be read.
    pub(crate) malformed: u64,
    /// Channels that became occupied, with an event in the queue.
    pub(crate) state_appended: u64,
    /// Channels that were left and occupied again before they counted as vacated.
    pub(crate) state_cancelled: u64,
    /// Channels that became occupied while the queue was full: their backend is not told.
    pub(crate) state_dropped: u64,
    /// Now waiting for an answer.
    pub(crate) in_flight: usize,
    /// Now connected to everything.
    pub(crate) is_up: bool,
}

impl StoreStats {
    pub(in crate::data_plane) fn lost(&mut self, what: Use) {
        match what {
            Use::Commands => self.lost_for_commands += 1,
            Use::Messages | Use::SlotMessages => self.lost_for_messages += 1,
        }
    }
}
