//! The server API over gRPC: a listener of its own on the control thread, with key, TLS and reflection as configured.
//!
//! Nothing is decided here: a call is handed to a core as the command that it is and waits for the reply
//! (`data_plane::api`), so every method does the same as over HTTP. Must never wait for a core without a way out: a core
//! that ends drops the call.

mod calls;
mod errors;
mod incoming;
mod service;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};
use tower::util::MapResponseLayer;

use crate::data_plane::{ApiCall, ApiReply};
use crate::limits::{GRPC_BEGIN_S, GRPC_CONNECTIONS_MAX, GRPC_DEAD_S, GRPC_PING_S};
use crate::settings::GrpcApiSettings;
pub(super) use calls::Calls;
use incoming::{Bounds, Incoming};
use service::{Service, services};

const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.descriptor"));

/// A call on its way to a core, and who waits for the reply.
pub(super) struct Asked {
    pub(super) call: ApiCall,
    pub(super) reply: oneshot::Sender<ApiReply>,
}

/// What serves it.
pub(crate) struct GrpcApi {
    /// Bound, so that an address that is taken is found out at the start.
    pub(crate) listener: StdListener,
    pub(crate) settings: GrpcApiSettings,
}

impl GrpcApi {
    /// Serves until `stop` comes or is dropped; calls that are under way then still get their replies, before the task
    /// that is returned ends.
    ///
    /// # Errors
    /// A listener that cannot be used.
    pub(super) fn start(
        self,
        calls: UnboundedSender<Asked>,
        stop: oneshot::Receiver<()>,
    ) -> anyhow::Result<JoinHandle<()>> {
        let Self { listener, settings } = self;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let bounds = Bounds { connections_max: GRPC_CONNECTIONS_MAX, begin_within: Duration::from_secs(GRPC_BEGIN_S) };
        let incoming = Incoming::new(TcpListener::from_std(listener)?, settings.tls, bounds);
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(GRPC_PING_S)))
            .http2_keepalive_timeout(Some(Duration::from_secs(GRPC_DEAD_S)));
        let service = services::centrifugo_api_server::CentrifugoApiServer::new(Service {
            calls,
            is_transport_mode: settings.is_transport_mode,
        })
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(settings.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
        let key: Arc<str> = settings.key.into();
        let guarded = InterceptedService::new(service, move |request| authorize(&key, request));
        let mut router = server.layer(MapResponseLayer::new(errors::too_large)).add_service(guarded);
        if settings.has_reflection {
            let reflection =
                || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTOR);
            router = router.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
        }
        tracing::info!("serving gRPC API on {address}");
        Ok(tokio::spawn(async move {
            let stopped = async { stop.await.unwrap_or_default() };
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "the gRPC API has ended");
            }
        }))
    }
}

/// An empty key lets everybody in.
fn authorize(key: &str, request: Request<()>) -> Result<Request<()>, Status> {
    let given = request.metadata().get("authorization").map(|value| value.as_bytes()).unwrap_or_default();
    let is_in =
        key.is_empty() || given.strip_prefix(b"apikey ").is_some_and(|given| bool::from(given.ct_eq(key.as_bytes())));
    if is_in { Ok(request) } else { Err(Status::unauthenticated("unauthenticated")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any other answer opens the API to strangers or locks an existing client out.
    #[test]
    fn keys() {
        let is_in = |key: &str, given: Option<&str>| {
            let mut request = Request::new(());
            if let Some(given) = given {
                request.metadata_mut().insert("authorization", given.parse().unwrap());
            }
            authorize(key, request).is_ok()
        };
        assert!(is_in("", None));
        assert!(is_in("", Some("anything")));
        assert!(is_in("k", Some("apikey k")));
        for given in
            [None, Some("k"), Some("apikey"), Some("apikey "), Some("apikey  k"), Some("Apikey k"), Some("apikey kk")]
        {
            assert!(!is_in("k", given), "{given:?}");
        }
    }
}
