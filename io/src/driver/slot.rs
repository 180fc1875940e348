//! The connection table of one core: what it keeps for every connection.
//!
//! The index of a slot is the kernel's index into the ring's file table, so no map stands between an event and its
//! connection. A slot is at most 64 bytes; what few connections need at a time (unsent bytes, stream state) is boxed.
//! The table grows by chunks that never move and go when they are empty. A slot is reused only after every operation of
//! its last connection has ended, and then with a new generation.

use gyre_proto::ids::ConnId;
use gyre_proto::ws;

use super::dial::Dialling;
use super::pending::Pending;
use crate::limits::TABLE_CHUNK;
use crate::outbox::Queue;
use crate::stream::StreamState;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No connection.
    Vacant,
    /// Outgoing: the connect is in flight, or the answer to the upgrade is awaited (`Cold::dialling`).
    Dialling,
    /// Bytes go to and from a `Stream`.
    Stream,
    /// Outgoing: bytes go to and from the handler.
    Raw,
    /// WebSocket, open in both directions.
    WebSocket,
    /// WebSocket, our close frame is on its way; waiting for the peer's.
    Closing,
    /// Nothing more to hear: what is unsent goes out, then our direction ends, then we wait for the peer's end.
    Leaving,
    /// Gone. Waiting for the last operations to end.
    Dead,
}

/// Whose deadline the one timer of a connection holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerUse {
    None,
    Handler,
    Stream,
    Closing,
    Dialling,
}

/// Hot state of one connection.
pub(crate) struct Slot {
    pub(crate) decoder: ws::Decoder,
    pub(crate) cold: Option<Box<Cold>>,
    pub(crate) outbox: Queue,
    pub(crate) generation: u32,
    /// Bytes in the outbox and in `Cold::pending`.
    pub(crate) unsent: u32,
    /// Index into the driver's table of WebSocket options.
    pub(crate) options: u8,
    pub(crate) phase: Phase,
    pub(crate) timer: TimerUse,
    /// In the list of connections to flush.
    pub(crate) dirty: bool,
    /// Over the outbox bound; takes no more frames.
    pub(crate) slow: bool,
    /// A receive is armed.
    pub(crate) receiving: bool,
    /// The socket was full or is not connected yet; a poll for room or a connect is in flight.
    pub(crate) blocked: bool,
    /// A poll for the peer's end is in flight.
    pub(crate) watched: bool,
    /// Shutdown operations in flight.
    pub(crate) shutdowns: u8,
    /// The peer's direction has ended.
    pub(crate) peer_ended: bool,
}

const _: () = assert!(size_of::<Slot>() <= 64);

/// State that an idle WebSocket connection does not have.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) pending: Pending,
    pub(crate) stream: Option<Box<StreamState>>,
    /// Bytes that came with the upgrade and wait to be fed.
    pub(crate) leftover: Vec<u8>,
    pub(crate) dialling: Option<Box<Dialling>>,
}

impl Cold {
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.stream.is_none() && self.leftover.is_empty() && self.dialling.is_none()
    }
}

impl Slot {
    const VACANT: fn() -> Self = || Self {
        decoder: ws::Decoder::default(),
        cold: None,
        outbox: Queue::EMPTY,
        generation: 0,
        unsent: 0,
        options: 0,
        phase: Phase::Vacant,
        timer: TimerUse::None,
        dirty: false,
        slow: false,
        receiving: false,
        blocked: false,
        watched: false,
        shutdowns: 0,
        peer_ended: false,
    };

    pub(crate) fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn pending(&mut self) -> Option<&mut Pending> {
        self.cold.as_mut().map(|cold| &mut cold.pending).filter(|pending| !pending.is_empty())
    }

    pub(crate) fn stream(&mut self) -> Option<&mut StreamState> {
        self.cold.as_mut()?.stream.as_deref_mut()
    }

    pub(crate) fn has_leftover(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.leftover.is_empty())
    }

    /// Gives the box back once nothing is in it.
    pub(crate) fn drop_cold_if_empty(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.is_empty()) {
            self.cold = None;
        }
    }

    /// True while an operation on the socket may still report.
    pub(crate) fn has_operations(&self) -> bool {
        self.receiving || self.blocked || self.watched || self.shutdowns > 0
    }

    /// Bytes, messages and frames still pass in both directions.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Stream | Phase::Raw | Phase::WebSocket)
    }
}

