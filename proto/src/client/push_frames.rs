//! The pushes of the fan-out: one reply around a borrowed publication or client info.
//!
//! Building a [`Reply`](super::Reply) would copy the channel name and clone the publication for every push. Here the
//! three levels of messages around the body are written by hand, lengths first.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{ClientInfo, InappropriateJson, Publication, encode, write_json};
use crate::{Encoding, json};

/// Appends a reply that holds only the push of a publication; framing and failure as in [`super::encode_reply`].
pub fn encode_publication_push(
    encoding: Encoding,
    channel: &str,
    publication: &Publication,
    out: &mut Vec<u8>,
) -> Result<(), InappropriateJson> {
    match encoding {
        Encoding::Json => {
            json_push(channel, out, |push| push.message("pub", Some(publication), write_json::publication))
        }
        Encoding::Protobuf => {
            protobuf_push(channel, PUBLICATION, publication.encoded_len(), out);
            publication.encode_raw(out);
            Ok(())
        }
    }
}

/// Appends a reply that holds only the push of a join; framing and failure as in [`super::encode_reply`].
pub fn encode_join_push(
    encoding: Encoding,
    channel: &str,
    info: &ClientInfo,
    out: &mut Vec<u8>,
) -> Result<(), InappropriateJson> {
    match encoding {
        Encoding::Json => info_json_push(channel, "join", info, out),
        Encoding::Protobuf => {
            info_protobuf_push(channel, JOIN, info, out);
            Ok(())
        }
    }
}

/// Appends a reply that holds only the push of a leave; framing and failure as in [`super::encode_reply`].
pub fn encode_leave_push(
    encoding: Encoding,
    channel: &str,
    info: &ClientInfo,
    out: &mut Vec<u8>,
) -> Result<(), InappropriateJson> {
    match encoding {
        Encoding::Json => info_json_push(channel, "leave", info, out),
        Encoding::Protobuf => {
            info_protobuf_push(channel, LEAVE, info, out);
            Ok(())
        }
    }
}

// Field numbers; a test holds them against the derived messages.
const REPLY_PUSH: u32 = 4;
const CHANNEL: u32 = 2;
const PUBLICATION: u32 = 4;
const JOIN: u32 = 5;
const LEAVE: u32 = 6;
const INFO: u32 = 1;

fn json_push(
    channel: &str,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut json::Object<'_>) -> Result<(), InappropriateJson>,
) -> Result<(), InappropriateJson> {
    encode::whole(out, |out| {
        json::object(out, |reply| {
            json::object(reply.member("push"), |push| {
                push.string("channel", channel);
                body(push)
            })
        })
    })
}

fn info_json_push(
    channel: &str,
    kind: &'static str,
    info: &ClientInfo,
    out: &mut Vec<u8>,
) -> Result<(), InappropriateJson> {
    json_push(channel, out, |push| {
        json::object(push.member(kind), |body| body.message("info", Some(info), write_json::client_info))
    })
}

/// Appends all that comes before the body: length of the reply, its push, the channel, the body's key and length.
fn protobuf_push(channel: &str, body_field: u32, body_len: usize, out: &mut Vec<u8>) {
    let channel_len = if channel.is_empty() { 0 } else { key_len(CHANNEL) + length_delimited_len(channel.len()) };
    let push_len = channel_len + key_len(body_field) + length_delimited_len(body_len);
    let reply_len = key_len(REPLY_PUSH) + length_delimited_len(push_len);
    out.reserve(length_delimited_len(reply_len));
    encode_varint(reply_len as u64, out);
    begin(REPLY_PUSH, push_len, out);
    if !channel.is_empty() {
        begin(CHANNEL, channel.len(), out);
        out.extend_from_slice(channel.as_bytes());
    }
    begin(body_field, body_len, out);
}

fn info_protobuf_push(channel: &str, body_field: u32, info: &ClientInfo, out: &mut Vec<u8>) {
    let info_len = info.encoded_len();
    protobuf_push(channel, body_field, key_len(INFO) + length_delimited_len(info_len), out);
    begin(INFO, info_len, out);
    info.encode_raw(out);
}

/// Appends key and length of a length-delimited field.
fn begin(field: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Size of `len` bytes together with their length prefix.
fn length_delimited_len(len: usize) -> usize {
    encoded_len_varint(len as u64) + len
}
