//! Header of a received frame with every check that needs nothing but the header (RFC 6455 section 5.2 to 5.5).
//!
//! Pure; runs on the core that owns the connection, once per frame. A frame is refused here, before a byte of its
//! payload is looked at or stored: whatever passes has a length that fits the limit and therefore memory.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::mask::Mask;
use super::{DecoderLimits, Opcode, Role, Violation};

/// Longest header in bytes: two, eight of extended length, four of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// Longest payload of a control frame in bytes.
const CONTROL_BYTES_MAX: u8 = 125;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The start of a message.
    Data(Opcode),
    /// A later fragment of the message under way.
    Continuation,
    /// Close, ping or pong.
    Control(Control),
}

/// A checked header, or what is left of its frame after a part of the payload was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Last frame of its message. Always set for control frames.
    pub(super) last: bool,
    pub(super) mask: Mask,
    /// Bytes of payload still to come.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`: the header and its length in bytes, or `None` if it is not complete.
    ///
    /// `message_len` is the length of the message under way, `None` if the frame must start a new one.
    pub(super) fn parse(
        bytes: &[u8],
        limits: &DecoderLimits,
        message_len: Option<usize>,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let (header, len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            // Its only complaint; reading from memory cannot fail.
            Err(_) => return Err(RESERVED_OPCODE),
        };
        // RSV1 becomes legal with permessage-deflate; no extension is negotiated so far.
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("reserved bits set"));
        }
        let mask = match (limits.role, header.mask) {
            (Role::Server, Some(key)) => Mask::new(key),
            (Role::Client, None) => Mask::default(),
            (Role::Server, None) => return Err(Violation::protocol("frame from a client is not masked")),
            (Role::Client, Some(_)) => return Err(Violation::protocol("frame from a server is masked")),
        };
        let kind = kind(header.opcode)?;
        match kind {
            // The 7-bit length, not the value: an extended length is wrong here whatever it says.
            Kind::Control(_) if bytes[1] & 0x7f > CONTROL_BYTES_MAX => {
                return Err(Violation::protocol("control frame over 125 bytes"));
            }
            Kind::Control(_) if !header.is_final => return Err(Violation::protocol("fragmented control frame")),
            Kind::Control(_) => {}
            Kind::Continuation if message_len.is_none() => {
                return Err(Violation::protocol("continuation without a message"));
            }
            Kind::Data(_) if message_len.is_some() => {
                return Err(Violation::protocol("new message inside a fragmented message"));
            }
            // Lengths encoded in more bytes than needed are accepted, as every common implementation does.
            Kind::Data(_) | Kind::Continuation => check_len(len, limits.message_size_max, message_len.unwrap_or(0))?,
        }
        // Fits: it is at most 125 or at most `message_size_max`.
        let header = Self { kind, last: header.is_final, mask, len: len as usize };
        Ok(Some((header, cursor.position() as usize)))
    }

    /// The rest of the frame after `bytes` of payload.
    pub(super) fn after(self, bytes: usize) -> Self {
        Self { len: self.len - bytes, mask: self.mask.after(bytes), ..self }
    }
}

const RESERVED_OPCODE: Violation = Violation::protocol("reserved opcode");

fn kind(opcode: OpCode) -> Result<Kind, Violation> {
    match opcode {
        OpCode::Data(Data::Text) => Ok(Kind::Data(Opcode::Text)),
        OpCode::Data(Data::Binary) => Ok(Kind::Data(Opcode::Binary)),
        OpCode::Data(Data::Continue) => Ok(Kind::Continuation),
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => Err(RESERVED_OPCODE),
        OpCode::Control(control) => Ok(Kind::Control(control)),
    }
}

/// Checks a frame of `len` bytes on top of a message of `message_len` bytes, without a sum that could overflow.
fn check_len(len: u64, message_size_max: usize, message_len: usize) -> Result<(), Violation> {
    if len >> 63 != 0 {
        return Err(Violation::protocol("most significant bit of the length set"));
    }
    if len > message_size_max.saturating_sub(message_len) as u64 {
        return Err(Violation::TOO_BIG);
    }
    Ok(())
}
