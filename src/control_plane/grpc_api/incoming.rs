//! Connections of the gRPC API on their way to tonic, which bounds neither their number nor the time in which they have to
//! begin: no more than may be here, TLS where it is configured, and an end to those that do not say in time what every
//! HTTP/2 client begins with. What falls silent later is found by pings.
//!
//! Tasks of the control thread: one that accepts, and one for each TLS handshake. They end with [`Incoming`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::REFUSED_LOG_MS;

/// What every client begins with: `PRI * HTTP/2.0`, `SM`.
const PREFACE_BYTES: usize = 24;

/// Pause after an accept failed, typically because there are no files left: long enough not to spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What may come in.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    /// From the accept until a client has begun to speak HTTP/2.
    pub(super) begin_within: Duration,
}

/// See the module. No file is open for it any more some time after it was dropped.
pub(super) struct Incoming {
    wires: UnboundedReceiver<Wire>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<ServerConfig>>, bounds: Bounds) -> Self {
        // Bounded by the places.
        let (sender, wires) = unbounded_channel();
        tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), bounds, sender));
        Self { wires }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Wire>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.wires.poll_recv(context).map(|wire| wire.map(Ok))
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, bounds: Bounds, wires: UnboundedSender<Wire>) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let (mut refused, mut failed) = (Lines::default(), Lines::default());
    loop {
        let accepted = tokio::select! {
            () = wires.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                if let Some(count) = failed.note(Instant::now()) {
                    tracing::error!(%error, count, "cannot accept connections of the gRPC API");
                }
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Some(count) = refused.note(Instant::now()) {
                let limit = bounds.connections_max;
                tracing::warn!(count, limit, "the gRPC API has all the connections that it takes; refusing more");
            }
            continue;
        };
        // Small replies must not wait for more; a socket that has gone already says so when it is read.
        let _ = tcp.set_nodelay(true);
        let deadline = Instant::now() + bounds.begin_within;
        let wire = move |stream| {
            let preface = Preface { bytes_left: PREFACE_BYTES, deadline: Box::pin(sleep_until(deadline)) };
            Wire { stream, preface: Some(preface), _place: place }
        };
        match &tls {
            None => wires.send(wire(Encryption::None(tcp))).unwrap_or_default(),
            Some(tls) => {
                let (handshake, wires) = (tls.accept(tcp), wires.clone());
                tokio::spawn(async move {
                    match timeout_at(deadline, handshake).await {
                        Ok(Ok(tls)) => wires.send(wire(Encryption::Tls(Box::new(tls)))).unwrap_or_default(),
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the gRPC API has failed"),
                        Err(_) => tracing::debug!("a TLS handshake with the gRPC API took too long"),
                    }
                });
            }
        }
    }
}

/// A connection with its place among those that may be here.
pub(super) struct Wire {
    stream: Encryption,
    /// `None` = has been read.
    preface: Option<Preface>,
    _place: OwnedSemaphorePermit,
}

enum Encryption {
    None(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is to come yet, and until when.
struct Preface {
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Encryption {
    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Unpin)> {
        Pin::new(match self {
            Self::None(tcp) => tcp,
            Self::Tls(tls) => &mut **tls,
        })
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        Pin::new(match self {
            Self::None(tcp) => tcp,
            Self::Tls(tls) => &mut **tls,
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = into.filled().len();
        let polled = self.stream.reader().poll_read(context, into);
        if let Some(preface) = &mut self.preface {
            preface.bytes_left = preface.bytes_left.saturating_sub(into.filled().len() - filled);
            if preface.bytes_left == 0 {
                self.preface = None;
            } else if polled.is_pending() && preface.deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.writer().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.writer().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.writer().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.writer().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Encryption::None(tcp) => tcp.is_write_vectored(),
            Encryption::Tls(tls) => tls.is_write_vectored(),
        }
    }
}

impl Connected for Wire {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.stream {
            Encryption::None(tcp) => tcp.connect_info(),
            Encryption::Tls(tls) => tls.get_ref().0.connect_info(),
        }
    }
}

/// One kind of trouble in the log: a line now and then, not one for each connection.
#[derive(Default)]
struct Lines {
    /// Since the last line.
    count: u64,
    next: Option<Instant>,
}

impl Lines {
    /// It happened once more. `Some` = a line is due, for so many.
    fn note(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + Duration::from_millis(REFUSED_LOG_MS));
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::SocketAddr;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;
    use tonic::transport::Server;

    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// An empty frame of settings.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    const SHORT: Bounds = Bounds { connections_max: 2, begin_within: Duration::from_millis(200) };

    const LONG: Bounds = Bounds { begin_within: Duration::from_secs(60), ..SHORT };

    async fn listening(tls: Option<Arc<ServerConfig>>, bounds: Bounds) -> (SocketAddr, Incoming) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), Incoming::new(listener, tls, bounds))
    }

