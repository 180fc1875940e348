//! Tests of a connection to Redis as a whole: recorded conversations, a model of Redis, noise, and time.
//!
//! No socket and no clock: bytes and milliseconds are made up here.

mod certificates;
mod conversation;
mod fuzz;
mod opening;
mod scripts;
mod time;
mod tls;

use bytes::Bytes;

use super::{Command, Connection, Handshake, Incoming, Reply};

const IO_TIMEOUT_MS: u64 = 4_000;

/// No password, no name, database 0.
fn plain(force_resp2: bool) -> Handshake {
    Handshake {
        user: String::new(),
        password: String::new(),
        db: 0,
        client_name: String::new(),
        force_resp2,
        replica: false,
        io_timeout_ms: IO_TIMEOUT_MS,
    }
}

/// A connection whose handshake is over, at 0 ms.
fn ready(force_resp2: bool) -> Connection {
    let mut connection = Connection::new(plain(force_resp2), 0);
    if !force_resp2 {
        sent(&mut connection);
        assert_eq!(feed(&mut connection, b"%0\r\n"), []);
    }
    sent(&mut connection);
    assert_eq!(feed(&mut connection, b"+PONG\r\n"), []);
    assert!(connection.is_ready());
    connection
}

/// What the connection would send now, as text; it counts as sent.
fn sent(connection: &mut Connection) -> String {
    let output = connection.output().escape_ascii().to_string();
    connection.clear_output();
    output
}

/// What the connection makes of `data`, at 0 ms.
fn feed(connection: &mut Connection, data: &[u8]) -> Vec<Incoming> {
    let mut events = Vec::new();
    connection.received(data, 0, &mut |event| events.push(event));
    events
}

fn get(connection: &mut Connection, token: u64) {
    connection.send(token, IO_TIMEOUT_MS, |out| _ = Command::new(out, 2).arg(b"GET").int(token as i64)).unwrap();
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn reply(token: u64, reply: Reply) -> Incoming {
    Incoming::Reply { token, reply }
}

/// Numbers that look random and are the same each time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Below `end`.
    pub(super) fn roll(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}
