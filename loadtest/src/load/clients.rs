//! The clients of one core: flat arrays, so that a client costs some 30 bytes and eight more per subscription.
//!
//! Everything else about a client (its channels, their names, its token, its address) is computed from its number.

use gyre_proto::ids::ConnId;

use super::checker::Seen;
use super::layout::Layout;

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Has no connection and waits for its turn.
    Out,
    /// Dialled; no connect reply yet.
    Dialling,
    /// Has its connect reply, but not all subscribe replies.
    Connected,
    /// Has everything.
    Ready,
    /// Was told to end its connection and come back.
    Returning,
    /// Was told to end its connection for good.
    Leaving,
    /// Has no connection and gets none.
    Gone,
}

/// One client.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) conn: ConnId,
    /// Low 32 bits of the time in microseconds from which its connect or recovery counts.
    pub(crate) since_us: u32,
    pub(crate) pings: u16,
    pub(crate) state: State,
    /// Subscribe replies of this connection.
    pub(crate) subscribed: u8,
    /// Connections in a row that did not come about.
    pub(crate) attempts: u8,
    /// Was ready before: its next connect is a return.
    pub(crate) returns: bool,
}

const _: () = assert!(size_of::<Client>() <= 20);

/// Where a subscription can be recovered from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Position {
    pub(crate) offset: u64,
    /// Number in `Epochs`, plus one; 0: no position.
    pub(crate) epoch: u32,
}

/// All clients of one core.
pub(crate) struct Clients {
    /// Number of the first one among all of the run.
    pub(crate) first: usize,
    pub(crate) each: Vec<Client>,
    /// By client and slot.
    seen: Vec<Seen>,
    /// By client and slot; empty unless the run recovers.
    positions: Vec<Position>,
    slots: usize,
    pub(crate) epochs: Epochs,
}

/// No connection.
const NOWHERE: ConnId = ConnId { index: u32::MAX, generation: 0 };

impl Clients {
    /// Exactly the memory that is needed: growing by doubling would leave half of it behind.
    pub(crate) fn new(first: usize, count: usize, layout: &Layout, recover: bool) -> Self {
        let slots = layout.slots();
        let client = Client {
            conn: NOWHERE,
            since_us: 0,
            pings: 0,
            state: State::Out,
            subscribed: 0,
            attempts: 0,
            returns: false,
        };
        Self {
            first,
            each: vec![client; count],
            seen: vec![Seen::after(0); count * slots],
            positions: if recover { vec![Position::default(); count * slots] } else { Vec::new() },
            slots,
            epochs: Epochs::default(),
        }
    }

    pub(crate) fn seen(&mut self, client: usize, slot: usize) -> &mut Seen {
        &mut self.seen[client * self.slots + slot]
    }

    /// None unless the run recovers.
    pub(crate) fn position(&mut self, client: usize, slot: usize) -> Option<&mut Position> {
        self.positions.get_mut(client * self.slots + slot)
    }
}

/// Epochs of streams, each once: thousands of subscribers share the one of their channel.
#[derive(Default)]
pub(crate) struct Epochs {
    known: Vec<Box<[u8]>>,
    numbers: std::collections::HashMap<Box<[u8]>, u32>,
}

impl Epochs {
    /// The number of an epoch, from 1.
    pub(crate) fn number(&mut self, epoch: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(epoch) {
            return number;
        }
        self.known.push(epoch.into());
        let number = self.known.len() as u32;
        self.numbers.insert(epoch.into(), number);
        number
    }

    /// The epoch with this number.
    pub(crate) fn text(&self, number: u32) -> &[u8] {
        number.checked_sub(1).and_then(|index| self.known.get(index as usize)).map_or(b"", |epoch| epoch)
    }
}
