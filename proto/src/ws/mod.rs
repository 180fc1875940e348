//! WebSocket (RFC 6455) as a protocol without I/O: bytes in, frames out, and the checks of the opening handshake.
//!
//! Exists beside tungstenite because a server core keeps one decoder per connection for hundreds of thousands of mostly
//! idle connections: an idle [`Decoder`] owns no buffer, and a message that arrived whole is handed over where it lies.
//! Header layout, close codes and the accept key stay tungstenite's.
//! Runs on the core that owns the connection, inside its receive path; the load generator uses the same code as client.
//! It never blocks, never reads a clock, never answers on its own (a ping is reported, the caller sends the pong), and
//! never allocates for a length that the peer only declared.

// Tests may unwrap; the build without tests still checks everything else.

mod close;
mod decoder;
mod frame;
pub mod handshake;
mod header;
mod mask;
#[cfg(test)]
mod tests;
mod utf8;

pub use close::close_payload;
pub use decoder::Decoder;
pub use frame::{encode_client_frame, frame_header};

/// Kind of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Text, 0x1. Valid UTF-8 only if [`DecoderLimits::validate_utf8`] was set.
    Text,
    /// Binary, 0x2.
    Binary,
}

/// On which side of the connection a [`Decoder`] sits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads what clients send: every frame must be masked.
    #[default]
    Server,
    /// Reads what a node sends: no frame may be masked. For tests and the load generator.
    Client,
}

/// What a [`Decoder`] accepts. Passed to every call, because all connections of a listener share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLimits {
    /// Longest message in bytes, over all its fragments, without headers. A message of exactly this size is accepted.
    pub message_size_max: usize,
    /// Whether text messages must be UTF-8. Off by default, as in Centrifugo: commands are checked when they are parsed.
    pub validate_utf8: bool,
    /// Which side reads.
    pub role: Role,
}

impl Default for DecoderLimits {
    /// The server side with the default of `websocket.message_size_limit`, 64 KiB.
    fn default() -> Self {
        Self { message_size_max: 64 * 1024, validate_utf8: false, role: Role::Server }
    }
}

/// One thing the peer sent. The bytes are valid only during the callback of [`Decoder::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A complete message, fragments joined.
    Message {
        /// Text or binary.
        opcode: Opcode,
        /// The unmasked payload.
        data: &'a [u8],
    },
    /// A ping with its payload of at most 125 bytes, which the pong must repeat.
    Ping(&'a [u8]),
    /// A pong with its payload of at most 125 bytes.
    Pong(&'a [u8]),
    /// The peer closes. Nothing follows: the decoder ignores later bytes.
    Close {
        /// The status code, if the peer gave one; always one that may be sent (not 1005, 1006, ...).
        code: Option<u16>,
        /// The reason, at most 123 bytes, empty if none.
        reason: &'a str,
    },
}

/// The peer broke the protocol or a limit: close the connection with this code and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("websocket violation by the peer, close code {code}: {reason}")]
pub struct Violation {
    /// Close code: 1002 protocol error, 1007 invalid text, 1009 message too big.
    pub code: u16,
    /// Short diagnostic for the close frame; nobody interprets it. Empty with 1009, as clients know it from Centrifugo.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    const INVALID_TEXT: Self = Self { code: 1007, reason: "text is not valid utf-8" };
    const TOO_BIG: Self = Self { code: 1009, reason: "" };
}
