//! The connection table of one core: what it keeps for every connection.
//!
//! The index of a slot is the kernel's index into the ring's file table, so no map stands between an event and its
//! connection. A slot is at most 64 bytes; what few connections need at a time (unsent bytes, stream state) is boxed.
//! The table grows by chunks that never move. A slot is reused only after every operation of its last connection has
//! ended, and then with a new generation.

use gyre_proto::ids::ConnId;
use gyre_proto::ws;

use super::pending::Pending;
use crate::limits::TABLE_CHUNK;
use crate::outbox::Queue;
use crate::stream::StreamState;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No connection.
    Vacant,
    /// Bytes go to and from a `Stream`.
    Stream,
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
    /// The socket was full; a poll for room is armed.
    pub(crate) blocked: bool,
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
}

impl Cold {
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.stream.is_none() && self.leftover.is_empty()
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
        self.receiving || self.blocked || self.shutdowns > 0
    }

    /// Messages and frames still pass in both directions.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Stream | Phase::WebSocket)
    }
}

/// All slots of a core.
#[derive(Default)]
pub(crate) struct Table {
    chunks: Vec<Box<[Slot]>>,
    pub(crate) open: usize,
}

impl Table {
    /// Opens the slot that the kernel chose for a new connection.
    pub(crate) fn open(&mut self, index: u32) -> ConnId {
        while self.chunks.len() * TABLE_CHUNK <= index as usize {
            self.chunks.push((0..TABLE_CHUNK).map(|_| Slot::VACANT()).collect());
        }
        let slot = self.at(index);
        assert_eq!(slot.phase, Phase::Vacant, "the kernel gave out slot {index} twice");
        let generation = slot.generation.wrapping_add(1);
        *slot = Slot { generation, phase: Phase::Stream, ..Slot::VACANT() };
        self.open += 1;
        ConnId { index, generation }
    }

    /// Empties a slot whose operations have all ended.
    pub(crate) fn vacate(&mut self, index: u32) {
        let slot = self.at(index);
        debug_assert!(!slot.has_operations());
        *slot = Slot { generation: slot.generation, ..Slot::VACANT() };
        self.open -= 1;
    }

    /// The slot of a connection; None if the connection is gone.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let chunk = self.chunks.get_mut(conn.index as usize / TABLE_CHUNK)?;
        let slot = &mut chunk[conn.index as usize % TABLE_CHUNK];
        (slot.generation == conn.generation && slot.phase != Phase::Vacant).then_some(slot)
    }

    /// The slot with this index, which must have been opened before.
    pub(crate) fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / TABLE_CHUNK][index as usize % TABLE_CHUNK]
    }

    /// Every slot in use. For rare occasions only: it walks the whole table.
    pub(crate) fn each(&mut self, mut act: impl FnMut(&mut Slot)) {
        let slots = self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut());
        slots.filter(|slot| slot.phase != Phase::Vacant).for_each(&mut act);
    }
}
