//! Bytes that a socket did not take: kept in order until it has room again.
//!
//! Exists only for connections whose peer reads too slowly. Knows where the frame that is partly on the wire ends, so
//! that the rest can be discarded without breaking the peer's parser.

use std::collections::VecDeque;

use crate::limits::{MESSAGES_PER_FRAME_MAX, PENDING_CHUNK_MAX, PENDING_CHUNK_MIN};
use crate::palette::{FrameKind, Palette};

/// Unsent bytes of one connection, in chunks: many peers that stop reading at once fill up in step, and growing one
/// buffer each by doubling would copy all of them in the same turn.
#[derive(Default)]
pub(crate) struct Pending {
    chunks: VecDeque<Vec<u8>>,
    /// How many bytes of the first chunk have gone out.
    sent: usize,
    /// Unsent bytes of all chunks.
    len: usize,
    /// How many of the unsent bytes complete the frame that is partly on the wire.
    unfinished: usize,
}

impl Pending {
    /// What remains of `bytes` after the first `sent`. The first `raw` bytes are not WebSocket frames.
    pub(crate) fn rest_of(bytes: &[u8], sent: usize, raw: usize) -> Self {
        let unfinished = if sent < raw { raw - sent } else { frame_end(&bytes[raw..], sent - raw) + raw - sent };
        let rest = &bytes[sent..];
        let chunks = if rest.is_empty() { VecDeque::new() } else { VecDeque::from([rest.to_vec()]) };
        Self { chunks, sent: 0, len: rest.len(), unfinished }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Unsent bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What to send next: the unsent bytes of the first chunk.
    pub(crate) fn first(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk[self.sent..])
    }

    /// Queues frames behind what is already waiting.
    pub(crate) fn append(&mut self, palette: &Palette, frames: &[u32]) {
        let bound = palette.joined_bytes_max(frames);
        if self.chunks.back().is_none_or(|chunk| chunk.capacity() - chunk.len() < bound) {
            let room = self.len.clamp(PENDING_CHUNK_MIN, PENDING_CHUNK_MAX).max(bound);
            self.chunks.push_back(Vec::with_capacity(room));
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        let before = chunk.len();
        palette.join(frames, MESSAGES_PER_FRAME_MAX, chunk);
        self.len += chunk.len() - before;
        if frames.iter().any(|&frame| palette.kind(frame) == FrameKind::Raw) {
            self.unfinished = self.len;
        }
    }

    /// Notes that the socket took `count` of the bytes of `first`.
    pub(crate) fn advance(&mut self, count: usize) {
        self.unfinished = if count <= self.unfinished {
            self.unfinished - count
        } else {
            let frames = &self.first()[self.unfinished..];
            let taken = count - self.unfinished;
            frame_end(frames, taken) - taken
        };
        self.len -= count;
        self.sent += count;
        if self.first().is_empty() {
            self.chunks.pop_front();
            self.sent = 0;
        }
    }

    /// Drops everything but the rest of the frame that is partly on the wire.
    pub(crate) fn discard(&mut self) {
        let mut keep = self.sent + self.unfinished;
        self.chunks.retain_mut(|chunk| {
            chunk.truncate(keep);
            keep -= chunk.len();
            !chunk.is_empty()
        });
        self.len = self.unfinished;
    }
}

/// The end of the server frame that contains the byte before `position`; `frames` starts at a frame boundary.
fn frame_end(frames: &[u8], position: usize) -> usize {
    let mut end = 0;
    while end < position {
        end += frame_len(&frames[end..]);
    }
    end
}

/// Length on the wire of the unmasked frame at the start of `bytes`.
fn frame_len(bytes: &[u8]) -> usize {
    // We wrote these headers; every frame here is whole.
    match bytes[1] & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => {
            let mut len = [0; 8];
            len.copy_from_slice(&bytes[2..10]);
            10 + u64::from_be_bytes(len) as usize
        }
        len => 2 + usize::from(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(lens: &[usize]) -> Vec<u8> {
        let mut palette = Palette::default();
        let frames: Vec<u32> = lens
            .iter()
            .map(|&len| {
                let frame = palette.add(FrameKind::Binary, &vec![len as u8; len]);
                palette.index(frame)
            })
            .collect();
        let mut out = Vec::new();
        palette.join(&frames, 16, &mut out);
        out
    }

    /// A slow client that is cut off must still be able to parse the close frame: no frame may be left incomplete.
    #[test]
    fn discarding_completes_the_started_frame() {
        let lens = [0, 1, 125, 126, 300, 70_000, 5];
        let wire = frames(&lens);
        let mut boundaries = vec![0];
        for _ in lens {
            let last = boundaries[boundaries.len() - 1];
            boundaries.push(last + frame_len(&wire[last..]));
        }
        let expected = |sent: usize| boundaries.iter().copied().find(|&end| end >= sent).unwrap() - sent;
        for first in (0..wire.len()).step_by(97).chain(boundaries.iter().copied().filter(|&b| b < wire.len())) {
            let mut pending = Pending::rest_of(&wire, first, 0);
            assert_eq!(pending.unfinished, expected(first), "after {first}");
            for second in [1, 100, 64_000] {
                pending.advance(second.min(pending.first().len()));
            }
            let sent = wire.len() - pending.len();
            pending.discard();
            assert_eq!(pending.first(), &wire[sent..sent + expected(sent)]);
            assert_eq!(pending.len(), expected(sent));
        }
    }

    /// A peer that reads slowly gets every byte in order across chunks, and a cut leaves it a whole frame.
    #[test]
    fn chunks_keep_the_order() {
        let lens = [0, 1, 125, 126, 1000, 40_000, 5, 3000];
        let mut palette = Palette::default();
        let frames: Vec<u32> = lens
            .iter()
            .map(|&len| {
                let frame = palette.add(FrameKind::Binary, &vec![len as u8; len]);
                palette.index(frame)
            })
            .collect();
        for step in [1, 7, 999, 33_000] {
            let mut wire = Vec::new();
            let mut pending = Pending::default();
            let mut taken = Vec::new();
            for round in 0..40 {
                let some = &frames[round % 3..];
                pending.append(&palette, some);
                palette.join(some, 16, &mut wire);
                let count = step.min(pending.first().len());
                taken.extend_from_slice(&pending.first()[..count]);
                pending.advance(count);
                assert_eq!(taken.len() + pending.len(), wire.len());
            }
            assert!(pending.chunks.iter().all(|chunk| chunk.len() <= 50_000));
            pending.discard();
            while !pending.is_empty() {
                taken.extend_from_slice(pending.first());
                pending.advance(pending.first().len());
            }
            assert_eq!(taken, wire[..taken.len()]);
            assert_eq!(frame_end(&wire, taken.len()), taken.len(), "ends at a frame's end");
        }
    }

    /// The HTTP answer to an upgrade is never cut, whatever follows it.
    #[test]
    fn raw_bytes_are_one_frame() {
        let mut wire = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let raw = wire.len();
        wire.extend(frames(&[10, 20]));
        for (sent, unfinished) in [(0, raw), (5, raw - 5), (raw, 0), (raw + 1, 11), (raw + 12, 0), (raw + 13, 21)] {
            assert_eq!(Pending::rest_of(&wire, sent, raw).unfinished, unfinished, "after {sent}");
        }
    }
}
