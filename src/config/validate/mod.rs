//! What cannot work is refused before anything starts; what is merely dangerous becomes a warning.
//!
//! Works on the normalised tree, since it also looks at options that the node does not read. Rules that need the engine
//! (expressions, keys of tokens) are checked where those are built. Reads no file, knows no clock.

mod channels;
mod proxies;
mod redis;
mod unavailable;
mod user_status;

use super::layers::join;
use super::origins::Origins;
use super::schema::value_at;
use super::types::LogLevel;
use super::{Error, Object, Warning, cores};
use hyper::header::HeaderName;
use serde_json::Value;

/// Checks the whole tree.
pub(super) fn check(tree: &Object, origins: &Origins, dev: bool, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let check = Check { tree };
    let result = check
        .words()
        .and_then(|()| unavailable::check(&check))
        .and_then(|()| user_status::check(&check))
        .and_then(|()| check.server(dev))
        .and_then(|()| check.client())
        .and_then(|()| check.names())
        .and_then(|()| channels::check(&check))
        .and_then(|()| proxies::check(&check, warnings));
    check.warn(dev, warnings);
    result.map_err(|Wrong { key, message }| Error::Invalid { origin: origins.of(&key).to_owned(), key, message })
}

/// A mistake without the place it came from.
struct Wrong {
    key: String,
    message: String,
}

fn wrong<T>(key: impl Into<String>, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { key: key.into(), message: message.into() })
}

/// Words that an option may have. The empty word is allowed where the list has it.
const WORDS: [(&str, &[&str]); 8] = [
    ("engine.type", &["memory", "redis"]),
    ("broker.type", &["memory", "redis", "nats", "postgres", "redisnats"]),
    ("presence_manager.type", &["memory", "redis"]),
    ("map_broker.type", &["memory", "redis", "postgres"]),
    ("http_api.error_mode", &["", "transport"]),
    ("grpc_api.error_mode", &["", "transport"]),
    ("channel.publication_data_format", DATA_FORMATS),
    ("controller.type", &["", "postgres", "redis", "nats"]),
];

const DATA_FORMATS: &[&str] = &["", "json", "json_object", "binary"];

/// Endpoints of the one listener: switch, whether it turns the endpoint on or off, and path.
const ENDPOINTS: [(&str, bool, &str); 4] = [
    ("websocket.disabled", false, "websocket.handler_prefix"),
    ("http_api.disabled", false, "http_api.handler_prefix"),
    ("health.enabled", true, "health.handler_prefix"),
    ("prometheus.enabled", true, "prometheus.handler_prefix"),
];

struct Check<'a> {
    tree: &'a Object,
}

