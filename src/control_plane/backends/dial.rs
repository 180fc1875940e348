//! Connections to backends: TCP, and TLS over it where the address wants it, with the names and certificates of the
//! configuration. For HTTP and gRPC alike. Names are looked up on a thread of their own.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::{BoxError, Service};

use super::names::Names;
use crate::limits::BACKEND_DEAD_S;
use crate::settings::proxies::Proxy;
use crate::settings::redis::TlsOptions;

/// How long nothing was sent before the system asks whether the other end is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// When TLS is spoken, and how.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    /// Expected in the certificate; `None` = what was dialled.
    name: Option<ServerName<'static>>,
    /// Whatever the scheme says.
    is_always: bool,
}

impl Tls {
    /// `protocol` is agreed on in the handshake; `object` is where the options stand.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub(super) fn new(options: &TlsOptions, proxy: &Proxy, object: &str, protocol: &str) -> anyhow::Result<Self> {
        let made = options.client_config(object).map_err(|mistake| mistake.in_section(&proxy.path));
        let (mut config, name): (ClientConfig, _) = made?;
        config.alpn_protocols = vec![protocol.into()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, is_always: false })
    }

    /// For addresses whose scheme says nothing of it.
    pub(super) fn always(self) -> Self {
        Self { is_always: true, ..self }
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector<Names>,
    /// `None` = cannot be spoken.
    tls: Option<Tls>,
}

impl Dial {
    pub(super) fn new(tls: Option<Tls>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Names::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(BACKEND_DEAD_S)));
        Self { tcp, tls }
    }
}

impl Service<Uri> for Dial {
    type Response = Wire;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(BoxError::from)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let is_https = uri.scheme_str() == Some("https");
        let tls = self.tls.clone().filter(|tls| tls.is_always || is_https);
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tcp = self.tcp.call(uri);
        let dialled = async move {
            let tcp = tcp.await?;
            let Some(Tls { connector, name, .. }) = tls else {
                return match is_https {
                    true => Err("the host has no certificates that it trusts".into()),
                    false => Ok(Wire::Plain(tcp)),
                };
            };
            let name = match name {
                Some(name) => name,
                None => ServerName::try_from(host).context("no certificate can be for this name")?,
            };
            let tls = connector.connect(name, tcp.into_inner()).await?;
            Ok(Wire::Tls(Box::new(TokioIo::new(tls))))
        };
        // Whoever waits for it has a deadline of its own, but may be gone.
        let deadline = Duration::from_secs(BACKEND_DEAD_S);
        Box::pin(async move { tokio::time::timeout(deadline, dialled).await? })
    }
}

/// A connection.
pub(super) enum Wire {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(context, buffer),
            Self::Tls(wire) => Pin::new(wire).poll_read(context, buffer),
        }
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(context, bytes),
            Self::Tls(wire) => Pin::new(wire).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(context),
            Self::Tls(wire) => Pin::new(wire).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(context),
            Self::Tls(wire) => Pin::new(wire).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_write_vectored(),
            Self::Tls(wire) => wire.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write_vectored(context, pieces),
            Self::Tls(wire) => Pin::new(wire).poll_write_vectored(context, pieces),
        }
    }
}
