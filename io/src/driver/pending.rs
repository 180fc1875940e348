//! Bytes that a socket did not take: kept in order until it has room again.
//!
//! Exists only for connections whose peer reads too slowly. Knows where the frame that is partly on the wire ends, so
//! that the rest can be discarded without breaking the peer's parser.

use crate::limits::MESSAGES_PER_FRAME_MAX;
use crate::palette::{FrameKind, Palette};

/// Unsent bytes of one connection.
#[derive(Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    sent: usize,
    /// How many of the unsent bytes complete the frame that is partly on the wire.
    unfinished: usize,
}

impl Pending {
    /// What remains of `bytes` after the first `sent`. The first `raw` bytes are not WebSocket frames.
    pub(crate) fn rest_of(bytes: &[u8], sent: usize, raw: usize) -> Self {
        let unfinished = if sent < raw { raw - sent } else { frame_end(&bytes[raw..], sent - raw) + raw - sent };
        Self { bytes: bytes[sent..].to_vec(), sent: 0, unfinished }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Queues frames behind what is already waiting.
    pub(crate) fn append(&mut self, palette: &Palette, frames: &[u32]) {
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        palette.join(frames, MESSAGES_PER_FRAME_MAX, &mut self.bytes);
        if frames.iter().any(|&frame| palette.kind(frame) == FrameKind::Raw) {
            self.unfinished = self.unsent().len();
        }
    }

    /// Notes that the socket took the first `count` unsent bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.unfinished = if count <= self.unfinished {
            self.unfinished - count
        } else {
            let frames = &self.unsent()[self.unfinished..];
            let taken = count - self.unfinished;
            frame_end(frames, taken) - taken
        };
        self.sent += count;
    }

    /// Drops everything but the rest of the frame that is partly on the wire.
    pub(crate) fn discard(&mut self) {
        self.bytes.truncate(self.sent + self.unfinished);
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
                let second = second.min(pending.unsent().len());
                pending.advance(second);
            }
            let sent = wire.len() - pending.unsent().len();
            pending.discard();
            assert_eq!(pending.unsent(), &wire[sent..sent + expected(sent)]);
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
