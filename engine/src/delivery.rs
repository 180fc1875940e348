//! Deliveries: a publication, join or leave, encoded once, on its way from the home core to every subscriber.
//!
//! The home core prepares each encoding that some core needs; a core puts it on its palette once and an index into each
//! subscriber's outbox. A fan-out to very many subscribers is done in slices, so that nobody else waits for it.

use std::sync::Arc;

use bytes::Bytes;
use gyre_proto::Encoding;
use gyre_proto::client::{self, ClientInfo, InappropriateJson, Publication};
use gyre_proto::codes::Disconnect;
use gyre_proto::ids::ConnId;
use smallvec::SmallVec;

use crate::engine::Engine;
use crate::home::Interest;
use crate::hub::{ChannelId, FanOut, Subscriber, flag};
use crate::limits::{FAN_OUT_QUEUE_MAX, FAN_OUT_SLICE};
use crate::outlet::{FrameId, Outlet};
use crate::position::{Epoch, Position};
use crate::session::Work;

/// What is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// [`Position::NONE`] when the channel has no history.
    Publication(Position),
    JoinOrLeave,
}

/// A prepared push for all subscribers of a channel.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) channel: Box<str>,
    pub(crate) kind: Kind,
    /// `Err` = cannot be shown to JSON clients. `None` = nobody needed it when it was prepared.
    json: Option<Result<Bytes, InappropriateJson>>,
    protobuf: Option<Bytes>,
}

impl Delivery {
    pub(crate) fn publication(
        channel: &str,
        publication: &Publication,
        position: Position,
        interest: Interest,
    ) -> Self {
        // A client that subscribed to an empty stream learns the epoch from its first publication.
        let with_epoch = (position.offset == 1)
            .then(|| Publication { epoch: position.epoch.as_str().into(), ..publication.clone() });
        let publication = with_epoch.as_ref().unwrap_or(publication);
        Self::prepare(channel, Kind::Publication(position), interest, |encoding, out| {
            client::encode_publication_push(encoding, channel, publication, out)
        })
    }

    pub(crate) fn join(channel: &str, info: &ClientInfo, interest: Interest) -> Self {
        Self::prepare(channel, Kind::JoinOrLeave, interest, |encoding, out| {
            client::encode_join_push(encoding, channel, info, out)
        })
    }

    pub(crate) fn leave(channel: &str, info: &ClientInfo, interest: Interest) -> Self {
        Self::prepare(channel, Kind::JoinOrLeave, interest, |encoding, out| {
            client::encode_leave_push(encoding, channel, info, out)
        })
    }

    fn prepare(
        channel: &str,
        kind: Kind,
        interest: Interest,
        encode: impl Fn(Encoding, &mut Vec<u8>) -> Result<(), InappropriateJson>,
    ) -> Self {
        let encoded = |encoding| {
            interest.needs(encoding).then(|| {
                let mut message = Vec::new();
                encode(encoding, &mut message).map(|()| Bytes::from(message))
            })
        };
        let json = encoded(Encoding::Json);
        // Protobuf carries any bytes; its encoding does not fail.
        let protobuf = encoded(Encoding::Protobuf).and_then(Result::ok);
        Self { channel: channel.into(), kind, json, protobuf }
    }

    fn message(&self, encoding: Encoding) -> Result<Option<&Bytes>, InappropriateJson> {
        match (encoding, &self.json) {
            (Encoding::Protobuf, _) => Ok(self.protobuf.as_ref()),
            (Encoding::Json, Some(Ok(message))) => Ok(Some(message)),
            (Encoding::Json, Some(Err(error))) => Err(*error),
            (Encoding::Json, None) => Ok(None),
        }
    }

    /// What it takes while it waits for a connection, about.
    fn bytes(&self, encoding: Encoding) -> usize {
        size_of::<Arc<Self>>() + self.message(encoding).ok().flatten().map_or(0, Bytes::len)
    }
}

/// A delivery on the palette of this core, as far as somebody needed it.
struct OnPalette<'a> {
    delivery: &'a Arc<Delivery>,
    frames: [Option<FrameId>; 2],
}

/// Subscribers that a pass could not serve.
#[derive(Default)]
struct Unserved {
    /// Their position does not join up with a publication.
    lost: Vec<ConnId>,
    /// JSON connections that were to get something that is not JSON.
    inappropriate: Vec<ConnId>,
    /// More is kept back for them than may wait for a connection.
    slow: Vec<ConnId>,
}

