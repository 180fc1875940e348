//! The configuration as the rest of the node reads it: plain fields, units in the types, switches as `Option`.
//!
//! Only options that this version honours are here. The values come out of the normalised tree (`config::layers`), so
//! defaults, zero rules and weak typing are already settled. Read-only after start; a reload builds a new value.
//! Must never hold a secret in a type whose `Debug` prints it: use [`Secret`].

mod channel;
mod client;
mod proxy;
mod redis;
mod user_status;
mod values;

pub(crate) use channel::{Channel, ChannelOptions};
pub(crate) use client::{Client, Token};
pub(crate) use proxy::{NamedProxy, Proxy, Rpc, RpcOptions};
pub(crate) use redis::{ChannelState, Redis, Tls};
pub(crate) use user_status::UserStatus;
pub(crate) use values::{Cores, DataFormat, LogLevel, RecoveryMode, Secret};

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use values::{count, duration, path, prefix};

/// Everything a node is told by its operator.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    /// Listening address.
    pub(crate) http_server: HttpServer,
    /// What only Gyre has.
    pub(crate) gyre: Gyre,
    /// Where log lines go and which.
    pub(crate) log: Log,
    /// Identity of this node.
    pub(crate) node: Node,
    /// Rules for client connections.
    pub(crate) client: Client,
    /// Channel names, namespaces and their options.
    pub(crate) channel: Channel,
    /// Methods that clients can call.
    pub(crate) rpc: Rpc,
    /// Backends by name.
    pub(crate) proxies: Vec<NamedProxy>,
    /// The server API over HTTP.
    pub(crate) http_api: HttpApi,
    /// The server API over gRPC.
    pub(crate) grpc_api: GrpcApi,
    /// The WebSocket transport.
    pub(crate) websocket: WebSocket,
    /// `/health`.
    pub(crate) health: Endpoint,
    /// `/metrics`.
    pub(crate) prometheus: Endpoint,
    /// Where Pub/Sub, history and presence live.
    pub(crate) engine: Engine,
    /// Replaces the Pub/Sub and history half of the engine.
    pub(crate) broker: EngineHalf,
    /// Replaces the presence half.
    pub(crate) presence_manager: EngineHalf,
    /// When users were last active and online.
    pub(crate) user_status: UserStatus,
    /// Graceful stop.
    pub(crate) shutdown: Shutdown,
    /// File that holds the process id while the node runs.
    #[serde(deserialize_with = "path")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Where this configuration came from; [`Config::load`] reads it again.
    #[serde(skip)]
    pub(crate) sources: super::Sources,
}

/// `engine.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Engine {
    /// Which one.
    pub(crate) r#type: EngineType,
    /// Counts when it is Redis.
    pub(crate) redis: Redis,
}

/// `broker.*`, `presence_manager.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EngineHalf {
    /// Else the engine's.
    pub(crate) enabled: bool,
    /// Which one.
    pub(crate) r#type: EngineType,
    /// Counts when it is Redis.
    pub(crate) redis: Redis,
}

/// Where a half of the engine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineType {
    /// In this process.
    Memory,
    /// Shared by nodes.
    Redis,
    /// Refused when it would be used.
    #[serde(other)]
    Other,
}

/// `http_server.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HttpServer {
    /// Bind host, empty = every address.
    pub(crate) address: String,
    /// Bind port.
    pub(crate) port: u16,
}

/// `gyre.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Gyre {
    /// Which CPUs run a core.
    pub(crate) cores: Cores,
    /// CPUs that run no core: the control thread's, and what the kernel and its interrupts need.
    #[serde(deserialize_with = "count")]
    pub(crate) reserved_cores: usize,
}

/// `log.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Log {
    /// Least severe level that is written.
    pub(crate) level: LogLevel,
    /// Append to this file instead of the terminal.
    #[serde(deserialize_with = "path")]
    pub(crate) file: Option<PathBuf>,
}

/// `node.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    /// Never empty: `<hostname>_<port>` unless configured.
    pub(crate) name: String,
}

/// `http_api.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HttpApi {
    /// The API is not served at all.
    pub(crate) disabled: bool,
    /// No key is asked for.
    pub(crate) insecure: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub(crate) handler_prefix: String,
    /// Empty = no key can match, every call is 401 unless `insecure`.
    pub(crate) key: Secret,
    /// Empty, or `transport`: errors are HTTP statuses.
    pub(crate) error_mode: String,
}

/// `grpc_api.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GrpcApi {
    /// The API is served.
    pub(crate) enabled: bool,
    /// Callers can ask what there is.
    pub(crate) reflection: bool,
    /// Bind host, empty = every address.
    pub(crate) address: String,
    /// Bind port.
    pub(crate) port: u16,
    /// Empty = no key is asked for.
    pub(crate) key: Secret,
    /// `transport` = errors are gRPC statuses; empty = they are in the answer.
    pub(crate) error_mode: String,
    pub(crate) tls: ServerTls,
    /// Bytes; 0 = 4 MiB.
    pub(crate) max_receive_message_size: u32,
}

/// A `tls` object of a listener. PEM options hold the text, its base64 or a path, as written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServerTls {
    /// Nothing else of the object counts while off.
    pub(crate) enabled: bool,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Secret,
    /// Clients need a certificate by one of these; empty = they need none.
    pub(crate) client_ca_pem: String,
}

/// `websocket.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WebSocket {
    /// The endpoint is not served.
    pub(crate) disabled: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub(crate) handler_prefix: String,
    /// Largest message a client may send, bytes.
    pub(crate) message_size_limit: usize,
}

/// An endpoint that is off unless enabled.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Endpoint {
    /// Served?
    pub(crate) enabled: bool,
    /// Path without trailing slash, `/` at least.
    #[serde(deserialize_with = "prefix")]
    pub(crate) handler_prefix: String,
}

/// `shutdown.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Shutdown {
    /// The process gives up on a graceful stop after this long.
    #[serde(deserialize_with = "duration")]
    pub(crate) timeout: Duration,
}
