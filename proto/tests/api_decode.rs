//! Requests of the server API as existing client libraries spell them, and bodies nobody should send.

use std::collections::BTreeMap;

use gyre_proto::api::{self, DecodeError, Fields};
use gyre_proto::client::{Disconnect, FilterNode, StreamPosition};

fn decoded<T: Fields>(body: impl AsRef<[u8]>) -> T {
    let body = body.as_ref();
    api::decode(body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(body)))
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| text.to_string()).collect()
}

/// A field read wrongly or not at all silently changes what an existing backend's call does.
#[test]
fn publish_has_all_fields() {
    let request: api::PublishRequest = decoded(
        r#"{"channel":"news","data":{"a": [1,  2]},"b64data":"AAE=","skip_history":true,"tags":{"k":"v"},
            "idempotency_key":"i","delta":true,"version":18446744073709551615,"version_epoch":"e"}"#,
    );
    let expected = api::PublishRequest {
        channel: "news".into(),
        data: r#"{"a": [1,  2]}"#.into(),
        b64data: "AAE=".into(),
        skip_history: true,
        tags: BTreeMap::from([("k".into(), "v".into())]),
        idempotency_key: "i".into(),
        delta: true,
        version: u64::MAX,
        version_epoch: "e".into(),
    };
    assert_eq!(request, expected);
}

/// As above.
#[test]
fn broadcast_has_all_fields() {
    let request: api::BroadcastRequest = decoded(
        r#"{"channels":["a","b","a"],"data":"x","b64data":"AAE=","skip_history":true,"tags":{"k":"v"},
            "idempotency_key":"i","delta":true,"version":7,"version_epoch":"e"}"#,
    );
    let expected = api::BroadcastRequest {
        channels: strings(&["a", "b", "a"]),
        data: r#""x""#.into(),
        b64data: "AAE=".into(),
        skip_history: true,
        tags: BTreeMap::from([("k".into(), "v".into())]),
        idempotency_key: "i".into(),
        delta: true,
        version: 7,
        version_epoch: "e".into(),
    };
    assert_eq!(request, expected);
}

/// As above; a missed filter would hit more connections than meant.
#[test]
fn acts_have_all_fields() {
    let filter = FilterNode {
        op: "and".into(),
        nodes: vec![
            FilterNode { key: "k".into(), cmp: "eq".into(), val: "v".into(), ..FilterNode::default() },
            FilterNode { key: "k".into(), cmp: "in".into(), vals: strings(&["1", "2"]), ..FilterNode::default() },
            FilterNode::default(),
        ],
        ..FilterNode::default()
    };
    let filter_text = r#"{"op":"and","nodes":[{"key":"k","cmp":"eq","val":"v"},
        {"key":"k","cmp":"in","vals":["1","2"]},null]}"#;
    let request: api::UnsubscribeRequest = decoded(format!(
        r#"{{"channel":"c","user":"u","client":"x","session":"s","label_filter":{filter_text},"all_users":true}}"#
    ));
    let expected = api::UnsubscribeRequest {
        channel: "c".into(),
        user: "u".into(),
        client: "x".into(),
        session: "s".into(),
        label_filter: Some(filter.clone()),
        all_users: true,
    };
    assert_eq!(request, expected);
    // `reconnect` is what gocent still sends.
    let request: api::DisconnectRequest = decoded(format!(
        r#"{{"user":"u","disconnect":{{"code":4500,"reason":"go","reconnect":true}},"client":"x","whitelist":["w"],
            "session":"s","label_filter":{filter_text},"all_users":true,"reconnect":false}}"#
    ));
    let expected = api::DisconnectRequest {
        user: "u".into(),
        disconnect: Some(Disconnect { code: 4500, reason: "go".into() }),
        client: "x".into(),
        whitelist: strings(&["w"]),
        session: "s".into(),
        label_filter: Some(filter),
        all_users: true,
    };
    assert_eq!(request, expected);
}