/// All slots of a core.
#[derive(Default)]
pub(crate) struct Table {
    chunks: Vec<Option<Chunk>>,
    /// The chunk that emptied last, so that a connection that comes and goes alone does not make one each time.
    spare: Option<Chunk>,
    pub(crate) open: usize,
    /// Of the newest connection. One count for the whole table: a chunk that was given back remembers nothing.
    generation: u32,
}

struct Chunk {
    slots: Box<[Slot]>,
    used: usize,
}

impl Chunk {
    fn new() -> Self {
        Self { slots: std::iter::repeat_with(Slot::VACANT).take(TABLE_CHUNK).collect(), used: 0 }
    }
}

impl Table {
    /// Opens the slot of a new connection: the one that the kernel chose, or one of those kept for outgoing ones.
    pub(crate) fn open(&mut self, index: u32, phase: Phase) -> ConnId {
        let number = index as usize / TABLE_CHUNK;
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        let spare = &mut self.spare;
        let chunk = self.chunks[number].get_or_insert_with(|| spare.take().unwrap_or_else(Chunk::new));
        let slot = &mut chunk.slots[index as usize % TABLE_CHUNK];
        assert_eq!(slot.phase, Phase::Vacant, "slot {index} was given out twice");
        self.generation = self.generation.wrapping_add(1);
        *slot = Slot { generation: self.generation, phase, ..Slot::VACANT() };
        chunk.used += 1;
        self.open += 1;
        ConnId { index, generation: self.generation }
    }

    /// Empties a slot whose operations have all ended. True if its whole chunk was given back.
    pub(crate) fn vacate(&mut self, index: u32) -> bool {
        let Some(place) = self.chunks.get_mut(index as usize / TABLE_CHUNK) else { return false };
        let Some(chunk) = place else { return false };
        let slot = &mut chunk.slots[index as usize % TABLE_CHUNK];
        debug_assert!(!slot.has_operations());
        *slot = Slot::VACANT();
        chunk.used -= 1;
        self.open -= 1;
        chunk.used == 0 && std::mem::replace(&mut self.spare, place.take()).is_some()
    }

    /// Gives back the chunk that is kept for the next one.
    pub(crate) fn forget_spare(&mut self) {
        self.spare = None;
    }

    /// The slot of a connection; None if the connection is gone.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.at(conn.index).filter(|slot| slot.generation == conn.generation)
    }

    /// The slot with this index, if a connection has it.
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut Slot> {
        let chunk = self.chunks.get_mut(index as usize / TABLE_CHUNK)?.as_mut()?;
        let slot = &mut chunk.slots[index as usize % TABLE_CHUNK];
        (slot.phase != Phase::Vacant).then_some(slot)
    }

    /// Every slot in use. For rare occasions only: it walks the whole table.
    pub(crate) fn each(&mut self, mut act: impl FnMut(&mut Slot)) {
        let slots = self.chunks.iter_mut().flatten().flat_map(|chunk| chunk.slots.iter_mut());
        slots.filter(|slot| slot.phase != Phase::Vacant).for_each(&mut act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stale id may reach is somebody else's connection.
    #[test]
    fn an_id_is_never_valid_again() {
        let mut table = Table::default();
        let last = 3 * TABLE_CHUNK as u32;
        let first = table.open(last, Phase::Stream);
        for round in 0..10 {
            let many: Vec<_> = (0..last).map(|index| table.open(index, Phase::WebSocket)).collect();
            assert!(table.get(first).is_some() == (round == 0));
            assert!(many.iter().all(|&conn| table.get(conn).is_some()));
            let freed = (0..=last).filter(|&index| table.vacate(index)).count();
            assert_eq!((freed, table.open), (3, 0), "one chunk is kept");
            assert!(many.iter().all(|&conn| table.get(conn).is_none()));
            table.open(last, Phase::WebSocket);
        }
    }
}
