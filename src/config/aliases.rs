//! Option names of older versions, and spellings that documents use: taken for the modern option, with a warning; where
//! there is none, the warning says what to do.
//! The modern name wins when both are there. Works on the file's tree before it is compared with the schema.

use super::convert::is_zero;
use super::file::put;
use super::layers::join;
use super::{Object, Warning};
use serde_json::{Value, json};

/// Old path to present path. Entries with a longer old path come before those they are part of.
const MOVED: [(&str, &str); 12] = [
    ("log_level", "log.level"),
    ("client_insecure", "client.insecure"),
    ("allowed_origins", "client.allowed_origins"),
    ("redis_prefix", "engine.redis.prefix"),
    ("http3", "http_server.http3.enabled"),
    ("proxy_cache_empty_endpoint", "channel.proxy.cache_empty.endpoint"),
    ("proxy_cache_empty_timeout", "channel.proxy.cache_empty.timeout"),
    ("proxy_cache_empty", "channel.without_namespace.cache_empty_proxy_enabled"),
    ("namespaces", "channel.namespaces"),
    ("rpc_namespaces", "rpc.namespaces"),
    ("client.proxy.rpc.enabled", "rpc.without_namespace.proxy_enabled"),
    ("client.proxy.rpc", "rpc.proxy"),
];

/// Old key of a namespace, or of the options without one, to its present key.
const MOVED_IN_NAMESPACE: [(&str, &str); 2] =
    [("proxy_cache_empty", "cache_empty_proxy_enabled"), ("publish", "allow_publish_for_subscriber")];

const NO_SOCKJS: &str = "SockJS is not supported; use WebSocket";
/// Proxies that a namespace can have for itself.
const PRIVATE_PROXIES: [&str; 5] = ["subscribe", "publish", "sub_refresh", "cache_empty", "state"];

const NO_PRIVATE_PROXY: &str =
    "a namespace's own proxy can be subscribe, publish, sub_refresh, cache_empty or state, and is an object";

pub(super) fn apply(tree: &mut Object, warnings: &mut Vec<Warning>) {
    for (old, modern) in MOVED {
        let old_path: Vec<&str> = old.split('.').collect();
        let Some(value) = take(tree, &old_path) else { continue };
        warnings.push(Warning::OldKey { key: old.to_owned(), modern });
        let modern_path: Vec<&str> = modern.split('.').collect();
        if look(tree, &modern_path).is_none() {
            put(tree, &modern_path, value);
        }
    }
    tree.retain(|key, _| {
        let is_gone = key.starts_with("sockjs");
        if is_gone {
            warnings.push(Warning::GoneKey { key: key.clone(), advice: NO_SOCKJS });
        }
        !is_gone
    });
    let mut proxies = Vec::new();
    apply_to_channel(tree, warnings, &mut proxies);
    if !proxies.is_empty()
        && let Some(list) = tree.entry("proxies").or_insert_with(|| json!([])).as_array_mut()
    {
        list.extend(proxies);
    }
}

fn apply_to_channel(tree: &mut Object, warnings: &mut Vec<Warning>, proxies: &mut Vec<Value>) {
    let Some(channel) = tree.get_mut("channel").and_then(Value::as_object_mut) else { return };
    if let Some(options) = channel.get_mut("without_namespace").and_then(Value::as_object_mut) {
        apply_to_options(options, "channel.without_namespace", warnings);
        take_private_proxies(options, "channel.without_namespace", "without_namespace", warnings, proxies);
    }
    let namespaces = channel.get_mut("namespaces").and_then(Value::as_array_mut);
    for (at, item) in namespaces.into_iter().flatten().enumerate() {
        if let Some(options) = item.as_object_mut() {
            let path = format!("channel.namespaces.[{at}]");
            apply_to_options(options, &path, warnings);
            let name = options.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            take_private_proxies(options, &path, &name, warnings, proxies);
        }
    }
}

fn apply_to_options(options: &mut Object, path: &str, warnings: &mut Vec<Warning>) {
    for (old, modern) in MOVED_IN_NAMESPACE {
        let Some(value) = options.shift_remove(old) else { continue };
        warnings.push(Warning::OldKey { key: join(path, old), modern });
        options.entry(modern).or_insert(value);
    }
    // Naming the proxy alone used to turn it on.
    if options.contains_key("cache_empty_proxy_name") {
        options.entry("cache_empty_proxy_enabled").or_insert(json!(true));
    }
}

