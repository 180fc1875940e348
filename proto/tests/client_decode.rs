//! Frames of clients: what official SDKs send must come out as they meant it, and anything else must be refused.

#![allow(clippy::unwrap_used)] // in what tests share

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use gyre_proto::Encoding::{self, Json, Protobuf};
use gyre_proto::client::*;
use prost::Message;

/// Commands handed over, and whether the frame as a whole was fine.
fn decode(encoding: Encoding, frame: impl AsRef<[u8]>) -> (Vec<Command>, Result<(), DecodeError>) {
    let mut commands = Vec::new();
    let result = decode_commands(encoding, frame.as_ref(), |command| {
        commands.push(command);
        ControlFlow::Continue(())
    });
    (commands, result)
}

fn decode_one(encoding: Encoding, frame: impl AsRef<[u8]>) -> Command {
    let (mut commands, result) = decode(encoding, frame.as_ref());
    assert_eq!(result, Ok(()), "{}", String::from_utf8_lossy(frame.as_ref()));
    assert_eq!(commands.len(), 1);
    commands.remove(0)
}

fn is_malformed(encoding: Encoding, frame: impl AsRef<[u8]>) {
    let (commands, result) = decode(encoding, frame.as_ref());
    assert_eq!(
        (commands, result),
        (vec![], Err(DecodeError)),
        "{}",
        String::from_utf8_lossy(&frame.as_ref()[..frame.as_ref().len().min(200)])
    );
}

