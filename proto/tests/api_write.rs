//! Results of the server API, byte for byte: which fields are left out when empty, which never.

use std::collections::BTreeMap;

use bytes::Bytes;
use gyre_proto::api::{self, WriteJson};
use gyre_proto::api::{ClientInfo, Publication};
use gyre_proto::client::InappropriateJson;
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

fn published(result: api::PublishResult) -> api::PublishResponse {
    api::PublishResponse { error: None, result: Some(result) }
}

/// Client libraries read some fields blindly and take the presence of others for a fact.
#[test]
fn empty_results() {
    check(api::SubscribeResult {}, "{}");
    check(api::UnsubscribeResult {}, "{}");
    check(api::DisconnectResult {}, "{}");
    check(api::RefreshResult {}, "{}");
    check(api::HistoryRemoveResult {}, "{}");
    check(api::UpdateUserStatusResult {}, "{}");
    check(api::DeleteUserStatusResult {}, "{}");
    check(api::RpcResult::default(), "{}");
    check(api::GetUserStatusResult::default(), r#"{"statuses":[]}"#);
    check(api::BatchResponse::default(), "{}");
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
        published(api::PublishResult { offset: 1, epoch: "e".into() }),
        api::PublishResponse { error: Some(ApiError::UNKNOWN_CHANNEL.into()), result: None },
        published(api::PublishResult::default()),
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

/// Backends that show who is away would show nobody, or everybody.
#[test]
fn user_statuses() {
    let known =
        api::UserStatus { user: "u".into(), active: 1_700_000_000, online: 1_700_000_010, state: "busy".into() };
    let unknown = api::UserStatus { user: "x".into(), ..Default::default() };
    check(
        api::GetUserStatusResult { statuses: vec![known, unknown] },
        concat!(
            r#"{"statuses":[{"user":"u","active":1700000000,"online":1700000010,"state":"busy"},"#,
            r#"{"user":"x"}]}"#
        ),
    );
    check(api::RpcResult { data: Bytes::from_static(b"[1]") }, r#"{"data":[1]}"#);
}

fn replies() -> Vec<api::Reply> {
    vec![
        api::Reply {
            publish: Some(Box::new(api::PublishResult { offset: 1, epoch: "e".into() })),
            ..Default::default()
        },
        api::Reply { error: Some(Box::new(ApiError::NOT_FOUND.into())), ..Default::default() },
        api::Reply { presence_stats: Some(Box::default()), ..Default::default() },
        api::Reply { delete_user_status: Some(Box::default()), ..Default::default() },
    ]
}

/// `cent` looks for the name of the method it asked for, and raises when it is missing.
#[test]
fn replies_of_a_batch() {
    let mut out = Vec::new();
    assert_eq!(api::BatchResponse { replies: replies() }.write_json(&mut out), Ok(()));
    let expected = concat!(
        r#"{"replies":[{"publish":{"offset":1,"epoch":"e"}},{"error":{"code":104,"message":"not found"}},"#,
        r#"{"presence_stats":{"num_clients":0,"num_users":0}},{"delete_user_status":{}}]}"#
    );
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

/// `gocent` knows no other replies.
#[test]
fn replies_of_before_batches() {
    let mut out = b"before".to_vec();
    for (id, reply) in [7, 0, u32::MAX].into_iter().zip(replies()) {
        assert_eq!(api::write_legacy_reply(id, &reply, &mut out), Ok(()));
    }
    let expected = concat!(
        r#"before{"id":7,"result":{"offset":1,"epoch":"e"}}{"error":{"code":104,"message":"not found"}}"#,
        r#"{"id":4294967295,"result":{"num_clients":0,"num_users":0}}"#
    );
    assert_eq!(String::from_utf8_lossy(&out), expected);
    let binary =
        api::Reply { rpc: Some(Box::new(api::RpcResult { data: Bytes::from_static(b"\xff") })), ..Default::default() };
    assert_eq!(api::write_legacy_reply(1, &binary, &mut out), Err(InappropriateJson));
    assert_eq!(String::from_utf8_lossy(&out), expected, "nothing is left of it");
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
