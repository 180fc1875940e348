//! A door for benchmarks, there only with the feature `bench`: the user-space half of a turn without its sockets.
//!
//! Palette and outboxes as the driver uses them between two entries into the ring. Runs on any thread, does no I/O.
//! Nothing of the product may depend on it.

use crate::limits::MESSAGES_PER_FRAME_MAX;
use crate::outbox::{Outboxes, Queue};
use crate::palette::{FrameId, FrameKind, Palette};

/// The frames of one turn and who gets them.
#[derive(Default)]
pub struct Turn {
    palette: Palette,
    outboxes: Outboxes,
    queues: Vec<Queue>,
    frames: Vec<u32>,
    joined: Vec<u8>,
}

impl Turn {
    /// A core with this many connections.
    pub fn new(connections: usize) -> Self {
        Self { queues: vec![Queue::EMPTY; connections], ..Self::default() }
    }

    /// Puts a message on the palette.
    pub fn frame(&mut self, kind: FrameKind, message: &[u8]) -> FrameId {
        self.palette.add(kind, message)
    }

    /// Queues a frame to one connection.
    pub fn push(&mut self, connection: u32, frame: FrameId) {
        let frame = self.palette.index(frame);
        let queue = &mut self.queues[connection as usize];
        if queue.is_empty() {
            self.outboxes.dirty.push(connection);
        }
        self.outboxes.push(queue, frame);
    }

    /// Ends the turn: shows for each connection the bytes of its one send.
    pub fn flush(&mut self, mut send: impl FnMut(u32, &[u8])) {
        let mut dirty = std::mem::take(&mut self.outboxes.dirty);
        for connection in dirty.drain(..) {
            self.outboxes.take(&mut self.queues[connection as usize], &mut self.frames);
            if let [only] = self.frames[..] {
                send(connection, self.palette.wire(only));
            } else {
                self.joined.clear();
                self.palette.join(&self.frames, MESSAGES_PER_FRAME_MAX, &mut self.joined);
                send(connection, &self.joined);
            }
        }
        self.outboxes.dirty = dirty;
        self.outboxes.clear();
        self.palette.clear();
    }
}