/// Every field of every command: a wrong name or number makes a feature fail for all clients.
fn samples() -> Vec<(&'static str, Command)> {
    let text = str::to_owned;
    let subscribe = SubscribeRequest {
        channel: text("news"),
        token: text("t"),
        recover: true,
        epoch: text("e"),
        offset: u64::MAX,
        data: Bytes::from_static(b"{\"a\": [1, 2]}"),
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: text("fossil"),
        tf: Some(Box::new(FilterNode {
            op: text("and"),
            nodes: vec![
                FilterNode { key: text("k"), cmp: text("eq"), val: text("v"), ..Default::default() },
                FilterNode { key: text("k"), cmp: text("in"), vals: vec![text("a"), text("b")], ..Default::default() },
            ],
            ..Default::default()
        })),
        flag: 3,
        r#type: 1,
        phase: 2,
        cursor: text("c"),
        limit: 100,
        asc: true,
    };
    vec![
        (
            r#"{"id":1,"connect":{"token":"jwt","data":{"x":1},"subs":{"a":{"recover":true,"epoch":"e","offset":5},"b":{}},"name":"js","version":"1.0","headers":{"X-A":"1"},"flag":-9223372036854775808,"dict":"d","profile":"p"}}"#,
            Command {
                id: 1,
                connect: Some(Box::new(ConnectRequest {
                    token: text("jwt"),
                    data: Bytes::from_static(br#"{"x":1}"#),
                    subs: BTreeMap::from([
                        (
                            text("a"),
                            SubscribeRequest { recover: true, epoch: text("e"), offset: 5, ..Default::default() },
                        ),
                        (text("b"), SubscribeRequest::default()),
                    ]),
                    name: text("js"),
                    version: text("1.0"),
                    headers: BTreeMap::from([(text("X-A"), text("1"))]),
                    flag: i64::MIN,
                    dict: text("d"),
                    profile: text("p"),
                })),
                ..Default::default()
            },
        ),
        (
            r#"{"id":4294967295,"subscribe":{"channel":"news","token":"t","recover":true,"epoch":"e","offset":18446744073709551615,"data":{"a": [1, 2]},"positioned":true,"recoverable":true,"join_leave":true,"delta":"fossil","tf":{"op":"and","nodes":[{"key":"k","cmp":"eq","val":"v"},{"key":"k","cmp":"in","vals":["a","b"]}]},"flag":3,"type":1,"phase":2,"cursor":"c","limit":100,"asc":true}}"#,
            Command { id: u32::MAX, subscribe: Some(Box::new(subscribe)), ..Default::default() },
        ),
        (
            r#"{"id":3,"unsubscribe":{"channel":"news"}}"#,
            Command { id: 3, unsubscribe: Some(UnsubscribeRequest { channel: text("news") }), ..Default::default() },
        ),
        (
            r#"{"id":4,"publish":{"channel":"news","data":"text","type":1,"key":"k","removed":true}}"#,
            Command {
                id: 4,
                publish: Some(PublishRequest {
                    channel: text("news"),
                    data: Bytes::from_static(br#""text""#),
                    r#type: 1,
                    key: text("k"),
                    removed: true,
                }),
                ..Default::default()
            },
        ),
        (
            r#"{"id":5,"presence":{"channel":"news"}}"#,
            Command { id: 5, presence: Some(PresenceRequest { channel: text("news") }), ..Default::default() },
        ),
        (
            r#"{"id":6,"presence_stats":{"channel":"news"}}"#,
            Command {
                id: 6,
                presence_stats: Some(PresenceStatsRequest { channel: text("news") }),
                ..Default::default()
            },
        ),
        (
            r#"{"id":7,"history":{"channel":"news","limit":-1,"since":{"offset":2,"epoch":"e"},"reverse":true}}"#,
            Command {
                id: 7,
                history: Some(HistoryRequest {
                    channel: text("news"),
                    limit: -1,
                    since: Some(StreamPosition { offset: 2, epoch: text("e") }),
                    reverse: true,
                }),
                ..Default::default()
            },
        ),
        (r#"{"id":8,"ping":{}}"#, Command { id: 8, ping: Some(PingRequest {}), ..Default::default() }),
        (
            r#"{"send":{"data":[1,null]}}"#,
            Command { send: Some(SendRequest { data: Bytes::from_static(b"[1,null]") }), ..Default::default() },
        ),
        (
            r#"{"id":9,"rpc":{"data":12.50,"method":"sum"}}"#,
            Command {
                id: 9,
                rpc: Some(RpcRequest { data: Bytes::from_static(b"12.50"), method: text("sum") }),
                ..Default::default()
            },
        ),
        (
            r#"{"id":10,"refresh":{"token":"jwt"}}"#,
            Command { id: 10, refresh: Some(RefreshRequest { token: text("jwt") }), ..Default::default() },
        ),
        (
            r#"{"id":11,"sub_refresh":{"channel":"news","token":"jwt","type":1,"track":[{"signature":"s","items":[{"key":"k","version":7}]}],"untrack":["x"]}}"#,
            Command {
                id: 11,
                sub_refresh: Some(SubRefreshRequest {
                    channel: text("news"),
                    token: text("jwt"),
                    r#type: 1,
                    track: vec![TrackBatch {
                        signature: text("s"),
                        items: vec![KeyedItem { key: text("k"), version: 7 }],
                    }],
                    untrack: vec![text("x")],
                }),
                ..Default::default()
            },
        ),
    ]
}

#[test]
fn every_command_in_both_encodings() {
    let (mut lines, mut messages, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for (json, command) in samples() {
        assert_eq!(decode_one(Json, json), command, "{json}");
        let protobuf = command.encode_length_delimited_to_vec();
        assert_eq!(decode_one(Protobuf, &protobuf), command, "{json}");
        lines.push(json);
        messages.extend(protobuf);
        expected.push(command);
    }
    // And all of them in one frame, in order.
    assert_eq!(decode(Json, lines.join("\n")), (expected.clone(), Ok(())));
    assert_eq!(decode(Protobuf, messages), (expected, Ok(())));
}

/// Field numbers and wire types against bytes put together by hand: derived code agrees with itself even when wrong.
#[test]
fn protobuf_by_hand() {
    // id 1, connect (4) of length 0: present although empty.
    let connect = decode_one(Protobuf, [4, 0x08, 1, 0x22, 0]);
    assert_eq!(connect.id, 1);
    assert_eq!(connect.connect, Some(Box::default()));
    // id 2, subscribe (5) { channel (1) "a", offset (7) 300, recoverable (10) true, unknown field 99 }
    let subscribe = decode_one(Protobuf, b"\x11\x08\x02\x2a\x0d\x0a\x01a\x38\xac\x02\x50\x01\x9a\x06\x02xx");
    let request = subscribe.subscribe.unwrap();
    assert_eq!((&*request.channel, request.offset, request.recoverable), ("a", 300, true));
    // send (12) { data (1) any bytes }
    let send = decode_one(Protobuf, b"\x06\x62\x04\x0a\x02\xff\x00");
    assert_eq!(&send.send.unwrap().data[..], b"\xff\x00");
    // Commands of unknown kinds are commands without a request.
    assert_eq!(decode_one(Protobuf, b"\x05\x08\x01\xa2\x01\x00"), Command { id: 1, ..Default::default() });
}

/// Frames as SDKs put them together, odd ones included.
#[test]
fn frames_as_sdks_send_them() {
    // centrifuge-js: connect and subscribes batched, no line feed at the end.
    let (commands, result) = decode(
        Json,
        concat!(
            r#"{"connect":{"name":"js"},"id":1}"#,
            "\n",
            r#"{"subscribe":{"channel":"chat:index","flag":1},"id":2}"#
        ),
    );
    assert_eq!(result, Ok(()));
    assert_eq!(commands[0].connect.as_ref().unwrap().name, "js");
    assert_eq!((commands[1].id, &*commands[1].subscribe.as_ref().unwrap().channel), (2, "chat:index"));
    // A line feed at the end, a CR before it, spaces anywhere.
    for frame in ["{\"id\":1}\n", "{\"id\":1}\r\n", " { \"id\" :\t1 } ", "{\"id\":1} trailing {", "{\"id\":1}{}"] {
        assert_eq!(decode_one(Json, frame), Command { id: 1, ..Default::default() }, "{frame}");
    }
    // Pongs.
    assert_eq!(decode_one(Json, PING_JSON), Command::default());
    assert_eq!(decode_one(Protobuf, PING_PROTOBUF), Command::default());
    assert_eq!(decode(Protobuf, [0, 0]).0.len(), 2);
    // An empty request is a request.
    assert_eq!(decode_one(Json, r#"{"id":1,"connect":{}}"#).connect, Some(Box::default()));
}

/// Unknown keys, other cases and nulls: tolerance that existing clients rely on.
#[test]
fn lenient_where_the_protocol_is() {
    let plain = Command { id: 1, ..Default::default() };
    for frame in [
        r#"{"id":1,"method":{"a":[{}]},"params":null}"#,
        r#"{"ID":1}"#,
        r#"{"\u0069d":1}"#,
        r#"{"id":1,"connect":null,"history":null,"send":null}"#,
    ] {
        assert_eq!(decode_one(Json, frame), plain, "{frame}");
    }
    let command = decode_one(
        Json,
        r#"{"id":null,"Connect":{"TOKEN":"a","token2":1,"data":null,"subs":null,"headers":{"h":null},"flag":null}}"#,
    );
    assert_eq!(command.id, 0);
    let connect = command.connect.unwrap();
    assert_eq!((&*connect.token, connect.subs.len(), &*connect.headers["h"], connect.flag), ("a", 0, "", 0));
    let command = decode_one(
        Json,
        r#"{"subscribe":{"channel":null,"recover":null,"tf":{"nodes":[null,{"vals":["a",null],"nodes":null}]}}}"#,
    );
    let filter = command.subscribe.unwrap().tf.unwrap();
    assert_eq!(filter.nodes[0], FilterNode::default());
    assert_eq!(filter.nodes[1].vals, ["a", ""]);
    let command = decode_one(Json, r#"{"connect":{"subs":{"a":null,"A":{"Offset":1}}}}"#);
    let subs = command.connect.unwrap().subs;
    assert_eq!((subs["a"].offset, subs["A"].offset), (0, 1));
    // The exact key wins over one in another case wherever both are fields.
    assert_eq!(decode_one(Json, "null"), Command::default());
}

/// Payloads come out byte by byte as they went in, or signatures and deltas over them break.
#[test]
fn payloads_are_verbatim() {
    for payload in [
        r#"{ "b" : 1.0e+05,	"a":"\u00e9\/é\ud83d\ude00" , "a":2 }"#,
        r#""\"quoted\" \\""#,
        "-0.0",
        "123456789012345678901234567890.12345678901234567890123",
        "[ ]",
        "false",
        "null",
        r#""\ud800""#,
    ] {
        let frame = format!(r#"{{"publish":{{"channel":"a","data": {payload} }},"id":1}}"#);
        assert_eq!(decode_one(Json, frame).publish.unwrap().data, payload);
    }
}

#[test]
fn strings_are_unescaped() {
    let frame = r#"{"presence":{"channel":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00<\u003c"}}"#;
    assert_eq!(decode_one(Json, frame).presence.unwrap().channel, "\"\\/\u{8}\u{c}\n\r\té😀<<");
    // No valid text, but valid JSON; Go reads it so as well.
    for (escaped, text) in [(r"\ud800", "\u{fffd}"), (r"a\udc00b", "a\u{fffd}b"), (r"\ud800\ud83d\ude00", "\u{fffd}😀")]
    {
        let frame = format!(r#"{{"presence":{{"channel":"{escaped}"}}}}"#);
        assert_eq!(decode_one(Json, frame).presence.unwrap().channel, text, "{escaped}");
    }
}

#[test]
fn malformed_json() {
    #[rustfmt::skip]
    let frames = [
        "", "\n", "\n\n", " ", "{", "}", "[]", "1", "\"a\"", "true", "{\"id\":1", "{\"id\" 1}", "{\"id\":1,}", "{id:1}",
        "\n{\"id\":1}", "\u{feff}{\"id\":1}",
        // Wrong types.
        r#"{"id":"1"}"#, r#"{"id":1.0}"#, r#"{"id":1e0}"#, r#"{"id":-1}"#, r#"{"id":4294967296}"#, r#"{"id":true}"#,
        r#"{"id":[]}"#, r#"{"id":{}}"#, r#"{"connect":[]}"#, r#"{"connect":"x"}"#, r#"{"connect":true}"#,
        r#"{"connect":{"token":1}}"#, r#"{"connect":{"subs":[]}}"#, r#"{"connect":{"subs":{"a":1}}}"#,
        r#"{"connect":{"headers":{"a":1}}}"#, r#"{"connect":{"flag":9223372036854775808}}"#, r#"{"ping":[]}"#,
        r#"{"ping":1}"#, r#"{"subscribe":{"recover":1}}"#, r#"{"subscribe":{"recover":"true"}}"#,
        r#"{"subscribe":{"offset":-1}}"#, r#"{"subscribe":{"offset":18446744073709551616}}"#,
        r#"{"subscribe":{"type":2147483648}}"#, r#"{"subscribe":{"tf":[]}}"#,
        r#"{"subscribe":{"tf":{"vals":"a"}}}"#, r#"{"subscribe":{"tf":{"vals":[1]}}}"#,
        r#"{"subscribe":{"tf":{"nodes":{}}}}"#, r#"{"subscribe":{"tf":{"nodes":[[]]}}}"#,
        r#"{"history":{"since":[1,"e"]}}"#, r#"{"sub_refresh":{"track":[{"items":[[]]}]}}"#,
        // Broken payloads.
        r#"{"send":{"data":}}"#, r#"{"send":{"data":{]}}}"#, r#"{"send":{"data":tru}}"#,
        r#"{"send":{"data":"\uzzzz"}}"#, r#"{"send":{"data":"\x"}}"#, r#"{"send":{"data":01}}"#,
        // Broken even in what is ignored.
        r#"{"x":"\u12"}"#, "{\"x\":\"\t\"}", r#"{"x":[1,]}"#,
    ];
    for frame in frames {
        is_malformed(Json, frame);
    }
    for frame in [
        &b"{\"send\":{\"data\":\"\xff\"}}"[..],
        b"{\"presence\":{\"channel\":\"\xc3\"}}",
        b"\xff",
        b"{\"\xed\xa0\x80\":1}",
    ] {
        is_malformed(Json, frame);
    }
}

#[test]
fn malformed_protobuf() {
    for frame in [
        &b""[..],
        b"\x80",                                         // length cut short
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // length of more than 64 bits
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     // 2^64 - 1 bytes
        b"\x05\x08\x01",                                 // length past the end
        b"\x01\x08",                                     // key without value
        b"\x02\x22\x05",                                 // message longer than its container
        b"\x02\x0a\x00",                                 // id of the wrong wire type
        b"\x02\x20\x01",                                 // connect of the wrong wire type
        b"\x02\x00\x00",                                 // field number 0
        b"\x02\x0f\x00",                                 // wire type 7
        b"\x05\x22\x03\x0a\x01\xff",                     // string that is no text
        b"\x02{}",
    ] {
        is_malformed(Protobuf, frame);
    }
}

/// What came before the malformed command was meant, and upstream carries it out.
#[test]
fn commands_before_a_malformed_one_count() {
    for frame in ["{\"id\":1}\n{\"id\":2}\n{", "{\"id\":1}\n{\"id\":2}\n\n{\"id\":3}", "{\"id\":1}\n{\"id\":2}\n\n"] {
        let (commands, result) = decode(Json, frame);
        assert_eq!(commands.iter().map(|command| command.id).collect::<Vec<_>>(), [1, 2], "{frame}");
        assert_eq!(result, Err(DecodeError));
    }
    let (commands, result) = decode(Json, b"{\"id\":1}\n{\"id\":2}\n{\"\xff\":3}");
    assert_eq!((commands.len(), result), (2, Err(DecodeError)));
    for tail in [&b"\x01"[..], b"\x80", b"\x02\x0a\x00"] {
        let (commands, result) = decode(Protobuf, [b"\x02\x08\x01\x02\x08\x02", tail].concat());
        assert_eq!(commands.iter().map(|command| command.id).collect::<Vec<_>>(), [1, 2], "{tail:?}");
        assert_eq!(result, Err(DecodeError));
    }
}

/// After a disconnect nothing more of the frame may take effect, malformed or not.
#[test]
fn stops_at_a_break() {
    for (encoding, frame) in [(Json, &b"{\"id\":1}\n{\"id\":2}\n{"[..]), (Protobuf, b"\x02\x08\x01\x02\x08\x02\x80")] {
        let mut ids = Vec::new();
        let result = decode_commands(encoding, frame, |command| {
            ids.push(command.id);
            ControlFlow::Break(())
        });
        assert_eq!((ids, result), (vec![1], Ok(())));
    }
}
