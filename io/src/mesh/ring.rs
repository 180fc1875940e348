//! A bounded queue from one thread to one other, the strand the mesh is made of.
//!
//! A thin skin over rtrb that moves in batches: one store of the shared index per batch on either side where the caller has
//! several messages. Wait-free on both sides, allocates only in [`ring`], knows nothing about waking (`wake.rs` does).

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::collections::VecDeque;

/// A ring of `capacity` messages. Memory: `capacity * size_of::<T>()` plus 384 bytes.
pub(super) fn ring<T>(capacity: usize) -> (RingWriter<T>, RingReader<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (RingWriter(producer), RingReader(consumer))
}

/// The sending end. Not `Clone`, not `Sync`: there is one sender.
#[derive(Debug)]
pub(super) struct RingWriter<T>(Producer<T>);

impl<T> RingWriter<T> {
    /// Publishes one message, or hands it back if the ring is full.
    pub(super) fn push(&mut self, message: T) -> Result<(), T> {
        self.0.push(message).map_err(|PushError::Full(message)| message)
    }

    /// Publishes as many messages from the front of `queue` as fit, as one batch. Returns how many.
    pub(super) fn push_from(&mut self, queue: &mut VecDeque<T>) -> usize {
        let count = self.0.slots().min(queue.len());
        match self.0.write_chunk_uninit(count) {
            Ok(chunk) => chunk.fill_from_iter(queue.drain(..count)),
            // Cannot be: only we take slots away, and `slots` has just counted them.
            Err(_) => 0,
        }
    }

    /// The reader is gone. What is in the ring will never be read.
    pub(super) fn is_orphaned(&self) -> bool {
        self.0.is_abandoned()
    }
}

/// The receiving end. Not `Clone`, not `Sync`: there is one receiver.
#[derive(Debug)]
pub(super) struct RingReader<T>(Consumer<T>);

impl<T> RingReader<T> {
    /// Hands over at most `max` of the messages that are there now, in order; their room is given back as one batch at the end.
    /// Returns how many.
    pub(super) fn drain(&mut self, max: usize, each: impl FnMut(T)) -> usize {
        let count = self.0.slots().min(max);
        if count == 0 {
            // Not even an empty batch: that would write the shared index of an idle ring.
            return 0;
        }
        match self.0.read_chunk(count) {
            Ok(chunk) => {
                chunk.into_iter().for_each(each);
                count
            }
            // Cannot be: only we take messages away, and `slots` has just counted them.
            Err(_) => 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would lose or reorder messages between cores.
    #[test]
    fn batches_keep_order_across_the_end_of_the_buffer() {
        let (mut writer, mut reader) = ring(5);
        let mut queue: VecDeque<u32> = (0..1000).collect();
        let mut got = Vec::new();
        for step in 0.. {
            writer.push_from(&mut queue);
            reader.drain(1 + step % 4, |message| got.push(message));
            if queue.is_empty() && reader.is_empty() {
                break;
            }
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_ring_hands_the_message_back() {
        let (mut writer, mut reader) = ring(2);
        assert_eq!([writer.push(1), writer.push(2), writer.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!(reader.drain(1, |message| assert_eq!(message, 1)), 1);
        assert_eq!(writer.push(3), Ok(()));
        assert!(!writer.is_orphaned());
        drop(reader);
        assert!(writer.is_orphaned());
    }
}
