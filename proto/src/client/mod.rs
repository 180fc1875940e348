//! The client protocol: messages, and their two encodings.
//!
//! Clients send [`Command`]s, the server sends [`Reply`]s; a push is a reply that answers nothing. Decoding copies what
//! it keeps, so that no message holds on to the frame it came in. Encoding appends to a buffer of the caller's.

mod decode;
mod encode;
mod push_frames;
mod pushes;
mod replies;
mod requests;
mod shared;
mod write_json;

pub use decode::{DecodeError, decode_commands};
pub use encode::encode_reply;
pub use push_frames::{encode_join_push, encode_leave_push, encode_publication_push};
pub use pushes::*;
pub use replies::*;
pub use requests::*;
pub use shared::*;

/// The server's ping in JSON, and the client's pong.
pub const PING_JSON: &[u8] = b"{}";
/// The server's ping in Protobuf, and the client's pong: a message of length 0.
pub const PING_PROTOBUF: &[u8] = &[0];

/// A payload that must go to a JSON client is not JSON: the client is disconnected with 3506.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload is not valid JSON")]
pub struct InappropriateJson;
