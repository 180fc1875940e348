//! Frames from clients into messages, in both encodings.
//!
//! Runs on the core of the connection, blocks on nothing. Frames are hostile until proven otherwise: nothing here
//! recurses deeper than a bound or allocates more than in proportion to the frame.

use std::ops::ControlFlow;

use prost::Message;
use serde::Deserialize;

use super::Command;
use crate::{Encoding, json};

/// The peer sent something that is not a frame of the protocol; it is disconnected with 3501.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct DecodeError;

/// Hands the commands of a frame to `each`, in order, until it breaks.
///
/// Commands before a malformed one are still handed over; the frame after a break is not looked at. Clients' pongs
/// (JSON `{}`, Protobuf length 0) come out as the default [`Command`].
pub fn decode_commands(
    encoding: Encoding,
    frame: &[u8],
    mut each: impl FnMut(Command) -> ControlFlow<()>,
) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Json => {
            // Old clients end the last line as well. An empty frame is one empty line.
            for line in frame.strip_suffix(b"\n").unwrap_or(frame).split(|&byte| byte == b'\n') {
                if each(json_command(line)?).is_break() {
                    break;
                }
            }
        }
        Encoding::Protobuf => {
            let mut rest = frame;
            // At least once: an empty frame has no length to read.
            while each(protobuf_command(&mut rest)?).is_continue() && !rest.is_empty() {}
        }
    }
    Ok(())
}

// Not generic, so that the readers are compiled once, here, and not in every crate that decodes commands.
fn json_command(line: &[u8]) -> Result<Command, DecodeError> {
    decode_json(line)
}

fn protobuf_command(rest: &mut &[u8]) -> Result<Command, DecodeError> {
    decode_protobuf(next_delimited(rest)?)
}

/// Reads the first JSON value of `message`. What follows it is ignored: clients exist that get away with it.
fn decode_json<'a, M: Deserialize<'a>>(message: &'a [u8]) -> Result<M, DecodeError> {
    json::decode_first(message).map(|(message, _)| message).map_err(|_| DecodeError)
}

fn decode_protobuf<M: Message + Default>(message: &[u8]) -> Result<M, DecodeError> {
    M::decode(message).map_err(|_| DecodeError)
}

/// Takes a message off `rest`, which begins with its length.
fn next_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let length = prost::encoding::decode_varint(rest).map_err(|_| DecodeError)?;
    let length = usize::try_from(length).map_err(|_| DecodeError)?;
    let (message, after) = rest.split_at_checked(length).ok_or(DecodeError)?;
    *rest = after;
    Ok(message)
}