/// A namespace's own proxies become named ones, `<namespace>.<event>`, that it uses.
fn take_private_proxies(
    options: &mut Object,
    path: &str,
    namespace: &str,
    warnings: &mut Vec<Warning>,
    proxies: &mut Vec<Value>,
) {
    let Some(own) = options.shift_remove("proxy") else { return };
    let path = join(path, "proxy");
    let Value::Object(own) = own else {
        return warnings.push(Warning::GoneKey { key: path, advice: NO_PRIVATE_PROXY });
    };
    for (event, proxy) in own {
        let key = join(&path, &event);
        let (true, Value::Object(mut proxy)) = (PRIVATE_PROXIES.contains(&&*event), proxy) else {
            warnings.push(Warning::GoneKey { key, advice: NO_PRIVATE_PROXY });
            continue;
        };
        let is_off = |enabled: &Value| is_zero(enabled) || *enabled == json!("false");
        let is_on = proxy.shift_remove("enabled").is_none_or(|enabled| !is_off(&enabled));
        let (switch, name_key) = (format!("{event}_proxy_enabled"), format!("{event}_proxy_name"));
        if !is_on || options.contains_key(&name_key) {
            continue;
        }
        let name = format!("{namespace}.{event}");
        warnings.push(Warning::Note(format!("{key} is taken as proxy {name:?}; write it into proxies")));
        proxy.insert("name".to_owned(), json!(name));
        proxies.push(Value::Object(proxy));
        options.entry(switch).or_insert(json!(true));
        options.insert(name_key, json!(name));
    }
}

fn look<'a>(tree: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let [name, rest @ ..] = path else { return None };
    let value = tree.get(*name)?;
    if rest.is_empty() { Some(value) } else { look(value.as_object()?, rest) }
}

fn take(tree: &mut Object, path: &[&str]) -> Option<Value> {
    match path {
        [] => None,
        [name] => tree.shift_remove(*name),
        [name, rest @ ..] => take(tree.get_mut(*name)?.as_object_mut()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_move_and_modern_ones_win() {
        let Value::Object(mut tree) = json!({
            "log_level": "debug",
            "allowed_origins": ["a"],
            "client": {"allowed_origins": ["b"], "proxy": {"rpc": {"enabled": true, "endpoint": "e"}}},
            "namespaces": [{"name": "chat", "proxy_cache_empty": true, "publish": true}],
            "channel": {"without_namespace": {"publish": true, "allow_publish_for_subscriber": false}},
        }) else {
            unreachable!()
        };
        let mut warnings = Vec::new();
        apply(&mut tree, &mut warnings);
        let expected = json!({
            "client": {"allowed_origins": ["b"], "proxy": {}},
            "log": {"level": "debug"},
            "channel": {
                "without_namespace": {"allow_publish_for_subscriber": false},
                "namespaces": [
                    {"name": "chat", "cache_empty_proxy_enabled": true, "allow_publish_for_subscriber": true},
                ],
            },
            "rpc": {"without_namespace": {"proxy_enabled": true}, "proxy": {"endpoint": "e"}},
        });
        assert_eq!(Value::Object(tree), expected);
        assert_eq!(warnings.len(), 8, "{warnings:?}");
    }

    /// Whoever pastes an old snippet is told what became of it.
    #[test]
    fn what_is_gone_is_explained() {
        let Value::Object(mut tree) = json!({
            "sockjs": true, "sockjs_heartbeat_delay": "25s",
            "channel": {"namespaces": [{"name": "chat", "proxy": {"subscribe": true}}]},
        }) else {
            unreachable!()
        };
        let mut warnings = Vec::new();
        apply(&mut tree, &mut warnings);
        assert_eq!(Value::Object(tree), json!({"channel": {"namespaces": [{"name": "chat"}]}}));
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "sockjs is ignored: SockJS is not supported; use WebSocket");
        assert!(texts[1].starts_with("sockjs_heartbeat_delay is ignored"), "{texts:?}");
        assert!(texts[2].starts_with("channel.namespaces.[0].proxy.subscribe is ignored: "), "{texts:?}");
    }

    /// Documents show a proxy inside of the namespace that uses it.
    #[test]
    fn private_proxies_get_a_name() {
        let Value::Object(mut tree) = json!({
            "proxies": [{"name": "other", "endpoint": "http://c"}],
            "channel": {
                "without_namespace": {"proxy": {"publish": {"endpoint": "http://b", "enabled": "false"}}},
                "namespaces": [{"name": "chat", "proxy": {
                    "subscribe": {"enabled": true, "endpoint": "http://a"},
                    "publish": {"enabled": true, "endpoint": "http://b"},
                }, "publish_proxy_name": "other"}],
            },
        }) else {
            unreachable!()
        };
        let mut warnings = Vec::new();
        apply(&mut tree, &mut warnings);
        let expected = json!({
            "proxies": [
                {"name": "other", "endpoint": "http://c"},
                {"name": "chat.subscribe", "endpoint": "http://a"},
            ],
            "channel": {
                "without_namespace": {},
                "namespaces": [{
                    "name": "chat", "publish_proxy_name": "other",
                    "subscribe_proxy_enabled": true, "subscribe_proxy_name": "chat.subscribe",
                }],
            },
        });
        assert_eq!(Value::Object(tree), expected);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
