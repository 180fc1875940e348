//! The operator's wishes: defaults, a file, the environment and flags, laid over each other into one typed value.
//!
//! ```text
//! schema defaults < file (JSON, YAML, TOML) < environment (.env too) < flags
//! ```
//!
//! `layers` builds the normalised tree, in which every option has a value of its own type; `validate` refuses what cannot
//! work; `types` is what the rest of the node reads. Runs before anything else is started, and on the control thread when
//! the configuration is read again. Reads files, never writes any. Must never put a secret into an error, a warning or a
//! `Debug` text.

mod aliases;
mod convert;
mod cores;
pub(crate) mod duration;
mod environment;
mod error;
mod file;
mod layers;
pub(crate) mod nearest;
mod origins;
pub(crate) mod print;
pub(crate) mod schema;
mod sources;
pub(crate) mod types;
mod unsupported;
mod validate;
mod warning;

pub(crate) use environment::Environment;
pub(crate) use error::Error;
pub(crate) use file::Format;
pub(crate) use sources::{Flag, Sources};
pub(crate) use types::Config;
pub(crate) use warning::Warning;

use serde_json::{Map, Value};
use std::fs;
use std::time::Duration;

/// An object of the tree; keys are in the order of the schema.
type Object = Map<String, Value>;

impl Config {
    /// Reads all sources and checks what they say together.
    ///
    /// # Errors
    /// The first mistake that stops a node from starting. Mistakes that do not are in the warnings.
    pub(crate) fn load(sources: Sources) -> Result<(Self, Vec<Warning>), Error> {
        let loaded = layers::read(&sources)?;
        let mut warnings = loaded.warnings;
        unsupported::report(&loaded.tree, &mut warnings);
        validate::check(&loaded.tree, &loaded.origins, sources.dev, &mut warnings)?;
        let config = typed(loaded.tree, sources).map_err(|error| Error::Value {
            origin: loaded.origins.general,
            key: "configuration".to_owned(),
            message: error.to_string(),
        })?;
        Ok((config, warnings))
    }
}

/// The last steps, which a printed configuration must not show: what one option takes from another, or from the host.
fn typed(mut tree: Object, sources: Sources) -> Result<Config, serde_json::Error> {
    replace_zeros(&mut tree);
    let meta_ttl = schema::value_at(&tree, "channel.history_meta_ttl").cloned().unwrap_or_default();
    let data_format = schema::value_at(&tree, "channel.publication_data_format").cloned().unwrap_or_default();
    if let Some(Value::Object(channel)) = tree.get_mut("channel") {
        for options in options_mut(channel) {
            inherit(options, "history_meta_ttl", &meta_ttl);
            inherit(options, "publication_data_format", &data_format);
        }
    }
    let mut config: Config = serde_json::from_value(Value::Object(tree))?;
    if config.node.name.is_empty() {
        config.node.name = format!("{}_{}", host_name(), config.http_server.port);
    }
    config.sources = sources;
    Ok(config)
}

/// Options of channels without a namespace, then those of every namespace.
fn options_mut(channel: &mut Object) -> Vec<&mut Object> {
    let mut found = Vec::new();
    for (key, value) in channel {
        match (key.as_str(), value) {
            ("without_namespace", Value::Object(options)) => found.push(options),
            ("namespaces", Value::Array(items)) => found.extend(items.iter_mut().filter_map(Value::as_object_mut)),
            _ => {}
        }
    }
    found
}

fn inherit(options: &mut Object, key: &str, general: &Value) {
    if let Some(own) = options.get_mut(key).filter(|own| convert::is_zero(own)) {
        *own = general.clone();
    }
}

/// A zero that came from the environment means something else than "no limit" for these options (nanoseconds).
const INSTEAD_OF_ZERO: [(&str, i64); 11] = [
    ("client.channel_limit", 128),
    ("client.queue_max_size", 1 << 20),
    ("client.stale_close_delay", seconds(15)),
    ("client.presence_update_interval", seconds(25)),
    ("client.channel_position_check_delay", seconds(40)),
    ("client.expired_close_delay", seconds(25)),
    ("client.expired_sub_close_delay", seconds(25)),
    ("channel.max_length", 255),
    ("channel.history_meta_ttl", seconds(720 * 3600)),
    ("node.info_metrics_aggregate_interval", seconds(60)),
    ("websocket.message_size_limit", 1 << 16),
];

const fn seconds(count: i64) -> i64 {
    count * Duration::from_secs(1).as_nanos() as i64
}

fn replace_zeros(tree: &mut Object) {
    for (path, instead) in INSTEAD_OF_ZERO {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        let value = tree.get_mut(section).and_then(Value::as_object_mut).and_then(|section| section.get_mut(key));
        if let Some(value) = value.filter(|value| convert::is_zero(value)) {
            *value = instead.into();
        }
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests;
