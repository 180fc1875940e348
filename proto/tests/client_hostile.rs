//! Input made to crash a server: it must cost the sender its connection and nobody anything else.

#![allow(clippy::unwrap_used)] // in what tests share

use std::ops::ControlFlow;

use gyre_proto::Encoding::{self, Json, Protobuf};
use gyre_proto::client::*;
use prost::Message;

fn decode(encoding: Encoding, frame: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0;
    decode_commands(encoding, frame, |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// A stack overflow takes the whole node down, and no handler catches it.
#[test]
fn nesting_does_not_overflow_the_stack() {
    const MANY: usize = 1 << 20;
    for (before, unit) in [
        (r#"{"send":{"data":"#, "["),
        (r#"{"send":{"data":"#, r#"{"a":"#),
        (r#"{"unknown":"#, "["),
        (r#"{"unknown":"#, r#"[{"":"#),
        (r#"{"unknown":"\uAAA"","#, "["),
        (r#"{"id":"#, "["),
        (r#"{"subscribe":{"tf":"#, r#"{"nodes":["#),
        (r#"{"subscribe":{"tf":"#, r#"{"tf":"#),
        ("", "["),
        ("", r#"{"connect":"#),
        (r#"{"id":1}"#, ""),
    ] {
        let frame = [before, &unit.repeat(MANY)].concat();
        assert_eq!(decode(Json, frame.as_bytes()).is_err(), !unit.is_empty(), "{before} {unit}");
    }
}

/// As deep as it may get must fit the stack of a thread with much to spare. Frames of unoptimized builds are huge.
#[test]
fn deepest_nesting_fits_a_small_stack() {
    let stack = if cfg!(debug_assertions) { 16 << 20 } else { 256 << 10 };
    let run = || {
        let payload = |depth: usize| {
            let frame = format!(r#"{{"send":{{"data":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
            decode(Json, frame.as_bytes())
        };
        assert_eq!(payload(126), Ok(1));
        assert_eq!(payload(130), Err(DecodeError));
        let filter = |depth: usize| {
            let (open, close) = (r#"{"op":"not","nodes":["#.repeat(depth), "]}".repeat(depth));
            decode(Json, format!(r#"{{"subscribe":{{"tf":{open}{close}}}}}"#).as_bytes())
        };
        assert_eq!(filter(60), Ok(1));
        assert_eq!(filter(70), Err(DecodeError));
    };
    std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
}

#[test]
fn nested_protobuf_is_bounded() {
    let filter = |depth: usize| {
        let mut node = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![0x32]; // nodes (6)
            prost::encoding::encode_varint(node.len() as u64, &mut outer);
            outer.extend(node);
            node = outer;
        }
        let tf = FilterNode::decode(&node[..]);
        let mut request = vec![0x6a]; // tf (13)
        prost::encoding::encode_varint(node.len() as u64, &mut request);
        request.extend(node);
        let mut command = vec![0x2a]; // subscribe (5)
        prost::encoding::encode_varint(request.len() as u64, &mut command);
        command.extend(request);
        let mut frame = Vec::new();
        prost::encoding::encode_varint(command.len() as u64, &mut frame);
        frame.extend(command);
        (tf.is_ok(), decode(Protobuf, &frame))
    };
    assert_eq!(filter(50), (true, Ok(1)));
    assert_eq!(filter(5_000), (false, Err(DecodeError)));
    // Groups nest as well, even unknown ones.
    let mut frame = Vec::new();
    prost::encoding::encode_varint(1 << 20, &mut frame);
    frame.extend(std::iter::repeat_n(0x83, 1 << 19).flat_map(|byte| [byte, 0x01]));
    assert_eq!(decode(Protobuf, &frame), Err(DecodeError));
}

/// Every frame cut at every place, and with every byte changed: an error or a command, never a panic.
#[test]
fn mutations_do_not_panic() {
    let json = concat!(
        r#"{"id":1,"connect":{"token":"j\u00e9\ud83d\ude00","data":{"x":[1.5e3,null,true]},"subs":{"a":{"offset":5}}}}"#,
        "\n",
        r#"{"id":2,"subscribe":{"channel":"é","tf":{"op":"and","nodes":[{"key":"k","vals":["a"]}]}}}"#
    );
    let mut protobuf = Vec::new();
    for command in collect(Json, json.as_bytes()) {
        protobuf.extend(command.encode_length_delimited_to_vec());
    }
    for (encoding, frame) in [(Json, json.as_bytes()), (Protobuf, &protobuf[..])] {
        assert_eq!(decode(encoding, frame), Ok(2));
        for end in 0..frame.len() {
            let _ = decode(encoding, &frame[..end]);
        }
        let mut changed = frame.to_vec();
        for place in 0..frame.len() {
            for byte in 0..=255 {
                changed[place] = byte;
                for command in collect(encoding, &changed) {
                    // What was accepted as a payload must be fit for other JSON clients.
                    if let (Json, Some(connect)) = (encoding, &command.connect) {
                        let push = Publication { data: connect.data.clone(), ..Default::default() };
                        assert_eq!(encode_publication_push(Json, "a", &push, &mut Vec::new()), Ok(()));
                    }
                }
            }
            changed[place] = frame[place];
        }
    }
}

fn collect(encoding: Encoding, frame: &[u8]) -> Vec<Command> {
    let mut commands = Vec::new();
    let _ = decode_commands(encoding, frame, |command| {
        commands.push(command);
        ControlFlow::Continue(())
    });
    commands
}
