//! How connections end.
//!
//! Never by cancelling operations (driver rule 6). Politely: flush, end our direction, wait for the peer's end. Or at
//! once: shut both directions down, which ends the armed receive and poll. Either way the slot is freed only when no
//! operation can report on it any more. Every connection is reported as closed exactly once, from here.

use gyre_proto::ids::ConnId;
use gyre_proto::ws;

use super::{Closed, Driver, Notice, Phase, TimerUse};
use crate::limits::CLOSE_WAIT_MS;
use crate::outbox::Queue;
use crate::palette::{FrameId, FrameKind};

/// Masks exist to keep what a page sends from looking like HTTP to a proxy. What is masked here was said by the peer or
/// is a close code, and peers of `dial` are trusted, so that one mask does for all.
const MASK: [u8; 4] = [0x6d, 0x61, 0x73, 0x6b];

impl Driver {
    /// Ends a connection. WebSocket: sends what is queued, then a close frame, and waits at most five seconds for the
    /// peer's. Stream and raw: sends what is queued, then ends.
    pub fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let Some(slot) = self.table.get(conn) else { return };
        match slot.phase {
            Phase::WebSocket => {
                self.send_close(conn, code, reason);
                if let Some(slot) = self.table.get(conn) {
                    slot.phase = Phase::Closing;
                }
                self.arm_timer(conn, TimerUse::Closing, self.now_ms + CLOSE_WAIT_MS);
            }
            Phase::Stream | Phase::Raw => self.leave(conn, Closed::Local),
            Phase::Dialling => self.abort(conn),
            _ => {}
        }
    }

    /// As `close`, but drops queued frames first. A frame that is partly on the wire is still completed.
    pub fn close_discarding(&mut self, conn: ConnId, code: u16, reason: &str) {
        let Some(slot) = self.table.get(conn) else { return };
        match slot.phase {
            Phase::WebSocket => {
                slot.outbox = Queue::EMPTY;
                slot.unsent = 0;
                if let Some(pending) = slot.pending() {
                    pending.discard();
                    slot.unsent = pending.len() as u32;
                    slot.drop_cold_if_empty();
                }
                self.close(conn, code, reason);
            }
            // A cut HTTP response cannot be completed, and what raw bytes mean is the handler's.
            Phase::Stream | Phase::Raw | Phase::Dialling => self.abort(conn),
            _ => {}
        }
    }

    /// Ends a connection at once, without a close frame.
    pub fn abort(&mut self, conn: ConnId) {
        self.finish(conn, Closed::Local);
    }

    /// The peer's close frame arrived.
    pub(super) fn peer_closed(&mut self, conn: ConnId, code: Option<u16>) {
        let Some(slot) = self.table.get(conn) else { return };
        let is_quiet = slot.pending().is_none() && slot.outbox.is_empty();
        match slot.phase {
            Phase::WebSocket => {
                match code {
                    Some(code) => self.send_close(conn, code, ""),
                    None => {
                        let frame = self.control_frame(conn, FrameKind::Close, &[]);
                        self.queue(conn, self.palette.index(frame));
                    }
                }
                self.leave(conn, Closed::PeerClosed { code: code.unwrap_or(1005) });
            }
            // Both have said goodbye, so nothing of either is lost; the peer's end need not be waited for.
            Phase::Closing if is_quiet => self.finish(conn, Closed::Local),
            Phase::Closing => self.leave(conn, Closed::Local),
            _ => {}
        }
    }

    /// The peer broke the WebSocket protocol.
    pub(super) fn peer_violated(&mut self, conn: ConnId, violation: &ws::Violation) {
        let Some(slot) = self.table.get(conn) else { return };
        match slot.phase {
            Phase::WebSocket => {
                self.send_close(conn, violation.code, violation.reason);
                self.leave(conn, Closed::Violation(violation.code));
            }
            Phase::Closing => self.leave(conn, Closed::Local),
            _ => {}
        }
    }

    fn send_close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let frame = self.control_frame(conn, FrameKind::Close, &ws::close_payload(code, reason));
        self.queue(conn, self.palette.index(frame));
    }

    /// A frame that this side sends on its own: in the role of the client it is masked.
    pub(super) fn control_frame(&mut self, conn: ConnId, kind: FrameKind, payload: &[u8]) -> FrameId {
        let options = self.table.get(conn).map_or(0, |slot| slot.options);
        let role = self.websocket_options.get(usize::from(options)).map(|options| options.role);
        match (role, kind.opcode_byte()) {
            (Some(ws::Role::Client), Some(opcode)) => {
                self.palette.add_with(FrameKind::Raw, |out| ws::encode_client_frame(opcode, payload, MASK, out))
            }
            _ => self.palette.add(kind, payload),
        }
    }

    /// Reports the connection as closed and says goodbye: what is queued goes out, then our direction ends.
    pub(crate) fn leave(&mut self, conn: ConnId, why: Closed) {
        let Some(slot) = self.table.get(conn) else { return };
        if matches!(slot.phase, Phase::Leaving | Phase::Dead) {
            return;
        }
        slot.phase = Phase::Leaving;
        slot.decoder = ws::Decoder::default();
        if let Some(cold) = &mut slot.cold {
            cold.stream = None;
            cold.leftover = Vec::new();
        }
        slot.drop_cold_if_empty();
        self.notices.push(Notice::Closed(conn, why));
        self.arm_timer(conn, TimerUse::Closing, self.now_ms + CLOSE_WAIT_MS);
        self.mark_dirty(conn);
    }

    /// One step of a leaving connection, after the results of its sends are known.
    pub(super) fn step_leaving(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase != Phase::Leaving || slot.pending().is_some() || !slot.outbox.is_empty() {
            return;
        }
        // A node that shuts down does not wait for peers that keep their side open.
        if slot.peer_ended || self.is_draining {
            self.finish(conn, Closed::Local);
            return;
        }
        slot.shutdowns += 1;
        let listen = !slot.receiving;
        slot.receiving = true;
        self.ring.shutdown_write(conn);
        if listen {
            self.ring.receive_many(conn);
        }
    }

    /// Ends a connection at once and reports it, unless that was done before.
    pub(crate) fn finish(&mut self, conn: ConnId, why: Closed) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase == Phase::Dead {
            return;
        }
        let reported = slot.phase == Phase::Leaving;
        slot.phase = Phase::Dead;
        slot.decoder = ws::Decoder::default();
        slot.cold = None;
        slot.outbox = Queue::EMPTY;
        slot.unsent = 0;
        slot.timer = TimerUse::None;
        let end_operations = slot.receiving || slot.blocked || slot.watched;
        if end_operations {
            slot.shutdowns += 1;
        }
        self.wheel.clear(conn.index);
        if !reported {
            self.notices.push(Notice::Closed(conn, why));
        }
        if end_operations {
            self.ring.shutdown_both(conn);
        }
        self.release(conn);
    }

    /// Frees the slot of a dead connection once nothing can report on it.
    pub(super) fn release(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase != Phase::Dead || slot.has_operations() {
            return;
        }
        if self.table.vacate(conn.index) {
            self.wheel.forget_chunk(conn.index);
        }
        self.dial_slots.give_back(conn.index);
        self.stats.closed += 1;
        self.ring.close(conn);
    }
}
