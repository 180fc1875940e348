//! Namespaces in cache mode, and what the backend that fills their channels can say.

use gyre_engine::backend::{BackendError, BackendReply, BackendResult, ConnectAnswer, ProxyId, SubscribeAnswer};
use gyre_engine::rules::{ChannelOptions, ChannelProxies, RecoveryMode, Rules};
use gyre_proto::codes::Disconnect;

pub(crate) fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.client.allow_anonymous_connect_without_token = true;
    rules.client.insecure = true;
    rules.client.ping_interval_ms = 0;
    let mut add = |name: &str, options: ChannelOptions| {
        rules.namespaces.insert(name, options);
    };
    let proxies = ChannelProxies { cache_empty: Some(ProxyId(4)), ..ChannelProxies::default() };
    let stream = ChannelOptions { history_size: 3, history_ttl_s: 60, force_recovery: true, ..Default::default() };
    let cache = ChannelOptions { recovery_mode: RecoveryMode::Cache, ..stream.clone() };
    let auto = ChannelOptions { auto_cache_recover: true, ..cache.clone() };
    add("cache", cache.clone());
    add("auto", auto.clone());
    add("ask", ChannelOptions { proxies, presence: true, join_leave: true, ..cache.clone() });
    add("askauto", ChannelOptions { proxies, ..auto });
    add("brief", ChannelOptions { proxies, history_ttl_s: 2, ..cache.clone() });
    add("stream", ChannelOptions { proxies, ..stream });
    add("plain", ChannelOptions { proxies, history_size: 0, force_recovery: false, allow_recovery: true, ..cache });
    rules
}

pub(crate) fn backend(name: &str, _now_s: i64) -> BackendReply {
    let populated = |it| BackendReply::Result(Box::new(BackendResult::CacheEmpty(it)));
    match name {
        "populated" => populated(true),
        "not" => populated(false),
        "fails" => BackendReply::Failed,
        "refuses" => BackendReply::Error(BackendError { code: 4000, ..BackendError::default() }),
        "closes" => BackendReply::Disconnect(Disconnect::FORCE_DISCONNECT),
        "latest" => {
            let options = SubscribeAnswer { cache_recover: true, ..SubscribeAnswer::default() };
            let subs = ["ask:x", "stream:x"].map(|channel| (channel.to_owned(), options.clone())).into();
            BackendReply::Result(Box::new(BackendResult::Connect(ConnectAnswer { subs, ..Default::default() })))
        }
        "allowed" => BackendReply::Result(Box::new(BackendResult::Subscribe(SubscribeAnswer::default()))),
        _ => panic!("no answer {name}"),
    }
}
