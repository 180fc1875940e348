//! Backends: each that is used must be complete, and each name must be one. What an endpoint must look like is checked
//! where it is taken apart (`settings::proxies`).

use super::super::layers::join;
use super::super::schema::value_at;
use super::{Check, Object, Warning, Wrong, name_of, one_of, wrong};
use crate::config::duration;
use serde_json::Value;

/// Event of a channel, its switch and the option that names its proxy.
const CHANNEL_EVENTS: [(&str, &str, &str); 5] = [
    ("subscribe", "subscribe_proxy_enabled", "subscribe_proxy_name"),
    ("publish", "publish_proxy_enabled", "publish_proxy_name"),
    ("sub_refresh", "sub_refresh_proxy_enabled", "sub_refresh_proxy_name"),
    ("cache_empty", "cache_empty_proxy_enabled", "cache_empty_proxy_name"),
    ("state", "state_proxy_enabled", "state_proxy_name"),
];

/// Longest text of an error or a disconnect: it must fit into a close frame.
const TEXT_BYTES_MAX: usize = 123;

pub(super) fn check(check: &Check<'_>, warnings: &mut Vec<Warning>) -> Result<(), Wrong> {
    for path in ["client.proxy.connect", "client.proxy.refresh"] {
        if check.is_on(&join(path, "enabled")) {
            complete(check, path)?;
        }
    }
    for (path, proxy) in check.items("proxies") {
        proxy_object(&path, proxy, &format!("proxy {:?}", name_of(proxy)))?;
    }
    for (path, options) in sets(check, "channel") {
        for (event, switch, name) in CHANNEL_EVENTS {
            named(check, &path, options, switch, name, &format!("channel.proxy.{event}"))?;
        }
        state(check, &path, options)?;
        let is_cache = options.get("force_recovery_mode").and_then(Value::as_str) == Some("cache");
        if is_on(options, "cache_empty_proxy_enabled") && !is_cache {
            let switch = join(&path, "cache_empty_proxy_enabled");
            warnings.push(Warning::Note(format!("{switch} has no effect without force_recovery_mode cache")));
        }
    }
    sets(check, "rpc")
        .try_for_each(|(path, options)| named(check, &path, options, "proxy_enabled", "proxy_name", "rpc.proxy"))
}

/// Options without a namespace, then those of every namespace, with their paths.
fn sets<'a>(check: &'a Check<'_>, section: &str) -> impl Iterator<Item = (String, &'a Object)> {
    let path = join(section, "without_namespace");
    let without = value_at(check.tree, &path).and_then(Value::as_object);
    without.map(|options| (path, options)).into_iter().chain(check.items(&join(section, "namespaces")))
}

/// The proxy that an option names: known in any case, complete when it is used.
fn named(
    check: &Check<'_>,
    path: &str,
    options: &Object,
    switch: &str,
    name_key: &str,
    default: &str,
) -> Result<(), Wrong> {
    let name = options.get(name_key).and_then(Value::as_str).unwrap_or_default();
    if !matches!(name, "" | "default") {
        return match check.items("proxies").any(|(_, proxy)| name_of(proxy) == name) {
            true => Ok(()),
            false => wrong(join(path, name_key), format!("there is no proxy {name:?} in proxies")),
        };
    }
    if is_on(options, switch) { complete(check, default) } else { Ok(()) }
}

fn complete(check: &Check<'_>, path: &str) -> Result<(), Wrong> {
    match value_at(check.tree, path).and_then(Value::as_object) {
        Some(proxy) => proxy_object(path, proxy, "the proxy"),
        None => Ok(()),
    }
}

fn proxy_object(path: &str, proxy: &Object, what: &str) -> Result<(), Wrong> {
    if proxy.get("endpoint").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let message =
            format!("{what} needs one; write the URL of the backend, such as http://127.0.0.1:3000/centrifugo");
        return wrong(join(path, "endpoint"), message);
    }
    let timeout = proxy.get("timeout").and_then(Value::as_i64).unwrap_or_default();
    if timeout <= 0 {
        return wrong(join(path, "timeout"), format!("{} is no time to answer in; use 1s", duration::format(timeout)));
    }
    let transforms = proxy.get("http").and_then(|http| http.get("status_to_code_transforms")).and_then(Value::as_array);
    for (at, item) in transforms.into_iter().flatten().enumerate() {
        transform(&format!("{path}.http.status_to_code_transforms.[{at}]"), item)?;
    }
    Ok(())
}

fn transform(path: &str, item: &Value) -> Result<(), Wrong> {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_i64).unwrap_or_default();
    if !(100..=999).contains(&number(item, "status_code")) {
        return wrong(join(path, "status_code"), "is no HTTP status");
    }
    let targets = [("to_error", "message"), ("to_disconnect", "reason")];
    let codes = targets.map(|(to, _)| item.get(to).map_or(0, |to| number(to, "code")));
    if let Some(at) = codes.iter().position(|code| !(0..=i64::from(u32::MAX)).contains(code)) {
        return wrong(join(path, &format!("{}.code", targets[at].0)), "is no code");
    }
    match codes {
        [0, 0] => return wrong(path, "needs to_error.code or to_disconnect.code"),
        [0, _] | [_, 0] => {}
        _ => return wrong(path, "has both to_error.code and to_disconnect.code; remove one"),
    }
    for (to, key) in targets {
        let text = item.get(to).and_then(|to| to.get(key)).and_then(Value::as_str).unwrap_or_default();
        if !text.is_ascii() || text.len() > TEXT_BYTES_MAX {
            let message = format!("must be ASCII of at most {TEXT_BYTES_MAX} bytes");
            return wrong(join(path, &format!("{to}.{key}")), message);
        }
    }
    Ok(())
}

/// State events rest on presence that all nodes share.
fn state(check: &Check<'_>, path: &str, options: &Object) -> Result<(), Wrong> {
    for kind in options.get("state_events").and_then(Value::as_array).into_iter().flatten() {
        one_of(&join(path, "state_events"), kind.as_str().unwrap_or_default(), &["occupied", "vacated"])?;
    }
    if !is_on(options, "state_proxy_enabled") {
        return Ok(());
    }
    let switch = join(path, "state_proxy_enabled");
    if !is_on(options, "presence") {
        return wrong(switch, "needs presence: true in the same options, since it tells who is there");
    }
    let section = if check.is_on("presence_manager.enabled") { "presence_manager" } else { "engine" };
    if check.text(&join(section, "type")) != "redis" {
        return wrong(
            switch,
            format!("needs presence in redis, where all nodes see it; set {section}.type to redis, or turn it off"),
        );
    }
    let redis = join(section, "redis.channel_state");
    if check.number(&join(&redis, "vacated_event_delay")) < 0 {
        return wrong(join(&redis, "vacated_event_delay"), "must not be negative");
    }
    Ok(())
}

fn is_on(options: &Object, switch: &str) -> bool {
    options.get(switch).and_then(Value::as_bool).unwrap_or_default()
}
