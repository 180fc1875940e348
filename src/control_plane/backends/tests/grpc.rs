//! Calls to a backend that speaks gRPC, made of the same .proto.

use std::sync::Mutex;

use gyre_engine::backend::{BackendError, StateEventKind};
use gyre_proto::proxy::*;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Response, Status};

use super::super::grpc::client::centrifugo_proxy_server::{CentrifugoProxy, CentrifugoProxyServer};
use super::tls::certificate;
use super::*;
use crate::settings::redis::TlsOptions;

/// Remembers what it was asked.
#[derive(Clone, Default)]
struct Service {
    seen: Arc<Mutex<Vec<(String, MetadataMap)>>>,
}

impl Service {
    fn note<T: std::fmt::Debug>(&self, request: tonic::Request<T>) {
        let (metadata, _, message) = request.into_parts();
        self.seen.lock().unwrap().push((format!("{message:?}"), metadata));
    }

    fn last(&self) -> (String, MetadataMap) {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

#[tonic::async_trait]
impl CentrifugoProxy for Service {
    async fn connect(&self, request: tonic::Request<ConnectRequest>) -> Result<Response<ConnectResponse>, Status> {
        self.note(request);
        let result = ConnectResult { user: "me".into(), ..Default::default() };
        Ok(Response::new(ConnectResponse { result: Some(result), ..Default::default() }))
    }

    async fn refresh(&self, request: tonic::Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        self.note(request);
        let result = RefreshResult { expire_at: 5, ..Default::default() };
        Ok(Response::new(RefreshResponse { result: Some(result), ..Default::default() }))
    }

    async fn subscribe(
        &self,
        request: tonic::Request<SubscribeRequest>,
    ) -> Result<Response<SubscribeResponse>, Status> {
        self.note(request);
        let error = Error { code: 403, message: "no".into(), temporary: false };
        Ok(Response::new(SubscribeResponse { error: Some(error), ..Default::default() }))
    }

    async fn publish(&self, request: tonic::Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        self.note(request);
        Ok(Response::new(PublishResponse::default()))
    }

    async fn rpc(&self, request: tonic::Request<RpcRequest>) -> Result<Response<RpcResponse>, Status> {
        let method = request.get_ref().method.clone();
        self.note(request);
        match &*method {
            "slow" => std::future::pending().await,
            "fail" => Err(Status::resource_exhausted("not today")),
            _ => {
                let result = RpcResult { data: Bytes::from_static(&[0, 0xff]), ..Default::default() };
                Ok(Response::new(RpcResponse { result: Some(result), ..Default::default() }))
            }
        }
    }

    async fn sub_refresh(
        &self,
        request: tonic::Request<SubRefreshRequest>,
    ) -> Result<Response<SubRefreshResponse>, Status> {
        self.note(request);
        Ok(Response::new(SubRefreshResponse { result: Some(SubRefreshResult::default()), ..Default::default() }))
    }

    async fn notify_cache_empty(
        &self,
        request: tonic::Request<NotifyCacheEmptyRequest>,
    ) -> Result<Response<NotifyCacheEmptyResponse>, Status> {
        self.note(request);
        let result = NotifyCacheEmptyResult { populated: true };
        Ok(Response::new(NotifyCacheEmptyResponse { result: Some(result), error: None }))
    }

    async fn notify_channel_state(
        &self,
        request: tonic::Request<NotifyChannelStateRequest>,
    ) -> Result<Response<NotifyChannelStateResponse>, Status> {
        self.note(request);
        Ok(Response::new(NotifyChannelStateResponse::default()))
    }
}

/// A server on a thread of its own, because it ends with everything in it.
struct Backend {
    service: Service,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Backend {
    fn start(address: SocketAddr, identity: Option<Identity>) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service::default();
        let offered = service.clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut server = Server::builder();
                if let Some(identity) = identity {
                    server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
                }
                let gzip = tonic::codec::CompressionEncoding::Gzip;
                let router = server.add_service(CentrifugoProxyServer::new(offered).accept_compressed(gzip));
                let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
                tokio::select! {
                    result = router.serve_with_incoming(incoming) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { service, address, stop, thread }
    }

    /// Closes the listener and every connection.
    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

fn here() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn grpc_proxy(address: SocketAddr) -> Proxy {
    let endpoint = Endpoint::Grpc {
        address: address.to_string(),
        tls: None,
        credentials: (String::new(), Secret::new(String::new())),
        compression: false,
        static_metadata: Vec::new(),
    };
    Proxy { endpoint, ..http_proxy(String::new()) }
}

fn method(method: &str) -> BackendCall {
    let event = BackendEvent::Rpc { method: method.into(), data: Bytes::from_static(&[0xff]) };
    BackendCall { proxy: ProxyId(0), client: Some(client()), event }
}

/// Every event reaches its method with all that is known, and what the method says comes back as it is.
#[test]
fn every_method() {
    run(async {
        let backend = Backend::start(here(), None);
        let backends = backends(grpc_proxy(backend.address));
        let asked =
            async |event| ask(&backends, BackendCall { proxy: ProxyId(0), client: Some(client()), event }).await;
        let connect = BackendEvent::Connect {
            data: Bytes::from_static(b"{}"),
            name: "n".into(),
            version: "v".into(),
            channels: vec!["c".into()],
        };
        let BackendReply::Result(result) = asked(connect).await else { panic!("no result") };
        assert!(matches!(*result, BackendResult::Connect(answer) if answer.user == "me"));
        let text = backend.service.last().0;
        let expected = r#"ConnectRequest { client: "07070707-0707-0707-0707-070707070707", transport: "websocket", "#;
        let rest = r#"protocol: "json", encoding: "json", data: b"{}", b64data: "", name: "n", version: "v", channels: ["c"] }"#;
        assert_eq!(text, format!("{expected}{rest}"));
        let BackendReply::Result(result) = asked(BackendEvent::Refresh).await else { panic!("no result") };
        assert!(matches!(*result, BackendResult::Refresh(answer) if answer.expire_at_s == 5));
        let event = BackendEvent::Subscribe { channel: "c".into(), data: Bytes::new() };
        let error = BackendError { code: 403, message: "no".into(), temporary: false };
        assert_eq!(asked(event).await, BackendReply::Error(error));
        let event = BackendEvent::Publish { channel: "c".into(), data: Bytes::new() };
        assert_eq!(asked(event).await, BackendReply::NoResult);
        let event = BackendEvent::SubRefresh { channel: "c".into() };
        assert!(matches!(asked(event).await, BackendReply::Result(_)));
        // Not JSON, and none of gRPC's business.
        let BackendReply::Result(result) = ask(&backends, method("m")).await else { panic!("no result") };
        assert_eq!(*result, BackendResult::Rpc(Bytes::from_static(&[0, 0xff])));
        let populated = BackendReply::Result(Box::new(BackendResult::CacheEmpty(true)));
        assert_eq!(ask(&backends, cache_empty("c")).await, populated);
        let event = StateEvent { time_ms: 7, channel: "c".into(), kind: StateEventKind::Vacated };
        let (sender, told) = oneshot::channel();
        backends.notify(ProxyId(0), vec![event], |ok| sender.send(ok).expect("somebody waits"));
        assert!(told.await.unwrap());
        let expected = r#"events: [ChannelEvent { time_ms: 7, channel: "c", r#type: "vacated" }]"#;
        assert_eq!(backend.service.last().0, format!("NotifyChannelStateRequest {{ {expected} }}"));
    });
}

/// A status is a failure whatever its code says, silence is one in time, and the next call is none the worse for it.
#[test]
fn failures() {
    run(async {
        let backend = Backend::start(here(), None);
        let mut proxy = grpc_proxy(backend.address);
        proxy.timeout = Duration::from_millis(500);
        let backends = backends(proxy);
        assert_eq!(ask(&backends, method("fail")).await, BackendReply::Failed);
        assert_eq!(ask(&backends, method("slow")).await, BackendReply::Failed);
        assert_ne!(ask(&backends, method("m")).await, BackendReply::Failed);
        assert_eq!(backends.list[0].stats.borrow().errors(Kind::Rpc), 2);
    });
}

/// Headers of clients arrive as metadata by the lists for headers, beside what is configured; nothing else does.
#[test]
fn metadata() {
    run(async {
        let backend = Backend::start(here(), None);
        let mut proxy = grpc_proxy(backend.address);
        proxy.endpoint = Endpoint::Grpc {
            address: backend.address.to_string(),
            tls: None,
            credentials: ("Authorization".into(), Secret::new("Bearer x".into())),
            compression: true,
            static_metadata: [("X-A", "fixed"), ("x-b", "fixed")]
                .map(|(name, value)| (name.into(), Secret::new(value.into())))
                .to_vec(),
        };
        proxy.http_headers = ["x-b", "x-c", "x-d-bin", "te", "content-type"].map(ToOwned::to_owned).to_vec();
        proxy.emulated_headers = vec!["authorization".into()];
        let backends = backends(proxy);
        let transport = [
            ("x-b", &b"b"[..]),
            ("x-c", b"1"),
            ("x-c", b"2"),
            ("x-d-bin", b"d"),
            ("te", b"gzip"),
            ("content-type", b"text/plain"),
            ("x-e", b"e"),
        ];
        let transport = transport.map(|(name, value)| (name.into(), value.into())).to_vec();
        let emulated = vec![("authorization".into(), "made up".into())];
        let mut call = method("m");
        call.client.as_mut().unwrap().headers = Some(Arc::new(ClientHeaders { transport, emulated }));
        assert!(matches!(ask(&backends, call).await, BackendReply::Result(_)));
        let metadata = backend.service.last().1;
        let values =
            |name: &str| -> Vec<_> { metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect() };
        assert_eq!(values("x-a"), ["fixed"]);
        assert_eq!(values("x-b"), ["b"]);
        assert_eq!(values("x-c"), ["1", "2"]);
        assert_eq!(values("authorization"), ["Bearer x"]);
        assert_eq!(values("grpc-encoding"), ["gzip"]);
        assert!(metadata.get("x-e").is_none());
        assert_eq!(metadata.get_bin("x-d-bin").unwrap().to_bytes().unwrap(), "d");
        assert!(metadata.get("grpc-timeout").is_some());
    });
}

/// Deploying a backend must not need a restart of the node.
#[test]
fn a_backend_that_restarts() {
    run(async {
        let backend = Backend::start(here(), None);
        let address = backend.address;
        let backends = backends(grpc_proxy(address));
        assert_ne!(ask(&backends, method("m")).await, BackendReply::Failed);
        backend.stop();
        assert_eq!(ask(&backends, method("m")).await, BackendReply::Failed);
        let _backend = Backend::start(address, None);
        let deadline = Instant::now() + STUCK;
        while ask(&backends, method("m")).await == BackendReply::Failed {
            assert!(Instant::now() < deadline, "it is not found again");
        }
    });
}

/// A backend that cannot prove who it is must not see what clients send.
#[test]
fn tls() {
    run(async {
        let (pem, key) = certificate("backend.test");
        let backend = Backend::start(here(), Some(Identity::from_pem(&pem, &key)));
        let asked = async |options: Option<TlsOptions>| {
            let mut proxy = grpc_proxy(backend.address);
            let Endpoint::Grpc { tls, .. } = &mut proxy.endpoint else { panic!() };
            *tls = options;
            proxy.timeout = Duration::from_secs(2);
            ask(&backends(proxy), method("m")).await != BackendReply::Failed
        };
        let trusting = TlsOptions { server_ca_pem: pem, ..TlsOptions::default() };
        let named = TlsOptions { server_name: "backend.test".into(), ..trusting.clone() };
        assert!(asked(Some(named)).await);
        assert!(!asked(Some(trusting)).await);
        assert!(!asked(None).await);
    });
}
