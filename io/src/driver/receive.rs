//! Events of sockets: bytes that arrived, sends that went short, sockets that have room again.

use gyre_proto::ids::ConnId;
use gyre_proto::ws::Frame;
use std::ops::ControlFlow;

use super::{Closed, Driver, Handler, Notice, Phase, TimerUse};
use crate::backend::{Event, ReceiveBuffers, is_retry};
use crate::limits::{NOTICES_PER_TURN, PALETTE_TURN_BYTES};
use crate::palette::FrameKind;

impl Driver {
    /// Hands everything that happened to its connection and the handler.
    pub(super) fn dispatch<H: Handler>(&mut self, buffers: &mut ReceiveBuffers, handler: &mut H) {
        self.deliver_notices(handler);
        let mut events = std::mem::take(&mut self.events);
        let mut taken = 0;
        for event in &events {
            if self.palette.bytes() > PALETTE_TURN_BYTES {
                break;
            }
            self.on_event(*event, buffers, handler);
            taken += 1;
        }
        events.drain(..taken);
        // Nothing but `collect` adds events.
        self.events = events;
        self.fire_timers(handler);
        self.deliver_notices(handler);
    }

    fn on_event<H: Handler>(&mut self, event: Event, buffers: &mut ReceiveBuffers, handler: &mut H) {
        match event {
            Event::Accepted { listener, result, more } => self.on_accepted(handler, listener, result, more),
            Event::Received { conn, result, buffer, more } => {
                self.on_received(handler, buffers, conn, result, buffer, more);
                if let Some(buffer) = buffer {
                    buffers.give_back(buffer);
                }
            }
            Event::Writable { conn } => {
                if let Some(slot) = self.table.get(conn) {
                    slot.blocked = false;
                    self.mark_dirty(conn);
                    self.release(conn);
                }
            }
            Event::Ended { conn } => self.on_ended(conn),
            Event::ShutDown { conn } => {
                if let Some(slot) = self.table.get(conn) {
                    slot.shutdowns -= 1;
                    self.release(conn);
                }
            }
            Event::Connected { conn, result } => self.on_connected(handler, conn, result),
            Event::Woken { more } => self.on_woken(more),
            // Taken out by `collect`.
            Event::SendShort { .. } | Event::Sent { .. } => {}
        }
    }

    fn on_received<H: Handler>(
        &mut self,
        handler: &mut H,
        buffers: &mut ReceiveBuffers,
        conn: ConnId,
        result: Result<u32, i32>,
        buffer: Option<u16>,
        more: bool,
    ) {
        // A receive keeps its slot from being reused, so it always finds its own connection.
        let Some(slot) = self.table.get(conn) else { return };
        slot.receiving = more;
        let phase = slot.phase;
        match (result, buffer) {
            (Ok(len), Some(buffer)) if len > 0 => {
                self.stats.bytes_in += u64::from(len);
                let bytes = buffers.bytes(buffer, len as usize);
                match phase {
                    // What came before the upgrade is still to be fed (`Notice::Leftover`).
                    Phase::WebSocket if slot.has_leftover() => slot.cold().leftover.extend_from_slice(bytes),
                    Phase::WebSocket | Phase::Closing => self.feed(handler, conn, bytes),
                    Phase::Stream => self.stream_received(conn, bytes),
                    Phase::Raw => handler.bytes(self, conn, bytes),
                    Phase::Dialling => self.on_answer(handler, conn, bytes),
                    // Nobody listens any more; read on to reach the peer's end.
                    Phase::Leaving | Phase::Dead | Phase::Vacant => {}
                }
            }
            (Ok(_), _) => self.peer_ended(conn, None),
            (Err(error), _) if is_retry(error) => self.stats.buffers_exhausted += 1,
            (Err(error), _) => self.peer_ended(conn, Some(error)),
        }
        self.rearm_receive(conn);
    }

    /// For connections that cannot do without their receive. A multishot one that finds bytes and behind them the end
    /// when it is armed reports the bytes and then waits for what was there: the end on a Unix socket, a reset on TCP
    /// (seen on 6.18.44, 2026-11; before 7.0 also when both come between two looks, liburing issue 1549). WebSocket
    /// connections have pings, and are armed before they have much to say.
    pub(super) fn watch_end(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.watched = true;
        self.ring.await_end(conn);
    }

    fn on_ended(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.watched = false;
        if matches!(slot.phase, Phase::Raw | Phase::Leaving) && slot.receiving && !slot.peer_ended {
            slot.shutdowns += 1;
            self.ring.shutdown_read(conn);
        }
        self.release(conn);
    }

    /// Arms a receive for a stream that wants bytes.
    pub(crate) fn receive_once(&mut self, conn: ConnId) {
        self.ring.receive_once(conn);
    }

    /// Continues to receive after a connection has become a WebSocket. A receive of its stream time may be armed still.
    pub(crate) fn resume_receive(&mut self, conn: ConnId, broken: bool) {
        let Some(slot) = self.table.get(conn) else { return };
        if broken {
            self.finish(conn, Closed::PeerReset);
        } else if slot.peer_ended {
            self.finish(conn, Closed::PeerEof);
        } else {
            self.rearm_receive(conn);
        }
    }

