//! A core whose handler does what the first word of a text message says, and reports what it sees.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use gyre_io::http::{HttpLimits, RequestBody, serve};
use gyre_io::mesh::Sleeper;
use gyre_io::{
    Busy, Closed, CoreHandle, CoreOptions, Driver, DriverStats, FrameKind, Handler, WebSocketOptions, bind_listeners,
    spawn, spawn_core,
};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, Role, handshake};
use http_body_util::{BodyExt, Full};

use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

use super::client::PATIENCE;

/// What the handler saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(ConnId),
    Closed(ConnId, Closed),
    Timeout(u64),
    Slow(ConnId),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Receiver<Seen>,
    control: Arc<Control>,
    core: Option<CoreHandle>,
}

struct Control {
    is_stopping: AtomicBool,
    is_draining: AtomicBool,
    sleeper: Sleeper,
}

/// What differs between tests.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) outbox_bytes_max: u32,
    pub(crate) connections_max: u32,
    pub(crate) message_size_max: usize,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) limits: HttpLimits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 1 << 30,
            connections_max: 1024,
            message_size_max: 16 << 20,
            send_buffer_bytes: None,
            limits: HttpLimits::default(),
        }
    }
}

impl Server {
    pub(crate) fn start(setup: Setup) -> Self {
        let listeners = bind_listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].address().unwrap();
        if let Some(bytes) = setup.send_buffer_bytes {
            listeners[0].set_send_buffer_bytes(bytes).unwrap();
        }
        let sleeper = Sleeper::new().unwrap();
        let control = Control {
            is_stopping: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            sleeper: sleeper.clone(),
        };
        let control = Arc::new(control);
        let (sender, seen) = channel();
        let options = CoreOptions {
            listeners,
            outbox_bytes_max: setup.outbox_bytes_max,
            connections_max: setup.connections_max,
            sleeper: Some(sleeper),
            ..CoreOptions::new(CoreId(0))
        };
        let told = Arc::clone(&control);
        let core = spawn_core(options, move |driver| Puppet { driver, setup, seen: sender, control: told }).unwrap();
        Self { address, seen, control, core: Some(core) }
    }

    pub(crate) fn see(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for a connection to be accepted and returns its id.
    pub(crate) fn see_accepted(&self) -> ConnId {
        match self.see() {
            Seen::Accepted(conn) => conn,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next connection to be closed.
    pub(crate) fn see_closed(&self) -> Closed {
        match self.see() {
            Seen::Closed(_, why) => why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn drain(&self) {
        self.control.is_draining.store(true, Ordering::Relaxed);
        self.control.sleeper.wake();
    }

    /// Ends the core. Nothing may have been seen that the test did not ask for.
    pub(crate) fn stop(mut self) {
        self.end();
        let rest: Vec<_> = self.seen.try_iter().collect();
        assert_eq!(rest, []);
    }

    fn end(&mut self) {
        self.control.is_stopping.store(true, Ordering::Relaxed);
        self.control.sleeper.wake();
        if let Some(core) = self.core.take() {
            core.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

struct Puppet {
    driver: Rc<RefCell<Driver>>,
    setup: Setup,
    seen: Sender<Seen>,
    control: Arc<Control>,
}

impl Puppet {
    fn tell(&self, what: Seen) {
        // A test that has seen enough may be gone.
        let _ = self.seen.send(what);
    }
}

impl Handler for Puppet {
    fn accepted(&mut self, _driver: &mut Driver, conn: ConnId, listener: usize) {
        assert_eq!(listener, 0);
        self.tell(Seen::Accepted(conn));
        let driver = Rc::clone(&self.driver);
        let setup = self.setup.clone();
        spawn(async move {
            let service = service_fn(|request| answer(Rc::clone(&driver), request));
            let upgrade = serve(Rc::clone(&driver), conn, service, &setup.limits).await;
            if let Some(upgrade) = upgrade {
                let message_size_max = setup.message_size_max;
                let options = WebSocketOptions { message_size_max, validate_utf8: true, role: Role::Server };
                driver.borrow_mut().start_websocket(upgrade, options);
            }
        });
    }

    fn message(&mut self, driver: &mut Driver, conn: ConnId, opcode: Opcode, data: &[u8]) {
        if opcode == Opcode::Binary {
            let frame = driver.frame(FrameKind::Binary, data);
            return driver.push(conn, frame);
        }
        let text = std::str::from_utf8(data).unwrap();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = || rest.split(' ').next().unwrap().parse::<u64>().unwrap();
        match word {
            // Nothing at all.
            "hush" => {}
            "close" => driver.close(conn, 4000, "as you wish"),
            "abort" => driver.abort(conn),
            "timer" => driver.set_timer(conn, driver.now_ms() + number()),
            "never" => driver.set_timer(conn, u64::MAX),
            "clear" => driver.clear_timer(conn),
            // Pushes so many JSON messages in this turn.
            "json" => {
                for number in 0..number() {
                    let frame = driver.frame_with(FrameKind::JsonMessage, |out| {
                        out.extend_from_slice(format!("{{\"n\":{number}}}").as_bytes());
                    });
                    driver.push(conn, frame);
                }
            }
            // Pushes one binary frame of so many kilobytes as often as the second number says.
            "flood" => {
                let size = number() as usize * 1024;
                let times: u32 = rest.split(' ').nth(1).unwrap().parse().unwrap();
                for _ in 0..times {
                    let frame = driver.frame(FrameKind::Binary, &super::client::noise(size));
                    driver.push(conn, frame);
                }
            }
            _ => {
                let frame = driver.frame(FrameKind::Text, data);
                driver.push(conn, frame);
            }
        }
    }

    fn closed(&mut self, _driver: &mut Driver, conn: ConnId, why: Closed) {
        self.tell(Seen::Closed(conn, why));
    }

    fn timeout(&mut self, driver: &mut Driver, conn: ConnId) {
        self.tell(Seen::Timeout(driver.now_ms()));
        let frame = driver.frame(FrameKind::Text, b"timeout");
        driver.push(conn, frame);
    }

    fn slow(&mut self, driver: &mut Driver, conn: ConnId) {
        self.tell(Seen::Slow(conn));
        driver.close_discarding(conn, 3008, "slow");
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        if self.control.is_draining.swap(false, Ordering::Relaxed) {
            driver.drain();
        }
        if self.control.is_stopping.load(Ordering::Relaxed) {
            let DriverStats { accepted, closed, .. } = *driver.stats();
            assert_eq!(accepted - closed, driver.connections() as u64, "a slot leaked");
            driver.stop();
        }
        Busy::No
    }
}

/// Upgrades; echoes bodies; answers GET /connections with their number and /long with a body that takes many sends.
async fn answer(
    driver: Rc<RefCell<Driver>>,
    request: Request<RequestBody>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut answer = Response::new(Full::default());
    if let Ok(accepted) = handshake::check(request.method(), request.headers(), &[]) {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accepted.accept_key).unwrap());
        return Ok(answer);
    }
    *answer.body_mut() = match request.uri().path() {
        "/connections" => Full::new(Bytes::from(driver.borrow().connections().to_string())),
        "/long" => Full::new(Bytes::from(super::client::noise(8 << 20))),
        _ => match request.into_body().collect().await {
            Ok(body) => Full::new(body.to_bytes()),
            Err(_) => Full::new(Bytes::from_static(b"broken body")),
        },
    };
    Ok(answer)
}
