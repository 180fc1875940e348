//! Subscribers of this core: which connections hold which channel, and how far each has been served.
//!
//! A channel lives here from the first reservation (a subscribe that waits for the home core) to the last leave. The
//! subscriber list of a channel and the subscription list of a session point at each other by index; every move of an
//! entry mends the other side through the value returned.

use foldhash::fast::FixedState;
use gyre_proto::Encoding;
use gyre_proto::ids::ConnId;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::by_name::{ByName, Named};
use crate::delivery::Delivery;
use crate::position::Epoch;

/// A channel of this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelId(u32);

/// What a subscription may do and must be told; bits of [`Subscriber::flags`].
pub(crate) mod flag {
    /// Subscribed by the server: the client did not ask and gets 3010 instead of 2500.
    pub(crate) const SERVER_SIDE: u16 = 1;
    pub(crate) const POSITIONED: u16 = 1 << 1;
    /// Has an entry in presence.
    pub(crate) const PRESENCE: u16 = 1 << 2;
    /// Joins and leaves are told to the others.
    pub(crate) const EMIT_JOIN_LEAVE: u16 = 1 << 3;
    /// Is told joins and leaves.
    pub(crate) const PUSH_JOIN_LEAVE: u16 = 1 << 4;
    /// Waits for the connect reply; deliveries are kept back until then.
    pub(crate) const HELD_BACK: u16 = 1 << 5;
    pub(crate) const PROTOBUF: u16 = 1 << 6;
    /// Came while a fan-out was running: what arrived before [`super::Subscriber::since`] is not for it.
    pub(crate) const LATE: u16 = 1 << 7;
}

/// One connection's place in a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) conn: ConnId,
    /// Offset of the last publication served; meaningful when positioned.
    pub(crate) offset: u64,
    /// Index in the session's subscription list, which has no more than [`crate::limits::CHANNELS_PER_SESSION_MAX`].
    pub(crate) slot: u16,
    pub(crate) flags: u16,
    /// Number of the first delivery that is for it; meaningful when late.
    pub(crate) since: u32,
}

impl Subscriber {
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn encoding(&self) -> Encoding {
        if self.has(flag::PROTOBUF) { Encoding::Protobuf } else { Encoding::Json }
    }
}

/// A fan-out that takes more than one turn.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    /// What the current pass delivers to each subscriber, in order.
    pub(crate) pass: Vec<Arc<Delivery>>,
    /// Number of the first one.
    pub(crate) first: u32,
    /// Arrived since the pass began.
    pub(crate) waiting: VecDeque<Arc<Delivery>>,
    /// Subscribers below this index are still to be served by the pass.
    pub(crate) cursor: usize,
}

#[derive(Debug)]
pub(crate) struct LocalChannel {
    pub(crate) name: Box<str>,
    pub(crate) subscribers: SmallVec<[Subscriber; 1]>,
    /// Subscribers and reservations per encoding; the home core is told when one drops to 0.
    holders: [u32; 2],
    /// Epoch of the positions that subscribers hold.
    pub(crate) epoch: Epoch,
    /// Last time that the position was seen to be right, monotonic ms.
    pub(crate) checked_at_ms: u64,
    /// Deliveries that have arrived, round and round.
    pub(crate) arrived: u32,
    pub(crate) fan_out: Option<Box<FanOut>>,
}

impl Named for LocalChannel {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What else moved when a subscriber was taken out: the subscription `slot` of `conn` is now at `index`.
pub(crate) type Moved = SmallVec<[(ConnId, u16, u32); 2]>;

#[derive(Debug)]
pub(crate) struct Hub {
    channels: ByName<LocalChannel>,
    subscriptions: u64,
    /// Deliveries in the fan-outs of all channels.
    pub(crate) queued: usize,
}

impl Hub {
    pub(crate) fn new(seed: u64) -> Self {
        Self { channels: ByName::new(FixedState::with_seed(seed)), subscriptions: 0, queued: 0 }
    }

    /// Subscriptions of this core.
    pub(crate) fn subscriptions(&self) -> u64 {
        self.subscriptions
    }

