//! The backends of the configuration: one table, made once at start; the rules name its entries by their place
//! ([`ProxyId`]). Read by the control thread, which calls them, and by cores, which keep the headers that they want.

#![expect(dead_code, reason = "nothing is configured yet")]

use std::time::Duration;

use gyre_engine::backend::{BackendError, ProxyId};
use gyre_proto::codes::Disconnect;

use super::redis::TlsOptions;
use crate::config::types::Secret;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) list: Vec<Proxy>,
}

/// One proxy. Two uses of a named one share it; each unnamed one has its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it is configured, for the operator: `channel.proxy.subscribe`, `proxies "a"`.
    pub(crate) path: String,
    /// In metrics and logs: `default`, or its name.
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
    /// Of a whole call.
    pub(crate) timeout: Duration,
    /// Lower case, as all names here.
    pub(crate) http_headers: Vec<String>,
    pub(crate) emulated_headers: Vec<String>,
    pub(crate) grpc_metadata: Vec<String>,
    pub(crate) binary_encoding: bool,
    pub(crate) include_connection_meta: bool,
}

/// How a backend is reached.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Http {
        url: String,
        tls: Option<TlsOptions>,
        static_headers: Vec<(String, String)>,
        transforms: Vec<StatusTransform>,
    },
    Grpc {
        /// `host:port`.
        address: String,
        tls: Option<TlsOptions>,
        /// Metadata key and value of every call; an empty key = none.
        credentials: (String, Secret),
        compression: bool,
        static_metadata: Vec<(String, String)>,
    },
}

/// What a status other than 200 stands for.
#[derive(Debug)]
pub(crate) struct StatusTransform {
    pub(crate) status: u16,
    pub(crate) to: TransformTo,
}

#[derive(Debug)]
pub(crate) enum TransformTo {
    Error(BackendError),
    Disconnect(Disconnect),
}

impl Proxies {
    /// The proxy of an id of the rules.
    pub(crate) fn of(&self, id: ProxyId) -> Option<&Proxy> {
        self.list.get(usize::from(id.0))
    }
}
