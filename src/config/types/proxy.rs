//! Backends that are asked and told: `client.proxy.*`, `channel.proxy.*`, `rpc.*`, `proxies`, as written. What an endpoint
//! means is found out by `settings::proxies`. Endpoints and values of headers are secrets, since they may hold a password.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::redis::Tls;
use super::values::{Secret, duration};

/// `client.proxy.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ClientProxies {
    /// Asked when a client comes without token.
    pub(crate) connect: SwitchedProxy,
    /// Asked when a connection is about to expire.
    pub(crate) refresh: SwitchedProxy,
}

/// A proxy that is off unless enabled.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SwitchedProxy {
    pub(crate) enabled: bool,
    #[serde(flatten)]
    pub(crate) proxy: Proxy,
}

/// `channel.proxy.*`: what `default` stands for in the options of a namespace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChannelProxies {
    pub(crate) subscribe: Proxy,
    pub(crate) publish: Proxy,
    pub(crate) sub_refresh: Proxy,
    pub(crate) state: Proxy,
    pub(crate) cache_empty: Proxy,
}

/// One item of `proxies`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NamedProxy {
    /// `^[-a-zA-Z0-9_.]{2,}$`, not `default`.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) proxy: Proxy,
}

/// `rpc.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rpc {
    /// What `default` stands for.
    pub(crate) proxy: Proxy,
    pub(crate) without_namespace: RpcOptions,
    /// In configuration order; names are unique.
    pub(crate) namespaces: Vec<RpcNamespace>,
    /// Ends the namespace part at its first occurrence; empty = no namespaces.
    pub(crate) namespace_boundary: String,
    pub(crate) ping: RpcPing,
}

/// What becomes of the methods of a namespace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RpcOptions {
    pub(crate) proxy_enabled: bool,
    pub(crate) proxy_name: String,
}

/// One item of `rpc.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RpcNamespace {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) options: RpcOptions,
}

/// `rpc.ping.*`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RpcPing {
    pub(crate) enabled: bool,
    pub(crate) method: String,
}

/// One backend.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Proxy {
    pub(crate) endpoint: Secret,
    /// Of a whole call.
    #[serde(deserialize_with = "duration")]
    pub(crate) timeout: Duration,
    pub(crate) http_headers: Vec<String>,
    pub(crate) grpc_metadata: Vec<String>,
    pub(crate) emulated_headers: Vec<String>,
    pub(crate) binary_encoding: bool,
    pub(crate) include_connection_meta: bool,
    pub(crate) http: ProxyHttp,
    pub(crate) grpc: ProxyGrpc,
}

/// `http.*` of a proxy.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProxyHttp {
    pub(crate) tls: Tls,
    pub(crate) static_headers: BTreeMap<String, Secret>,
    pub(crate) status_to_code_transforms: Vec<StatusTransform>,
}

/// What a status other than 200 becomes; exactly one of the two codes is set.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StatusTransform {
    pub(crate) status_code: i64,
    pub(crate) to_error: ToError,
    pub(crate) to_disconnect: ToDisconnect,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ToError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) temporary: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ToDisconnect {
    pub(crate) code: i64,
    pub(crate) reason: String,
}

/// `grpc.*` of a proxy.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProxyGrpc {
    pub(crate) tls: Tls,
    pub(crate) credentials_key: String,
    pub(crate) credentials_value: Secret,
    pub(crate) compression: bool,
    pub(crate) static_metadata: BTreeMap<String, Secret>,
}
