//! What a node does not start with, and that the text names the place where it can be corrected.

use super::*;
use crate::config::schema::{Field, ROOT};

/// What cannot work is refused with the place.
#[test]
fn contradictions_are_refused() {
    let options = |options: Value| json!({"channel": {"namespaces": [{"name": "first"}, options]}});
    let personal = |presence: bool| {
        json!({
            "client": {"subscribe_to_user_personal_channel": {
                "enabled": true, "single_connection": true, "personal_channel_namespace": "own"
            }},
            "channel": {"namespaces": [{"name": "own", "presence": presence}]}
        })
    };
    load(personal(true), &[], &[]);
    load(
        options(json!({
            "name": "chat", "history_size": 1, "history_ttl": "1s", "force_recovery": true, "auto_cache_recover": true,
            "force_recovery_mode": "cache"
        })),
        &[],
        &[],
    );
    for (file, expected) in [
        (
            options(json!({"name": "chat", "history_size": 1})),
            "channel.namespaces.[1].history_size: namespace \"chat\": is set but history_ttl is not",
        ),
        (options(json!({"name": "chat", "force_recovery": true})), "force_recovery: namespace \"chat\": needs history"),
        (
            options(json!({"name": "chat", "history_size": 1, "history_ttl": "1500ms"})),
            "1.5s is not a whole number of seconds",
        ),
        (options(json!({"name": "chat", "history_size": 1, "history_ttl": "721h"})), "is longer than history_meta_ttl"),
        (options(json!({"name": "chat", "auto_cache_recover": true})), "auto_cache_recover: namespace \"chat\": needs"),
        (
            options(json!({
                "name": "chat", "history_size": 1, "history_ttl": "1s", "force_recovery": true, "auto_cache_recover": true
            })),
            "needs force_recovery and force_recovery_mode cache",
        ),
        (
            json!({"client": {"subscribe_to_user_personal_channel": {"enabled": true, "single_connection": true}}}),
            "single_connection: needs presence in channel.without_namespace",
        ),
        (personal(false), "single_connection: needs presence in"),
        (options(json!({"name": "c"})), "at least two characters"),
        (options(json!({"name": "first"})), "used twice"),
        (options(json!({"name": "chat", "subscription_type": "maps"})), "\"maps\" is unknown; it can be stream"),
        (json!({"client": {"ping_interval": "5s", "pong_timeout": "5s"}}), "client.ping_interval: 5s must be greater"),
        (json!({"client": {"ping_interval": "10"}}), "client.ping_interval: \"10\" has no unit"),
        (json!({"client": {"token": {"audience": "a", "audience_regex": "b"}}}), "cannot be used together"),
        (json!({"client": {"token": {"user_id_claim": "a-b"}}}), "client.token.user_id_claim"),
        (
            json!({"client": {"user_id_http_header": "X User"}}),
            "client.user_id_http_header: \"X User\" is not the name of a header",
        ),
        (
            json!({"client": {"subscribe_to_user_personal_channel": {"enabled": true, "personal_channel_namespace": "none"}}}),
            "there is no namespace \"none\"",
        ),
        (json!({"engine": {"type": "tarantool"}}), "engine.type: \"tarantool\" is unknown; it can be memory, redis"),
        (json!({"http_server": {"tls": {"enabled": true}}}), "TLS is not available"),
        (json!({"gyre": {"cores": "0"}}), "gyre.cores: at least 1 core is needed"),
        (json!({"gyre": {"cores": "numa:0,2-3"}}), "gyre.cores: \"numa:0,2-3\" is neither auto"),
        (json!({"gyre": {"reserved_cores": -1}}), "gyre.reserved_cores: "),
        (
            json!({"health": {"enabled": true, "handler_prefix": "/api/"}}),
            "/api is already taken by http_api.handler_prefix",
        ),
        (json!({"http_server": {"port": "x"}}), "http_server.port: \"x\" is not an integer"),
        (json!({"channel": {"namespaces": "x"}}), "channel.namespaces: expected list of objects but found a string"),
        (json!({"http_server": []}), "http_server: expected object but found a list"),
    ] {
        let message = refused(file, &[]);
        assert!(message.contains(expected), "{message}");
        assert!(message.contains(".json: "), "{message}");
    }
    let message = refused(json!({}), &[("CENTRIFUGO_HEALTH_ENABLED", "yes")]);
    assert_eq!(
        message,
        "environment variable CENTRIFUGO_HEALTH_ENABLED: health.enabled: \"yes\" is neither true nor false"
    );
}