impl Engine {
    /// Delivers to the subscribers of this core, at once or, when they are very many, in slices.
    pub(crate) fn deliver(&mut self, delivery: Arc<Delivery>, out: &mut dyn Outlet) {
        let Some(id) = self.hub.find(&delivery.channel) else { return };
        self.counters.deliveries_received += 1;
        let channel = self.hub.channel_mut(id);
        let number = channel.arrived;
        channel.arrived = number.wrapping_add(1);
        if matches!(delivery.kind, Kind::Publication(at) if at.offset > 0) {
            // Everybody who holds a position moves on by it, or loses it.
            channel.checked_at_ms = self.now.mono_ms;
        }
        if let Some(fan_out) = &mut channel.fan_out {
            fan_out.waiting.push_back(delivery);
            self.hub.queued += 1;
            return;
        }
        let count = channel.subscribers.len();
        if count > FAN_OUT_SLICE {
            let fan_out = FanOut { pass: vec![delivery], first: number, cursor: count, ..FanOut::default() };
            channel.fan_out = Some(Box::new(fan_out));
            self.fan_outs.push_back(id);
            self.hub.queued += 1;
            return;
        }
        self.pass(id, std::slice::from_ref(&delivery), Some(number), 0, count, out);
    }

    /// Continues the fan-outs in progress, a slice a turn. `true` = there is more to do.
    pub(crate) fn continue_fan_outs(&mut self, out: &mut dyn Outlet) -> bool {
        let mut budget = FAN_OUT_SLICE;
        while let Some(id) = self.fan_outs.pop_front() {
            budget = budget.saturating_sub(self.slice(id, out));
            if budget == 0 && self.hub.queued <= FAN_OUT_QUEUE_MAX {
                break;
            }
        }
        !self.fan_outs.is_empty()
    }

    /// Serves one slice of one fan-out; returns the number of deliveries made.
    fn slice(&mut self, id: ChannelId, out: &mut dyn Outlet) -> usize {
        // The channel may have gone with its last subscriber, or its number to another channel.
        let Some(fan_out) = self.hub.try_channel_mut(id).and_then(|channel| channel.fan_out.as_mut()) else {
            return 0;
        };
        if fan_out.cursor == 0 {
            let finished = std::mem::replace(&mut fan_out.pass, fan_out.waiting.drain(..).collect());
            fan_out.first = fan_out.first.wrapping_add(finished.len() as u32);
            self.hub.queued -= finished.len();
            let subscribers = self.hub.channel(id).subscribers.len();
            let channel = self.hub.channel_mut(id);
            match &mut channel.fan_out {
                Some(fan_out) if !fan_out.pass.is_empty() => fan_out.cursor = subscribers,
                _ => {
                    channel.fan_out = None;
                    return 0;
                }
            }
        }
        let Some(fan_out) = &mut self.hub.channel_mut(id).fan_out else { return 0 };
        let pass = std::mem::take(&mut fan_out.pass);
        let first = fan_out.first;
        let to = fan_out.cursor;
        let from = to.saturating_sub((FAN_OUT_SLICE / pass.len()).max(1));
        fan_out.cursor = from;
        self.pass_in_progress(id, pass, first, from, to, out);
        if self.hub.try_channel_mut(id).is_some_and(|channel| channel.fan_out.is_some()) {
            self.fan_outs.push_back(id);
        }
        (to - from).max(1)
    }

    fn pass_in_progress(
        &mut self,
        id: ChannelId,
        pass: Vec<Arc<Delivery>>,
        first: u32,
        from: usize,
        to: usize,
        out: &mut dyn Outlet,
    ) {
        let unserved = self.serve(id, &pass, Some(first), from, to, out);
        // Back in its place before anybody can leave: a leave moves the cursor.
        if let Some(fan_out) = &mut self.hub.channel_mut(id).fan_out {
            fan_out.pass = pass;
        }
        self.dismiss(id, unserved, out);
    }

    fn pass(
        &mut self,
        id: ChannelId,
        deliveries: &[Arc<Delivery>],
        first: Option<u32>,
        from: usize,
        to: usize,
        out: &mut dyn Outlet,
    ) {
        let unserved = self.serve(id, deliveries, first, from, to, out);
        self.dismiss(id, unserved, out);
    }

