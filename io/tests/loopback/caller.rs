//! A core that dials: it does what a test tells it, and reports what it sees.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use gyre_io::mesh::Sleeper;
use gyre_io::{
    Busy, Closed, CoreHandle, CoreOptions, Dial, Driver, DriverStats, FrameKind, Handler, Stream, Target, Then,
    UpgradeRequest, WebSocketOptions, spawn, spawn_core,
};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, Role, encode_client_frame};
use hyper::rt::{Read, ReadBuf, Write};

use super::client::PATIENCE;

/// What the handler saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Accepted(ConnId),
    Dialled(ConnId),
    Message(ConnId, Opcode, Vec<u8>),
    /// On a raw connection.
    Bytes(ConnId, Vec<u8>),
    Timeout(ConnId),
    Slow(ConnId),
    Closed(ConnId, Closed),
    /// What a connection in stream mode was answered.
    Answer(Vec<u8>),
}

type Order = Box<dyn FnOnce(&mut Driver) + Send>;

pub(crate) struct Caller {
    heard: Receiver<Heard>,
    orders: Arc<Mutex<Vec<Order>>>,
    sleeper: Sleeper,
    core: Option<CoreHandle>,
}

impl Caller {
    /// A core that only dials, and to which no peer is slow.
    pub(crate) fn start(dials_max: u32) -> Self {
        Self::bounded(dials_max, 64 << 20)
    }

    /// A core that only dials.
    pub(crate) fn bounded(dials_max: u32, outbox_bytes_max: u32) -> Self {
        let options = CoreOptions { connections_max: dials_max, dials_max, ..CoreOptions::new(CoreId(7)) };
        Self::with(CoreOptions { outbox_bytes_max, ..options })
    }

    pub(crate) fn with(options: CoreOptions) -> Self {
        let sleeper = Sleeper::new().unwrap();
        let orders = Arc::<Mutex<Vec<Order>>>::default();
        let (sender, heard) = channel();
        let options = CoreOptions { sleeper: Some(sleeper.clone()), ..options };
        let told = Arc::clone(&orders);
        let core = spawn_core(options, move |driver| Phone { driver, heard: sender, orders: told }).unwrap();
        Self { heard, orders, sleeper, core: Some(core) }
    }

    /// Does something with the driver in its next turn.
    pub(crate) fn run<T: Send + 'static>(&self, order: impl FnOnce(&mut Driver) -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        self.orders.lock().unwrap().push(Box::new(move |driver| sender.send(order(driver)).unwrap()));
        self.sleeper.wake();
        result.recv_timeout(PATIENCE).unwrap()
    }

    /// Dials and waits for nothing.
    pub(crate) fn dial(&self, target: SocketAddr, timeout_ms: u64) -> ConnId {
        self.run(move |driver| driver.dial(websocket(target, timeout_ms, &request())).unwrap())
    }

    /// Dials and waits until the WebSocket is there.
    pub(crate) fn websocket(&self, target: SocketAddr) -> ConnId {
        let conn = self.dial(target, 20_000);
        assert_eq!(self.hear(), Heard::Dialled(conn));
        conn
    }

    pub(crate) fn send(&self, conn: ConnId, opcode: u8, payload: &[u8]) {
        let payload = payload.to_vec();
        self.run(move |driver| push(driver, conn, opcode, &payload));
    }

    pub(crate) fn hear(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// Nothing may have been heard that the test did not ask for, and every slot must have come back.
    pub(crate) fn stop(mut self) {
        self.end();
        let rest: Vec<_> = self.heard.try_iter().collect();
        assert_eq!(rest, []);
    }

    fn end(&mut self) {
        if let Some(core) = self.core.take() {
            self.run(|driver| {
                let DriverStats { accepted, dials, closed, .. } = *driver.stats();
                assert_eq!(accepted + dials - closed, driver.connections() as u64, "a slot leaked");
                driver.stop();
            });
            core.join().unwrap();
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

pub(crate) fn request() -> Arc<UpgradeRequest> {
    Arc::new(UpgradeRequest::new("here", "/ws", "dGhlIHNhbXBsZSBub25jZQ==", None, &[("X-From", "a test")]))
}

pub(crate) fn websocket(target: SocketAddr, timeout_ms: u64, request: &Arc<UpgradeRequest>) -> Dial<'_> {
    let options = WebSocketOptions { message_size_max: 16 << 20, validate_utf8: true, role: Role::Client };
    Dial { target: Target::Internet(target), source: None, timeout_ms, then: Then::WebSocket { request, options } }
}

pub(crate) fn push(driver: &mut Driver, conn: ConnId, opcode: u8, payload: &[u8]) {
    let frame = driver.frame_with(FrameKind::Raw, |out| encode_client_frame(opcode, payload, [1, 2, 3, 4], out));
    driver.push(conn, frame);
}

struct Phone {
    driver: Rc<RefCell<Driver>>,
    heard: Sender<Heard>,
    orders: Arc<Mutex<Vec<Order>>>,
}

impl Phone {
    fn tell(&self, what: Heard) {
        // A test that has heard enough may be gone.
        let _ = self.heard.send(what);
    }
}

impl Handler for Phone {
    fn accepted(&mut self, _: &mut Driver, conn: ConnId, _: usize) {
        self.tell(Heard::Accepted(conn));
    }

    fn dialled(&mut self, _: &mut Driver, conn: ConnId) {
        self.tell(Heard::Dialled(conn));
        let (driver, heard) = (Rc::clone(&self.driver), self.heard.clone());
        spawn(async move {
            // Only streams can be claimed.
            let Some(stream) = Stream::claim(&driver, conn) else { return };
            let _ = heard.send(Heard::Answer(ask(stream).await));
        });
    }

    fn message(&mut self, _: &mut Driver, conn: ConnId, opcode: Opcode, data: &[u8]) {
        self.tell(Heard::Message(conn, opcode, data.to_vec()));
    }

    fn bytes(&mut self, driver: &mut Driver, conn: ConnId, data: &[u8]) {
        if data == b"abort" {
            driver.abort(conn);
        }
        self.tell(Heard::Bytes(conn, data.to_vec()));
    }

    fn closed(&mut self, _: &mut Driver, conn: ConnId, why: Closed) {
        self.tell(Heard::Closed(conn, why));
    }

    fn timeout(&mut self, _: &mut Driver, conn: ConnId) {
        self.tell(Heard::Timeout(conn));
    }

    fn slow(&mut self, _: &mut Driver, conn: ConnId) {
        self.tell(Heard::Slow(conn));
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        for order in orders {
            order(driver);
        }
        Busy::No
    }
}

/// One HTTP request by hand, and all that is answered.
async fn ask(mut stream: Stream) -> Vec<u8> {
    let mut request = &b"GET /connections HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"[..];
    while !request.is_empty() {
        let sent = poll_fn(|context| Pin::new(&mut stream).poll_write(context, request)).await.unwrap();
        request = &request[sent..];
    }
    let mut answer = Vec::new();
    loop {
        let mut space = [0; 1000];
        let mut buffer = ReadBuf::new(&mut space);
        poll_fn(|context| Pin::new(&mut stream).poll_read(context, buffer.unfilled())).await.unwrap();
        if buffer.filled().is_empty() {
            return answer;
        }
        answer.extend_from_slice(buffer.filled());
    }
}