    fn peer_ended(&mut self, conn: ConnId, error: Option<i32>) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.peer_ended = true;
        let has_unsent = slot.pending().is_some() || !slot.outbox.is_empty();
        match slot.phase {
            Phase::WebSocket | Phase::Raw | Phase::Dialling if error.is_some() => self.finish(conn, Closed::PeerReset),
            Phase::WebSocket | Phase::Raw | Phase::Dialling => self.finish(conn, Closed::PeerEof),
            Phase::Closing => self.finish(conn, Closed::Local),
            Phase::Stream => self.stream_ended(conn, error.is_some()),
            // Unsent bytes may still reach a peer that only ended its own direction.
            Phase::Leaving if error.is_none() && has_unsent => {}
            Phase::Leaving => self.finish(conn, Closed::Local),
            Phase::Dead | Phase::Vacant => {}
        }
    }

    /// Arms the receive again if it ended while there may be more, and frees the slot if it was the last operation.
    fn rearm_receive(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.receiving {
            return;
        }
        let stream_wants = slot.stream().is_some_and(|stream| stream.wants_bytes());
        match slot.phase {
            Phase::WebSocket | Phase::Raw | Phase::Dialling | Phase::Closing | Phase::Leaving if !slot.peer_ended => {
                slot.receiving = true;
                self.ring.receive_many(conn);
            }
            Phase::Stream if stream_wants => {
                slot.receiving = true;
                self.ring.receive_once(conn);
            }
            Phase::Dead => self.release(conn),
            _ => {}
        }
    }

    /// Feeds received bytes to the WebSocket codec of a connection.
    pub(super) fn feed<H: Handler>(&mut self, handler: &mut H, conn: ConnId, bytes: &mut [u8]) {
        let Some(slot) = self.table.get(conn) else { return };
        // Out of the slot, because the handler may do anything to the driver meanwhile.
        let mut decoder = std::mem::take(&mut slot.decoder);
        let limits = self.websocket_options[usize::from(slot.options)].decoder_limits();
        let result = decoder.feed(bytes, &limits, &mut |frame| self.on_frame(handler, conn, frame));
        if let Some(slot) = self.table.get(conn)
            && matches!(slot.phase, Phase::WebSocket | Phase::Closing)
        {
            slot.decoder = decoder;
        }
        if let Err(violation) = result {
            self.peer_violated(conn, &violation);
        }
    }

    fn on_frame<H: Handler>(&mut self, handler: &mut H, conn: ConnId, frame: Frame<'_>) -> ControlFlow<()> {
        let phase = self.table.get(conn).map_or(Phase::Dead, |slot| slot.phase);
        match (phase, frame) {
            (Phase::WebSocket, Frame::Message { opcode, data }) => handler.message(self, conn, opcode, data),
            (Phase::WebSocket, Frame::Ping(data)) => {
                let pong = self.control_frame(conn, FrameKind::Pong, data);
                self.push(conn, pong);
            }
            (Phase::WebSocket | Phase::Closing, Frame::Close { code, .. }) => self.peer_closed(conn, code),
            _ => {}
        }
        match self.table.get(conn).map(|slot| slot.phase) {
            Some(Phase::WebSocket | Phase::Closing) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn deliver_notices<H: Handler>(&mut self, handler: &mut H) {
        let mut notices = std::mem::take(&mut self.notices);
        let mut held = Vec::new();
        for notice in notices.drain(..notices.len().min(NOTICES_PER_TURN)) {
            match notice {
                Notice::Closed(..) if self.holds_closed => held.push(notice),
                Notice::Closed(conn, why) => handler.closed(self, conn, why),
                Notice::Connected(conn, result) => self.on_connected(handler, conn, result),
                Notice::Slow(conn) => {
                    if self.is_open(conn) {
                        handler.slow(self, conn);
                    }
                }
                Notice::Leftover(conn) => {
                    let leftover =
                        self.table.get(conn).and_then(|slot| slot.cold.as_mut()).map(|cold| &mut cold.leftover);
                    let mut bytes = leftover.map(std::mem::take).unwrap_or_default();
                    if let Some(slot) = self.table.get(conn) {
                        slot.drop_cold_if_empty();
                    }
                    self.feed(handler, conn, &mut bytes);
                }
            }
        }
        // What the handler caused meanwhile waits behind what is left.
        notices.append(&mut held);
        notices.append(&mut self.notices);
        self.notices = notices;
    }

    fn fire_timers<H: Handler>(&mut self, handler: &mut H) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(self.now_ms, |index| fired.push(index));
        for index in fired.drain(..) {
            if self.wheel.is_set(index) {
                // What an earlier one of these caused has set a new deadline.
                continue;
            }
            let Some(slot) = self.table.at(index) else { continue };
            let conn = ConnId { index, generation: slot.generation };
            match std::mem::replace(&mut slot.timer, TimerUse::None) {
                TimerUse::None => {}
                TimerUse::Handler => handler.timeout(self, conn),
                TimerUse::Stream => self.on_stream_deadline(conn),
                TimerUse::Closing => self.finish(conn, Closed::Local),
                TimerUse::Dialling => self.finish(conn, Closed::DialTimeout),
            }
        }
        self.fired = fired;
    }
}
