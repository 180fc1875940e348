//! Option names of older versions, and spellings that documents use: taken for the modern option, with a warning.
//! The modern name wins when both are there. Works on the file's tree before it is compared with the schema.

use super::file::put;
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

/// Old key of a namespace to its present key.
const MOVED_IN_NAMESPACE: [(&str, &str); 1] = [("proxy_cache_empty", "cache_empty_proxy_enabled")];

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
    let namespaces = tree.get_mut("channel").and_then(|channel| channel.get_mut("namespaces"));
    for (at, item) in namespaces.and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        let Some(item) = item.as_object_mut() else { continue };
        for (old, modern) in MOVED_IN_NAMESPACE {
            let Some(value) = item.shift_remove(old) else { continue };
            warnings.push(Warning::OldKey { key: format!("channel.namespaces.[{at}].{old}"), modern });
            item.entry(modern).or_insert(value);
        }
        // Naming the proxy alone used to turn it on.
        if item.contains_key("cache_empty_proxy_name") {
            item.entry("cache_empty_proxy_enabled").or_insert(json!(true));
        }
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
            "namespaces": [{"name": "chat", "proxy_cache_empty": true}],
        }) else {
            unreachable!()
        };
        let mut warnings = Vec::new();
        apply(&mut tree, &mut warnings);
        let expected = json!({
            "client": {"allowed_origins": ["b"], "proxy": {}},
            "log": {"level": "debug"},
            "channel": {"namespaces": [{"name": "chat", "cache_empty_proxy_enabled": true}]},
            "rpc": {"without_namespace": {"proxy_enabled": true}, "proxy": {"endpoint": "e"}},
        });
        assert_eq!(Value::Object(tree), expected);
        assert_eq!(warnings.len(), 6, "{warnings:?}");
    }
}