    /// After a peak: see [`crate::Engine::give_back_memory`].
    pub(crate) fn give_back_memory(&mut self) {
        self.channels.forget_spare();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalChannel> {
        self.channels.iter()
    }

    pub(crate) fn find(&self, name: &str) -> Option<ChannelId> {
        self.channels.find(name).map(ChannelId)
    }

    /// Holds the channel for a subscription that is being set up.
    pub(crate) fn reserve(&mut self, name: &str, encoding: Encoding) -> ChannelId {
        let id = self.channels.find_or_insert(name, || LocalChannel {
            name: name.into(),
            subscribers: SmallVec::new(),
            holders: [0; 2],
            epoch: Epoch::NONE,
            checked_at_ms: 0,
            arrived: 0,
            fan_out: None,
        });
        self.channels[id].holders[encoding as usize] += 1;
        ChannelId(id)
    }

    /// Gives a reservation up, or the hold of a subscriber taken out before. `true` = the core has lost interest in
    /// this encoding.
    pub(crate) fn release(&mut self, id: ChannelId, encoding: Encoding) -> bool {
        let channel = &mut self.channels[id.0];
        channel.holders[encoding as usize] -= 1;
        let lost = channel.holders[encoding as usize] == 0;
        if channel.holders == [0; 2] {
            let gone = self.channels.remove(id.0);
            self.queued -= gone.and_then(|gone| gone.fan_out).map_or(0, |f| f.pass.len() + f.waiting.len());
        }
        lost
    }

    /// Turns a reservation into a subscriber; returns its index.
    pub(crate) fn admit(&mut self, id: ChannelId, mut subscriber: Subscriber) -> u32 {
        self.subscriptions += 1;
        let channel = &mut self.channels[id.0];
        if channel.fan_out.is_some() {
            subscriber.flags |= flag::LATE;
            subscriber.since = channel.arrived;
        }
        let subscribers = &mut channel.subscribers;
        subscribers.push(subscriber);
        (subscribers.len() - 1) as u32
    }

    /// Takes a subscriber out. Its hold on the channel stays until [`Self::release`].
    ///
    /// A running fan-out must serve nobody twice and skip nobody: the hole is filled from its own side of the cursor,
    /// and only then the end of the list moves in.
    pub(crate) fn take_out(&mut self, id: ChannelId, index: u32) -> (Subscriber, Moved) {
        self.subscriptions -= 1;
        let channel = &mut self.channels[id.0];
        let subscribers = &mut channel.subscribers;
        let mut hole = index as usize;
        let gone = subscribers[hole];
        let mut moved = Moved::new();
        if let Some(fan_out) = &mut channel.fan_out
            && hole < fan_out.cursor
        {
            fan_out.cursor -= 1;
            if hole != fan_out.cursor {
                subscribers[hole] = subscribers[fan_out.cursor];
                moved.push((subscribers[hole].conn, subscribers[hole].slot, hole as u32));
                hole = fan_out.cursor;
            }
        }
        subscribers.swap_remove(hole);
        if let Some(filler) = subscribers.get(hole) {
            moved.push((filler.conn, filler.slot, hole as u32));
        }
        if subscribers.spilled() && subscribers.len() * 4 <= subscribers.capacity() && subscribers.capacity() > 64 {
            subscribers.shrink_to_fit();
        }
        (gone, moved)
    }

    /// The channel; ids are handed out by `reserve` and valid until the matching `release`.
    pub(crate) fn channel(&self, id: ChannelId) -> &LocalChannel {
        &self.channels[id.0]
    }

    pub(crate) fn channel_mut(&mut self, id: ChannelId) -> &mut LocalChannel {
        &mut self.channels[id.0]
    }

    /// The channel, if it is still there.
    pub(crate) fn try_channel_mut(&mut self, id: ChannelId) -> Option<&mut LocalChannel> {
        self.channels.get_mut(id.0)
    }

    pub(crate) fn subscriber_mut(&mut self, id: ChannelId, index: u32) -> &mut Subscriber {
        &mut self.channels[id.0].subscribers[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(n: u32) -> Subscriber {
        Subscriber { conn: ConnId { index: n, generation: 0 }, offset: 0, slot: 0, flags: 0, since: 0 }
    }

    /// A leave during a sliced fan-out would otherwise give somebody a publication twice, or never.
    #[test]
    fn a_leave_keeps_both_sides_of_the_cursor() {
        for leaver in 0..6 {
            for cursor in 0..=6 {
                let mut hub = Hub::new(1);
                let mut id = None;
                for n in 0..6 {
                    id = Some(hub.reserve("c", Encoding::Json));
                    hub.admit(hub.find("c").expect("reserved"), subscriber(n));
                }
                let id = id.expect("six were reserved");
                hub.channel_mut(id).fan_out = Some(Box::new(FanOut { cursor, ..FanOut::default() }));
                let (gone, moved) = hub.take_out(id, leaver);
                assert_eq!(gone.conn.index, leaver);
                let channel = hub.channel(id);
                let cursor_now = channel.fan_out.as_ref().expect("still running").cursor;
                let side = |range: std::ops::Range<usize>| {
                    let mut conns: Vec<_> = channel.subscribers[range].iter().map(|s| s.conn.index).collect();
                    conns.sort_unstable();
                    conns
                };
                let expect = |from: u32, to: u32| (from..to).filter(|n| *n != leaver).collect::<Vec<_>>();
                assert_eq!(side(0..cursor_now), expect(0, cursor as u32));
                assert_eq!(side(cursor_now..5), expect(cursor as u32, 6));
                for (conn, _, index) in moved {
                    assert_eq!(channel.subscribers[index as usize].conn, conn);
                }
            }
        }
    }

    #[test]
    fn a_channel_lives_as_long_as_somebody_holds_it() {
        let mut hub = Hub::new(1);
        let id = hub.reserve("c", Encoding::Json);
        assert_eq!(hub.reserve("c", Encoding::Protobuf), id);
        assert!(hub.release(id, Encoding::Json));
        assert_eq!(hub.find("c"), Some(id));
        assert!(hub.release(id, Encoding::Protobuf));
        assert_eq!(hub.find("c"), None);
    }
}
