//! What answers mean, without a network.

use std::collections::BTreeMap;

use super::*;

const STATE: Request = Request::State(NotifyChannelStateRequest { events: Vec::new() });

fn read(request: Request, body: &str) -> Outcome {
    from_json(&request, body.as_bytes())
}

fn connect_request() -> Request {
    Request::Connect(ConnectRequest::default())
}

fn result(result: BackendResult) -> BackendReply {
    BackendReply::Result(Box::new(result))
}

/// A backend that says both would otherwise let somebody in whom it throws out.
#[test]
fn disconnect_wins_over_error_over_result() {
    let error = r#""error":{"code":403,"message":"no","temporary":true}"#;
    let disconnect = r#""disconnect":{"code":4500,"reason":"bye"}"#;
    let all = format!(r#"{{{error},{disconnect},"result":{{}}}}"#);
    let bye = BackendReply::Disconnect(Disconnect::of_application(4500, "bye".into()));
    assert_eq!(read(connect_request(), &all).unwrap(), bye);
    let no = BackendError { code: 403, message: "no".into(), temporary: true };
    let both = format!(r#"{{{error},"result":{{}}}}"#);
    for request in [
        connect_request(),
        Request::Subscribe(SubscribeRequest::default()),
        Request::Publish(PublishRequest::default()),
        Request::Rpc(RpcRequest::default()),
    ] {
        assert_eq!(read(request.clone(), &both).unwrap(), BackendReply::Error(no.clone()));
        assert_eq!(read(request.clone(), "{}").unwrap(), BackendReply::NoResult);
        assert!(matches!(read(request, r#"{"result":{}}"#).unwrap(), BackendReply::Result(_)));
    }
}

/// A backend that prolongs a session, and says something that nobody is told beside it, would see the user thrown out.
#[test]
fn a_result_wins_where_there_is_no_command_to_refuse() {
    let error = r#""error":{"code":403,"message":"no"}"#;
    let disconnect = r#""disconnect":{"code":4500,"reason":"bye"}"#;
    for request in [Request::Refresh(RefreshRequest::default()), Request::SubRefresh(SubRefreshRequest::default())] {
        for beside in [format!("{error},"), format!("{disconnect},"), format!("{error},{disconnect},"), String::new()] {
            let body = format!(r#"{{{beside}"result":{{"expire_at":7}}}}"#);
            let BackendReply::Result(result) = read(request.clone(), &body).unwrap() else { panic!("{body}") };
            let (BackendResult::Refresh(RefreshAnswer { expire_at_s, .. })
            | BackendResult::SubRefresh(SubRefreshAnswer { expire_at_s, .. })) = *result
            else {
                panic!("{body}")
            };
            assert_eq!(expire_at_s, 7);
        }
        let read = |body: String| read(request.clone(), &body).unwrap();
        assert!(matches!(read(format!(r#"{{{error},"result":null}}"#)), BackendReply::Error(_)));
        assert!(matches!(read(format!("{{{error},{disconnect}}}")), BackendReply::Disconnect(_)));
        assert_eq!(read("{}".into()), BackendReply::NoResult);
    }
}

/// Credentials and options have to arrive as the backend gave them; a payload twice is the one in base64.
#[test]
fn connect_results() {
    let body = r#"{"result":{"user":"u","expire_at":7,"info":{"n":1},"b64info":"AAE=","data":[1],"meta":{"k":"v"},
        "channels":["a"],"subs":{"b":{"b64data":"A\r\nA==","cache_recover":true,
        "override":{"presence":{"value":false},"force_recovery":{"value":true}}}}}}"#;
    let sub = SubscribeAnswer {
        data: Bytes::from_static(b"\0"),
        cache_recover: true,
        overrides: Overrides { presence: Some(false), force_recovery: Some(true), ..Overrides::default() },
        ..SubscribeAnswer::default()
    };
    let answer = ConnectAnswer {
        user: "u".into(),
        expire_at_s: 7,
        info: Bytes::from_static(&[0, 1]),
        data: Bytes::from_static(b"[1]"),
        channels: vec!["a".into()],
        subs: BTreeMap::from([("b".into(), sub)]),
        meta: Bytes::from_static(br#"{"k":"v"}"#),
    };
    assert_eq!(read(connect_request(), body).unwrap(), result(BackendResult::Connect(answer)));
}

/// Approval without data publishes what the client sent; with both kinds of data the plain one counts, only here.
#[test]
fn publish_results() {
    let request = || Request::Publish(PublishRequest::default());
    let publish = |body: &str| match read(request(), body).unwrap() {
        BackendReply::Result(result) => match *result {
            BackendResult::Publish(answer) => answer,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(publish(r#"{"result":{}}"#), PublishAnswer::default());
    assert_eq!(publish(r#"{"result":{"data":null}}"#).data.as_deref(), Some(&b"null"[..]));
    assert_eq!(publish(r#"{"result":{"data":1,"b64data":"!!"}}"#).data.as_deref(), Some(&b"1"[..]));
    assert_eq!(publish(r#"{"result":{"b64data":"AQ=="}}"#).data.as_deref(), Some(&[1][..]));
    let body = r#"{"result":{"skip_history":true,"tags":{"a":"b"},"idempotency_key":"i","delta":true,"version":3,
        "version_epoch":"e"}}"#;
    let answer = PublishAnswer {
        data: None,
        skip_history: true,
        tags: BTreeMap::from([("a".into(), "b".into())]),
        idempotency_key: "i".into(),
        delta: true,
        version: 3,
        version_epoch: "e".into(),
    };
    assert_eq!(publish(body), answer);
}

/// What is absent keeps its value, so it must not look like an empty one.
#[test]
fn refresh_results() {
    let refresh = |body| read(Request::Refresh(RefreshRequest::default()), body).unwrap();
    let answer = RefreshAnswer { expire_at_s: 5, ..RefreshAnswer::default() };
    assert_eq!(refresh(r#"{"result":{"expire_at":5}}"#), result(BackendResult::Refresh(answer)));
    let answer = RefreshAnswer {
        is_expired: true,
        expire_at_s: 0,
        info: Some(Bytes::from_static(b"{}")),
        meta: Some(Bytes::from_static(b"null")),
    };
    let body = r#"{"result":{"expired":true,"info":{},"meta":null}}"#;
    assert_eq!(refresh(body), result(BackendResult::Refresh(answer)));
    let body = r#"{"result":{"expired":true,"expire_at":9,"b64info":"AQ=="}}"#;
    let answer = SubRefreshAnswer { is_expired: true, expire_at_s: 9, info: Some(Bytes::from_static(&[1])) };
    let reply = read(Request::SubRefresh(SubRefreshRequest::default()), body).unwrap();
    assert_eq!(reply, result(BackendResult::SubRefresh(answer)));
}

/// Calls on nobody's behalf: an error has nowhere to go but to say that the call has failed.
#[test]
fn calls_without_client() {
    let cache_empty = |body| read(Request::CacheEmpty(NotifyCacheEmptyRequest::default()), body);
    let populated = |populated| result(BackendResult::CacheEmpty(populated));
    assert_eq!(cache_empty(r#"{"result":{"populated":true}}"#).unwrap(), populated(true));
    assert_eq!(cache_empty(r#"{"result":{}}"#).unwrap(), populated(false));
    assert_eq!(cache_empty("{}").unwrap(), populated(false));
    assert!(cache_empty(r#"{"error":{"code":1},"result":{"populated":true}}"#).is_err());
    assert_eq!(read(STATE, "{}").unwrap(), BackendReply::NoResult);
    assert_eq!(read(STATE, r#"{"result":{}}"#).unwrap(), BackendReply::NoResult);
    assert!(read(STATE, r#"{"error":{}}"#).is_err());
}

/// Data that cannot be read must not become other data.
#[test]
fn bad_answers_are_failures() {
    for body in ["", "[]", "{", r#"{"result":1}"#, r#"{"result":{"b64data":"!"}}"#, r#"{"result":{"b64data":"AA"}}"#] {
        assert!(read(Request::Rpc(RpcRequest::default()), body).is_err(), "{body}");
    }
    assert!(read(connect_request(), r#"{"result":{"subs":{"a":{"b64info":"-"}}}}"#).is_err());
}

/// Each session with meta would keep the whole answer in memory for as long as it lives: 8 GiB of a million.
#[test]
fn what_is_kept_is_no_part_of_the_answer() {
    use prost::Message as _;
    let is_own = |read: &Bytes, kept: &Bytes| !kept.is_empty() && !read.as_ptr_range().contains(&kept.as_ptr());
    let options = SubscribeOptions { info: "info".into(), ..Default::default() };
    let subs = BTreeMap::from([("a".to_owned(), options)]);
    let result = Some(ConnectResult { meta: "meta".into(), subs, ..Default::default() });
    let read = Bytes::from(ConnectResponse { result, ..Default::default() }.encode_to_vec());
    let reply = connect(ConnectResponse::decode(read.clone()).unwrap()).unwrap();
    let BackendReply::Result(reply) = reply else { panic!("{reply:?}") };
    let BackendResult::Connect(answer) = *reply else { panic!("{reply:?}") };
    assert!(is_own(&read, &answer.meta) && is_own(&read, &answer.subs["a"].info));

    let result = Some(SubscribeResult { info: "info".into(), ..Default::default() });
    let read = Bytes::from(SubscribeResponse { result, ..Default::default() }.encode_to_vec());
    let reply = subscribe(SubscribeResponse::decode(read.clone()).unwrap()).unwrap();
    let BackendReply::Result(reply) = reply else { panic!("{reply:?}") };
    let BackendResult::Subscribe(answer) = *reply else { panic!("{reply:?}") };
    assert!(is_own(&read, &answer.info));

    let result = Some(PublishResult { data: "data".into(), ..Default::default() });
    let read = Bytes::from(PublishResponse { result, ..Default::default() }.encode_to_vec());
    let reply = publish(PublishResponse::decode(read.clone()).unwrap()).unwrap();
    let BackendReply::Result(reply) = reply else { panic!("{reply:?}") };
    let BackendResult::Publish(answer) = *reply else { panic!("{reply:?}") };
    assert!(is_own(&read, &answer.data.expect("data")));
}