    /// A server that has no methods and pings who is silent for 100 ms.
    async fn serving(tls: Option<Arc<ServerConfig>>, bounds: Bounds) -> SocketAddr {
        let (address, incoming) = listening(tls, bounds).await;
        let ping = Some(Duration::from_millis(100));
        let mut server = Server::builder().http2_keepalive_interval(ping).http2_keepalive_timeout(ping);
        tokio::spawn(server.add_routes(tonic::service::Routes::default()).serve_with_incoming(incoming));
        address
    }

    async fn connected(address: SocketAddr, sends: &[u8]) -> TcpStream {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(sends).await.unwrap();
        tcp
    }

    /// Panics if it stays open.
    async fn is_closed(mut tcp: TcpStream) {
        let closed = async { while tcp.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(Duration::from_secs(30), closed).await.expect("the end of the connection");
    }

    fn identity() -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = rustls::crypto::ring::default_provider().into();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap().into()
    }

    /// Strangers who connect and say nothing, or stop in the middle, would take all the files of the process.
    #[tokio::test]
    async fn who_does_not_begin_is_closed() {
        let plain = serving(None, Bounds { connections_max: 9, ..SHORT }).await;
        let tls = serving(Some(identity()), Bounds { connections_max: 9, ..SHORT }).await;
        // The head of a handshake that announces 500 bytes.
        let hello = [0x16, 3, 1, 1, 0xf4, 1, 0];
        for (address, sends) in [(plain, &b""[..]), (plain, &PREFACE[..23]), (tls, b""), (tls, &hello)] {
            is_closed(connected(address, sends).await).await;
        }
    }

    /// As above, behind a TLS handshake that is well done.
    #[tokio::test]
    async fn who_does_not_begin_after_the_handshake_is_closed() {
        let (address, mut incoming) = listening(Some(identity()), SHORT).await;
        let tcp = connected(address, b"").await;
        let config = crate::settings::redis::TlsOptions { insecure_skip_verify: true, ..Default::default() };
        let (config, _) = config.client_config("tls").unwrap();
        let name = "localhost".try_into().unwrap();
        let client = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let mut wire = next(&mut incoming).await;
        let error = wire.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    async fn next(incoming: &mut Incoming) -> Wire {
        let next = poll_fn(|context| Pin::new(&mut *incoming).poll_next(context));
        timeout(Duration::from_secs(30), next).await.expect("a connection").unwrap().unwrap()
    }

    /// Backends that call now and then would meet a closed connection each time.
    #[tokio::test]
    async fn who_is_idle_stays_while_it_answers_pings() {
        let address = serving(None, SHORT).await;
        let mut tcp = connected(address, PREFACE).await;
        tcp.write_all(&SETTINGS).await.unwrap();
        // Ten times as long as it may take to begin.
        let mut pings = 0;
        while pings < 20 {
            let mut head = [0; 9];
            timeout(Duration::from_secs(30), tcp.read_exact(&mut head)).await.expect("a ping").unwrap();
            let mut payload = vec![0; usize::from(head[2])];
            tcp.read_exact(&mut payload).await.unwrap();
            if head[3] == 6 {
                tcp.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat()).await.unwrap();
                pings += 1;
            }
        }
        // And not any longer.
        is_closed(tcp).await;
    }

    /// Connections without bound would leave no file for calls to backends; and a place that is free must be given away.
    #[tokio::test]
    async fn there_are_so_many_places() {
        let (address, mut incoming) = listening(None, LONG).await;
        let clients = [connected(address, b"").await, connected(address, b"").await];
        let wires = [next(&mut incoming).await, next(&mut incoming).await];
        is_closed(connected(address, b"").await).await;
        drop((clients, wires));
        let _client = connected(address, b"x").await;
        let mut byte = [0];
        next(&mut incoming).await.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"x");
    }

    /// A port that is still taken after the end would be in the way of the next node.
    #[tokio::test]
    async fn it_ends_when_nobody_takes_them() {
        let (address, incoming) = listening(None, LONG).await;
        drop(incoming);
        let ends = async { while TcpStream::connect(address).await.is_ok() {} };
        timeout(Duration::from_secs(30), ends).await.expect("the end of the listener");
    }

    /// A flood must not fill a disk.
    #[test]
    fn a_line_now_and_then() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let due: Vec<u64> = (0..2 * REFUSED_LOG_MS).filter_map(|ms| lines.note(at(ms))).collect();
        assert_eq!(due, [1, REFUSED_LOG_MS]);
    }
}
