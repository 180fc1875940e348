//! Which primary of a cluster has which slot.
//!
//! Made by whoever asks a cluster for it (`CLUSTER SLOTS`), read by the cores, each of which keeps a copy of its own that
//! follows redirections. Plain data. Must never take for granted what a cluster says: ranges may overlap, name slots that
//! do not exist, or leave some out.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::limits::REDIS_CLUSTER_NODES_MAX;
use crate::redis::Endpoint;

/// Slots of every Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// The slot of a key: of its hash tag, if it has one, so that all keys of a channel are in one slot.
pub fn slot_of(key: &[u8]) -> u16 {
    redis_protocol::redis_keyslot(key)
}

/// See the module. Two maps are equal if each slot has the same primary in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// Those that have slots, by their first one.
    primaries: Vec<Endpoint>,
    /// By slot, the place in `primaries`, or `NONE`.
    slots: Box<[u16]>,
}

/// Nobody has the slot.
const NONE: u16 = u16::MAX;

/// Why ranges are no map.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SlotMapError {
    /// A slot beyond the last, or a range that ends before it begins.
    #[error("the cluster names slots that do not exist: {0}-{1}")]
    NoSuchSlots(u16, u16),
    /// More primaries than a core connects to.
    #[error("the cluster has more than {REDIS_CLUSTER_NODES_MAX} primaries with slots; divide it into several shards")]
    TooManyPrimaries,
}

impl SlotMap {
    /// A map of ranges of slots and their primaries. Of overlapping ranges the later one counts; slots that are in none
    /// have no primary, and commands about them fail.
    pub fn new(ranges: impl IntoIterator<Item = (RangeInclusive<u16>, Endpoint)>) -> Result<Self, SlotMapError> {
        let mut named = Vec::new();
        let mut slots = vec![NONE; usize::from(SLOTS)].into_boxed_slice();
        for (range, endpoint) in ranges {
            let (first, last) = (*range.start(), *range.end());
            if range.is_empty() || last >= SLOTS {
                return Err(SlotMapError::NoSuchSlots(first, last));
            }
            let known = named.iter().position(|known| *known == endpoint);
            let place = known.unwrap_or(named.len());
            // Of those that are overwritten by later ranges there may be some more.
            if place >= 2 * REDIS_CLUSTER_NODES_MAX {
                return Err(SlotMapError::TooManyPrimaries);
            }
            if known.is_none() {
                named.push(endpoint);
            }
            slots[usize::from(first)..=usize::from(last)].fill(place as u16);
        }
        // The same map must not look like another one because the cluster told its ranges in another order.
        let mut primaries = Vec::new();
        let mut renumbered = vec![NONE; named.len()];
        for slot in slots.iter_mut().filter(|slot| **slot != NONE) {
            let place = usize::from(*slot);
            if renumbered[place] == NONE {
                renumbered[place] = primaries.len() as u16;
                primaries.push(named[place].clone());
            }
            *slot = renumbered[place];
        }
        if primaries.len() > REDIS_CLUSTER_NODES_MAX {
            return Err(SlotMapError::TooManyPrimaries);
        }
        Ok(Self { primaries, slots })
    }

    /// The primaries that have slots.
    pub fn primaries(&self) -> &[Endpoint] {
        &self.primaries
    }

    /// The primary of a slot, as a place in `primaries`.
    pub fn place_of(&self, slot: u16) -> Option<usize> {
        self.slots.get(usize::from(slot)).filter(|place| **place != NONE).map(|place| usize::from(*place))
    }

    /// The primary of a slot.
    pub fn primary_of(&self, slot: u16) -> Option<&Endpoint> {
        self.place_of(slot).map(|place| &self.primaries[place])
    }

    /// Slots that nobody has; a cluster that is complete has none of these.
    pub fn orphans(&self) -> usize {
        self.slots.iter().filter(|place| **place == NONE).count()
    }
}

impl Default for SlotMap {
    /// Nobody has a slot.
    fn default() -> Self {
        Self { primaries: Vec::new(), slots: vec![NONE; usize::from(SLOTS)].into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::Internet(([127, 0, 0, 1], port).into())
    }

    /// Another slot than the cluster's own would mean a redirection for every single command.
    #[test]
    fn slots_of_keys_are_those_of_the_cluster() {
        // As `CLUSTER KEYSLOT` of Redis 7.0 answers.
        let table: [(&[u8], u16); 9] = [
            (b"", 0),
            (b"foo", 12182),
            (b"{foo}.a", 12182),
            (b"a{foo}{bar}", 12182),
            (b"{}foo", 9500),
            (b"foo{", 7673),
            (b"foo}{", 8134),
            (b"{{foo}}", 13308),
            (b"123456789", 12739),
        ];
        for (key, slot) in table {
            assert_eq!(slot_of(key), slot, "{}", key.escape_ascii());
        }
    }

    /// Each slot leads to who has it, and an equal map is recognised whatever the order in which it is told: otherwise
    /// connections would be made anew without need.
    #[test]
    fn ranges_make_a_map() {
        let whole = SlotMap::new([(0..=99, at(1)), (100..=16383, at(2)), (50..=60, at(2))]).unwrap();
        let places = [0, 49, 50, 60, 61, 99, 100, 16383].map(|slot| whole.primary_of(slot).cloned());
        assert_eq!(places, [1, 1, 2, 2, 1, 1, 2, 2].map(|port| Some(at(port))));
        let other = SlotMap::new([(50..=60, at(2)), (100..=16383, at(2)), (61..=99, at(1)), (0..=49, at(1))]).unwrap();
        assert_eq!((&whole, whole.orphans()), (&other, 0));
        let part = SlotMap::new([(5..=5, at(3)), (0..=16383, at(9)), (1..=16383, at(1))]).unwrap();
        assert_eq!(part.primaries(), [at(9), at(1)], "who has nothing left is not in it");
        let part = SlotMap::new([(5..=5, at(3))]).unwrap();
        assert_eq!((part.place_of(4), part.place_of(5), part.place_of(u16::MAX)), (None, Some(0), None));
        assert_eq!(part.orphans(), 16_383);
    }

    /// What a cluster says wrongly must be an error in the log, and not the end of the node.
    #[test]
    fn broken_ranges_are_refused() {
        #[allow(clippy::reversed_empty_ranges, reason = "that is the point")]
        for range in [0..=16384, 16384..=16384, 5..=4, 0..=u16::MAX] {
            let refused = SlotMapError::NoSuchSlots(*range.start(), *range.end());
            assert_eq!(SlotMap::new([(range, at(1))]), Err(refused));
        }
        let many = (0..200).map(|n| (n..=n, at(n + 1)));
        assert_eq!(SlotMap::new(many), Err(SlotMapError::TooManyPrimaries));
        let most = (0..62).map(|n| (n..=n, at(n + 1)));
        assert_eq!(SlotMap::new(most).map(|map| map.primaries().len()), Ok(62));
    }
}
