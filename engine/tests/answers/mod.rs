//! Rules under which a backend decides, and what it may say, by name.

use std::collections::BTreeMap;

use gyre_engine::backend::{
    BackendError, BackendReply, BackendResult, ConnectAnswer, ProxyId, PublishAnswer, RefreshAnswer, SubRefreshAnswer,
    SubscribeAnswer,
};
use gyre_engine::rules::{ChannelOptions, Overrides, Rules};
use gyre_engine::token::{TokenOptions, Verifier};
use gyre_proto::codes::Disconnect;

pub(crate) fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.client.ping_interval_ms = 0;
    rules.client.allow_anonymous_connect_without_token = true;
    rules.proxies.connect = Some(ProxyId(0));
    rules.proxies.keeps_meta = true;
    rules.proxies.emulated_headers = vec!["authorization".into()];
    let options = TokenOptions { insecure_skip_signature_verify: true, ..TokenOptions::default() };
    rules.tokens.connection = Verifier::new(options).expect("good options");
    let open = ChannelOptions { allow_subscribe_for_client: true, ..ChannelOptions::default() };
    let history = ChannelOptions { history_size: 3, history_ttl_s: 60, ..open.clone() };
    let mut asked = ChannelOptions { presence: true, allow_presence_for_client: true, ..history.clone() };
    asked.proxies.subscribe = Some(ProxyId(2));
    asked.proxies.publish = Some(ProxyId(3));
    asked.proxies.sub_refresh = Some(ProxyId(4));
    asked.allow_user_limited_channels = true;
    asked.allow_positioning = true;
    rules.namespaces.insert("live", open);
    rules.namespaces.insert("kept", ChannelOptions { force_recovery: true, ..history.clone() });
    rules.namespaces.insert("ask", asked.clone());
    asked.proxies.sub_refresh = None;
    rules.namespaces.insert("once", asked);
    rules.rpc.namespace_boundary = ":".to_owned();
    rules.rpc.without_namespace = Some(ProxyId(5));
    rules.rpc.namespaces.insert("off".into(), None);
    rules.rpc.ping_method = Some("ping".into());
    rules
}

#[allow(dead_code, reason = "each test uses its own")]
pub(crate) fn prolonged_rules() -> Rules {
    let mut rules = rules();
    rules.proxies.refresh = Some(ProxyId(1));
    rules
}

#[allow(dead_code, reason = "each test uses its own")]
pub(crate) fn strict_rules() -> Rules {
    let mut rules = rules();
    rules.client.allow_anonymous_connect_without_token = false;
    rules
}

fn result(result: BackendResult) -> BackendReply {
    BackendReply::Result(Box::new(result))
}

pub(crate) fn backend(name: &str, now_s: i64) -> BackendReply {
    let user = || ConnectAnswer { user: "42".to_owned(), ..ConnectAnswer::default() };
    let granted = |answer: SubscribeAnswer| result(BackendResult::Subscribe(answer));
    let published = |answer: PublishAnswer| result(BackendResult::Publish(answer));
    let refreshed = |answer: RefreshAnswer| result(BackendResult::Refresh(answer));
    let prolonged = |answer: SubRefreshAnswer| result(BackendResult::SubRefresh(answer));
    match name {
        "failed" => BackendReply::Failed,
        "busy" => BackendReply::Busy,
        "none" => BackendReply::NoResult,
        "disconnect" => BackendReply::Disconnect(Disconnect { code: 4501, reason: "go away".into() }),
        "error" => BackendReply::Error(BackendError { code: 1000, message: "no luck".to_owned(), temporary: true }),
        "user" => result(BackendResult::Connect(user())),
        "nobody" => result(BackendResult::Connect(ConnectAnswer::default())),
        "everything" => {
            let options = SubscribeAnswer {
                data: r#"{"of":"sub"}"#.into(),
                overrides: Overrides { force_recovery: Some(true), ..Overrides::default() },
                ..SubscribeAnswer::default()
            };
            result(BackendResult::Connect(ConnectAnswer {
                expire_at_s: now_s + 10,
                info: r#"{"i":1}"#.into(),
                data: r#"{"hello":1}"#.into(),
                channels: vec!["live:b".to_owned()],
                subs: BTreeMap::from([("live:b".to_owned(), options)]),
                meta: r#"{"m":1}"#.into(),
                ..user()
            }))
        }
        "plain" => result(BackendResult::Connect(ConnectAnswer {
            channels: ["live:a", "", "live:a"].map(str::to_owned).into(),
            ..user()
        })),
        "past" => result(BackendResult::Connect(ConnectAnswer { expire_at_s: now_s - 1, ..user() })),
        "far" => result(BackendResult::Connect(ConnectAnswer { expire_at_s: i64::MAX, ..user() })),
        "stranger" => result(BackendResult::Connect(ConnectAnswer { channels: vec!["nope:x".to_owned()], ..user() })),
        "granted" => granted(SubscribeAnswer {
            expire_at_s: now_s + 10,
            info: r#"{"c":1}"#.into(),
            data: r#"{"d":1}"#.into(),
            ..SubscribeAnswer::default()
        }),
        "positioned" => granted(SubscribeAnswer {
            overrides: Overrides { force_positioning: Some(true), ..Overrides::default() },
            ..SubscribeAnswer::default()
        }),
        "granted-past" => granted(SubscribeAnswer { expire_at_s: now_s - 1, ..SubscribeAnswer::default() }),
        "other" => published(PublishAnswer {
            data: Some("no json".into()),
            skip_history: true,
            tags: BTreeMap::from([("t".to_owned(), "v".to_owned())]),
            ..PublishAnswer::default()
        }),
        "null" => published(PublishAnswer { data: Some("null".into()), ..PublishAnswer::default() }),
        "once" => published(PublishAnswer { idempotency_key: "k".to_owned(), ..PublishAnswer::default() }),
        "v5" => published(PublishAnswer { version: 5, ..PublishAnswer::default() }),
        "go-on" => refreshed(RefreshAnswer {
            expire_at_s: now_s + 20,
            info: Some(r#"{"i":2}"#.into()),
            meta: Some(r#"{"m":2}"#.into()),
            ..RefreshAnswer::default()
        }),
        "go-on-silently" => refreshed(RefreshAnswer { expire_at_s: now_s + 20, ..RefreshAnswer::default() }),
        "go-on-zero" => refreshed(RefreshAnswer::default()),
        "go-on-past" => refreshed(RefreshAnswer { expire_at_s: now_s - 1, ..RefreshAnswer::default() }),
        "expired" => refreshed(RefreshAnswer { is_expired: true, expire_at_s: now_s + 20, ..RefreshAnswer::default() }),
        "sub-on" => prolonged(SubRefreshAnswer {
            expire_at_s: now_s + 100,
            info: Some(r#"{"c":2}"#.into()),
            ..SubRefreshAnswer::default()
        }),
        "sub-zero" => prolonged(SubRefreshAnswer::default()),
        "sub-past" => prolonged(SubRefreshAnswer { expire_at_s: now_s - 1, ..SubRefreshAnswer::default() }),
        "sub-expired" => prolonged(SubRefreshAnswer { is_expired: true, ..SubRefreshAnswer::default() }),
        "said" => result(BackendResult::Rpc(r#"{"r":1}"#.into())),
        "said-nothing" => result(BackendResult::Rpc("".into())),
        _ => panic!("no answer {name}"),
    }
}

#[allow(dead_code, reason = "each test uses its own")]
pub(crate) fn pinging_rules() -> Rules {
    let mut rules = rules();
    rules.client.ping_interval_ms = 25_000;
    rules
}
