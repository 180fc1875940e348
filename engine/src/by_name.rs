//! Channels by name and by number: the subscribers' side and the home side of a core each keep theirs in one of these.

use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::chunks::Chunks;

/// Something that is found by its name.
pub(crate) trait Named {
    fn name(&self) -> &str;
}

/// Entries at numbers that stay as long as the entry does; see [`Chunks`] for their memory.
#[derive(Debug)]
pub(crate) struct ByName<T> {
    entries: Chunks<T>,
    index: HashTable<u32>,
    hasher: FixedState,
}

impl<T: Named> ByName<T> {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Self { entries: Chunks::new(), index: HashTable::new(), hasher }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.index.find(self.hasher.hash_one(name), |&id| self.entries[id].name() == name).copied()
    }

    /// The number of the entry with this name, made if there is none.
    pub(crate) fn find_or_insert(&mut self, name: &str, make: impl FnOnce() -> T) -> u32 {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = self.entries.insert(make());
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hasher.hash_one(name), id, |&id| hasher.hash_one(entries[id].name()));
        id
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let hash = self.hasher.hash_one(self.entries.get(id)?.name());
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        let gone = self.entries.remove(id);
        let (entries, hasher) = (&self.entries, &self.hasher);
        shrink_if_sparse(&mut self.index, |&id| hasher.hash_one(entries[id].name()));
        gone
    }
}

impl<T> Deref for ByName<T> {
    type Target = Chunks<T>;

    fn deref(&self) -> &Chunks<T> {
        &self.entries
    }
}

/// For changing entries; they come and go through [`ByName`] only.
impl<T> DerefMut for ByName<T> {
    fn deref_mut(&mut self) -> &mut Chunks<T> {
        &mut self.entries
    }
}

/// Tables with fewer places than this are left alone.
const PLACES_KEPT: usize = 1024;

/// Gives back what a peak has left behind; rarely enough that it costs nothing per removal.
pub(crate) fn shrink_if_sparse(table: &mut HashTable<u32>, hash: impl Fn(&u32) -> u64) {
    if table.capacity() > PLACES_KEPT && table.capacity() > 8 * table.len() {
        table.shrink_to(2 * table.len(), hash);
    }
}