    /// Pushes `deliveries` to the subscribers `from..to`, last one first. `first` is the number of the first delivery;
    /// `None` = they were kept back for this very subscriber.
    fn serve(
        &mut self,
        id: ChannelId,
        deliveries: &[Arc<Delivery>],
        first: Option<u32>,
        from: usize,
        to: usize,
        out: &mut dyn Outlet,
    ) -> Unserved {
        let mut unserved = Unserved::default();
        let mut on_palette: SmallVec<[OnPalette<'_>; 4]> =
            deliveries.iter().map(|delivery| OnPalette { delivery, frames: [None; 2] }).collect();
        let held_back_max = self.rules.client.queue_max_size;
        let channel = self.hub.channel_mut(id);
        let epoch = channel.epoch;
        for subscriber in channel.subscribers[from..to].iter_mut().rev() {
            let mut skip = 0;
            if subscriber.has(flag::LATE)
                && let Some(first) = first
            {
                // What waited behind the fan-out when it came is older than its subscription.
                skip = usize::try_from(subscriber.since.wrapping_sub(first).cast_signed()).unwrap_or(0);
                if skip < deliveries.len() {
                    subscriber.flags &= !flag::LATE;
                }
            }
            for each in on_palette.iter_mut().skip(skip) {
                if subscriber.has(flag::HELD_BACK) {
                    let session = self.sessions.of_mut(subscriber.conn);
                    if let Some(Work::Connect(joining)) = session.and_then(|s| s.pending.as_mut()).map(|p| &mut p.work)
                    {
                        joining.held_back.push(Arc::clone(each.delivery));
                        joining.held_back_bytes += each.delivery.bytes(subscriber.encoding());
                        if joining.held_back_bytes > held_back_max {
                            unserved.slow.push(subscriber.conn);
                            break;
                        }
                    }
                    continue;
                }
                match admit(each.delivery.kind, epoch, subscriber) {
                    Admission::Yes => {}
                    Admission::No => continue,
                    Admission::Lost => {
                        unserved.lost.push(subscriber.conn);
                        break;
                    }
                }
                let encoding = subscriber.encoding();
                let frame = match each.frames[encoding as usize] {
                    Some(frame) => frame,
                    None => match each.delivery.message(encoding) {
                        Ok(Some(message)) => *each.frames[encoding as usize].insert(out.frame(encoding, message)),
                        // Prepared before the home core knew of this subscriber: nothing it was promised.
                        Ok(None) => continue,
                        Err(InappropriateJson) => {
                            unserved.inappropriate.push(subscriber.conn);
                            break;
                        }
                    },
                };
                out.push(subscriber.conn, frame);
                self.counters.deliveries_sent += 1;
            }
        }
        unserved
    }

    fn dismiss(&mut self, id: ChannelId, unserved: Unserved, out: &mut dyn Outlet) {
        for conn in unserved.inappropriate {
            tracing::warn!(client = %self.client_of(conn), "data that is not JSON was published to a JSON client");
            self.disconnect(conn, &Disconnect::INAPPROPRIATE_PROTOCOL, out);
        }
        for conn in unserved.lost {
            self.insufficient_state(conn, id, out);
        }
        for conn in unserved.slow {
            self.disconnect(conn, &Disconnect::SLOW, out);
        }
    }

    /// Delivers to one session what was kept back while it was connecting.
    pub(crate) fn deliver_held_back(&mut self, conn: ConnId, deliveries: &[Arc<Delivery>], out: &mut dyn Outlet) {
        for delivery in deliveries {
            let Some(id) = self.hub.find(&delivery.channel) else { continue };
            let Some(session) = self.sessions.of(conn) else { return };
            let Some(slot) = session.subscription(id) else { continue };
            let index = session.subscriptions[slot].index as usize;
            self.pass(id, std::slice::from_ref(delivery), None, index, index + 1, out);
        }
    }
}

enum Admission {
    Yes,
    No,
    Lost,
}

/// The live delivery check (client-protocol.md 9.2); moves the position forward.
fn admit(kind: Kind, epoch: Epoch, subscriber: &mut Subscriber) -> Admission {
    match kind {
        Kind::JoinOrLeave if subscriber.has(flag::PUSH_JOIN_LEAVE) => Admission::Yes,
        Kind::JoinOrLeave => Admission::No,
        Kind::Publication(at) if at.offset == 0 || !subscriber.has(flag::POSITIONED) => Admission::Yes,
        Kind::Publication(at) if at.epoch != epoch => Admission::Lost,
        Kind::Publication(at) if at.offset <= subscriber.offset => Admission::No,
        Kind::Publication(at) if at.offset > subscriber.offset + 1 => Admission::Lost,
        Kind::Publication(at) => {
            subscriber.offset = at.offset;
            Admission::Yes
        }
    }
}