#[test]
fn what_is_given_to_connections_has_all_fields() {
    let request: api::SubscribeRequest = decoded(
        r#"{"channel":"c","user":"u","expire_at":-7,"info":{"a": 1},"b64info":"aQ==","client":"x","data":[1],
            "b64data":"ZA==","recover_since":{"offset":3,"epoch":"e"},"override":{"presence":{"value":true},
            "join_leave":{"value":false},"force_recovery":{},"force_positioning":null,
            "force_push_join_leave":{"value":true}},"session":"s",
            "label_filter":{"op":"and"},"all_users":true}"#,
    );
    let value = |value| Some(api::BoolValue { value });
    let filter = Some(FilterNode { op: "and".into(), ..FilterNode::default() });
    let expected = api::SubscribeRequest {
        channel: "c".into(),
        user: "u".into(),
        expire_at: -7,
        info: r#"{"a": 1}"#.into(),
        b64info: "aQ==".into(),
        client: "x".into(),
        data: "[1]".into(),
        b64data: "ZA==".into(),
        recover_since: Some(StreamPosition { offset: 3, epoch: "e".into() }),
        r#override: Some(api::SubscribeOptionOverride {
            presence: value(true),
            join_leave: value(false),
            force_recovery: value(false),
            force_push_join_leave: value(true),
            ..api::SubscribeOptionOverride::default()
        }),
        session: "s".into(),
        label_filter: filter.clone(),
        all_users: true,
    };
    assert_eq!(request, expected);
    let request: api::RefreshRequest = decoded(
        r#"{"user":"u","client":"x","expired":true,"expire_at":1700000000,"info":"i","session":"s",
            "label_filter":{"op":"and"},"all_users":true}"#,
    );
    let expected = api::RefreshRequest {
        user: "u".into(),
        client: "x".into(),
        expired: true,
        expire_at: 1_700_000_000,
        info: r#""i""#.into(),
        session: "s".into(),
        label_filter: filter,
        all_users: true,
    };
    assert_eq!(request, expected);
}

