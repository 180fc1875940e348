//! The configuration as the rest of the node reads it: plain fields, units in the types, switches as `Option`.
//!
//! Only options that this version honours are here. The values come out of the normalised tree (`config::layers`), so
//! defaults, zero rules and weak typing are already settled. Read-only after start; a reload builds a new value.
//! Must never hold a secret in a type whose `Debug` prints it: use [`Secret`].

mod channel;
mod client;
mod values;

pub use channel::{Channel, ChannelOptions, Namespace};
pub use client::{Client, SubscriptionToken, Token, UserPersonalChannel};
pub use values::{Cores, DataFormat, LogLevel, Secret};

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use values::{duration, path, prefix};

/// Everything a node is told by its operator.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Listening address.
    pub http_server: HttpServer,
    /// What only Gyre has.
    pub gyre: Gyre,
    /// Where log lines go and which.
    pub log: Log,
    /// Identity of this node.
    pub node: Node,
    /// Rules for client connections.
    pub client: Client,
    /// Channel names, namespaces and their options.
    pub channel: Channel,
    /// The server API over HTTP.
    pub http_api: HttpApi,
    /// The WebSocket transport.
    pub websocket: WebSocket,
    /// `/health`.
    pub health: Endpoint,
    /// `/metrics`.
    pub prometheus: Endpoint,
    /// Graceful stop.
    pub shutdown: Shutdown,
    /// File that holds the process id while the node runs.
    #[serde(deserialize_with = "path")]
    pub pid_file: Option<PathBuf>,
    /// Where this configuration came from; [`Config::reload`] reads it again.
    #[serde(skip)]
    pub sources: super::Sources,
}

/// `http_server.*`
#[derive(Debug, Clone, Deserialize)]
pub struct HttpServer {
    /// Bind host, empty = every address.
    pub address: String,
    /// Bind port.
    pub port: u16,
}

/// `gyre.*`
#[derive(Debug, Clone, Deserialize)]
pub struct Gyre {
    /// Which CPUs run a core.
    pub cores: Cores,
}

/// `log.*`
#[derive(Debug, Clone, Deserialize)]
pub struct Log {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Append to this file instead of the terminal.
    #[serde(deserialize_with = "path")]
    pub file: Option<PathBuf>,
}

/// `node.*`
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Never empty: `<hostname>_<port>` unless configured.
    pub name: String,
}

/// `http_api.*`
#[derive(Debug, Clone, Deserialize)]
pub struct HttpApi {
    /// The API is not served at all.
    pub disabled: bool,
    /// No key is asked for.
    pub insecure: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub handler_prefix: String,
    /// Empty = no key can match, every call is 401 unless `insecure`.
    pub key: Secret,
}

/// `websocket.*`
#[derive(Debug, Clone, Deserialize)]
pub struct WebSocket {
    /// The endpoint is not served.
    pub disabled: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub handler_prefix: String,
    /// Largest message a client may send, bytes.
    pub message_size_limit: usize,
}

/// An endpoint that is off unless enabled.
#[derive(Debug, Clone, Deserialize)]
pub struct Endpoint {
    /// Served?
    pub enabled: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub handler_prefix: String,
}

/// `shutdown.*`
#[derive(Debug, Clone, Deserialize)]
pub struct Shutdown {
    /// The process gives up on a graceful stop after this long.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}
