//! The configuration in the form that the cores read it: rules, origins, paths, keys. Made once, shared by all cores.

mod grpc_api;
pub(crate) mod proxies;
pub(crate) mod redis;
mod rules;
mod store;
mod user_status;

use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use gyre_engine::rules::Rules;
use hyper::header::HeaderName;

pub(crate) use grpc_api::GrpcApiSettings;
pub(crate) use rules::rules;
pub(crate) use store::StoreSettings;
pub(crate) use user_status::UserStatusSettings;

use crate::config::types::{Config, Endpoint};
use proxies::Proxies;

/// See the module.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) cores: u16,
    /// As configured at start; a reload reaches the engines by message.
    pub(crate) rules: Arc<Rules>,
    /// `0.1.0 OSS`, as clients and `info` see it.
    pub(crate) version: Arc<str>,
    pub(crate) node_name: String,
    /// New at every start.
    pub(crate) node_uid: String,
    pub(crate) started: Instant,
    pub(crate) origins: Origins,
    pub(crate) message_size_max: usize,
    /// Headers of handshakes that some proxy forwards; empty = none are kept.
    pub(crate) forwarded_headers: Vec<HeaderName>,
    /// Header of handshakes that says who the user is; `None` = there is none.
    pub(crate) user_id_header: Option<HeaderName>,
    /// Exact paths; `None` = not served.
    pub(crate) websocket_path: Option<String>,
    pub(crate) health_path: Option<String>,
    pub(crate) metrics_path: Option<String>,
    pub(crate) api: Option<ApiSettings>,
}

impl Settings {
    /// # Errors
    /// An origin pattern that cannot be read.
    pub(crate) fn new(config: &Config, cores: u16, rules: Arc<Rules>, proxies: &Proxies) -> anyhow::Result<Self> {
        let endpoint = |endpoint: &Endpoint| endpoint.enabled.then(|| endpoint.handler_prefix.clone());
        Ok(Self {
            cores,
            rules,
            version: concat!(env!("CARGO_PKG_VERSION"), " OSS").into(),
            node_name: config.node.name.clone(),
            node_uid: uuid::Uuid::from_bytes(entropy()?).to_string(),
            started: Instant::now(),
            origins: Origins::new(&config.client.allowed_origins).map_err(|what| anyhow!(what))?,
            forwarded_headers: proxies.http_headers(),
            // No other name gets this far.
            user_id_header: HeaderName::try_from(&config.client.user_id_http_header).ok(),
            message_size_max: config.websocket.message_size_limit,
            websocket_path: (!config.websocket.disabled).then(|| config.websocket.handler_prefix.clone()),
            health_path: endpoint(&config.health),
            metrics_path: endpoint(&config.prometheus),
            api: (!config.http_api.disabled).then(|| ApiSettings {
                prefix: config.http_api.handler_prefix.trim_end_matches('/').to_owned(),
                key: config.http_api.key.expose().to_owned(),
                is_open: config.http_api.insecure,
                errors_have_status: config.http_api.error_mode == "transport",
            }),
        })
    }

    /// What is served, for the operator.
    pub(crate) fn endpoints(&self) -> String {
        let served = [
            ("websocket", self.websocket_path.is_some()),
            ("api", self.api.is_some()),
            ("health", self.health_path.is_some()),
            ("metrics", self.metrics_path.is_some()),
        ];
        let names: Vec<&str> = served.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect();
        names.join(", ")
    }
}

/// Random bytes of a version 4 UUID.
fn entropy() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the kernel gives no entropy: {error}"))?;
    Ok(*uuid::Builder::from_random_bytes(bytes).as_uuid().as_bytes())
}

/// The HTTP server API.
#[derive(Debug)]
pub(crate) struct ApiSettings {
    /// Without trailing slash; may be empty.
    pub(crate) prefix: String,
    /// Empty = nobody gets in, unless `is_open`.
    pub(crate) key: String,
    pub(crate) is_open: bool,
    /// Of all calls: transport error mode.
    pub(crate) errors_have_status: bool,
}

/// Origins from which browsers may connect (transports.md 1.3).
#[derive(Debug)]
pub(crate) enum Origins {
    Any,
    Listed(GlobSet),
}

impl Origins {
    /// # Errors
    /// The glob that cannot be read, and why.
    pub(crate) fn new(globs: &[String]) -> Result<Self, String> {
        if globs == ["*"] {
            return Ok(Self::Any);
        }
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let compiled = GlobBuilder::new(glob).literal_separator(false).build();
            set.add(compiled.map_err(|error| format!("client.allowed_origins: `{glob}`: {error}"))?);
        }
        set.build().map(Self::Listed).map_err(|error| format!("client.allowed_origins: {error}"))
    }

    /// Requests without an origin do not come from a browser and pass.
    pub(crate) fn allow(&self, origin: Option<&str>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Listed(set), Some(origin)) => set.is_match(origin.to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong answer here locks a site out or lets a foreign one in.
    #[test]
    fn origins() {
        let listed = |globs: &[&str]| {
            Origins::new(&globs.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("valid globs")
        };
        assert!(listed(&[]).allow(None));
        assert!(!listed(&[]).allow(Some("https://a.x")));
        assert!(listed(&["*"]).allow(Some("null")));
        let site = listed(&["https://*.site.com", "http://b.x"]);
        assert!(site.allow(Some("https://a.site.com")));
        assert!(site.allow(Some("HTTPS://A.SITE.COM")));
        assert!(site.allow(Some("http://b.x")));
        assert!(!site.allow(Some("https://site.com.evil.com")));
        assert!(!site.allow(Some("https://c.x")));
    }
}
