//! The backends of the configuration: one table, made once at start; the rules name its entries by their place
//! ([`ProxyId`]). Read by the control thread, which calls them, and by cores, which keep the headers that they want.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;
use gyre_engine::backend::{BackendError, ProxyId};
use gyre_proto::codes::Disconnect;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::Authority;

use super::redis::TlsOptions;
use crate::config::types::{Config, Proxy as Written, Secret, Tls};

/// What may stand before the address of a gRPC backend. Centrifugo is given the targets of gRPC in Go as well; those
/// that end in an address lead there.
const TARGETS: [&str; 3] = ["grpc://", "dns:///", "passthrough:///"];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) list: Vec<Proxy>,
}

/// One proxy. Two uses of a named one share it; each unnamed one has its own.
#[derive(Debug, PartialEq)]
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
#[derive(Debug, PartialEq)]
pub(crate) enum Endpoint {
    Http {
        /// May hold a user and a password.
        url: Secret,
        tls: Option<TlsOptions>,
        static_headers: Vec<(String, Secret)>,
        transforms: Vec<StatusTransform>,
    },
    Grpc {
        /// `host:port`.
        address: String,
        tls: Option<TlsOptions>,
        /// Metadata key and value of every call; an empty key = none.
        credentials: (String, Secret),
        compression: bool,
        static_metadata: Vec<(String, Secret)>,
    },
}

/// What a status other than 200 stands for.
#[derive(Debug, PartialEq)]
pub(crate) struct StatusTransform {
    pub(crate) status: u16,
    pub(crate) to: TransformTo,
}

#[derive(Debug, PartialEq)]
pub(crate) enum TransformTo {
    Error(BackendError),
    Disconnect(Disconnect),
}

/// Where the proxy of an event of channels is configured that has no name of its own.
pub(crate) fn channel_default(event: &str) -> String {
    format!("channel.proxy.{event}")
}

