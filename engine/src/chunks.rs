//! A table by small index that grows and shrinks by chunks.
//!
//! For what a core has very many of: sessions and channels. Nothing moves when it grows, so no peak of twice the size
//! and no half-empty vector is left behind; a chunk goes when its last entry does, so a core that lost its clients
//! gives their memory back. Free indexes are used again from the lowest on, which keeps the chunks full.

use std::ops::{Index, IndexMut};

/// Entries of a chunk: some ten kilobytes of the types it is used with, four words of its bitmap.
const ENTRIES: usize = 64 * WORDS;
const WORDS: usize = 4;

#[derive(Debug)]
struct Chunk<T> {
    /// Empty, or `ENTRIES` long.
    entries: Vec<Option<T>>,
    /// Which entries are there, one bit each.
    used: [u64; WORDS],
}

impl<T> Chunk<T> {
    const EMPTY: Self = Self { entries: Vec::new(), used: [0; WORDS] };

    fn first_free(&self) -> Option<usize> {
        let word = self.used.iter().position(|&word| word != u64::MAX)?;
        Some(word * 64 + self.used[word].trailing_ones() as usize)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Chunk<T>>,
    /// The entries of the chunk that emptied last: a channel that comes and goes alone makes none each time.
    spare: Vec<Option<T>>,
    /// No chunk before this one has room.
    room_from: usize,
    len: usize,
}

impl<T> Chunks<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), spare: Vec::new(), room_from: 0, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All indexes in use are below this one.
    pub(crate) fn bound(&self) -> u32 {
        (self.chunks.len() * ENTRIES) as u32
    }

    /// Puts an entry at the lowest free index.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        while let Some(chunk) = self.chunks.get(self.room_from) {
            if let Some(free) = chunk.first_free() {
                let index = (self.room_from * ENTRIES + free) as u32;
                self.put(index, entry);
                return index;
            }
            self.room_from += 1;
        }
        let index = (self.room_from * ENTRIES) as u32;
        self.put(index, entry);
        index
    }

    /// Puts an entry at an index of the caller's choice, in place of what is there.
    pub(crate) fn put(&mut self, index: u32, entry: T) {
        let (chunk, at) = split(index);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || Chunk::EMPTY);
        }
        let chunk = &mut self.chunks[chunk];
        if chunk.entries.is_empty() {
            chunk.entries = std::mem::take(&mut self.spare);
            chunk.entries.resize_with(ENTRIES, || None);
        }
        self.len += usize::from(chunk.entries[at].replace(entry).is_none());
        chunk.used[at / 64] |= 1 << (at % 64);
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let (number, at) = split(index);
        let chunk = self.chunks.get_mut(number)?;
        let gone = chunk.entries.get_mut(at)?.take()?;
        chunk.used[at / 64] &= !(1 << (at % 64));
        if chunk.used == [0; WORDS] {
            self.spare = std::mem::take(&mut chunk.entries);
        }
        self.room_from = self.room_from.min(number);
        self.len -= 1;
        Some(gone)
    }

    /// Gives back the chunk that is kept for the next one.
    pub(crate) fn forget_spare(&mut self) {
        self.spare = Vec::new();
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, at) = split(index);
        self.chunks.get(chunk)?.entries.get(at)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, at) = split(index);
        self.chunks.get_mut(chunk)?.entries.get_mut(at)?.as_mut()
    }

    /// All entries, by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.entries.iter().flatten())
    }
}

/// For indexes that the caller knows to be in use.
impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let entry = self.get(index);
        entry.unwrap_or_else(|| panic!("nothing at index {index}"))
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let entry = self.get_mut(index);
        entry.unwrap_or_else(|| panic!("nothing at index {index}"))
    }
}

fn split(index: u32) -> (usize, usize) {
    (index as usize / ENTRIES, index as usize % ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A channel or session found under another's index would be served to the wrong client.
    #[test]
    fn behaves_like_a_map() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut chunks = Chunks::new();
        let mut model = BTreeMap::new();
        for step in 0..20_000u32 {
            // Grows, then shrinks.
            let grows = rng.u32(..10) < if step < 10_000 { 7 } else { 2 };
            if grows {
                let index = chunks.insert(step);
                let lowest = (0..).find(|free| !model.contains_key(free));
                assert_eq!(Some(index), lowest);
                model.insert(index, step);
            } else {
                let index = rng.u32(..5_000);
                assert_eq!(chunks.remove(index), model.remove(&index));
            }
            let index = rng.u32(..5_000);
            assert_eq!(chunks.get(index), model.get(&index));
            assert_eq!(chunks.len(), model.len());
        }
        assert_eq!(chunks.iter().copied().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
    }

    /// What a million clients needed must not stay when they have left.
    #[test]
    fn empty_chunks_are_given_back() {
        let mut chunks = Chunks::new();
        (0..10_000).for_each(|n| chunks.put(n, [n; 8]));
        (0..9_999).for_each(|n| assert_eq!(chunks.remove(n), Some([n; 8])));
        assert_eq!(chunks.chunks.iter().filter(|chunk| chunk.entries.capacity() > 0).count(), 1);
        assert_eq!(chunks.insert([1; 8]), 0);
    }
}
