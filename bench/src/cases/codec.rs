//! The codec of `gyre-proto`: commands in, pushes out, API bodies, WebSocket frames.

use std::hint::black_box;
use std::ops::ControlFlow;

use bytes::Bytes;
use gyre_proto::Encoding::{self, Json, Protobuf};
use gyre_proto::api::{self, PublishRequest};
use gyre_proto::client::{self, Publication};
use gyre_proto::ws::{Decoder, DecoderLimits, encode_client_frame};

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case { name: "decode connect json", unit: "command", operations: 1, prepare: || decode(Json, CONNECT_JSON) },
    Case {
        name: "decode connect protobuf",
        unit: "command",
        operations: 1,
        prepare: || decode(Protobuf, CONNECT_PROTOBUF),
    },
    Case { name: "decode subscribe json", unit: "command", operations: 1, prepare: || decode(Json, SUBSCRIBE_JSON) },
    Case {
        name: "decode subscribe protobuf",
        unit: "command",
        operations: 1,
        prepare: || decode(Protobuf, SUBSCRIBE_PROTOBUF),
    },
    Case { name: "decode publish json", unit: "command", operations: 1, prepare: || decode(Json, &publish_json()) },
    Case {
        name: "decode publish protobuf",
        unit: "command",
        operations: 1,
        prepare: || decode(Protobuf, &publish_protobuf()),
    },
    Case { name: "decode api publish", unit: "request", operations: 1, prepare: decode_api_publish },
    Case { name: "encode push json", unit: "push", operations: 1, prepare: || encode_push(Json) },
    Case { name: "encode push protobuf", unit: "push", operations: 1, prepare: || encode_push(Protobuf) },
    Case { name: "ws decode 64 B", unit: "message", operations: 1, prepare: || ws_decode(64, false) },
    Case { name: "ws decode 4 KiB", unit: "message", operations: 1, prepare: || ws_decode(4096, false) },
    Case { name: "ws decode 4 KiB utf-8", unit: "message", operations: 1, prepare: || ws_decode(4096, true) },
];

const CONNECT_JSON: &[u8] = br#"{"id":1,"connect":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2ln","name":"js"}}"#;
/// Command{id: 1, connect: {token: "eyJhbGciOiJIUzI1NiJ9", name: "js"}}.
const CONNECT_PROTOBUF: &[u8] = b"\x1e\x08\x01\x22\x1a\x0a\x14eyJhbGciOiJIUzI1NiJ9\x22\x02js";
const SUBSCRIBE_JSON: &[u8] = br#"{"id":2,"subscribe":{"channel":"rooms:index-17","recoverable":true}}"#;
/// Command{id: 2, subscribe: {channel: "rooms:index-17", recoverable: true}}.
const SUBSCRIBE_PROTOBUF: &[u8] = b"\x16\x08\x02\x2a\x12\x0a\x0erooms:index-17\x18\x01";

/// A JSON value of 128 bytes, the size that the workloads publish.
pub(super) fn payload() -> Vec<u8> {
    let mut text = br#"{"n":123456,"text":""#.to_vec();
    text.resize(126, b'x');
    text.extend_from_slice(b"\"}");
    text
}

fn publish_json() -> Vec<u8> {
    [&br#"{"id":3,"publish":{"channel":"rooms:index-17","data":"#[..], &payload(), b"}}"].concat()
}

/// Command{id: 3, publish: {channel, data}}.
fn publish_protobuf() -> Vec<u8> {
    let publish = [&b"\x0a\x0erooms:index-17\x12\x80\x01"[..], &payload()].concat();
    // 147 bytes of publish; with id and key 152, as varints.
    let command = [&b"\x08\x03\x3a\x93\x01"[..], &publish].concat();
    [&b"\x98\x01"[..], &command].concat()
}

fn decode(encoding: Encoding, frame: &[u8]) -> Box<dyn FnMut()> {
    let frame = frame.to_vec();
    let mut seen = 0;
    client::decode_commands(encoding, &frame, |command| {
        let kinds = [command.connect.is_some(), command.subscribe.is_some(), command.publish.is_some()];
        seen += kinds.into_iter().filter(|kind| *kind).count();
        ControlFlow::Continue(())
    })
    .unwrap_or_else(|error| panic!("the sample does not decode: {error}"));
    assert_eq!(seen, 1, "the sample is one command");
    Box::new(move || {
        let decoded = client::decode_commands(encoding, black_box(&frame), |command| {
            black_box(&command);
            ControlFlow::Continue(())
        });
        let _ = black_box(decoded);
    })
}

fn decode_api_publish() -> Box<dyn FnMut()> {
    let body = [&br#"{"channel":"rooms:index-17","data":"#[..], &payload(), b"}"].concat();
    assert!(api::decode::<PublishRequest>(&body).is_ok(), "the sample does not decode");
    Box::new(move || {
        let _ = black_box(api::decode::<PublishRequest>(black_box(&body)));
    })
}

fn encode_push(encoding: Encoding) -> Box<dyn FnMut()> {
    let publication = Publication { data: Bytes::from(payload()), offset: 1234, ..Publication::default() };
    let mut out = Vec::with_capacity(1024);
    Box::new(move || {
        out.clear();
        let encoded = client::encode_publication_push(encoding, "rooms:index-17", black_box(&publication), &mut out);
        let _ = black_box(encoded);
    })
}

/// One masked text message in one piece. Decoding unmasks in place, so each round starts from a copy; the copy is
/// part of the figure, and small beside it.
fn ws_decode(size: usize, validate_utf8: bool) -> Box<dyn FnMut()> {
    let text: String = "grüße, "
        .chars()
        .cycle()
        .scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= size).then_some(c)
        })
        .collect();
    let mut sample = Vec::new();
    encode_client_frame(0x81, text.as_bytes(), [0x37, 0xfa, 0x21, 0x3d], &mut sample);
    let limits = DecoderLimits { validate_utf8, ..DecoderLimits::default() };
    let mut decoder = Decoder::default();
    let mut bytes = sample.clone();
    Box::new(move || {
        bytes.copy_from_slice(&sample);
        let fed = decoder.feed(&mut bytes, &limits, &mut |frame| {
            black_box(&frame);
            ControlFlow::Continue(())
        });
        assert!(fed.is_ok(), "the sample is a valid frame");
    })
}
