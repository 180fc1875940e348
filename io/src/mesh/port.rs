//! The end of the mesh that one thread holds.
//!
//! A message goes straight into the ring to its target; if that is full, into a backlog behind it, in order. The backlog
//! moves on with every `flush`, and the target wakes us when it has made room, so a thread with a backlog may sleep.
//! The thread calls, in each turn: `drain`, what it has to do, `flush`. Nothing here blocks.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::ring::{RingReader, RingWriter, ring};
use super::sync::{Ordering, fence};
use super::wake::{Sleeper, WantsRoom};
use crate::limits::{MESH_DRAIN_MAX, MESH_RING_MAX, MESH_RING_MIN, MESH_RINGS_MESSAGES};

/// Makes the ports of a node.
#[derive(Debug)]
pub enum Mesh {}

/// One thread's end: sends to every endpoint, itself included, and receives from all.
#[derive(Debug)]
pub struct Port<T> {
    index: usize,
    sleeper: Sleeper,
    outward: Vec<Outward<T>>,
    inward: Vec<Inward<T>>,
    backlog: usize,
}

#[derive(Debug)]
struct Outward<T> {
    ring: RingWriter<T>,
    backlog: VecDeque<T>,
    target: Sleeper,
    wants_room: Arc<WantsRoom>,
    /// Something was published since the last flush.
    published: bool,
}

#[derive(Debug)]
struct Inward<T> {
    ring: RingReader<T>,
    source: Sleeper,
    wants_room: Arc<WantsRoom>,
}

impl Mesh {
    /// One port for each of `endpoints` threads: the cores by number, then the control thread. Takes one file
    /// descriptor each.
    #[expect(clippy::new_ret_no_self, reason = "a mesh has no whole, only its ends")]
    pub fn new<T>(endpoints: usize) -> io::Result<Vec<Port<T>>> {
        let capacity = (MESH_RINGS_MESSAGES / endpoints.max(1)).clamp(MESH_RING_MIN, MESH_RING_MAX);
        let sleepers = (0..endpoints).map(|_| Sleeper::new()).collect::<io::Result<Vec<_>>>()?;
        let mut ports: Vec<Port<T>> = sleepers
            .iter()
            .enumerate()
            .map(|(index, sleeper)| Port {
                index,
                sleeper: sleeper.clone(),
                outward: Vec::with_capacity(endpoints),
                inward: Vec::with_capacity(endpoints),
                backlog: 0,
            })
            .collect();
        for from in 0..endpoints {
            for to in 0..endpoints {
                let (writer, reader) = ring(capacity);
                let wants_room = Arc::new(WantsRoom::new());
                // In this order, outward[to] leads to `to` and inward[from] comes from `from`.
                ports[from].outward.push(Outward {
                    ring: writer,
                    backlog: VecDeque::new(),
                    target: sleepers[to].clone(),
                    wants_room: Arc::clone(&wants_room),
                    published: false,
                });
                ports[to].inward.push(Inward { ring: reader, source: sleepers[from].clone(), wants_room });
            }
        }
        Ok(ports)
    }
}

impl<T> Port<T> {
    /// The number of this endpoint.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What this thread sleeps on. `CoreOptions::sleeper` takes it for a core.
    pub fn sleeper(&self) -> Sleeper {
        self.sleeper.clone()
    }

    /// Sends to the endpoint `to`, which sees it after the next `flush` at the latest. Messages to a thread that has
    /// ended are dropped.
    ///
    /// The backlog has no bound: what travels here cannot be lost. Its length tells when to take in less
    /// ([`Self::backlog_len`]).
    ///
    /// # Panics
    /// If there is no such endpoint.
    pub fn send(&mut self, to: usize, message: T) {
        let outward = &mut self.outward[to];
        let mut message = message;
        if outward.backlog.is_empty() {
            match outward.ring.push(message) {
                Ok(()) => {
                    outward.published = true;
                    return;
                }
                Err(_) if outward.ring.is_orphaned() => return,
                Err(back) => message = back,
            }
        }
        outward.backlog.push_back(message);
        self.backlog += 1;
    }

