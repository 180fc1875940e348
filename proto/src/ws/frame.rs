//! Frames to be sent: the header in front of a prepared payload, and masked frames for the client side.
//!
//! Pure; runs on the core that prepares a frame, once per frame and not per subscriber. Never looks at the payload of a
//! server frame, so that one prepared payload serves all connections.

use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

use super::mask::Mask;

/// Header of an unmasked frame with a payload of `len` bytes: the buffer and how many of its bytes are used.
///
/// `opcode_byte` is the first byte of the frame: 0x81 text, 0x82 binary, 0x88 close, 0x89 ping, 0x8a pong.
pub fn frame_header(opcode_byte: u8, len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    let mut space = &mut header[..];
    write_header(opcode_byte, None, len, &mut space);
    let used = 10 - space.len();
    (header, used)
}

/// Appends a masked frame, as a client sends it, to `out`.
///
/// `opcode_byte` as in [`frame_header`]; without the top bit the frame is a fragment. `mask` must be unpredictable if
/// the connection passes proxies that are not trusted (RFC 6455 section 10.3); where it comes from is up to the caller.
pub fn encode_client_frame(opcode_byte: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.reserve(14 + payload.len());
    write_header(opcode_byte, Some(mask), payload.len(), out);
    let start = out.len();
    out.extend_from_slice(payload);
    Mask::new(mask).apply(&mut out[start..]);
}

fn write_header(opcode_byte: u8, mask: Option<[u8; 4]>, len: usize, out: &mut impl std::io::Write) {
    let header = FrameHeader {
        is_final: opcode_byte & 0x80 != 0,
        rsv1: opcode_byte & 0x40 != 0,
        rsv2: opcode_byte & 0x20 != 0,
        rsv3: opcode_byte & 0x10 != 0,
        opcode: OpCode::from(opcode_byte & 0x0f),
        mask,
    };
    // Cannot fail: a vector grows, and ten bytes hold the longest header without a mask.
    let written = header.format(len as u64, out);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients would lose frame boundaries at payload sizes where the length encoding changes.
    #[test]
    fn header_sizes() {
        let cases: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (1 << 40, &[0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0]),
        ];
        for (len, expected) in cases {
            let (header, used) = frame_header(0x81, len);
            assert_eq!(&header[..used], expected);
        }
        for opcode_byte in [0x82, 0x88, 0x89, 0x8a, 0x01, 0x00, 0xc1] {
            assert_eq!(frame_header(opcode_byte, 5), ([opcode_byte, 5, 0, 0, 0, 0, 0, 0, 0, 0], 2));
        }
    }

    #[test]
    fn masked_example_of_the_rfc() {
        let mut out = vec![7];
        encode_client_frame(0x81, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out, [7, 0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