impl Check<'_> {
    fn text(&self, path: &str) -> &str {
        value_at(self.tree, path).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_on(&self, path: &str) -> bool {
        value_at(self.tree, path).and_then(Value::as_bool).unwrap_or_default()
    }

    fn number(&self, path: &str) -> i64 {
        value_at(self.tree, path).and_then(Value::as_i64).unwrap_or_default()
    }

    fn items<'c>(&'c self, path: &str) -> impl Iterator<Item = (String, &'c Object)> + use<'c> {
        let path = path.to_owned();
        let items = value_at(self.tree, &path).and_then(Value::as_array).into_iter().flatten().enumerate();
        items.filter_map(move |(index, item)| Some((format!("{path}.[{index}]"), item.as_object()?)))
    }

    fn words(&self) -> Result<(), Wrong> {
        WORDS.iter().try_for_each(|(path, words)| one_of(path, self.text(path), words))
    }

    fn server(&self, dev: bool) -> Result<(), Wrong> {
        if let Err(message) = cores::parse(self.text("gyre.cores")) {
            return wrong("gyre.cores", message);
        }
        let address = self.text("http_server.address");
        if dev && !is_loopback(address) {
            let message = format!(
                "--dev opens everything to everyone and serves 127.0.0.1 only, not {address:?}; remove the option or --dev"
            );
            return wrong("http_server.address", message);
        }
        let served = ENDPOINTS.iter().filter(|(switch, on, _)| self.is_on(switch) == *on);
        let served: Vec<_> = served.map(|(_, _, path)| (path, self.text(path).trim_matches('/'))).collect();
        for (at, (key, path)) in served.iter().enumerate() {
            if let Some((other, _)) = served[..at].iter().find(|(_, other)| other == path) {
                return wrong(**key, format!("/{path} is already taken by {other}"));
            }
        }
        Ok(())
    }

    fn client(&self) -> Result<(), Wrong> {
        let (ping, pong) = (self.number("client.ping_interval"), self.number("client.pong_timeout"));
        if ping > 0 && pong > 0 && ping <= pong {
            let (ping, pong) = (super::duration::format(ping), super::duration::format(pong));
            return wrong(
                "client.ping_interval",
                format!("{ping} must be greater than client.pong_timeout, which is {pong}"),
            );
        }
        let header = self.text("client.user_id_http_header");
        if !header.is_empty() && HeaderName::try_from(header).is_err() {
            return wrong("client.user_id_http_header", format!("{header:?} is not the name of a header"));
        }
        for section in ["client.token", "client.subscription_token"] {
            let text = |name: &str| self.text(&join(section, name)).to_owned();
            if text("user_id_claim").contains(|c: char| !c.is_ascii_alphabetic() && c != '_') {
                return wrong(join(section, "user_id_claim"), "only letters and underscores are allowed");
            }
            for name in ["audience", "issuer"] {
                let pattern = format!("{name}_regex");
                if !text(name).is_empty() && !text(&pattern).is_empty() {
                    return wrong(
                        join(section, &pattern),
                        format!("cannot be used together with {section}.{name}; remove one"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Lists of objects with names. Namespaces of channels are checked with their options.
    fn names(&self) -> Result<(), Wrong> {
        for (path, more) in [("rpc.namespaces", "-_."), ("proxies", "-_."), ("consumers", "_")] {
            let mut seen = Vec::new();
            for (at, item) in self.items(path) {
                let name = name_of(item);
                check_name(&join(&at, "name"), name, more, &mut seen)?;
                if path == "proxies" && name == "default" {
                    return wrong(
                        join(&at, "name"),
                        "default is the name of the proxies in other sections; use another one",
                    );
                }
            }
        }
        Ok(())
    }

    fn warn(&self, dev: bool, warnings: &mut Vec<Warning>) {
        for (key, effect) in [
            ("client.insecure", "anyone may connect, subscribe and publish"),
            ("client.insecure_skip_token_signature_verify", "anyone can make tokens for any user"),
            ("http_api.insecure", "anyone may call the server API"),
        ] {
            if self.is_on(key) {
                warnings.push(Warning::Insecure { key, effect });
            }
        }
        let is_api_served = !self.is_on("http_api.disabled") && !self.is_on("http_api.insecure");
        if is_api_served && self.text("http_api.key").is_empty() && !dev {
            let note = "every server API call is refused with 401 until http_api.key is set";
            warnings.push(Warning::Note(note.to_owned()));
        }
        if self.is_on("grpc_api.enabled") && self.text("grpc_api.key").is_empty() {
            let note = "grpc_api.key is empty: whoever reaches the port of the gRPC API may call everything";
            warnings.push(Warning::Note(note.to_owned()));
        }
        let origins = value_at(self.tree, "client.allowed_origins").and_then(Value::as_array);
        for origin in origins.into_iter().flatten().filter_map(Value::as_str) {
            if origin == "*" {
                let note =
                    "client.allowed_origins: * lets pages of any site connect with their visitors' network access";
                warnings.push(Warning::Note(note.to_owned()));
            } else if origin.contains(|c: char| c.is_ascii_uppercase()) {
                let note =
                    format!("client.allowed_origins: {origin} never matches, origins are compared in lower case");
                warnings.push(Warning::Note(note));
            }
        }
        let level = self.text("log.level");
        if LogLevel::parse(level).is_none() {
            warnings.push(Warning::Note(format!("log.level: {level:?} is no level, info is used")));
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    address == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn one_of(key: &str, word: &str, words: &[&str]) -> Result<(), Wrong> {
    if words.contains(&word) {
        return Ok(());
    }
    let known: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    wrong(key, format!("{word:?} is unknown; it can be {}", known.join(", ")))
}

fn name_of(item: &Object) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// At least two letters, digits or characters of `more`, and not among those `seen`.
fn check_name<'a>(key: &str, name: &'a str, more: &str, seen: &mut Vec<&'a str>) -> Result<(), Wrong> {
    if name.len() < 2 || name.contains(|c: char| !c.is_ascii_alphanumeric() && !more.contains(c)) {
        let more: Vec<String> = more.chars().map(|c| format!("`{c}`")).collect();
        return wrong(key, format!("{name:?} must be at least two characters of letters, digits, {}", more.join(", ")));
    }
    if seen.contains(&name) {
        return wrong(key, format!("{name:?} is used twice"));
    }
    seen.push(name);
    Ok(())
}
