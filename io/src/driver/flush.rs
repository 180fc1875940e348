//! The flush: once per turn, one contiguous send for each connection that has something to say.
//!
//! A send is executed while the ring is entered and takes what the socket has room for, so the arenas may be reused
//! as soon as its completion, if any, was taken (`collect`). Only a send that went short reports; the rest moves to
//! the connection and waits for room. So no connection ever has two sends in flight (driver rule 4).

use std::ops::Range;

use gyre_proto::ids::ConnId;

use super::pending::Pending;
use super::{Driver, Phase};
use crate::backend::{Event, errno};
use crate::limits::{JOIN_BYTES, MESSAGES_PER_FRAME_MAX};
use crate::palette::FrameKind;

/// What a quiet send of this turn was about, for the case that it goes short.
pub(super) struct Record {
    conn: ConnId,
    source: Source,
    /// Length of the unframed bytes at the start.
    raw: usize,
}

enum Source {
    /// One frame, straight from the palette.
    Palette(u32),
    /// Several frames, put together.
    Joined(Range<usize>),
}

impl Driver {
    /// Takes all events from the ring and settles the sends of the last submission.
    pub(super) fn collect(&mut self) {
        self.dial_slots.closes_submitted();
        let mut settled = std::mem::take(&mut self.settled);
        self.ring.drain(|event| match event {
            Event::SendShort { .. } | Event::Sent { .. } => settled.push(event),
            other => self.events.push(other),
        });
        for event in settled.drain(..) {
            match event {
                Event::SendShort { record, result } => self.on_short(record, result),
                Event::Sent { conn, result } => self.on_sent(conn, result),
                _ => {}
            }
        }
        self.settled = settled;
        self.records.clear();
        // The sends that pointed into it are settled. What a burst made of it is given back after a quiet turn.
        if self.joined.len() < JOIN_BYTES && self.joined.capacity() > 4 * JOIN_BYTES {
            self.joined = Vec::new();
        }
        self.joined.clear();
        self.joined_frames.clear();
        let mut leaving = std::mem::take(&mut self.leaving);
        for conn in leaving.drain(..) {
            self.step_leaving(conn);
        }
        self.leaving = leaving;
    }

