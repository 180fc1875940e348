//! The palette: frames prepared in this turn, each once, for any number of connections.
//!
//! One arena holds header and payload of every frame, so a connection with a single frame to say sends straight from
//! it. A `FrameId` lives until the flush at the end of the turn that made it; using an older one is a broken invariant.

use gyre_proto::ws;

use crate::limits::PALETTE_KEEP_BYTES;

/// How a frame goes onto the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// A JSON protocol message in a text frame. Several for one connection share a frame, joined by newlines.
    JsonMessage,
    /// A Protobuf protocol message with its length in front, in a binary frame. Several share a frame.
    ProtobufMessage,
    /// A text frame of its own.
    Text,
    /// A binary frame of its own.
    Binary,
    /// A ping with at most 125 bytes.
    Ping,
    /// A pong with at most 125 bytes.
    Pong,
    /// A close frame.
    Close,
    /// Bytes without any framing: HTTP, raw connections.
    Raw,
}

impl FrameKind {
    /// First byte of the WebSocket frame; None for bytes without one.
    pub(crate) fn opcode_byte(self) -> Option<u8> {
        match self {
            Self::JsonMessage | Self::Text => Some(0x81),
            Self::ProtobufMessage | Self::Binary => Some(0x82),
            Self::Close => Some(0x88),
            Self::Ping => Some(0x89),
            Self::Pong => Some(0x8a),
            Self::Raw => None,
        }
    }

    /// What goes between two messages of one frame; None if this kind always has a frame of its own.
    pub(crate) fn separator(self) -> Option<&'static [u8]> {
        match self {
            Self::JsonMessage => Some(b"\n"),
            Self::ProtobufMessage => Some(b""),
            _ => None,
        }
    }
}

/// A prepared frame, valid until the end of the turn. The number is opaque: public so that the engine, which does not
/// know this package, can carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameId(pub u32);

/// Bits of a `FrameId` that hold the index; the rest holds the turn, so that an id kept for too long is noticed.
const INDEX_BITS: u32 = 26;

#[derive(Clone, Copy)]
struct Frame {
    kind: FrameKind,
    start: usize,
    payload: usize,
    end: usize,
}

/// The frames of one turn.
#[derive(Default)]
pub(crate) struct Palette {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    turn: u32,
}

/// Longest header of an unmasked frame.
const HEADER_MAX: usize = 10;