    /// Hands over what the others have sent, in order for each of them. True if there is more: call again before
    /// sleeping.
    pub fn drain(&mut self, mut each: impl FnMut(usize, T)) -> bool {
        let mut taken = false;
        let mut more = false;
        for (from, inward) in self.inward.iter_mut().enumerate() {
            taken |= inward.ring.drain(MESH_DRAIN_MAX, |message| each(from, message)) > 0;
            more |= !inward.ring.is_empty();
        }
        if taken {
            // Room was made above; whoever noted before that it waits for it is seen below (`WantsRoom`).
            fence(Ordering::SeqCst);
            for inward in &self.inward {
                if inward.wants_room.take_after_fence() {
                    inward.source.wake_after_fence();
                }
            }
        }
        more
    }

    /// Moves the backlog on and wakes the threads that were sent something. Call it before sleeping, after the last
    /// `send`.
    pub fn flush(&mut self) {
        let mut published = false;
        for outward in &mut self.outward {
            if !outward.backlog.is_empty() {
                self.backlog -= outward.move_backlog();
            }
            published |= outward.published;
        }
        if !published {
            return;
        }
        // One fence between everything published and the looks at who sleeps.
        fence(Ordering::SeqCst);
        for outward in &mut self.outward {
            if std::mem::take(&mut outward.published) {
                outward.target.wake_after_fence();
            }
        }
    }

    /// Messages that wait for room in a ring.
    pub fn backlog_len(&self) -> usize {
        self.backlog
    }
}

impl<T> Outward<T> {
    /// Publishes what fits, and leaves a note if something remains. Returns how many messages left the backlog.
    fn move_backlog(&mut self) -> usize {
        let before = self.backlog.len();
        self.published |= self.ring.push_from(&mut self.backlog) > 0;
        if !self.backlog.is_empty() {
            self.wants_room.announce();
            // Room made before the note was left is never announced to us.
            self.published |= self.ring.push_from(&mut self.backlog) > 0;
            if self.backlog.is_empty() {
                self.wants_room.withdraw();
            }
        }
        if self.ring.is_orphaned() {
            self.backlog.clear();
        }
        if self.backlog.is_empty() {
            // A burst is rare; do not keep its memory.
            self.backlog = VecDeque::new();
        }
        before - self.backlog.len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A burst larger than the ring must arrive whole and in order.
    #[test]
    fn a_burst_keeps_its_order_through_the_backlog() {
        const BURST: usize = 100 * MESH_RING_MAX;
        let [mut left, mut right] = <[Port<usize>; 2]>::try_from(Mesh::new(2).unwrap()).unwrap();
        (0..BURST).for_each(|message| left.send(1, message));
        assert!(left.backlog_len() > BURST / 2);
        let mut expected = 0;
        loop {
            left.flush();
            let more = right.drain(|from, message| {
                assert_eq!((from, message), (0, expected));
                expected += 1;
            });
            if !more && left.backlog_len() == 0 {
                break;
            }
        }
        assert_eq!(expected, BURST);
    }

    /// A core that ends first must not block or fill up the others.
    #[test]
    fn messages_to_an_ended_thread_are_dropped() {
        let mut ports = Mesh::new(2).unwrap();
        ports.truncate(1);
        for message in 0..100 * MESH_RING_MAX {
            ports[0].send(1, message);
            if message % 1000 == 0 {
                ports[0].flush();
            }
        }
        ports[0].flush();
        assert_eq!(ports[0].backlog_len(), 0);
    }

    /// The engine addresses home cores without asking whether that is itself.
    #[test]
    fn a_port_reaches_itself() {
        let mut ports = Mesh::new(1).unwrap();
        ports[0].send(0, 'x');
        ports[0].flush();
        assert!(!ports[0].sleeper().prepare_sleep());
        let mut got = None;
        ports[0].drain(|from, message| got = Some((from, message)));
        assert_eq!(got, Some((0, 'x')));
    }
}
