//! The outboxes of one core: for each connection, the frames of this turn it has to say, in order.
//!
//! A linked list of eight-byte nodes in one arena for all connections, and a list of connections that have any. Both
//! are emptied by the flush and keep their memory, so a delivery allocates nothing in steady state.

const NONE: u32 = u32::MAX;

/// Head and tail of one connection's list; part of its slot.
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn is_empty(self) -> bool {
        self.head == NONE
    }
}

#[derive(Clone, Copy)]
struct Node {
    frame: u32,
    next: u32,
}

/// The nodes of all lists and the connections that have one.
#[derive(Default)]
pub(crate) struct Outboxes {
    nodes: Vec<Node>,
    /// Indexes of connections to flush, each once (the slot remembers it).
    pub(crate) dirty: Vec<u32>,
}

impl Outboxes {
    pub(crate) fn push(&mut self, queue: &mut Queue, frame: u32) {
        // Bounded by the deliveries of one turn, far below 2^32: a node costs memory.
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { frame, next: NONE });
        if queue.is_empty() {
            queue.head = node;
        } else {
            self.nodes[queue.tail as usize].next = node;
        }
        queue.tail = node;
    }

    /// Moves the frames of `queue` in order into `frames`, which is emptied first.
    pub(crate) fn take(&self, queue: &mut Queue, frames: &mut Vec<u32>) {
        frames.clear();
        let mut at = queue.head;
        while at != NONE {
            let node = self.nodes[at as usize];
            frames.push(node.frame);
            at = node.next;
        }
        *queue = Queue::EMPTY;
    }

    /// Forgets all nodes. Only when every queue is empty.
    pub(crate) fn clear(&mut self) {
        self.nodes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each client must get its own frames in the order they were pushed, however the pushes interleave.
    #[test]
    fn queues_keep_their_order() {
        let mut outboxes = Outboxes::default();
        let mut queues = [Queue::EMPTY; 3];
        for frame in 0..30u32 {
            outboxes.push(&mut queues[frame as usize % 3], frame);
        }
        let mut frames = Vec::new();
        for (at, queue) in queues.iter_mut().enumerate() {
            outboxes.take(queue, &mut frames);
            assert_eq!(frames, (0..10).map(|n| n * 3 + at as u32).collect::<Vec<_>>());
            assert!(queue.is_empty());
        }
    }
}