impl Proxies {
    /// Those of the configuration that something uses or could use.
    ///
    /// # Errors
    /// The first endpoint or header that cannot be used.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let (client, channel) = (&config.client.proxy, &config.channel.proxy);
        let channels = || {
            let namespaces = config.channel.namespaces.iter().map(|namespace| &namespace.options);
            std::iter::once(&config.channel.without_namespace).chain(namespaces)
        };
        let is_default = |name: &str| matches!(name, "" | "default");
        let mut used = vec![
            ("client.proxy.connect".to_owned(), client.connect.enabled, &client.connect.proxy),
            ("client.proxy.refresh".to_owned(), client.refresh.enabled, &client.refresh.proxy),
        ];
        let mut add = |event: &str, is_used: bool, proxy| used.push((channel_default(event), is_used, proxy));
        add(
            "subscribe",
            channels().any(|o| o.subscribe_proxy_enabled && is_default(&o.subscribe_proxy_name)),
            &channel.subscribe,
        );
        add(
            "publish",
            channels().any(|o| o.publish_proxy_enabled && is_default(&o.publish_proxy_name)),
            &channel.publish,
        );
        add(
            "sub_refresh",
            channels().any(|o| o.sub_refresh_proxy_enabled && is_default(&o.sub_refresh_proxy_name)),
            &channel.sub_refresh,
        );
        add("state", channels().any(|o| o.state_proxy_enabled && is_default(&o.state_proxy_name)), &channel.state);
        add(
            "cache_empty",
            channels().any(|o| o.cache_empty_proxy_enabled && is_default(&o.cache_empty_proxy_name)),
            &channel.cache_empty,
        );
        let rpc = &config.rpc;
        let mut rpcs = rpc.namespaces.iter().map(|namespace| &namespace.options).chain([&rpc.without_namespace]);
        let is_rpc_used = rpcs.any(|options| options.proxy_enabled && is_default(&options.proxy_name));
        used.push(("rpc.proxy".to_owned(), is_rpc_used, &rpc.proxy));
        let mut list = Vec::new();
        for (path, _, written) in used.into_iter().filter(|(_, is_used, _)| *is_used) {
            list.push(Proxy::new(path, "default", written)?);
        }
        for named in &config.proxies {
            list.push(Proxy::new(named_path(&named.name), &named.name, &named.proxy)?);
        }
        Ok(Self { list })
    }

    /// The id of a proxy by its name; `default` stands for what is at a path.
    ///
    /// # Errors
    /// There is none. The configuration has been checked, so this is a reload that uses a new one.
    pub(crate) fn id(&self, name: &str, default: &str) -> anyhow::Result<ProxyId> {
        let path = match name {
            "" | "default" => default.to_owned(),
            name => named_path(name),
        };
        match self.list.iter().position(|proxy| proxy.path == path) {
            Some(at) => Ok(ProxyId(at as u16)),
            None => is_new(&path),
        }
    }

    /// Whether what this was made of is still what the operator wants.
    ///
    /// # Errors
    /// A proxy is another one now, or was not there.
    pub(crate) fn check_unchanged(&self, now: &Self) -> anyhow::Result<()> {
        for proxy in &now.list {
            match self.list.iter().find(|known| known.path == proxy.path) {
                Some(known) if known == proxy => {}
                Some(_) => bail!("{}: proxies are read at start; restart to change one", proxy.path),
                None => return is_new(&proxy.path),
            }
        }
        Ok(())
    }

    /// Headers of requests that some proxy forwards.
    pub(crate) fn http_headers(&self) -> Vec<HeaderName> {
        let names: BTreeSet<&String> = self.list.iter().flat_map(|proxy| &proxy.http_headers).collect();
        names.into_iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()).collect()
    }

    /// Headers of connect commands that some proxy forwards.
    pub(crate) fn emulated_headers(&self) -> Vec<Box<str>> {
        let names: BTreeSet<&String> = self.list.iter().flat_map(|proxy| &proxy.emulated_headers).collect();
        names.into_iter().map(|name| name.as_str().into()).collect()
    }
}

fn named_path(name: &str) -> String {
    format!("proxies {name:?}")
}

fn is_new<T>(path: &str) -> anyhow::Result<T> {
    bail!("{path}: proxies are read at start; restart to use a new one")
}

impl Proxy {
    fn new(path: String, name: &str, written: &Written) -> anyhow::Result<Self> {
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
        let proxy = Self {
            name: name.to_owned(),
            endpoint: endpoint(&path, written)?,
            timeout: written.timeout,
            http_headers: lower(&written.http_headers),
            emulated_headers: lower(&written.emulated_headers),
            grpc_metadata: lower(&written.grpc_metadata),
            binary_encoding: written.binary_encoding,
            include_connection_meta: written.include_connection_meta,
            path,
        };
        let lists = [
            ("http_headers", &proxy.http_headers),
            ("emulated_headers", &proxy.emulated_headers),
            ("grpc_metadata", &proxy.grpc_metadata),
        ];
        for (option, names) in lists {
            if let Some(name) = names.iter().find(|name| HeaderName::try_from(name.as_str()).is_err()) {
                bail!("{}.{option}: {name:?} is no name of a header", proxy.path);
            }
        }
        Ok(proxy)
    }
}

