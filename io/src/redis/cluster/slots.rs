//! What a core notes about each slot of a cluster: whose it is, and which commands about it are under way or wait.
//!
//! On a core's thread, plain data.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use super::map::SLOTS;
use super::nodes::NO_NODE;

/// A command that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outgoing {
    pub(super) node: u16,
    /// With `ASKING` before it.
    pub(super) asking: bool,
    pub(super) place: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) in_flight: u32,
    /// Where those are.
    pub(super) at: u16,
    /// Whose it is.
    pub(super) primary: u16,
}

/// Commands of a slot that wait, in the order in which they were made.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<u32>,
    pub(super) not_before_ms: u64,
    /// One was redirected, and none has had an effect at the primary since: they are sent one by one.
    pub(super) one_by_one: bool,
}

/// All of them. 128 KiB: with it the place of a slot is found without a search.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    moves: u64,
}

impl Slots {
    /// A slot has another primary.
    pub(super) fn move_to(&mut self, slot: u16, node: u16) {
        let slot = &mut self[slot];
        if slot.primary != node {
            slot.primary = node;
            self.moves += 1;
        }
    }

    /// Counts how often a slot got another primary.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// Those of a node.
    pub(super) fn of(&self, node: u16) -> Vec<u16> {
        (0..SLOTS).filter(|slot| self[*slot].primary == node).collect()
    }
}

impl Default for Slots {
    fn default() -> Self {
        let slot = Slot { in_flight: 0, at: NO_NODE, primary: NO_NODE };
        Self { slots: vec![slot; usize::from(SLOTS)].into_boxed_slice(), moves: 0 }
    }
}

impl Index<u16> for Slots {
    type Output = Slot;

    fn index(&self, slot: u16) -> &Slot {
        &self.slots[usize::from(slot)]
    }
}

impl IndexMut<u16> for Slots {
    fn index_mut(&mut self, slot: u16) -> &mut Slot {
        &mut self.slots[usize::from(slot)]
    }
}
