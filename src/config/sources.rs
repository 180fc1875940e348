//! Where a configuration comes from: what the operator gave on the command line, and the environment of the process.

use super::Environment;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Everything needed to read a configuration, and to read it again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// A missing file is a mistake; otherwise it is a warning.
    pub(crate) is_file_needed: bool,
    /// Variables of the process and of `.env`.
    pub(crate) environment: Environment,
    /// Flags that were given.
    pub(crate) flags: Vec<Flag>,
    /// `--dev`: defaults for trying things out, on the loopback interface only.
    pub(crate) dev: bool,
}

/// One flag that sets an option. No option that holds a secret has a flag, since other users can see command lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Path of the option.
    pub(crate) path: String,
    /// As given.
    pub(crate) value: String,
}

impl Default for Sources {
    /// `config.json` of the working directory if there is one, and nothing else.
    fn default() -> Self {
        Self {
            file: PathBuf::from("config.json"),
            is_file_needed: false,
            environment: Environment::default(),
            flags: Vec::new(),
            dev: false,
        }
    }
}

/// What `--dev` has in place of a default; file, environment and flags still win. Normalised: durations in nanoseconds.
pub(super) fn dev_default(path: &str) -> Option<Value> {
    Some(match path {
        "http_server.address" => json!("127.0.0.1"),
        "client.allowed_origins" => json!(["*"]),
        "client.insecure"
        | "client.allow_anonymous_connect_without_token"
        | "http_api.insecure"
        | "prometheus.enabled"
        | "health.enabled"
        | "channel.without_namespace.presence"
        | "channel.without_namespace.join_leave"
        | "channel.without_namespace.force_recovery"
        | "channel.without_namespace.allow_subscribe_for_client"
        | "channel.without_namespace.allow_subscribe_for_anonymous" => json!(true),
        "channel.without_namespace.history_size" => json!(100),
        "channel.without_namespace.history_ttl" => json!(300_000_000_000_i64),
        _ => return None,
    })
}
