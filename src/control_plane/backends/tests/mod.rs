//! Calls to backends that run in the same thread as the test.

mod grpc;
mod http;
mod tls;
mod together;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gyre_engine::ClientId;
use gyre_engine::backend::{BackendClient, BackendResult};
use gyre_proto::Encoding;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;

use super::*;
use crate::config::types::Secret;

/// Longer than anything takes that is not stuck.
const STUCK: Duration = Duration::from_secs(30);

/// On a runtime like the control thread's.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(async { tokio::time::timeout(STUCK, test).await.expect("stuck") });
}

fn http_proxy(url: String) -> Proxy {
    Proxy {
        path: "rpc.proxy".into(),
        name: "default".into(),
        endpoint: Endpoint::Http {
            url: Secret::new(url),
            tls: None,
            static_headers: Vec::new(),
            transforms: Vec::new(),
        },
        timeout: Duration::from_secs(10),
        http_headers: Vec::new(),
        emulated_headers: Vec::new(),
        grpc_metadata: Vec::new(),
        binary_encoding: false,
        include_connection_meta: false,
    }
}

fn backends(proxy: Proxy) -> Backends {
    Backends::new(&Arc::new(Proxies { list: vec![proxy] })).unwrap()
}

fn client() -> BackendClient {
    BackendClient {
        client: ClientId([7; 16]),
        encoding: Encoding::Json,
        transport: "websocket",
        user: "u".into(),
        headers: None,
        meta: Bytes::from_static(br#"{"m":1}"#),
    }
}

fn rpc(data: &'static str) -> BackendCall {
    let event = BackendEvent::Rpc { method: "m".into(), data: Bytes::from_static(data.as_bytes()) };
    BackendCall { proxy: ProxyId(0), client: Some(client()), event }
}

fn cache_empty(channel: &str) -> BackendCall {
    BackendCall { proxy: ProxyId(0), client: None, event: BackendEvent::CacheEmpty { channel: channel.into() } }
}

async fn ask(backends: &Backends, call: BackendCall) -> BackendReply {
    let (sender, answer) = oneshot::channel();
    backends.call(call, |reply| sender.send(reply).expect("somebody waits"));
    answer.await.unwrap()
}

fn rpc_result(data: &'static str) -> BackendReply {
    BackendReply::Result(Box::new(BackendResult::Rpc(Bytes::from_static(data.as_bytes()))))
}

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    /// Request line and headers.
    head: String,
    body: String,
    /// Which of the server's connections it came on.
    connection: usize,
}

impl Seen {
    fn first_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header.
    fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// A backend that speaks HTTP by hand.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    task: Rc<tokio::task::JoinHandle<()>>,
}

/// What it answers, as it goes over the wire; empty = nothing at all, ever.
type Answers = Rc<dyn Fn(&Seen, usize) -> String>;

impl Server {
    /// `answers` is given the request and how many came before it.
    async fn start(answers: impl Fn(&Seen, usize) -> String + 'static) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), answers).await
    }

    async fn start_on(address: SocketAddr, answers: impl Fn(&Seen, usize) -> String + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::default();
        let (answers, all): (Answers, _) = (Rc::new(answers), Rc::clone(&seen));
        let task = tokio::task::spawn_local(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn_local(serve(stream, number, Rc::clone(&answers), Rc::clone(&all)));
            }
        });
        Self { address, seen, task: Rc::new(task) }
    }

    fn url(&self) -> String {
        format!("http://{}/path", self.address)
    }

    /// Closes the listener and every connection.
    async fn stop(self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

/// One connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    answers: Answers,
    all: Rc<RefCell<Vec<Seen>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut seen = Seen { head, body: String::new(), connection };
        let length = seen.header("content-length").first().map_or(0, |length| length.parse().unwrap());
        while bytes.len() < end + length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.body = String::from_utf8(bytes[end..end + length].to_vec()).unwrap();
        bytes.drain(..end + length);
        let number = all.borrow().len();
        all.borrow_mut().push(seen.clone());
        match answers(&seen, number) {
            answer if answer.is_empty() => std::future::pending().await,
            answer => stream.write_all(answer.as_bytes()).await.unwrap(),
        }
    }
}

/// An answer with a status and a body.
fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn ok(body: &str) -> String {
    answer(200, body)
}