/// What would let through what the operator wanted to be checked must not be missing in silence.
#[test]
fn features_that_are_missed_are_refused() {
    let namespace = |options: Value| {
        let Value::Object(mut options) = options else { unreachable!() };
        options.insert("name".to_owned(), json!("chat"));
        json!({"channel": {"namespaces": [options]}})
    };
    let without = |options: Value| json!({"channel": {"without_namespace": options}});
    for (file, key) in [
        (json!({"http_server": {"internal_port": "9000"}}), "http_server.internal_port"),
        (json!({"http_server": {"internal_port": "http"}}), "http_server.internal_port"),
        (json!({"http_server": {"internal_address": "127.0.0.1"}}), "http_server.internal_address"),
        (json!({"http_server": {"address": "::1", "internal_address": "::"}}), "http_server.internal_address"),
        (json!({"client": {"token": {"jwks_public_endpoint": "https://a"}}}), "client.token.jwks_public_endpoint"),
        (json!({"client": {"token": {"rsa_public_key": "s3cret"}}}), "client.token.rsa_public_key"),
        (
            json!({"client": {"subscription_token": {"enabled": true, "ecdsa_public_key": "s3cret"}}}),
            "client.subscription_token.ecdsa_public_key",
        ),
        (without(json!({"subscription_type": "map"})), "channel.without_namespace.subscription_type"),
        (
            namespace(json!({"subscribe_stream_proxy_enabled": true})),
            "channel.namespaces.[0].subscribe_stream_proxy_enabled",
        ),
        (namespace(json!({"subscription_type": "shared_poll"})), "channel.namespaces.[0].subscription_type"),
    ] {
        let message = refused(file, &[]);
        assert!(message.contains(&format!(".json: {key}: ")), "{message}");
        assert!(message.contains("not available in gyre"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}

/// Configurations that spell out what is the case anyway, or that are switched off, still load.
#[test]
fn what_changes_nothing_is_not_refused() {
    let file = json!({
        "http_server": {"address": "127.0.0.1", "port": 8001, "internal_address": "127.0.0.1", "internal_port": 8001},
        "client": {
            "subscription_token": {"enabled": false, "rsa_public_key": "x"},
            "proxy": {"connect": {"enabled": false, "endpoint": "http://a"}},
        },
        "channel": {"without_namespace": {"subscription_type": "stream", "subscribe_proxy_name": "default"}},
    });
    load(file, &[], &[]);
}

/// Whoever looks into the file for a mistake that a variable or a flag made does not find it.
#[test]
fn mistakes_name_their_source() {
    let file = || json!({"channel": {"namespaces": [{"name": "chat", "history_ttl": "10s", "history_size": 1}]}});
    for (variables, expected) in [
        (("GYRE_CORES", "garbage"), "environment variable GYRE_CORES: gyre.cores: \"garbage\" is neither"),
        (("CENTRIFUGO_ENGINE_TYPE", "tarantool"), "environment variable CENTRIFUGO_ENGINE_TYPE: engine.type: "),
        (
            ("CENTRIFUGO_CHANNEL_NAMESPACES", "[{\"name\":"),
            "environment variable CENTRIFUGO_CHANNEL_NAMESPACES: channel.namespaces: not valid JSON: EOF",
        ),
        (
            ("CENTRIFUGO_CHANNEL_NAMESPACES", "[\"s3cret\"]"),
            "environment variable CENTRIFUGO_CHANNEL_NAMESPACES: channel.namespaces: expected a JSON array of objects",
        ),
        (
            ("CENTRIFUGO_CHANNEL_NAMESPACES", r#"[{"name": "news", "history_size": 1}]"#),
            "environment variable CENTRIFUGO_CHANNEL_NAMESPACES: channel.namespaces.[0].history_size: ",
        ),
        (
            ("CENTRIFUGO_CHANNEL_NAMESPACES", "news chat"),
            "environment variable CENTRIFUGO_CHANNEL_NAMESPACES: channel.namespaces.[2].name: ",
        ),
        (
            ("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_HISTORY_TTL", "1500ms"),
            "environment variable CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_HISTORY_TTL: channel.namespaces.[0].history_ttl: ",
        ),
    ] {
        let message = refused(file(), &[variables]);
        assert!(message.starts_with(expected), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    let flags = sources(&file().to_string(), "json", &[("GYRE_CORES", "2")], &[("gyre.cores", "0")]);
    let message = load_all(flags).unwrap_err().to_string();
    assert_eq!(message, "flag --gyre.cores: at least 1 core is needed");
}

/// A number out of bounds is refused with its key and the bound, whichever option it is.
#[test]
fn numbers_have_bounds() {
    fn numbers(fields: &'static [Field], path: &str, found: &mut Vec<String>) {
        for field in schema::each(fields).filter(|field| field.honoured) {
            let path = layers::join(path, field.name);
            match field.kind {
                schema::Kind::Object(fields) => numbers(fields, &path, found),
                schema::Kind::Int(_) => found.push(path),
                _ => {}
            }
        }
    }
    let mut paths = Vec::new();
    numbers(ROOT, "", &mut paths);
    assert!(paths.len() > 5, "{paths:?}");
    for path in &paths {
        for number in [-1, i64::MAX] {
            if let Err(error) = load_all(sources(&json!({path: number}).to_string(), "json", &[], &[])) {
                let message = error.to_string();
                assert!(message.contains(&format!(".json: {path}: {number} is too ")), "{message}");
            }
        }
    }
    let message = refused(json!({"websocket": {"message_size_limit": -1}}), &[]);
    assert!(message.ends_with(".json: websocket.message_size_limit: -1 is too small, the least is 0"), "{message}");
    let zero = load(json!({}), &[("CENTRIFUGO_WEBSOCKET_MESSAGE_SIZE_LIMIT", "0")], &[]).0;
    assert_eq!(zero.websocket.message_size_limit, 65536);
}

/// Mistakes in what is said about Redis are found where they were made, and only where they matter.
#[test]
fn redis_is_checked_where_it_is_used() {
    let used = |options: Value| json!({"engine": {"type": "redis", "redis": options}});
    let broken = || json!({"address": ["a:1", "redis://u:s3cret/@b"]});
    for (file, expected) in [
        (used(broken()), "engine.redis.address.[1]: expected a port from 1 to 65535"),
        (used(json!({"tls": {"enabled": true, "cert_pem": "x"}})), "engine.redis.tls.key_pem: is needed with cert_pem"),
        (used(json!({"io_timeout": "1us"})), "engine.redis.io_timeout: 1µs is too short"),
        (
            json!({
                "engine": {"type": "redis"}, "broker": {"enabled": true, "type": "redis"},
                "presence_manager": {"enabled": true, "type": "redis", "redis": broken()},
            }),
            "presence_manager.redis.address.[1]: ",
        ),
        (json!({"broker": {"enabled": true, "type": "redis", "redis": broken()}}), "broker.redis.address.[1]: "),
        (json!({"broker": {"enabled": true, "type": "nats"}}), "broker.type: nats is not available in gyre"),
        (
            json!({"presence_manager": {"enabled": true, "type": "redis"}}),
            "presence_manager.type: presence in redis beside a broker in memory is not available",
        ),
        (
            json!({"engine": {"type": "redis"}, "broker": {"enabled": true, "type": "memory"}}),
            "engine.type: presence in redis beside a broker in memory is not available",
        ),
    ] {
        let message = refused(file, &[]);
        assert!(message.contains(&format!(".json: {expected}")), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    load(json!({"engine": {"redis": broken()}, "broker": {"type": "redis", "redis": broken()}}), &[], &[]);
    load(used(json!({"cluster_address": "a:1,b:1"})), &[], &[]);
    load(json!({"broker": {"enabled": true, "type": "redis"}}), &[], &[]);
}

/// Shards in a variable are separated by spaces, and a mistake in one names the variable.
#[test]
fn shards_in_a_variable() {
    let shards = |address: &str| {
        refused(json!({}), &[("CENTRIFUGO_ENGINE_TYPE", "redis"), ("CENTRIFUGO_ENGINE_REDIS_ADDRESS", address)])
    };
    let message = shards("redis://a:6379 redis://:s3cret@b:port");
    let expected = "environment variable CENTRIFUGO_ENGINE_REDIS_ADDRESS: engine.redis.address.[1]: expected a port";
    assert!(message.starts_with(expected), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    assert!(shards(" ").contains("engine.redis.address: is empty"));
}

/// A backend that is not asked lets everybody in, or nobody: what cannot be asked is refused, with its place.
#[test]
fn backends_are_complete() {
    let channel = |options: serde_json::Value| json!({"channel": {"without_namespace": options}});
    let connect = |mut proxy: serde_json::Value| {
        proxy["enabled"] = json!(true);
        json!({"client": {"proxy": {"connect": proxy}}})
    };
    let transform = |transform: serde_json::Value| {
        connect(json!({"endpoint": "http://a", "http": {"status_to_code_transforms": [transform]}}))
    };
    let state = json!({"state_proxy_enabled": true, "presence": true});
    for (file, expected) in [
        (connect(json!({})), "client.proxy.connect.endpoint: the proxy needs one"),
        (connect(json!({"endpoint": "http://a", "timeout": "-1s"})), "client.proxy.connect.timeout: -1s is no time"),
        (channel(json!({"subscribe_proxy_enabled": true})), "channel.proxy.subscribe.endpoint: the proxy needs one"),
        (channel(json!({"publish_proxy_name": "a1"})), "publish_proxy_name: there is no proxy \"a1\" in proxies"),
        (json!({"proxies": [{"name": "a1"}]}), "proxies.[0].endpoint: proxy \"a1\" needs one"),
        (json!({"rpc": {"without_namespace": {"proxy_enabled": true}}}), "rpc.proxy.endpoint: the proxy needs one"),
        (
            json!({"rpc": {"namespaces": [{"name": "a1", "proxy_name": "b"}]}}),
            "rpc.namespaces.[0].proxy_name: there is",
        ),
        (transform(json!({"to_error": {"code": 1}})), "transforms.[0].status_code: is no HTTP status"),
        (transform(json!({"status_code": 404})), "transforms.[0]: needs to_error.code or to_disconnect.code"),
        (
            transform(json!({"status_code": 404, "to_error": {"code": 1}, "to_disconnect": {"code": 1}})),
            "transforms.[0]: has both",
        ),
        (
            transform(json!({"status_code": 404, "to_error": {"code": 1, "message": "ä"}})),
            "to_error.message: must be ASCII",
        ),
        (channel(json!({"state_proxy_enabled": true})), "channel.proxy.state.endpoint: the proxy needs one"),
        (
            json!({"proxies": [{"name": "a1", "endpoint": "http://a"}],
                "channel": {"without_namespace": {"state_proxy_enabled": true, "state_proxy_name": "a1"}}}),
            "state_proxy_enabled: needs presence: true",
        ),
        (
            json!({"channel": {"without_namespace": state, "proxy": {"state": {"endpoint": "http://a"}}}}),
            "state_proxy_enabled: needs presence in redis",
        ),
        (channel(json!({"state_events": ["gone"]})), "state_events: \"gone\" is unknown"),
    ] {
        let message = refused(file, &[]);
        assert!(message.contains(expected), "{message}\nexpected: {expected}");
    }
}
