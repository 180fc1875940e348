//! The commands that a cluster has not answered yet, with their bytes: a redirection sends them once more.
//!
//! On a core's thread. Each has a place, whose number is its token on a connection. Places and buffers are used again, so
//! that nothing is allocated as long as the load is steady; beyond so many bytes buffers are given back. Both commands and
//! bytes are bounded.

use crate::limits::{REDIS_IN_FLIGHT_MAX, REDIS_KEEP_BYTES, REDIS_KEEP_COMMANDS, REDIS_OUTPUT_BYTES_MAX};
use crate::redis::{Script, SendError};

/// A command that is not answered yet.
pub(super) struct Kept {
    pub(super) token: u64,
    pub(super) slot: u16,
    /// Counted from when it was made, however often it is sent.
    pub(super) deadline_ms: u64,
    /// In which order commands were made.
    pub(super) sequence: u64,
    /// It is a call of a script with so many arguments, which are `bytes`; otherwise they are the whole command.
    pub(super) script: Option<(&'static Script, u32)>,
    pub(super) bytes: Vec<u8>,
    /// The script is called by its text: the node does not know its digest.
    pub(super) by_text: bool,
    /// Where to ask for it next, instead of at the primary of its slot.
    pub(super) asking: Option<u16>,
    pub(super) redirections: u8,
    /// Its deadline is watched here, not by the connection that it was first sent on.
    pub(super) watched: bool,
    /// It waits here.
    pub(super) waits: bool,
    /// It was sent while nothing else of its slot was under way, to see what happens.
    pub(super) is_alone: bool,
    /// Its deadline has passed and the caller knows; the answer is still to come.
    pub(super) abandoned: bool,
}

impl Kept {
    /// Writes it as it is sent.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if let Some((script, arguments)) = self.script {
            script.begin(out, arguments, self.by_text);
        }
        out.extend_from_slice(&self.bytes);
    }
}

#[derive(Default)]
pub(super) struct Commands {
    places: Vec<Option<Kept>>,
    free: Vec<u32>,
    /// Of all that are kept.
    bytes: usize,
    /// Buffers to be used again, and what they take.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    sequence: u64,
}

impl Commands {
    /// Keeps a command, which `write` writes.
    pub(super) fn add(
        &mut self,
        token: u64,
        slot: u16,
        deadline_ms: u64,
        script: Option<(&'static Script, u32)>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, SendError> {
        if self.len() >= REDIS_IN_FLIGHT_MAX || self.bytes >= REDIS_OUTPUT_BYTES_MAX {
            return Err(SendError::Full);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= bytes.capacity();
        write(&mut bytes);
        self.bytes += bytes.len();
        self.sequence += 1;
        let kept = Kept {
            token,
            slot,
            deadline_ms,
            sequence: self.sequence,
            script,
            bytes,
            by_text: false,
            asking: None,
            redirections: 0,
            watched: false,
            waits: false,
            is_alone: false,
            abandoned: false,
        };
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        match self.places.get_mut(place as usize) {
            Some(free) => *free = Some(kept),
            None => self.places.push(Some(kept)),
        }
        Ok(place)
    }

    pub(super) fn at(&self, place: u32) -> Option<&Kept> {
        self.places.get(place as usize)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Kept> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// Whether a command was made before that of number `sequence`.
    pub(super) fn is_older(&self, place: u32, sequence: u64) -> bool {
        self.at(place).is_some_and(|kept| kept.sequence < sequence)
    }

    /// Forgets a command, and keeps its buffer for another.
    pub(super) fn remove(&mut self, place: u32) {
        let Some(mut kept) = self.places.get_mut(place as usize).and_then(Option::take) else { return };
        self.bytes -= kept.bytes.len();
        if self.spare_bytes + kept.bytes.capacity() <= REDIS_KEEP_BYTES {
            self.spare_bytes += kept.bytes.capacity();
            kept.bytes.clear();
            self.spare.push(kept.bytes);
        }
        self.free.push(place);
        if self.len() == 0 && self.places.len() > REDIS_KEEP_COMMANDS {
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(commands: &mut Commands, bytes: usize) -> Result<u32, SendError> {
        commands.add(1, 0, 0, None, |out| out.resize(bytes, b'x'))
    }

    /// A cluster that stalls must cost a bounded amount of memory, and give it back afterwards; a steady load must cost
    /// no allocations.
    #[test]
    fn what_is_kept_is_bounded_and_used_again() {
        let mut commands = Commands::default();
        let large = (0..100).take_while(|_| add(&mut commands, 1 << 20).is_ok()).count();
        assert_eq!(large, 16);
        assert_eq!(add(&mut commands, 1), Err(SendError::Full));
        (0..16).for_each(|place| commands.remove(place));
        assert_eq!((commands.bytes, commands.len(), commands.spare.len()), (0, 0, 0), "too large to be kept");
        let many = (0..100_000).take_while(|_| add(&mut commands, 10).is_ok()).count();
        assert_eq!(many, REDIS_IN_FLIGHT_MAX);
        (0..many as u32).for_each(|place| commands.remove(place));
        commands.remove(0);
        assert!(commands.places.capacity() <= REDIS_KEEP_COMMANDS);
        assert!(commands.spare_bytes <= REDIS_KEEP_BYTES && !commands.spare.is_empty());
        let (spare, bytes) = (commands.spare.len(), commands.spare_bytes);
        for _ in 0..10 {
            let place = add(&mut commands, 10).unwrap();
            assert_eq!((place, commands.spare.len()), (0, spare - 1));
            commands.remove(place);
            assert_eq!((commands.spare.len(), commands.spare_bytes), (spare, bytes));
        }
    }
}
