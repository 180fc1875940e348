//! Messages to clients into bytes, in both encodings.
//!
//! Everything appends to a buffer of the caller's, which on error is as it was. JSON messages come without a line feed
//! at their end: whoever joins messages into a frame puts one between them.

use prost::Message;

use super::{InappropriateJson, Reply, write_json};
use crate::{Encoding, json};

/// Appends one reply: in JSON without a line feed, in Protobuf behind its length.
///
/// Fails if a payload inside is not JSON, in which case `out` is as it was; never fails in Protobuf.
pub fn encode_reply(encoding: Encoding, reply: &Reply, out: &mut Vec<u8>) -> Result<(), InappropriateJson> {
    match encoding {
        Encoding::Json => whole(out, |out| json::object(out, |object| write_json::reply(reply, object))),
        Encoding::Protobuf => {
            delimited(reply, out);
            Ok(())
        }
    }
}

/// Runs `write`; takes back what it wrote if it fails.
pub(super) fn whole(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), InappropriateJson>,
) -> Result<(), InappropriateJson> {
    let before = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn delimited(message: &impl Message, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(message.encoded_len() as u64, out);
    message.encode_raw(out);
}
