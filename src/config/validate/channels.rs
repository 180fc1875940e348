//! Options of namespaces: each alone, against each other, and against what refers to the namespace.

use super::super::layers::join;
use super::unavailable::HERE;
use super::{Check, DATA_FORMATS, Object, Wrong, check_name, name_of, one_of, wrong};
use crate::config::duration;
use serde_json::Value;

/// A meta TTL and every history TTL are kept in seconds.
const SECOND: i64 = 1_000_000_000;

pub(super) fn check(check: &Check<'_>) -> Result<(), Wrong> {
    let meta_ttl = check.number("channel.history_meta_ttl");
    whole_seconds("channel.history_meta_ttl", meta_ttl)?;
    let without = check.tree.get("channel").and_then(|channel| channel.get("without_namespace"));
    if let Some(options) = without.and_then(Value::as_object) {
        Options { options, path: "channel.without_namespace", place: String::new(), meta_ttl }.check()?;
    }
    let mut seen = Vec::new();
    for (path, options) in check.items("channel.namespaces") {
        let name = name_of(options);
        check_name(&join(&path, "name"), name, "-_.", &mut seen)?;
        Options { options, path: &path, place: format!("namespace {name:?}: "), meta_ttl }.check()?;
    }
    personal_channel(check)
}

fn personal_channel(check: &Check<'_>) -> Result<(), Wrong> {
    const PATH: &str = "client.subscribe_to_user_personal_channel";
    if !check.is_on(&join(PATH, "enabled")) {
        return Ok(());
    }
    let name = check.text(&join(PATH, "personal_channel_namespace"));
    let namespace =
        check.items("channel.namespaces").map(|(_, options)| options).find(|options| name_of(options) == name);
    let has_presence = match namespace {
        _ if name.is_empty() => check.is_on("channel.without_namespace.presence"),
        Some(options) => options.get("presence") == Some(&Value::Bool(true)),
        None => return wrong(join(PATH, "personal_channel_namespace"), format!("there is no namespace {name:?}")),
    };
    let place = if name.is_empty() { "channel.without_namespace".to_owned() } else { format!("namespace {name:?}") };
    if check.is_on(&join(PATH, "single_connection")) && !has_presence {
        return wrong(join(PATH, "single_connection"), format!("needs presence in {place}"));
    }
    Ok(())
}

/// One set of channel options.
struct Options<'a> {
    options: &'a Object,
    path: &'a str,
    /// Names the namespace in messages.
    place: String,
    meta_ttl: i64,
}

impl Options<'_> {
    fn check(&self) -> Result<(), Wrong> {
        let modes = ["", "stream", "map", "map_clients", "map_users", "shared_poll"];
        one_of(&join(self.path, "subscription_type"), self.text("subscription_type"), &modes)?;
        one_of(&join(self.path, "force_recovery_mode"), self.text("force_recovery_mode"), &["", "stream", "cache"])?;
        one_of(&join(self.path, "publication_data_format"), self.text("publication_data_format"), DATA_FORMATS)?;
        for delta in self.options.get("allowed_delta_types").and_then(Value::as_array).into_iter().flatten() {
            one_of(&join(self.path, "allowed_delta_types"), delta.as_str().unwrap_or_default(), &["fossil"])?;
        }
        self.history()?;
        if self.is_on("auto_cache_recover")
            && !(self.is_on("force_recovery") && self.text("force_recovery_mode") == "cache")
        {
            return self.wrong("auto_cache_recover", "needs force_recovery and force_recovery_mode cache");
        }
        let others = ["subscribe_proxy_enabled", "publish_proxy_enabled", "sub_refresh_proxy_enabled"];
        match others.iter().find(|other| self.is_on("subscribe_stream_proxy_enabled") && self.is_on(other)) {
            Some(other) => {
                self.wrong("subscribe_stream_proxy_enabled", &format!("cannot be used together with {other}"))
            }
            None => self.not_available(),
        }
    }

    /// Without its proxy, or as a plain stream, a channel would be open to whom its operator wanted to check.
    fn not_available(&self) -> Result<(), Wrong> {
        const STREAM: &str = "subscribe_stream_proxy_enabled";
        if self.is_on(STREAM) {
            return self.wrong(
                STREAM,
                &format!("a stream from a backend is {HERE}; turn it off and use subscribe_proxy_enabled"),
            );
        }
        match self.text("subscription_type") {
            "" | "stream" => Ok(()),
            word => self.wrong("subscription_type", &format!("{word} is {HERE}; only stream is")),
        }
    }

    fn history(&self) -> Result<(), Wrong> {
        let (size, ttl) = (self.number("history_size"), self.number("history_ttl"));
        let own_meta_ttl = self.number("history_meta_ttl");
        whole_seconds(&join(self.path, "history_ttl"), ttl)?;
        whole_seconds(&join(self.path, "history_meta_ttl"), own_meta_ttl)?;
        if (size > 0) != (ttl > 0) {
            let (set, missing) =
                if size > 0 { ("history_size", "history_ttl") } else { ("history_ttl", "history_size") };
            return self.wrong(set, &format!("is set but {missing} is not; history needs both, or none"));
        }
        let meta_ttl = if own_meta_ttl > 0 { own_meta_ttl } else { self.meta_ttl };
        if meta_ttl > 0 && ttl > meta_ttl {
            let message = format!(
                "{} is longer than history_meta_ttl, which is {}; publications would lose their position",
                duration::format(ttl),
                duration::format(meta_ttl)
            );
            return self.wrong("history_ttl", &message);
        }
        if self.is_on("force_recovery") && size == 0 {
            return self.wrong("force_recovery", "needs history; set history_size and history_ttl");
        }
        Ok(())
    }

    fn text(&self, name: &str) -> &str {
        self.options.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_on(&self, name: &str) -> bool {
        self.options.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        self.options.get(name).and_then(Value::as_i64).unwrap_or_default()
    }

    fn wrong(&self, name: &str, message: &str) -> Result<(), Wrong> {
        wrong(join(self.path, name), format!("{}{message}", self.place))
    }
}

fn whole_seconds(key: &str, nanos: i64) -> Result<(), Wrong> {
    match nanos {
        nanos if nanos < 0 => wrong(key, format!("{} must not be negative", duration::format(nanos))),
        nanos if nanos % SECOND != 0 => {
            wrong(key, format!("{} is not a whole number of seconds", duration::format(nanos)))
        }
        _ => Ok(()),
    }
}
