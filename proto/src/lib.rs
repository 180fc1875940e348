//! The wire formats of Gyre: client protocol, server API, calls to backends, WebSocket frames, and every number that clients know.
//!
//! Nothing here does I/O, knows a clock or keeps state beyond a half-received frame. Runs on every core and on the
//! control thread. Whatever a peer sends ends in a value or in an error, never in a panic, a stack overflow or an
//! allocation of a size that the peer merely claims.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod client;
pub mod codes;
pub mod ids;
pub mod json;
pub mod proxy;
pub mod ws;

/// How the messages of a connection are encoded; negotiated once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON object per message, separated by LF.
    Json,
    /// Protobuf messages, each behind its length as a varint.
    Protobuf,
}
