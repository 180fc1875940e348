//! Channels on their way back after a connection for messages was made anew: which are still to be subscribed to, and of
//! which the position is still to be read, to see whether something was missed.
//!
//! On a core's thread; plain data. A few batches at a time: all channels of a core at once would fill the connections, and
//! who publishes meanwhile would be refused.

use std::collections::VecDeque;

use crate::limits::{HEAR_AGAIN_BATCH, HEAR_AGAIN_BATCHES_MAX};

/// Channels that are subscribed to with one command.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    /// Of all of them, with sharded Pub/Sub.
    pub(super) slot: Option<u16>,
    pub(super) channels: Vec<Box<str>>,
}

/// Of one shard.
#[derive(Default)]
pub(super) struct Again {
    to_hear: VecDeque<Batch>,
    to_read: VecDeque<Batch>,
}

impl Again {
    /// A new connection is there: what was left to be done for the one before is not any more.
    pub(super) fn begin(&mut self, channels: Vec<Box<str>>) {
        self.end();
        self.add(None, channels);
    }

    /// All channels of a slot are to be heard again: what was left to be asked for of it is not any more.
    pub(super) fn begin_slot(&mut self, slot: u16, channels: Vec<Box<str>>) {
        self.to_hear.retain(|batch| batch.slot != Some(slot));
        self.add(Some(slot), channels);
    }

    fn add(&mut self, slot: Option<u16>, mut channels: Vec<Box<str>>) {
        while !channels.is_empty() {
            let rest = channels.split_off(channels.len().min(HEAR_AGAIN_BATCH));
            self.to_hear.push_back(Batch { slot, channels: std::mem::replace(&mut channels, rest) });
        }
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_over(&self) -> bool {
        self.to_hear.is_empty() && self.to_read.is_empty()
    }

    /// What to subscribe to now, while so many channels are not confirmed. Of slots a batch may have few.
    pub(super) fn next_to_hear(&mut self, unconfirmed: usize) -> Option<Batch> {
        if unconfirmed < HEAR_AGAIN_BATCH * HEAR_AGAIN_BATCHES_MAX { self.to_hear.pop_front() } else { None }
    }

    /// It could not be asked for now, or has to be asked for again.
    pub(super) fn not_heard(&mut self, batch: Batch) {
        self.to_hear.push_front(batch);
    }

    /// Redis has confirmed it.
    pub(super) fn heard(&mut self, batch: Batch) {
        self.to_read.push_back(batch);
    }

    /// Of which channels to read the position now, while so many commands are not answered; of those that can be read.
    pub(super) fn next_to_read(&mut self, unanswered: usize, can_be: impl Fn(Option<u16>) -> bool) -> Option<Batch> {
        if unanswered >= HEAR_AGAIN_BATCH * HEAR_AGAIN_BATCHES_MAX {
            return None;
        }
        let place = self.to_read.iter().position(|batch| can_be(batch.slot))?;
        self.to_read.remove(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(count: usize) -> Vec<Box<str>> {
        (0..count).map(|number| format!("channel-{number}").into()).collect()
    }

    /// After an outage a core with very many channels would be deaf on those that did not fit into the connection, for
    /// ever, or refuse publications because of all the positions it reads.
    #[test]
    fn all_channels_come_back_a_few_at_a_time() {
        let mut again = Again::default();
        again.begin(channels(100_000));
        let (mut unconfirmed, mut confirmed) = (VecDeque::<Batch>::new(), 0);
        let of = |batches: &VecDeque<Batch>| batches.iter().map(|batch| batch.channels.len()).sum::<usize>();
        let mut was_refused = false;
        loop {
            while let Some(batch) = again.next_to_hear(of(&unconfirmed)) {
                // Once the connection is full.
                if unconfirmed.len() == 3 && !std::mem::replace(&mut was_refused, true) {
                    again.not_heard(batch);
                    break;
                }
                unconfirmed.push_back(batch);
            }
            assert!(unconfirmed.len() <= HEAR_AGAIN_BATCHES_MAX);
            let Some(batch) = unconfirmed.pop_front() else { break };
            confirmed += batch.channels.len();
            again.heard(batch);
        }
        assert_eq!(confirmed, 100_000);
        let (mut unanswered, mut read) = (0, 0);
        while !again.is_over() {
            match again.next_to_read(unanswered, |_| true) {
                Some(batch) => unanswered += batch.channels.len(),
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
        let first = || Batch { slot: None, channels: channels(1) };
        assert_eq!((again.next_to_read(0, |_| true), again.next_to_hear(0)), (None, Some(first())));
        again.not_heard(first());
        again.end();
        assert!(again.is_over());
    }

    /// With a primary that is not there yet, the channels of all others would wait, or those of its slots would be asked for
    /// twice and read in vain.
    #[test]
    fn slots_are_apart() {
        let mut again = Again::default();
        again.begin_slot(1, channels(600));
        again.begin_slot(2, channels(1));
        again.begin_slot(1, channels(2));
        let batches: Vec<Batch> = std::iter::from_fn(|| again.next_to_hear(0)).collect();
        let sizes: Vec<_> = batches.iter().map(|batch| (batch.slot, batch.channels.len())).collect();
        assert_eq!(sizes, [(Some(2), 1), (Some(1), 2)]);
        batches.into_iter().for_each(|batch| again.heard(batch));
        let slot = |batch: Option<Batch>| batch.and_then(|batch| batch.slot);
        assert_eq!(slot(again.next_to_read(0, |slot| slot == Some(1))), Some(1));
        assert_eq!(slot(again.next_to_read(0, |slot| slot == Some(1))), None);
        assert_eq!(slot(again.next_to_read(0, |_| true)), Some(2));
    }
}
