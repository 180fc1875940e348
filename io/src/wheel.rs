//! The timing wheel of one core: at most one deadline for each slot of the connection table.
//!
//! Hierarchical: six levels of 64 lists, each level 64 times coarser than the one below; a deadline moves down a level
//! when its list comes due, at most five times in its life. The lists are linked through one small entry per slot, so
//! setting and clearing are O(1) and allocate nothing once the table has grown. Knows neither the clock nor what a
//! deadline means: milliseconds come in, due slots go out.

use crate::limits::TABLE_CHUNK;

const LEVELS: usize = 6;
const LISTS: usize = 64;
const LEVEL_BITS: u32 = LISTS.trailing_zeros();

/// Ends a list.
const NONE: u32 = u32::MAX;
/// In `Entry::before`: the entry is the first of the list with the number in the lower bits. Slots stay below it.
const FIRST: u32 = 1 << 31;

/// The deadline of one slot, linked into its list.
#[derive(Clone, Copy)]
struct Entry {
    /// u64::MAX if there is none.
    deadline_ms: u64,
    next: u32,
    /// Slot before it, or FIRST with the number of the list.
    before: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    const UNSET: Self = Self { deadline_ms: u64::MAX, next: NONE, before: NONE };
}

/// Deadlines of slots.
pub(crate) struct Wheel {
    /// By slot, in chunks like the table: growing moves nothing. A chunk that is not needed is empty.
    entries: Vec<Vec<Entry>>,
    /// First slot of each list, level by level.
    lists: [u32; LEVELS * LISTS],
    /// For each level, which of its lists are not empty.
    occupied: [u64; LEVELS],
    /// Everything up to here has come due.
    now_ms: u64,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { entries: Vec::new(), lists: [NONE; LEVELS * LISTS], occupied: [0; LEVELS], now_ms }
    }

    /// Sets the deadline of a slot, replacing an earlier one. One that has passed comes due in the next `advance` that
    /// sees the clock move; u64::MAX never does.
    pub(crate) fn set(&mut self, index: u32, deadline_ms: u64) {
        self.clear(index);
        if deadline_ms == u64::MAX {
            return;
        }
        let chunk = index as usize / TABLE_CHUNK;
        if self.entries.len() <= chunk {
            self.entries.resize_with(chunk + 1, Vec::new);
        }
        if self.entries[chunk].is_empty() {
            self.entries[chunk] = vec![Entry::UNSET; TABLE_CHUNK];
        }
        self.link(index, deadline_ms.max(self.now_ms + 1));
    }

    /// Forgets the deadline of a slot, if it has one.
    pub(crate) fn clear(&mut self, index: u32) {
        if !self.is_set(index) {
            return;
        }
        let Entry { next, before, .. } = std::mem::replace(self.entry(index), Entry::UNSET);
        if next != NONE {
            self.entry(next).before = before;
        }
        if before & FIRST == 0 {
            self.entry(before).next = next;
            return;
        }
        let list = (before & !FIRST) as usize;
        self.lists[list] = next;
        if next == NONE {
            self.occupied[list / LISTS] &= !(1 << (list % LISTS));
        }
    }

    /// Whether a slot has a deadline that has not come due.
    pub(crate) fn is_set(&self, index: u32) -> bool {
        let chunk = self.entries.get(index as usize / TABLE_CHUNK);
        let entry = chunk.and_then(|chunk| chunk.get(index as usize % TABLE_CHUNK));
        entry.is_some_and(|entry| entry.deadline_ms != u64::MAX)
    }

    /// Gives back the memory for the slots around this one, none of which has a deadline.
    pub(crate) fn forget_chunk(&mut self, index: u32) {
        if let Some(chunk) = self.entries.get_mut(index as usize / TABLE_CHUNK) {
            debug_assert!(chunk.iter().all(|entry| entry.deadline_ms == u64::MAX));
            *chunk = Vec::new();
        }
    }

    /// Gives back the memory for all slots, none of which has a deadline.
    pub(crate) fn forget_all(&mut self) {
        debug_assert!(self.occupied.iter().all(|&lists| lists == 0));
        self.entries = Vec::new();
    }

    /// Moves the clock and hands over every slot whose deadline has come, earlier ones first.
    pub(crate) fn advance(&mut self, now_ms: u64, mut due: impl FnMut(u32)) {
        while let Some((list, starts_ms)) = self.next_list()
            && starts_ms <= now_ms
        {
            self.now_ms = starts_ms;
            let mut at = std::mem::replace(&mut self.lists[list], NONE);
            self.occupied[list / LISTS] &= !(1 << (list % LISTS));
            while at != NONE {
                let Entry { deadline_ms, next, .. } = std::mem::replace(self.entry(at), Entry::UNSET);
                if deadline_ms <= starts_ms {
                    due(at);
                } else {
                    self.link(at, deadline_ms);
                }
                at = next;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// When `advance` has something to do next: never later than the first deadline, and rarely before it.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.next_list().map(|(_, starts_ms)| starts_ms)
    }

    /// The list that comes due first, and when. A lower level always comes before a higher one.
    fn next_list(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&occupied| occupied != 0)?;
        let shift = level as u32 * LEVEL_BITS;
        let current = (self.now_ms >> shift) as u32 % LISTS as u32;
        // The current list of a level has been emptied, so only after a whole round is it the next one.
        let ahead = self.occupied[level].rotate_right((current + 1) % LISTS as u32).trailing_zeros() + 1;
        let starts_ms = ((self.now_ms >> shift) + u64::from(ahead)) << shift;
        Some((level * LISTS + (current + ahead) as usize % LISTS, starts_ms))
    }

    /// Links an unset slot into the list of a deadline that lies ahead.
    fn link(&mut self, index: u32, deadline_ms: u64) {
        // The highest bit in which deadline and clock differ: below it lists of finer levels pass before the deadline.
        let differing = 63 - ((deadline_ms ^ self.now_ms) | 1).leading_zeros();
        // What is further away than the wheel turns goes into its last level and is looked at once per round.
        let level = ((differing / LEVEL_BITS) as usize).min(LEVELS - 1);
        let shift = level as u32 * LEVEL_BITS;
        let list = level * LISTS + (deadline_ms >> shift) as usize % LISTS;
        let next = std::mem::replace(&mut self.lists[list], index);
        self.occupied[level] |= 1 << (list % LISTS);
        *self.entry(index) = Entry { deadline_ms, next, before: FIRST | list as u32 };
        if next != NONE {
            self.entry(next).before = index;
        }
    }

    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize / TABLE_CHUNK][index as usize % TABLE_CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Pings that come late, twice or never are disconnects: the wheel must agree with a sorted map, whatever happens.
    #[test]
    fn agrees_with_a_sorted_map() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for start in [0, 63, 4095, 1 << 30, (1 << 36) - 5] {
            let mut wheel = Wheel::new(start);
            let mut model = BTreeMap::new();
            let mut now = start;
            for _ in 0..20_000 {
                let index = next(3000) as u32;
                match next(8) {
                    0 => {
                        model.remove(&index);
                        wheel.clear(index);
                    }
                    1..=4 => {
                        let deadline = (now + (1 << next(40)) + next(100)).saturating_sub(30);
                        model.insert(index, deadline.max(now + 1));
                        wheel.set(index, deadline);
                    }
                    kind => {
                        now += next(1 << [3, 8, 20][kind as usize - 5]);
                        let mut fired = Vec::new();
                        wheel.advance(now, |index| fired.push(index));
                        let mut last = 0;
                        for index in &fired {
                            let deadline = model.remove(index).unwrap();
                            assert!(last <= deadline && deadline <= now);
                            last = deadline;
                        }
                        assert!(model.values().all(|&deadline| deadline > now));
                    }
                }
                assert_eq!(wheel.is_set(index), model.contains_key(&index));
                let first = model.values().copied().min();
                assert_eq!(wheel.next_deadline().is_none(), first.is_none());
                assert!(wheel.next_deadline() <= first && wheel.next_deadline().is_none_or(|at| at > now));
            }
        }
    }

    /// A core with 100,000 idle connections must not wake up for each level of each timer.
    #[test]
    fn wakes_rarely_before_a_deadline() {
        let mut wheel = Wheel::new(1000);
        wheel.set(7, 26_000);
        let mut visits = 0;
        let mut fired = None;
        while let Some(at) = wheel.next_deadline() {
            wheel.advance(at, |index| fired = Some((at, index)));
            visits += 1;
        }
        assert_eq!(fired, Some((26_000, 7)));
        assert!(visits <= 3, "{visits}");
    }

    /// A deadline that the handler takes back, or sets to "never", must not cost a connection its life.
    #[test]
    fn the_absent_deadline_never_comes() {
        let mut wheel = Wheel::new(0);
        wheel.set(1, u64::MAX);
        wheel.set(2, 10);
        wheel.set(2, u64::MAX);
        wheel.clear(3_000_000);
        assert_eq!(wheel.next_deadline(), None);
        wheel.advance(1 << 50, |_| panic!("nothing was set"));
    }
}
