//! Calls over gRPC: one channel per backend, connected with the first call and again after every loss. Headers of clients
//! become metadata by the same lists as over HTTP.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gyre_engine::backend::{BackendReply, ClientHeaders};
use gyre_proto::proxy::Request;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderValue};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use self::client::centrifugo_proxy_client::CentrifugoProxyClient;
use super::answers;
use super::dial::{Dial, Tls};
use super::failure::Failure;
use super::headers::Headers;
use crate::config::types::Secret;
use crate::limits::{BACKEND_ANSWER_BYTES_MAX, BACKEND_DEAD_S};
use crate::settings::proxies::Proxy;
use crate::settings::redis::TlsOptions;

#[expect(clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated")]
pub(super) mod client {
    //! Generated from `proto/protos/proxy.proto`.

    include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifugo.proxy.rs"));
}

/// One backend.
pub(super) struct Grpc {
    client: CentrifugoProxyClient<Channel>,
    headers: Headers,
    credentials: Option<(hyper::header::HeaderName, HeaderValue)>,
    address: String,
}

/// What is configured of one, but for what every proxy has.
pub(super) struct GrpcOptions<'a> {
    pub(super) address: &'a str,
    pub(super) tls: Option<&'a TlsOptions>,
    pub(super) credentials: &'a (String, Secret),
    pub(super) compression: bool,
    pub(super) static_metadata: &'a [(String, Secret)],
}

impl Grpc {
    /// # Errors
    /// What cannot be used, with its path and without secrets.
    pub(super) fn new(proxy: &Proxy, options: GrpcOptions<'_>) -> anyhow::Result<Self> {
        let GrpcOptions { address, tls, credentials: (key, value), compression, static_metadata } = options;
        let uri = |scheme: &str| -> anyhow::Result<Uri> {
            let uri: Option<Uri> = format!("{scheme}://{address}").parse().ok();
            let uri = uri.filter(|uri| uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == "/");
            uri.ok_or_else(|| anyhow!("{}.endpoint: expected grpc://host:port", proxy.path))
        };
        // The scheme of where it connects stays plain, because TLS is ours; in requests it is what it is.
        let mut endpoint = Endpoint::from(uri("http")?)
            .user_agent(concat!("gyre/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(Duration::from_secs(BACKEND_DEAD_S));
        let mut dialled_tls = None;
        if let Some(options) = tls {
            dialled_tls = Some(Tls::new(options, proxy, "grpc.tls", "h2")?.always());
            endpoint = endpoint.origin(uri("https")?);
        }
        let channel = endpoint.connect_with_connector_lazy(Dial::new(dialled_tls));
        let mut client = CentrifugoProxyClient::new(channel).max_decoding_message_size(BACKEND_ANSWER_BYTES_MAX);
        if compression {
            client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
        }
        let headers = Headers::new(proxy, "grpc.static_metadata", static_metadata)?;
        let credentials = match key.is_empty() {
            true => None,
            false => {
                let place = |name: &str| format!("{}.grpc.{name}", proxy.path);
                let key = key.to_ascii_lowercase().parse().with_context(|| place("credentials_key"))?;
                let mut value: HeaderValue = value.expose().parse().with_context(|| place("credentials_value"))?;
                value.set_sensitive(true);
                Some((key, value))
            }
        };
        Ok(Self { client, headers, credentials, address: address.to_owned() })
    }

    /// The address, for the log.
    pub(super) fn masked(&self) -> String {
        match self.address.rsplit_once('@') {
            Some((_, host)) => format!("grpc://{host}"),
            None => format!("grpc://{}", self.address),
        }
    }

    /// One call.
    pub(super) async fn ask(
        &self,
        proxy: &Proxy,
        request: Request,
        client: Option<&ClientHeaders>,
    ) -> Result<BackendReply, Failure> {
        let mut backend = self.client.clone();
        let metadata = self.metadata(client);
        // Boxed, or each task would have room for all of them.
        macro_rules! call {
            ($method:ident, $message:ident) => {{
                let mut request = tonic::Request::from_parts(metadata, Default::default(), $message);
                request.set_timeout(proxy.timeout);
                Box::pin(backend.$method(request)).await?.into_inner()
            }};
        }
        match request {
            Request::Connect(message) => answers::connect(call!(connect, message)),
            Request::Refresh(message) => answers::refresh(call!(refresh, message)),
            Request::Subscribe(message) => answers::subscribe(call!(subscribe, message)),
            Request::Publish(message) => answers::publish(call!(publish, message)),
            Request::Rpc(message) => answers::rpc(call!(rpc, message)),
            Request::SubRefresh(message) => answers::sub_refresh(call!(sub_refresh, message)),
            Request::CacheEmpty(message) => answers::cache_empty(call!(notify_cache_empty, message)),
            Request::State(message) => answers::state(call!(notify_channel_state, message)),
        }
    }

    fn metadata(&self, client: Option<&ClientHeaders>) -> MetadataMap {
        let mut headers = self.headers.of(client);
        if let Some((key, value)) = &self.credentials {
            headers.insert(key, value.clone());
        }
        if headers.keys().any(|name| name.as_str().ends_with("-bin")) {
            headers = in_base64(headers);
        }
        MetadataMap::from_headers(headers)
    }
}

/// Values of names that end in `-bin` are sent in base64.
fn in_base64(headers: HeaderMap) -> HeaderMap {
    let encoded = |name: &str, value: HeaderValue| match name.ends_with("-bin") {
        // Not reached: base64 has no control characters.
        true => HeaderValue::try_from(STANDARD_NO_PAD.encode(value.as_bytes())).unwrap_or(value),
        false => value,
    };
    let mut name = None;
    let mut map = HeaderMap::with_capacity(headers.len());
    for (next, value) in headers {
        name = next.or(name);
        if let Some(name) = &name {
            map.append(name, encoded(name.as_str(), value));
        }
    }
    map
}