fn endpoint(path: &str, written: &Written) -> anyhow::Result<Endpoint> {
    let text = written.endpoint.expose();
    if !text.starts_with("http") {
        let grpc = &written.grpc;
        let target = TARGETS.iter().find_map(|scheme| text.strip_prefix(scheme));
        let address = target.map_or(text, |target| target.strip_suffix('/').unwrap_or(target));
        if !address.parse::<Authority>().is_ok_and(|address| address.port().is_some() && !text.contains('@')) {
            bail!("{path}.endpoint: expected http://…, https://… or grpc://host:port");
        }
        return Ok(Endpoint::Grpc {
            address: address.to_owned(),
            tls: encryption(path, "grpc.tls", &grpc.tls)?,
            credentials: (grpc.credentials_key.to_lowercase(), grpc.credentials_value.clone()),
            compression: grpc.compression,
            static_metadata: pairs(path, "grpc.static_metadata", &grpc.static_metadata)?,
        });
    }
    let is_url = text.parse::<Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    });
    if !is_url {
        bail!("{path}.endpoint: is no URL; expected http://host:port/path");
    }
    let http = &written.http;
    let transforms = http.status_to_code_transforms.iter().map(|transform| {
        let (error, disconnect) = (&transform.to_error, &transform.to_disconnect);
        let number = |code: i64| u32::try_from(code).unwrap_or_default();
        StatusTransform {
            status: u16::try_from(transform.status_code).unwrap_or_default(),
            to: match number(error.code) {
                0 => {
                    let (code, reason) = (number(disconnect.code), disconnect.reason.clone());
                    TransformTo::Disconnect(Disconnect::of_application(code, reason))
                }
                code => TransformTo::Error(BackendError {
                    code,
                    message: error.message.clone(),
                    temporary: error.temporary,
                }),
            },
        }
    });
    Ok(Endpoint::Http {
        url: written.endpoint.clone(),
        tls: encryption(path, "http.tls", &http.tls)?,
        static_headers: pairs(path, "http.static_headers", &http.static_headers)?,
        transforms: transforms.collect(),
    })
}

/// The options, if TLS is on; read once here, so that what cannot be used is found before there is a node.
fn encryption(path: &str, object: &str, written: &Tls) -> anyhow::Result<Option<TlsOptions>> {
    if !written.enabled {
        return Ok(None);
    }
    let options = TlsOptions::of(written);
    options.client_config(object).map_err(|mistake| mistake.in_section(path))?;
    Ok(Some(options))
}

