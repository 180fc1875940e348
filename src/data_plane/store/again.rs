//! Channels on their way back after a connection for messages was made anew: which are still to be subscribed to, and of
//! which the position is still to be read, to see whether something was missed.
//!
//! On a core's thread; plain data. A few batches at a time: all channels of a core at once would fill the connections, and
//! who publishes meanwhile would be refused.

use std::collections::VecDeque;

use crate::limits::{HEAR_AGAIN_BATCH, HEAR_AGAIN_BATCHES_MAX};

/// Channels of one batch.
pub(super) type Batch = Vec<Box<str>>;

/// Of one shard.
#[derive(Default)]
pub(super) struct Again {
    to_hear: VecDeque<Batch>,
    to_read: VecDeque<Batch>,
}

impl Again {
    /// A new connection is there: what was left to be done for the one before is not any more.
    pub(super) fn begin(&mut self, mut channels: Vec<Box<str>>) {
        self.end();
        while !channels.is_empty() {
            let rest = channels.split_off(channels.len().min(HEAR_AGAIN_BATCH));
            self.to_hear.push_back(std::mem::replace(&mut channels, rest));
        }
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_over(&self) -> bool {
        self.to_hear.is_empty() && self.to_read.is_empty()
    }

    /// What to subscribe to now, while so many batches are not confirmed.
    pub(super) fn next_to_hear(&mut self, unconfirmed: usize) -> Option<Batch> {
        if unconfirmed < HEAR_AGAIN_BATCHES_MAX { self.to_hear.pop_front() } else { None }
    }

    /// It could not be asked for now, or has to be asked for again.
    pub(super) fn not_heard(&mut self, channels: Batch) {
        self.to_hear.push_front(channels);
    }

    /// Redis has confirmed it.
    pub(super) fn heard(&mut self, channels: Batch) {
        self.to_read.push_back(channels);
    }

    /// Of which channels to read the position now, while so many commands are not answered.
    pub(super) fn next_to_read(&mut self, unanswered: usize) -> Option<Batch> {
        if unanswered < HEAR_AGAIN_BATCH * HEAR_AGAIN_BATCHES_MAX { self.to_read.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(count: usize) -> Batch {
        (0..count).map(|number| format!("channel-{number}").into()).collect()
    }

    /// After an outage a core with very many channels would be deaf on those that did not fit into the connection, for
    /// ever, or refuse publications because of all the positions it reads.
    #[test]
    fn all_channels_come_back_a_few_at_a_time() {
        let mut again = Again::default();
        again.begin(channels(100_000));
        let (mut unconfirmed, mut confirmed) = (VecDeque::new(), 0);
        let mut was_refused = false;
        loop {
            while let Some(batch) = again.next_to_hear(unconfirmed.len()) {
                // Once the connection is full.
                if unconfirmed.len() == 3 && !std::mem::replace(&mut was_refused, true) {
                    again.not_heard(batch);
                    break;
                }
                unconfirmed.push_back(batch);
            }
            assert!(unconfirmed.len() <= HEAR_AGAIN_BATCHES_MAX);
            let Some(batch) = unconfirmed.pop_front() else { break };
            confirmed += batch.len();
            again.heard(batch);
        }
        assert_eq!(confirmed, 100_000);
        let (mut unanswered, mut read) = (0, 0);
        while !again.is_over() {
            match again.next_to_read(unanswered) {
                Some(batch) => unanswered += batch.len(),
                None => {
                    assert!((4_000..5_000).contains(&unanswered), "{unanswered}");
                    read += std::mem::take(&mut unanswered);
                }
            }
        }
        assert_eq!(read + unanswered, 100_000);
    }

    /// What belongs to a connection that is gone must not be asked for on the next one, where the list is another.
    #[test]
    fn a_new_connection_begins_anew() {
        let mut again = Again::default();
        again.begin(channels(600));
        let batch = again.next_to_hear(0).expect("the first batch");
        again.heard(batch);
        again.begin(channels(1));
        assert_eq!((again.next_to_read(0), again.next_to_hear(0)), (None, Some(channels(1))));
        again.not_heard(channels(1));
        again.end();
        assert!(again.is_over());
    }
}
