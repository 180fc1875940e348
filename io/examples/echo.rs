//! A WebSocket echo server on one core: the smallest complete use of the driver.
//!
//! `cargo run --release -p gyre-io --example echo -- 127.0.0.1:9001 [outbox bytes]`. Any path is upgraded; other
//! requests are answered with their own body. Messages may have up to 16 MiB. Prints its counters now and then.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use gyre_io::http::{HttpLimits, RequestBody, serve};
use gyre_io::{
    Busy, Closed, CoreOptions, Driver, FrameKind, Handler, WebSocketOptions, bind_listeners, probe, spawn, spawn_core,
};
use gyre_proto::ids::{ConnId, CoreId};
use gyre_proto::ws::{Opcode, Role, handshake};
use http_body_util::{BodyExt, Full};

use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

const OPTIONS: WebSocketOptions =
    WebSocketOptions { message_size_max: 16 * 1024 * 1024, validate_utf8: true, role: Role::Server };

/// Answers every message with itself.
struct Echo {
    driver: Rc<RefCell<Driver>>,
    open: usize,
    next_report_ms: u64,
}

impl Handler for Echo {
    fn accepted(&mut self, _driver: &mut Driver, conn: ConnId, _listener: usize) {
        let driver = Rc::clone(&self.driver);
        self.open += 1;
        spawn(async move {
            let limits = HttpLimits::default();
            if let Some(upgrade) = serve(Rc::clone(&driver), conn, service_fn(answer), &limits).await {
                driver.borrow_mut().start_websocket(upgrade, OPTIONS);
            }
        });
    }

    fn message(&mut self, driver: &mut Driver, conn: ConnId, opcode: Opcode, data: &[u8]) {
        let kind = match opcode {
            Opcode::Text => FrameKind::Text,
            Opcode::Binary => FrameKind::Binary,
        };
        let frame = driver.frame(kind, data);
        driver.push(conn, frame);
    }

    fn closed(&mut self, _driver: &mut Driver, _conn: ConnId, _why: Closed) {
        self.open -= 1;
    }

    fn timeout(&mut self, _driver: &mut Driver, _conn: ConnId) {}

    fn slow(&mut self, driver: &mut Driver, conn: ConnId) {
        driver.close_discarding(conn, 3008, "slow");
    }

    fn turn(&mut self, driver: &mut Driver) -> Busy {
        if driver.now_ms() >= self.next_report_ms {
            self.next_report_ms = driver.now_ms() + 2000;
            println!("reported open {}, slots {}, {:?}", self.open, driver.connections(), driver.stats());
        }
        Busy::No
    }
}

async fn answer(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut answer = Response::new(Full::default());
    match handshake::check(request.method(), request.headers(), &[]) {
        Ok(accepted) => {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Ok(key) = HeaderValue::try_from(accepted.accept_key) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, key);
            }
        }
        Err(_) => match request.into_body().collect().await {
            Ok(body) => *answer.body_mut() = Full::new(body.to_bytes()),
            Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
        },
    }
    Ok(answer)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:9001".to_owned()).parse()?;
    let outbox_bytes_max = arguments.next().map_or(Ok(64 * 1024 * 1024), |bytes| bytes.parse())?;
    probe()?;
    let listeners = bind_listeners(address, 1)?;
    println!("listening on {}", listeners[0].address()?);
    let options = CoreOptions { listeners, outbox_bytes_max, ..CoreOptions::new(CoreId(0)) };
    let core = spawn_core(options, |driver| Echo { driver, open: 0, next_report_ms: 0 })?;
    core.join()?;
    Ok(())
}