fn pairs(path: &str, option: &str, written: &BTreeMap<String, Secret>) -> anyhow::Result<Vec<(String, Secret)>> {
    for (name, value) in written {
        if HeaderName::try_from(name.as_str()).is_err() || HeaderValue::try_from(value.expose()).is_err() {
            bail!("{path}.{option}: {name:?} or its value cannot stand in a request");
        }
    }
    Ok(written.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    /// By environment alone, as in containers.
    fn config(variables: &[(&str, &str)]) -> Config {
        let environment = variables.iter().copied().collect();
        Config::load(Sources { environment, ..Sources::default() }).unwrap().0
    }

    const NAMESPACE: (&str, &str) = (
        "CENTRIFUGO_CHANNEL_NAMESPACES",
        r#"[{"name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true, "publish_proxy_name": "a1"}]"#,
    );
    const NAMED: (&str, &str) = (
        "CENTRIFUGO_PROXIES",
        r#"[{"name": "a1", "endpoint": "grpc://b:1", "http_headers": ["X-A"], "emulated_headers": ["Authorization"]}]"#,
    );

    /// The namespace would ask another backend than the one it names.
    #[test]
    fn names_find_their_proxy() {
        let subscribe = ("CENTRIFUGO_CHANNEL_PROXY_SUBSCRIBE_ENDPOINT", "https://u:p@a/x?y=z");
        let config = config(&[NAMESPACE, NAMED, subscribe]);
        let proxies = Proxies::new(&config).unwrap();
        let rules = crate::settings::rules(&config, &proxies).unwrap();
        let of = rules.resolve("chat:1").unwrap().options.proxies;
        let path = |id: Option<ProxyId>| proxies.list[usize::from(id.unwrap().0)].path.as_str();
        assert_eq!(path(of.subscribe), "channel.proxy.subscribe");
        assert_eq!(path(of.publish), "proxies \"a1\"");
        assert_eq!(of.sub_refresh, None);
        assert_eq!(proxies.http_headers(), ["x-a"]);
        assert_eq!(&*rules.proxies.emulated_headers, ["authorization".into()]);
        assert!(!format!("{proxies:?}").contains("u:p"), "an endpoint may hold a password");
    }

    /// Calls in flight and their order belong to what was there at the start.
    #[test]
    fn a_reload_cannot_change_a_backend() {
        let with = |endpoint| config(&[("CENTRIFUGO_RPC_PROXY_ENDPOINT", endpoint), RPC]);
        const RPC: (&str, &str) = ("CENTRIFUGO_RPC_WITHOUT_NAMESPACE_PROXY_ENABLED", "true");
        let started = Proxies::new(&with("http://a")).unwrap();
        assert!(started.check_unchanged(&Proxies::new(&with("http://a")).unwrap()).is_ok());
        let error = started.check_unchanged(&Proxies::new(&with("http://b")).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "rpc.proxy: proxies are read at start; restart to change one");
        let error = Proxies::default().id("", "rpc.proxy").unwrap_err();
        assert_eq!(error.to_string(), "rpc.proxy: proxies are read at start; restart to use a new one");
        // Whether something uses it or not: whoever adds it will.
        let error = started.check_unchanged(&Proxies::new(&config(&[NAMED])).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "proxies \"a1\": proxies are read at start; restart to use a new one");
    }

    /// `checkconfig` would pass what the node then does not start with.
    #[test]
    fn certificates_that_cannot_be_read() {
        for (object, endpoint) in [("http", "https://a"), ("grpc", "grpc://a:1")] {
            let of_proxy = |option: &str| format!("CENTRIFUGO_CLIENT_PROXY_CONNECT_{option}");
            let tls = |option: &str| of_proxy(&format!("{}_TLS_{option}", object.to_uppercase()));
            let (enabled, at) = (of_proxy("ENABLED"), of_proxy("ENDPOINT"));
            let (tls_enabled, ca) = (tls("ENABLED"), tls("SERVER_CA_PEM"));
            let mut variables = vec![(&*enabled, "true"), (&*at, endpoint), (&*ca, "/nowhere")];
            assert!(Proxies::new(&config(&variables)).is_ok(), "TLS is off");
            variables.push((&tls_enabled, "true"));
            let error = Proxies::new(&config(&variables)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("client.proxy.connect.{object}.tls.server_ca_pem: ")), "{error}");
        }
    }

    /// Configurations of Centrifugo would not start.
    #[test]
    fn ways_to_write_the_address_of_a_grpc_backend() {
        for endpoint in ["grpc://a:1", "grpc://a:1/", "a:1", "dns:///a:1", "passthrough:///a:1"] {
            let proxies = Proxies::new(&config(&[
                ("CENTRIFUGO_CLIENT_PROXY_CONNECT_ENABLED", "true"),
                ("CENTRIFUGO_CLIENT_PROXY_CONNECT_ENDPOINT", endpoint),
            ]));
            let written = &proxies.unwrap().list[0].endpoint;
            assert!(matches!(written, Endpoint::Grpc { address, .. } if address == "a:1"), "{endpoint}");
        }
    }

    /// Found out at the start rather than by the first client.
    #[test]
    fn endpoints_that_lead_nowhere() {
        for endpoint in
            ["httpx://a", "http://", "http:/a", "a", "grpc://a", "grpc://u@a:1", "a:1/x", "dns://1.1.1.1/a:1"]
        {
            let config = config(&[
                ("CENTRIFUGO_CLIENT_PROXY_CONNECT_ENABLED", "true"),
                ("CENTRIFUGO_CLIENT_PROXY_CONNECT_ENDPOINT", endpoint),
            ]);
            let error = Proxies::new(&config).unwrap_err().to_string();
            assert!(error.starts_with("client.proxy.connect.endpoint: "), "{endpoint}: {error}");
        }
    }
}
