//! Messages to clients: exactly the members that SDKs index, exactly the bytes that they decode.

#![allow(clippy::unwrap_used)] // in what tests share

use std::collections::BTreeMap;

use bytes::Bytes;
use gyre_proto::Encoding::{Json, Protobuf};
use gyre_proto::client::*;
use gyre_proto::codes;
use prost::Message as _;

fn json(reply: &Reply) -> String {
    let mut out = Vec::new();
    encode_reply(Json, reply, &mut out).unwrap();
    serde_json::from_slice::<serde_json::Value>(&out).unwrap();
    String::from_utf8(out).unwrap()
}

fn info() -> ClientInfo {
    ClientInfo {
        user: "u".into(),
        client: "c".into(),
        conn_info: Bytes::from_static(br#"{"n":1}"#),
        chan_info: Bytes::from_static(b"[2]"),
    }
}

/// A publication with every field set.
fn publication() -> Publication {
    Publication {
        data: Bytes::from_static(b"{\"a\": [1,\n2]}"),
        info: Some(info()),
        offset: u64::MAX,
        tags: BTreeMap::from([("k".into(), "<v>".into()), ("l".into(), "".into())]),
        delta: true,
        channel: "real".into(),
        key: "key".into(),
        removed: true,
        score: i64::MIN,
        epoch: "e".into(),
        version: 3,
    }
}

const PUBLICATION: &str = r#"{"data":{"a": [1,2]},"info":{"user":"u","client":"c","conn_info":{"n":1},"chan_info":[2]},"offset":18446744073709551615,"tags":{"k":"\u003cv\u003e","l":""},"delta":true,"channel":"real","key":"key","removed":true,"score":-9223372036854775808,"epoch":"e","version":3}"#;

fn subscribe_result() -> SubscribeResult {
    SubscribeResult {
        expires: true,
        ttl: 60,
        recoverable: true,
        epoch: "e".into(),
        publications: vec![publication(), Publication::default()],
        recovered: true,
        offset: 7,
        positioned: true,
        data: Bytes::from_static(b"\"d\""),
        was_recovering: true,
        delta: true,
        id: -1,
        r#type: 4,
        phase: 2,
        cursor: "c".into(),
        state: vec![Publication { key: "k".into(), ..Default::default() }],
        publish_debounce: 100,
    }
}

fn subscribe_result_json() -> String {
    format!(
        r#"{{"expires":true,"ttl":60,"recoverable":true,"epoch":"e","publications":[{PUBLICATION},{{}}],"recovered":true,"offset":7,"positioned":true,"data":"d","was_recovering":true,"delta":true,"id":-1,"type":4,"phase":2,"cursor":"c","state":[{{"key":"k"}}],"publish_debounce":100}}"#
    )
}

fn connect() -> Connect {
    Connect {
        client: "c".into(),
        version: "v".into(),
        data: Bytes::from_static(b"{}"),
        subs: vec![ServerSideSubscription { channel: "a\"".into(), result: Some(SubscribeResult::default()) }],
        expires: true,
        ttl: 1,
        ping: 25,
        pong: true,
        session: "s".into(),
        node: "n".into(),
        time: 1_700_000_000_000,
    }
}

/// Replies with every field set and their JSON.
fn replies() -> Vec<(Reply, String)> {
    let text = str::to_owned;
    let connect_result = ConnectResult {
        client: "c".into(),
        version: "v".into(),
        expires: true,
        ttl: 1,
        data: Bytes::from_static(b"{}"),
        subs: vec![ServerSideSubscription { channel: "news".into(), result: Some(subscribe_result()) }],
        ping: 25,
        pong: true,
        session: "s".into(),
        node: "n".into(),
        time: 1_700_000_000_000,
    };
    let presence =
        PresenceResult { presence: BTreeMap::from([("c".into(), info()), ("d".into(), ClientInfo::default())]) };
    let history = HistoryResult { publications: vec![publication()], epoch: "e".into(), offset: 9 };
    let refresh = RefreshResult { client: "c".into(), version: "v".into(), expires: true, ttl: 5 };
    let sub_refresh =
        SubRefreshResult { expires: true, ttl: 5, items: vec![Publication { version: 2, ..Default::default() }] };
    vec![
        (Reply::default(), text("{}")),
        (
            Reply::error(1, codes::Error { code: 100, message: "internal", temporary: true }),
            text(r#"{"id":1,"error":{"code":100,"message":"internal","temporary":true}}"#),
        ),
        (
            Reply::connect(u32::MAX, connect_result),
            format!(
                r#"{{"id":4294967295,"connect":{{"client":"c","version":"v","expires":true,"ttl":1,"data":{{}},"subs":{{"news":{}}},"ping":25,"pong":true,"session":"s","node":"n","time":1700000000000}}}}"#,
                subscribe_result_json()
            ),
        ),
        (Reply::subscribe(2, subscribe_result()), format!(r#"{{"id":2,"subscribe":{}}}"#, subscribe_result_json())),
        (Reply::unsubscribe(3), text(r#"{"id":3,"unsubscribe":{}}"#)),
        (Reply::publish(4), text(r#"{"id":4,"publish":{}}"#)),
        (
            Reply::presence(5, presence),
            text(
                r#"{"id":5,"presence":{"presence":{"c":{"user":"u","client":"c","conn_info":{"n":1},"chan_info":[2]},"d":{"user":"","client":""}}}}"#,
            ),
        ),
        (
            Reply::presence_stats(6, PresenceStatsResult { num_clients: 2, num_users: 1 }),
            text(r#"{"id":6,"presence_stats":{"num_clients":2,"num_users":1}}"#),
        ),
        (
            Reply::history(7, history),
            format!(r#"{{"id":7,"history":{{"publications":[{PUBLICATION}],"epoch":"e","offset":9}}}}"#),
        ),
        (Reply { ping: Some(PingResult {}), ..Default::default() }, text(r#"{"ping":{}}"#)),
        (Reply::rpc(8, RpcResult { data: Bytes::from_static(b" [1]\n") }), text(r#"{"id":8,"rpc":{"data": [1]}}"#)),
        (Reply::refresh(9, refresh), text(r#"{"id":9,"refresh":{"client":"c","version":"v","expires":true,"ttl":5}}"#)),
        (
            Reply::sub_refresh(10, sub_refresh),
            text(r#"{"id":10,"sub_refresh":{"expires":true,"ttl":5,"items":[{"version":2}]}}"#),
        ),
    ]
}

fn pushes() -> Vec<(Push, String)> {
    let text = str::to_owned;
    let on = |push: Push| Push { channel: "news".into(), ..push };
    vec![
        (Push { id: 5, ..Default::default() }, text(r#"{"id":5}"#)),
        (
            on(Push { publication: Some(publication()), ..Default::default() }),
            format!(r#"{{"channel":"news","pub":{PUBLICATION}}}"#),
        ),
        (
            on(Push { publication: Some(Publication::default()), ..Default::default() }),
            text(r#"{"channel":"news","pub":{}}"#),
        ),
        (
            on(Push { join: Some(Join { info: Some(ClientInfo::default()) }), ..Default::default() }),
            text(r#"{"channel":"news","join":{"info":{"user":"","client":""}}}"#),
        ),
        (
            on(Push { leave: Some(Leave { info: None }), ..Default::default() }),
            text(r#"{"channel":"news","leave":{}}"#),
        ),
        (
            on(Push { unsubscribe: Some(Unsubscribe { code: 2500, reason: "r".into() }), ..Default::default() }),
            text(r#"{"channel":"news","unsubscribe":{"code":2500,"reason":"r"}}"#),
        ),
        (
            Push { message: Some(Message { data: Bytes::from_static(b"null") }), ..Default::default() },
            text(r#"{"message":{"data":null}}"#),
        ),
        (
            on(Push {
                subscribe: Some(Subscribe {
                    recoverable: true,
                    epoch: "e".into(),
                    offset: 1,
                    positioned: true,
                    data: Bytes::from_static(b"1"),
                }),
                ..Default::default()
            }),
            text(
                r#"{"channel":"news","subscribe":{"recoverable":true,"epoch":"e","offset":1,"positioned":true,"data":1}}"#,
            ),
        ),
        (
            Push { connect: Some(Box::new(connect())), ..Default::default() },
            text(
                r#"{"connect":{"client":"c","version":"v","data":{},"subs":{"a\"":{}},"expires":true,"ttl":1,"ping":25,"pong":true,"session":"s","node":"n","time":1700000000000}}"#,
            ),
        ),
        (
            Push { disconnect: Some(Disconnect { code: 3000, reason: "r".into() }), ..Default::default() },
            text(r#"{"disconnect":{"code":3000,"reason":"r"}}"#),
        ),
        (
            Push { refresh: Some(Refresh { expires: true, ttl: 3 }), ..Default::default() },
            text(r#"{"refresh":{"expires":true,"ttl":3}}"#),
        ),
    ]
}

#[test]
fn every_reply() {
    for (reply, expected) in replies() {
        assert_eq!(json(&reply), expected);
        let mut out = b"before".to_vec();
        encode_reply(Protobuf, &reply, &mut out).unwrap();
        assert_eq!(out[6..], reply.encode_length_delimited_to_vec());
        assert_eq!(Reply::decode_length_delimited(&out[6..]).unwrap(), reply);
    }
}

#[test]
fn every_push() {
    for (push, expected) in pushes() {
        let reply = Reply::push(push);
        assert_eq!(json(&reply), format!(r#"{{"push":{expected}}}"#));
    }
}

/// An SDK reads the fields of a subscription whose result is empty.
#[test]
fn an_empty_server_side_subscription_is_written() {
    let subs = vec![ServerSideSubscription { channel: "c".into(), result: Some(SubscribeResult::default()) }];
    let result = ConnectResult { subs, ..Default::default() };
    assert_eq!(result.encode_to_vec(), [0x32, 5, 0x0a, 1, b'c', 0x12, 0]);
    assert_eq!(json(&Reply::connect(1, result)), r#"{"id":1,"connect":{"subs":{"c":{}}}}"#);
}

/// Members that SDKs read without asking whether they are there.
#[test]
fn always_present_members() {
    for (reply, expected) in [
        (Reply::presence(1, Default::default()), r#"{"id":1,"presence":{"presence":{}}}"#),
        (Reply::presence_stats(1, Default::default()), r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#),
        (Reply::history(1, Default::default()), r#"{"id":1,"history":{"publications":[],"epoch":"","offset":0}}"#),
        (Reply::connect(1, Default::default()), r#"{"id":1,"connect":{}}"#),
        (Reply::subscribe(1, Default::default()), r#"{"id":1,"subscribe":{}}"#),
        (Reply::rpc(1, Default::default()), r#"{"id":1,"rpc":{}}"#),
        (Reply::refresh(1, Default::default()), r#"{"id":1,"refresh":{}}"#),
        (Reply::sub_refresh(1, Default::default()), r#"{"id":1,"sub_refresh":{}}"#),
    ] {
        assert_eq!(json(&reply), expected);
    }
}

/// The pushes of the fan-out are written by other code than replies; no client may tell.
#[test]
fn fan_out_pushes_are_ordinary_replies() {
    let long = Publication { data: Bytes::from(format!("\"{}\"", "x".repeat(70_000))), ..Default::default() };
    let anonymous = ClientInfo::default();
    for channel in ["", "news", &"long".repeat(60), "q\"<\u{2028}é"] {
        for encoding in [Json, Protobuf] {
            let same = |expected: Push, out: Vec<u8>| {
                let mut reply = b"[".to_vec();
                encode_reply(encoding, &Reply::push(expected), &mut reply).unwrap();
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&reply));
                assert_eq!(out, reply);
            };
            for publication in [publication(), Publication::default(), long.clone()] {
                let mut out = b"[".to_vec();
                encode_publication_push(encoding, channel, &publication, &mut out).unwrap();
                if encoding == Protobuf {
                    let push = Reply::decode_length_delimited(&out[1..]).unwrap().push.unwrap();
                    assert_eq!((&*push.channel, push.publication.as_ref()), (channel, Some(&publication)));
                }
                same(Push { channel: channel.into(), publication: Some(publication), ..Default::default() }, out);
            }
            for info in [info(), anonymous.clone()] {
                let (mut join, mut leave) = (b"[".to_vec(), b"[".to_vec());
                encode_join_push(encoding, channel, &info, &mut join).unwrap();
                encode_leave_push(encoding, channel, &info, &mut leave).unwrap();
                let info = Some(info);
                let expected = Join { info: info.clone() };
                same(Push { channel: channel.into(), join: Some(expected), ..Default::default() }, join);
                same(Push { channel: channel.into(), leave: Some(Leave { info }), ..Default::default() }, leave);
            }
        }
    }
}

/// Field numbers against bytes put together by hand: derived code agrees with itself even when wrong.
#[test]
fn protobuf_by_hand() {
    let mut out = Vec::new();
    let publication = Publication { data: Bytes::from_static(b"\xff"), offset: 1, score: -1, ..Default::default() };
    encode_publication_push(Protobuf, "ab", &publication, &mut out).unwrap();
    assert_eq!(out, b"\x0f\x22\x0d\x12\x02ab\x22\x07\x22\x01\xff\x30\x01\x68\x01");
    out.clear();
    encode_reply(Protobuf, &Reply::unsubscribe(3), &mut out).unwrap();
    assert_eq!(out, b"\x04\x08\x03\x3a\x00");
    out.clear();
    encode_reply(Protobuf, &Reply::default(), &mut out).unwrap();
    assert_eq!(out, PING_PROTOBUF);
    out.clear();
    encode_reply(Json, &Reply::default(), &mut out).unwrap();
    assert_eq!(out, PING_JSON);
}

/// A payload that is not JSON costs its receiver the connection, but must not leave half a message in the buffer.
#[test]
fn broken_payloads_leave_no_trace() {
    for data in [&b"\xff\x00"[..], b"{", b"text", b"1 2", b"\n", b"\"\xc3\"", br#""\u00g0""#, br#"{}},"error":{}"#] {
        let data = Bytes::copy_from_slice(data);
        let publication = Publication { data: data.clone(), ..Default::default() };
        let info = ClientInfo { chan_info: data.clone(), ..Default::default() };
        let replies = [
            Reply::rpc(1, RpcResult { data: data.clone() }),
            Reply::connect(1, ConnectResult { data: data.clone(), ..Default::default() }),
            Reply::history(
                1,
                HistoryResult { publications: vec![Publication::default(), publication.clone()], ..Default::default() },
            ),
            Reply::presence(1, PresenceResult { presence: BTreeMap::from([("c".into(), info.clone())]) }),
            Reply::push(Push { publication: Some(publication.clone()), ..Default::default() }),
        ];
        let mut out = b"before".to_vec();
        for reply in &replies {
            assert_eq!(encode_reply(Json, reply, &mut out), Err(InappropriateJson));
            assert_eq!(encode_reply(Protobuf, reply, &mut Vec::new()), Ok(()));
        }
        assert_eq!(encode_publication_push(Json, "a", &publication, &mut out), Err(InappropriateJson));
        assert_eq!(encode_join_push(Json, "a", &info, &mut out), Err(InappropriateJson));
        assert_eq!(encode_leave_push(Json, "a", &info, &mut out), Err(InappropriateJson));
        assert_eq!(out, b"before");
    }
}

/// One message is one line, whatever the payload, or the client reads two broken ones.
#[test]
fn messages_hold_no_line_feed() {
    let data = Bytes::from_static(b"\n{\n  \"a\":\r\n\t[\n1,\n2]\n}\n");
    let mut out = Vec::new();
    let publication = Publication { data, ..Default::default() };
    encode_publication_push(Json, "line\nfeed", &publication, &mut out).unwrap();
    let expected = "{\"push\":{\"channel\":\"line\\nfeed\",\"pub\":{\"data\":{  \"a\":\r\t[1,2]}}}}";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
