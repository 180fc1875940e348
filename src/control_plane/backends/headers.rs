//! Which headers a call carries: those of the configuration, over them those that the client has made up, over them those
//! of the request that its connection began with. Of the latter two only what is listed.

use anyhow::{Context as _, anyhow};
use gyre_engine::backend::ClientHeaders;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use crate::config::types::Secret;
use crate::settings::proxies::Proxy;

/// They say how a message is sent, which is our affair, or where to.
const OURS: [HeaderName; 10] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// See the module.
pub(super) struct Headers {
    fixed: HeaderMap,
    emulated: Vec<HeaderName>,
    transport: Vec<HeaderName>,
}

impl Headers {
    /// `fixed` by priority, the higher the later; `option` is where they stand.
    ///
    /// # Errors
    /// A header that cannot be sent, without its value.
    pub(super) fn new(proxy: &Proxy, option: &str, fixed: &[(String, Secret)]) -> anyhow::Result<Self> {
        let mut map = HeaderMap::new();
        for (name, value) in fixed {
            let place = || format!("{}: {option}", proxy.path);
            let name = name.to_ascii_lowercase();
            let header = HeaderName::from_bytes(name.as_bytes());
            let header = header.map_err(|_| anyhow!("`{name}` is no name of a header")).with_context(place)?;
            let value = HeaderValue::from_bytes(value.expose().as_bytes());
            let value = value.map_err(|_| anyhow!("value of `{name}` has control characters")).with_context(place)?;
            if !OURS.contains(&header) {
                map.insert(header, value);
            }
        }
        Ok(Self { fixed: map, emulated: listed(&proxy.emulated_headers), transport: listed(&proxy.http_headers) })
    }

    /// Unless there is one already.
    pub(super) fn or_else(&mut self, name: HeaderName, value: HeaderValue) {
        self.fixed.entry(name).or_insert(value);
    }

    /// Those of a call.
    pub(super) fn of(&self, client: Option<&ClientHeaders>) -> HeaderMap {
        let mut map = self.fixed.clone();
        let Some(client) = client else { return map };
        for name in &self.emulated {
            let said = client.emulated.iter().rev().find(|(said, _)| &**said == name.as_str());
            if let Some(value) = said.and_then(|(_, value)| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                map.insert(name, value);
            }
        }
        for name in &self.transport {
            let sent = client.transport.iter().filter(|(sent, _)| &**sent == name.as_str());
            let mut values = sent.filter_map(|(_, value)| HeaderValue::from_bytes(value).ok());
            if let Some(first) = values.next() {
                map.insert(name, first);
                for value in values {
                    map.append(name, value);
                }
            }
        }
        map
    }
}

/// What is no name was sent by nobody.
fn listed(names: &[String]) -> Vec<HeaderName> {
    let names = names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    names.filter(|name| !OURS.contains(name)).collect()
}