/// As above.
#[test]
fn reads_have_all_fields() {
    let body = r#"{"channel":"c","limit":-1,"since":{"offset":3,"epoch":"e"},"reverse":true}"#;
    let expected = api::HistoryRequest {
        channel: "c".into(),
        limit: -1,
        since: Some(StreamPosition { offset: 3, epoch: "e".into() }),
        reverse: true,
    };
    assert_eq!(decoded::<api::HistoryRequest>(body), expected);
    assert_eq!(decoded::<api::HistoryRemoveRequest>(body).channel, "c");
    assert_eq!(decoded::<api::PresenceRequest>(body).channel, "c");
    assert_eq!(decoded::<api::PresenceStatsRequest>(body).channel, "c");
    assert_eq!(decoded::<api::ChannelsRequest>(r#"{"pattern":"a*"}"#).pattern, "a*");
    assert_eq!(decoded::<api::InfoRequest>(body), api::InfoRequest {});
}

/// Backends written in languages with nulls send them for whatever they do not set; `{}` must not be a 400.
#[test]
fn null_is_absent_except_in_payloads() {
    for body in ["null", " null\n", "{}", "\t{ }\r\n"] {
        assert_eq!(decoded::<api::PublishRequest>(body), api::PublishRequest::default());
        assert_eq!(decoded::<api::BroadcastRequest>(body), api::BroadcastRequest::default());
        assert_eq!(decoded::<api::InfoRequest>(body), api::InfoRequest {});
    }
    let request: api::PublishRequest = decoded(
        r#"{"channel":null,"data":null,"b64data":null,"skip_history":null,"tags":null,"version":null,"delta":null}"#,
    );
    assert_eq!(request, api::PublishRequest { data: "null".into(), ..Default::default() });
    let request: api::BroadcastRequest = decoded(r#"{"channels":null,"tags":{"a":null}}"#);
    assert!(request.channels.is_empty());
    assert_eq!(request.tags, BTreeMap::from([("a".into(), String::new())]));
    assert_eq!(decoded::<api::BroadcastRequest>(r#"{"channels":["a",null]}"#).channels, strings(&["a", ""]));
    let request: api::HistoryRequest = decoded(r#"{"limit":null,"since":null,"reverse":null}"#);
    assert_eq!(request, api::HistoryRequest::default());
    let request: api::HistoryRequest = decoded(r#"{"since":{"offset":null,"epoch":null}}"#);
    assert_eq!(request.since, Some(StreamPosition::default()));
    let request: api::DisconnectRequest = decoded(r#"{"disconnect":null,"whitelist":null,"label_filter":null}"#);
    assert_eq!(request, api::DisconnectRequest::default());
}

/// Backends whose libraries write `Channel`, or a key twice, work with Go's decoder and must go on working.
#[test]
fn keys_match_in_any_case_and_the_last_wins() {
    let request: api::PublishRequest =
        decoded(r#"{"Channel":"a","SKIP_HISTORY":true,"skiphistory":false,"skipHistory":false,"unknown":{"x":[1]}}"#);
    assert_eq!((request.channel.as_str(), request.skip_history), ("a", true));
    for (body, channel) in [
        (r#"{"channel":"a","channel":"b"}"#, "b"),
        (r#"{"channel":"a","CHANNEL":"b"}"#, "b"),
        (r#"{"CHANNEL":"a","channel":"b"}"#, "b"),
        (r#"{"channel":"a","channel":null}"#, "a"),
        (r#"{"ch\u0061nnel":"a","c\u0048annel":"\u0062"}"#, "b"),
    ] {
        assert_eq!(decoded::<api::PublishRequest>(body).channel, channel, "{body}");
    }
    let request: api::PublishRequest = decoded(r#"{"data":1,"data":[2],"tags":{"K":"1","k":"2"}}"#);
    assert_eq!(request.data, "[2]");
    assert_eq!(request.tags.len(), 2);
    let request: api::BroadcastRequest = decoded(r#"{"channels":["a"],"Channels":["b"]}"#);
    assert_eq!(request.channels, strings(&["b"]));
    let request: api::HistoryRequest = decoded(r#"{"Since":{"OFFSET":1,"Epoch":"e"},"since":{"offset":2}}"#);
    assert_eq!(request.since.map(|since| since.offset), Some(2));
}

/// Subscribers get the very text that the backend wrote.
#[test]
fn payloads_are_verbatim() {
    for text in [
        "1",
        "-0.50E+7",
        "true",
        "\"\"",
        "\"a\\u0041\\/\\ud800\"",
        "[ ]",
        "{\"b\":1,\"a\" : [\t1,\r\n2 ]}",
        "\"żółć😀\"",
        "123456789012345678901234567890",
    ] {
        let request: api::PublishRequest = decoded(format!("{{\"data\": \n {text}\t,\"channel\":\"c\"}}"));
        assert_eq!((&*request.data, &*request.channel), (text.as_bytes(), "c"), "{text}");
    }
    assert!(decoded::<api::PublishRequest>(r#"{"channel":"c"}"#).data.is_empty());
}

/// A call that was refused must stay refused, lest a backend's mistake is published.
#[test]
fn wrong_types_fail_the_call() {
    for body in [
        r#"{"channel":5}"#,
        r#"{"channel":["a"]}"#,
        r#"{"channel":{}}"#,
        r#"{"channel":true}"#,
        r#"{"b64data":1}"#,
        r#"{"skip_history":"true"}"#,
        r#"{"skip_history":1}"#,
        r#"{"tags":[]}"#,
        r#"{"tags":"x"}"#,
        r#"{"tags":{"a":1}}"#,
        r#"{"version":"5"}"#,
        r#"{"version":5.0}"#,
        r#"{"version":1e3}"#,
        r#"{"version":-1}"#,
        r#"{"version":true}"#,
        r#"{"version":18446744073709551616}"#,
        r#"{"version":[]}"#,
        r#"{"Version":"5"}"#,
        r#"{"version":1,"version":""}"#,
    ] {
        assert_eq!(api::decode::<api::PublishRequest>(body.as_bytes()), Err(DecodeError), "{body}");
    }
    for body in [
        r#"{"limit":2147483648}"#,
        r#"{"limit":-2147483649}"#,
        r#"{"limit":"1"}"#,
        r#"{"limit":1.5}"#,
        r#"{"since":[]}"#,
        r#"{"since":5}"#,
        r#"{"since":"x"}"#,
        r#"{"since":{"offset":"1"}}"#,
        r#"{"since":{"offset":-1}}"#,
        r#"{"since":{"epoch":1}}"#,
        r#"{"reverse":0}"#,
    ] {
        assert_eq!(api::decode::<api::HistoryRequest>(body.as_bytes()), Err(DecodeError), "{body}");
    }
    assert_eq!(api::decode::<api::SubscribeRequest>(br#"{"override":{"presence":true}}"#), Err(DecodeError));
    for body in [
        r#"{"whitelist":"a"}"#,
        r#"{"whitelist":[1]}"#,
        r#"{"whitelist":{}}"#,
        r#"{"disconnect":4500}"#,
        r#"{"disconnect":{"code":4294967296}}"#,
        r#"{"disconnect":{"reason":null,"code":"1"}}"#,
        r#"{"label_filter":[]}"#,
        r#"{"label_filter":{"nodes":{}}}"#,
        r#"{"label_filter":{"nodes":[[]]}}"#,
        r#"{"label_filter":{"vals":[{}]}}"#,
    ] {
        assert_eq!(api::decode::<api::DisconnectRequest>(body.as_bytes()), Err(DecodeError), "{body}");
    }
}

/// Half a body, or two, must not be taken for a call.
#[test]
fn anything_but_one_object_fails() {
    for body in [
        "",
        " ",
        "\n",
        "[]",
        "[{}]",
        "[\"c\"]",
        "5",
        "\"\"",
        "true",
        "nul",
        "null null",
        "null,",
        "{",
        "}",
        "{}}",
        "{}{}",
        "{} x",
        "{},",
        "{}\0",
        "\0",
        "{\"channel\"}",
        "{\"channel\":}",
        "{\"channel\":\"a\",}",
        "{,}",
        "{channel:\"a\"}",
        "{\"channel\":'a'}",
        "{\"channel\":\"a\" \"data\":1}",
        "{\"channel\":\"a\n\"}",
        "{\"channel\":\"\\x\"}",
        "{\"channel\":\"\\uzzzz\"}",
        "{\"data\":\"\\uzzzz\"}",
        "{\"data\":01}",
        "{\"data\":1.}",
        "{\"data\":NaN}",
        "{\"data\":[1,]}",
        "{\"data\":{\"a\":1,}}",
        "{\"data\":tru}",
        "{\"x\":[}",
        "{\"x\":\"\\u\"}",
        "{}/**/",
        "\u{feff}{}",
        "{\u{a0}}",
    ] {
        assert_eq!(api::decode::<api::PublishRequest>(body.as_bytes()), Err(DecodeError), "{body:?}");
        assert_eq!(api::decode::<api::InfoRequest>(body.as_bytes()), Err(DecodeError), "{body:?}");
    }
}

/// Text in another encoding was published with replacement characters; a 400 would be new.
#[test]
fn broken_text_is_replaced() {
    let request: api::PublishRequest =
        decoded(b"{\"channel\":\"a\xffb\",\"data\":\"\xc3\",\"tags\":{\"\x80\":\"\xe2\x82\"}}");
    assert_eq!(request.channel, "a\u{fffd}b");
    assert_eq!(request.data, "\"\u{fffd}\"");
    assert_eq!(request.tags, BTreeMap::from([("\u{fffd}".into(), "\u{fffd}".into())]));
    let request: api::PublishRequest = decoded(r#"{"channel":"\ud800x\udc00\ud83d\ude00","b64data":"\ud800"}"#);
    assert_eq!(request.channel, "\u{fffd}x\u{fffd}😀");
    assert_eq!(request.b64data, "\u{fffd}");
    assert_eq!(api::decode::<api::PublishRequest>(b"{\xff}"), Err(DecodeError));
}

/// One small body must not take the process down, whatever reads the nested value: payload, unknown key, filter.
#[test]
fn hostile_nesting() {
    for depth in [10, 100, 200, 10_000, 2_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for key in ["data", "unknown", "tags", "channel"] {
                let body = format!("{{\"{key}\":{nested}}}");
                let decoded = api::decode::<api::PublishRequest>(body.as_bytes());
                assert_eq!(decoded.is_ok(), depth <= 100 && ["data", "unknown"].contains(&key), "{key} {depth}");
            }
            assert_eq!(api::decode::<api::InfoRequest>(open.repeat(depth).as_bytes()), Err(DecodeError));
        }
        let filter = format!("{}{{}}{}", "{\"nodes\":[".repeat(depth), "]}".repeat(depth));
        let decoded = api::decode::<api::UnsubscribeRequest>(format!("{{\"label_filter\":{filter}}}").as_bytes());
        assert_eq!(decoded.is_ok(), depth <= 10, "{depth}");
    }
}

/// No cut and no flipped byte of a body may panic.
#[test]
fn mutilated_bodies() {
    let body =
        "{\"channel\":\"a\\u00e9\\ud83d\\ude00ż\",\"data\":{\"a\":[1.5e-3,null,\"\\\"\"]},\"tags\":{\"k\":\"v\"},\
        \"version\":12,\"delta\":true,\"x\":[[],{}]}"
            .as_bytes();
    assert!(api::decode::<api::PublishRequest>(body).is_ok());
    for at in 0..body.len() {
        assert_eq!(api::decode::<api::PublishRequest>(&body[..at]), Err(DecodeError));
        for byte in 0..=255 {
            let mut body = body.to_vec();
            body[at] = byte;
            if let Ok(request) = api::decode::<api::PublishRequest>(&body) {
                let data = &request.data;
                assert!(data.is_empty() || serde_json::from_slice::<serde_json::Value>(data).is_ok());
            }
        }
    }
}
