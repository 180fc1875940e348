//! Results of the server API, byte for byte: which fields are left out when empty, which never.

use std::collections::BTreeMap;

use bytes::Bytes;
use gyre_proto::api::{self, WriteJson};
use gyre_proto::client::{ClientInfo, InappropriateJson, Publication};
use gyre_proto::codes::ApiError;

fn check<R: WriteJson>(result: R, expected: &str) {
    let mut out = b"before".to_vec();
    assert_eq!(api::write_result(&result, &mut out), Ok(()));
    let text = std::str::from_utf8(&out[6..]).expect("UTF-8");
    assert_eq!(text, format!("{{\"result\":{expected}}}"));
    assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
}

fn refused<R: WriteJson>(result: R) {
    let mut out = b"before".to_vec();
    assert_eq!(api::write_result(&result, &mut out), Err(InappropriateJson));
    assert_eq!(out, b"before");
}

fn info(conn_info: &'static [u8]) -> ClientInfo {
    ClientInfo {
        user: "u".into(),
        client: "x".into(),
        conn_info: Bytes::from_static(conn_info),
        chan_info: Bytes::from_static(br#"{"a": 1}"#),
    }
}

/// Client libraries read some fields blindly and take the presence of others for a fact.
#[test]
fn empty_results() {
    check(api::Empty, "{}");
    check(api::PublishResult::default(), "{}");
    check(api::BroadcastResult::default(), "{}");
    check(api::PresenceResult::default(), r#"{"presence":{}}"#);
    check(api::PresenceStatsResult::default(), r#"{"num_clients":0,"num_users":0}"#);
    check(api::HistoryResult::default(), r#"{"publications":[],"epoch":"","offset":0}"#);
    check(api::ChannelsResult::default(), r#"{"channels":{}}"#);
    check(api::InfoResult::default(), "{}");
    check(
        api::InfoResult { nodes: vec![api::NodeResult::default()] },
        r#"{"nodes":[{"uid":"","name":"","version":"","num_clients":0,"num_users":0,"num_channels":0,"num_subs":0}]}"#,
    );
    check(
        api::PresenceResult { presence: BTreeMap::from([("x".into(), ClientInfo::default())]) },
        r#"{"presence":{"x":{"user":"","client":""}}}"#,
    );
    check(
        api::HistoryResult { publications: vec![Publication::default()], ..Default::default() },
        r#"{"publications":[{}],"epoch":"","offset":0}"#,
    );
    check(
        api::ChannelsResult { channels: BTreeMap::from([("a".into(), api::ChannelInfo::default())]) },
        r#"{"channels":{"a":{}}}"#,
    );
}

/// The names are what `cent` and `gocent` look for.
#[test]
fn full_results() {
    check(api::PublishResult { offset: u64::MAX, epoch: "e".into() }, r#"{"offset":18446744073709551615,"epoch":"e"}"#);
    let responses = vec![
        api::PublishResponse::Result(api::PublishResult { offset: 1, epoch: "e".into() }),
        api::PublishResponse::Error(ApiError::UNKNOWN_CHANNEL),
        api::PublishResponse::Result(api::PublishResult::default()),
    ];
    check(
        api::BroadcastResult { responses },
        concat!(
            r#"{"responses":[{"result":{"offset":1,"epoch":"e"}},"#,
            r#"{"error":{"code":102,"message":"unknown channel"}},{"result":{}}]}"#
        ),
    );
    check(
        api::PresenceResult { presence: BTreeMap::from([("x".into(), info(b"1")), ("y".into(), info(b""))]) },
        concat!(
            r#"{"presence":{"x":{"user":"u","client":"x","conn_info":1,"chan_info":{"a": 1}},"#,
            r#""y":{"user":"u","client":"x","chan_info":{"a": 1}}}}"#
        ),
    );
    check(api::PresenceStatsResult { num_clients: 3, num_users: 2 }, r#"{"num_clients":3,"num_users":2}"#);
    let publication = Publication {
        data: Bytes::from_static(b"{\n\"a\":\t1}"),
        info: Some(info(b"")),
        offset: 9,
        tags: BTreeMap::from([("a".into(), "1".into()), ("b\"".into(), String::new())]),
        // None of these belongs to the server API.
        delta: true,
        channel: "c".into(),
        key: "k".into(),
        removed: true,
        score: 1,
        epoch: "e".into(),
        version: 1,
    };
    let result = api::HistoryResult {
        publications: vec![publication, Publication { data: Bytes::from_static(b"null"), ..Default::default() }],
        epoch: "e".into(),
        offset: 10,
    };
    check(
        result,
        concat!(
            "{\"publications\":[{\"data\":{\"a\":\t1},",
            r#""info":{"user":"u","client":"x","chan_info":{"a": 1}},"offset":9,"tags":{"a":"1","b\"":""}},"#,
            r#"{"data":null}],"epoch":"e","offset":10}"#
        ),
    );
    let channels = BTreeMap::from([
        ("a".into(), api::ChannelInfo { num_clients: 1 }),
        ("b".into(), api::ChannelInfo { num_clients: 20 }),
    ]);
    check(api::ChannelsResult { channels }, r#"{"channels":{"a":{"num_clients":1},"b":{"num_clients":20}}}"#);
    let node = api::NodeResult {
        uid: "i".into(),
        name: "host_8000".into(),
        version: "0.1.0 OSS".into(),
        num_clients: 1,
        num_users: 2,
        num_channels: 3,
        uptime: 4,
        metrics: Some(api::Metrics { interval: 60.0, items: BTreeMap::from([("m".into(), 0.5), ("n".into(), 1e21)]) }),
        process: Some(api::Process { cpu: 12.5, rss: 1 << 40 }),
        num_subs: 5,
    };
    check(
        api::InfoResult { nodes: vec![node.clone(), api::NodeResult { metrics: None, process: None, ..node }] },
        concat!(
            r#"{"nodes":[{"uid":"i","name":"host_8000","version":"0.1.0 OSS","num_clients":1,"num_users":2,"#,
            r#""num_channels":3,"uptime":4,"metrics":{"interval":60,"items":{"m":0.5,"n":1000000000000000000000}},"#,
            r#""process":{"cpu":12.5,"rss":1099511627776},"num_subs":5},"#,
            r#"{"uid":"i","name":"host_8000","version":"0.1.0 OSS","num_clients":1,"num_users":2,"#,
            r#""num_channels":3,"uptime":4,"num_subs":5}]}"#
        ),
    );
}

/// Callers tell error from result by the key.
#[test]
fn errors() {
    let mut out = b"before".to_vec();
    api::write_error(ApiError::NOT_FOUND, &mut out);
    assert_eq!(out, br#"before{"error":{"code":104,"message":"not found"}}"#);
    out.clear();
    api::write_bare_error(ApiError::BAD_REQUEST, &mut out);
    assert_eq!(out, br#"{"code":107,"message":"bad request"}"#);
}

/// A channel or user name is the peer's choice: it must not break out of its string.
#[test]
fn names_are_escaped() {
    let channels = BTreeMap::from([("</script>\"\\\n\u{2028}".into(), api::ChannelInfo { num_clients: 1 })]);
    check(api::ChannelsResult { channels }, r#"{"channels":{"\u003c/script\u003e\"\\\n\u2028":{"num_clients":1}}}"#);
}

/// A binary payload fails the call as a whole, rather than breaking the caller's parser.
#[test]
fn payloads_that_are_not_json() {
    for bad in [&b"\x00\xff"[..], b"{", b"1 2", b"\"\xff\"", b"}"] {
        let publication = Publication { data: Bytes::copy_from_slice(bad), ..Default::default() };
        let publications = vec![Publication::default(), publication];
        refused(api::HistoryResult { publications, ..Default::default() });
        let member = ClientInfo { conn_info: Bytes::copy_from_slice(bad), ..Default::default() };
        refused(api::PresenceResult { presence: BTreeMap::from([("x".into(), member.clone())]) });
        let publication = Publication { info: Some(member), ..Default::default() };
        refused(api::HistoryResult { publications: vec![publication], ..Default::default() });
    }
    let metrics = api::Metrics { interval: f64::NAN, ..Default::default() };
    refused(api::InfoResult { nodes: vec![api::NodeResult { metrics: Some(metrics), ..Default::default() }] });
}