    /// Queues the sends of this turn. They go out when the ring is entered next.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.outboxes.dirty);
        for index in dirty.drain(..) {
            self.flush_one(index);
        }
        // A `collect` in between may have found more to flush, with nothing new to say.
        dirty.append(&mut self.outboxes.dirty);
        self.outboxes.dirty = dirty;
        self.outboxes.clear();
    }

    fn flush_one(&mut self, index: u32) {
        let Some(slot) = self.table.at(index) else { return };
        if !slot.dirty || slot.phase == Phase::Dead {
            return;
        }
        slot.dirty = false;
        let conn = ConnId { index, generation: slot.generation };
        let mut frames = std::mem::take(&mut self.frames);
        self.outboxes.take(&mut slot.outbox, &mut frames);
        // Behind a full socket everything waits, also when what made it full was discarded since.
        if slot.blocked {
            if !frames.is_empty() {
                slot.cold().pending.append(&self.palette, &frames);
            }
        } else if let Some(pending) = slot.pending() {
            pending.append(&self.palette, &frames);
            let unsent: *const [u8] = pending.first();
            self.stats.sends += 1;
            self.stats.bytes_out += unsent.len() as u64;
            // SAFETY: nobody touches the pending bytes before `collect` has seen the result of this send: between a
            // flush and the next `collect` no code of a handler or task runs.
            unsafe { self.ring.send_reported(conn, unsent) };
        } else if !frames.is_empty() {
            slot.unsent = 0;
            self.send(conn, &frames);
        }
        self.frames = frames;
        self.after_flush(conn);
    }

    fn after_flush(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        match slot.phase {
            Phase::Leaving => self.leaving.push(conn),
            Phase::Stream => self.stream_flushed(conn),
            _ => {}
        }
    }

    fn send(&mut self, conn: ConnId, frames: &[u32]) {
        let source = match frames {
            [only] => Source::Palette(*only),
            _ => Source::Joined(self.join(frames)),
        };
        let raw = frames
            .iter()
            .take_while(|&&frame| self.palette.kind(frame) == FrameKind::Raw)
            .map(|&frame| self.palette.wire(frame).len())
            .sum();
        let bytes: *const [u8] = match &source {
            Source::Palette(frame) => self.palette.wire(*frame),
            Source::Joined(range) => &self.joined[range.clone()],
        };
        let record = self.records.len() as u32;
        self.records.push(Record { conn, source, raw });
        self.stats.sends += 1;
        self.stats.bytes_out += bytes.len() as u64;
        // SAFETY: the palette is not written between flush and submission, and the join arena is never grown while a
        // send that points into it is unsubmitted (`join`).
        unsafe { self.ring.send_quiet(conn, record, bytes) };
    }

    /// Puts frames together in the arena. In a fan-out many connections say the same, so the last result is reused.
    fn join(&mut self, frames: &[u32]) -> Range<usize> {
        if self.joined_frames == frames {
            return self.joined_at.clone();
        }
        let bound = self.palette.joined_bytes_max(frames);
        if self.joined.len() + bound > self.joined.capacity() {
            // Full: the sends go out now, their results free the arena. It may grow only while it is empty.
            self.ring.submit();
            self.collect();
            self.joined.shrink_to(JOIN_BYTES);
            self.joined.reserve(bound.max(JOIN_BYTES));
        }
        let start = self.joined.len();
        self.palette.join(frames, MESSAGES_PER_FRAME_MAX, &mut self.joined);
        self.joined_frames.clear();
        self.joined_frames.extend_from_slice(frames);
        self.joined_at = start..self.joined.len();
        self.joined_at.clone()
    }

    /// A quiet send did not go out whole.
    fn on_short(&mut self, record: u32, result: Result<u32, i32>) {
        let Some(Record { conn, source, raw }) = self.records.get(record as usize) else { return };
        let (conn, raw) = (*conn, *raw);
        let bytes = match source {
            Source::Palette(frame) => self.palette.wire(*frame),
            Source::Joined(range) => &self.joined[range.clone()],
        };
        let sent = match result {
            Ok(sent) => sent as usize,
            Err(errno::AGAIN) => 0,
            Err(_) => {
                self.stats.bytes_out -= bytes.len() as u64;
                return self.send_failed(conn);
            }
        };
        self.stats.bytes_out -= (bytes.len() - sent) as u64;
        let pending = Pending::rest_of(bytes, sent, raw);
        let Some(slot) = self.table.get(conn) else { return };
        if slot.phase == Phase::Dead || pending.is_empty() {
            return;
        }
        slot.unsent = pending.len() as u32;
        slot.cold().pending = pending;
        self.await_room(conn);
        self.check_slow(conn);
    }

    /// A send of pending bytes ended.
    fn on_sent(&mut self, conn: ConnId, result: Result<u32, i32>) {
        let Some(slot) = self.table.get(conn) else { return };
        let Some(pending) = slot.pending() else { return };
        let offered = pending.first().len();
        let sent = match result {
            Ok(sent) => sent as usize,
            Err(errno::AGAIN) => 0,
            Err(_) => {
                self.stats.bytes_out -= offered as u64;
                return self.send_failed(conn);
            }
        };
        self.stats.bytes_out -= (offered - sent) as u64;
        pending.advance(sent);
        let left = pending.len();
        slot.unsent = left as u32;
        if left > 0 {
            self.await_room(conn);
            self.check_slow(conn);
            return;
        }
        slot.cold().pending = Pending::default();
        slot.drop_cold_if_empty();
        self.after_flush(conn);
    }

    fn await_room(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.blocked = true;
        self.stats.sends_blocked += 1;
        self.ring.await_writable(conn);
    }

    /// The socket is broken, and what was to be sent is lost. Its receive reports that too, if it is told to look.
    fn send_failed(&mut self, conn: ConnId) {
        let Some(slot) = self.table.get(conn) else { return };
        if let Some(cold) = &mut slot.cold {
            cold.pending = Pending::default();
        }
        slot.unsent = 0;
        slot.drop_cold_if_empty();
        match slot.phase {
            Phase::Stream => self.stream_ended(conn, true),
            Phase::Leaving => self.finish(conn, super::Closed::Local),
            Phase::WebSocket | Phase::Raw | Phase::Closing if slot.receiving && slot.shutdowns == 0 => {
                slot.shutdowns += 1;
                self.ring.shutdown_both(conn);
            }
            _ => {}
        }
    }
}