impl Palette {
    pub(crate) fn add(&mut self, kind: FrameKind, payload: &[u8]) -> FrameId {
        let start = self.bytes.len();
        if let Some(opcode) = kind.opcode_byte() {
            let (header, len) = ws::frame_header(opcode, payload.len());
            self.bytes.extend_from_slice(&header[..len]);
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.remember(kind, start, at)
    }

    /// `write` appends the payload; what is already in the buffer belongs to other frames.
    pub(crate) fn add_with(&mut self, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) -> FrameId {
        let before = self.bytes.len();
        let room = if kind.opcode_byte().is_some() { HEADER_MAX } else { 0 };
        self.bytes.resize(before + room, 0);
        let payload = self.bytes.len();
        write(&mut self.bytes);
        assert!(self.bytes.len() >= payload, "a frame writer removed bytes of other frames");
        let mut start = payload;
        if let Some(opcode) = kind.opcode_byte() {
            let (header, len) = ws::frame_header(opcode, self.bytes.len() - payload);
            start -= len;
            self.bytes[start..payload].copy_from_slice(&header[..len]);
        }
        self.remember(kind, start, payload)
    }

    fn remember(&mut self, kind: FrameKind, start: usize, payload: usize) -> FrameId {
        let index = self.frames.len() as u32;
        assert!(index < 1 << INDEX_BITS, "more frames in one turn than memory should allow");
        self.frames.push(Frame { kind, start, payload, end: self.bytes.len() });
        FrameId(self.turn << INDEX_BITS | index)
    }

    /// The index of a frame of this turn.
    pub(crate) fn index(&self, frame: FrameId) -> u32 {
        let turn = self.turn << INDEX_BITS >> INDEX_BITS;
        assert_eq!(frame.0 >> INDEX_BITS, turn, "a frame was used after the turn that made it");
        frame.0 & ((1 << INDEX_BITS) - 1)
    }

    pub(crate) fn kind(&self, index: u32) -> FrameKind {
        self.frames[index as usize].kind
    }

    /// Header and payload, as sent when the frame is alone.
    pub(crate) fn wire(&self, index: u32) -> &[u8] {
        let frame = &self.frames[index as usize];
        &self.bytes[frame.start..frame.end]
    }

    pub(crate) fn payload(&self, index: u32) -> &[u8] {
        let frame = &self.frames[index as usize];
        &self.bytes[frame.payload..frame.end]
    }

    /// Bytes of all frames prepared in this turn.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all frames. Only after the sends of the turn are known to be done.
    pub(crate) fn clear(&mut self) {
        if self.frames.is_empty() {
            return;
        }
        let used = self.bytes.len();
        self.frames.clear();
        self.bytes.clear();
        if self.bytes.capacity() > PALETTE_KEEP_BYTES.max(4 * used) {
            self.bytes.shrink_to(PALETTE_KEEP_BYTES);
        }
        self.turn = self.turn.wrapping_add(1);
    }

    /// At most what `join` appends for these frames: it only ever removes headers and adds a separator or a longer one.
    pub(crate) fn joined_bytes_max(&self, frames: &[u32]) -> usize {
        frames.iter().map(|&frame| self.wire(frame).len() + HEADER_MAX).sum()
    }

    /// Appends the frames in order to `out`, putting consecutive messages of one kind into shared frames.
    pub(crate) fn join(&self, frames: &[u32], messages_max: usize, out: &mut Vec<u8>) {
        let mut rest = frames;
        while let Some(&first) = rest.first() {
            let kind = self.kind(first);
            let Some(separator) = kind.separator() else {
                out.extend_from_slice(self.wire(first));
                rest = &rest[1..];
                continue;
            };
            let count = rest.iter().take(messages_max).take_while(|&&index| self.kind(index) == kind).count();
            let (group, tail) = rest.split_at(count);
            self.join_group(kind, separator, group, out);
            rest = tail;
        }
    }

    fn join_group(&self, kind: FrameKind, separator: &[u8], group: &[u32], out: &mut Vec<u8>) {
        if let [only] = group {
            out.extend_from_slice(self.wire(*only));
            return;
        }
        let payloads: usize = group.iter().map(|&index| self.payload(index).len()).sum();
        let len = payloads + separator.len() * (group.len() - 1);
        if let Some(opcode) = kind.opcode_byte() {
            let (header, header_len) = ws::frame_header(opcode, len);
            out.extend_from_slice(&header[..header_len]);
        }
        for (at, &index) in group.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(separator);
            }
            out.extend_from_slice(self.payload(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that gets several pushes in one turn must find them in one frame, in order, correctly separated.
    #[test]
    fn messages_of_a_kind_share_a_frame() {
        let mut palette = Palette::default();
        let frames: Vec<u32> = [
            palette.add(FrameKind::JsonMessage, b"{}"),
            palette.add_with(FrameKind::JsonMessage, |out| out.extend_from_slice(b"{\"a\":1}")),
            palette.add(FrameKind::Pong, b"x"),
            palette.add(FrameKind::ProtobufMessage, b"\x01a"),
            palette.add(FrameKind::ProtobufMessage, b"\x01b"),
            palette.add(FrameKind::Text, b"t"),
            palette.add(FrameKind::Text, b"u"),
            palette.add(FrameKind::Raw, b"HTTP"),
        ]
        .map(|frame| palette.index(frame))
        .to_vec();
        let mut out = Vec::new();
        palette.join(&frames, 16, &mut out);
        let expected: &[u8] = b"\x81\x0a{}\n{\"a\":1}\x8a\x01x\x82\x04\x01a\x01b\x81\x01t\x81\x01uHTTP";
        assert_eq!(out, expected);
    }

    /// A burst must not grow one frame without end: clients parse at most sixteen messages at once.
    #[test]
    fn a_frame_holds_sixteen_messages() {
        let mut palette = Palette::default();
        let frame = palette.add(FrameKind::JsonMessage, b"{}");
        let mut out = Vec::new();
        palette.join(&[palette.index(frame); 17], 16, &mut out);
        assert_eq!(&out[..2], &[0x81, 16 * 3 - 1]);
        assert_eq!(&out[2 + 16 * 3 - 1..], b"\x81\x02{}");
    }

    /// Long payloads need the long header forms, also when the length is known only after writing.
    #[test]
    fn headers_fit_the_length() {
        let mut palette = Palette::default();
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; len];
            let whole = palette.add(FrameKind::Binary, &payload);
            let written = palette.add_with(FrameKind::Binary, |out| out.extend_from_slice(&payload));
            let (whole, written) = (palette.index(whole), palette.index(written));
            assert_eq!(palette.wire(whole), palette.wire(written));
            assert_eq!(palette.payload(written), payload);
        }
    }
}
