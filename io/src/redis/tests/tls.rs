//! A connection with TLS below it, against a server made of the same library, in pieces of all sizes.

use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::super::{Endpoint, Tls, Wire};
use super::certificates::{Authority, Identity};
use super::{IO_TIMEOUT_MS, get, plain};

const YEAR: i32 = 2100;

/// Redis behind TLS: answers whole commands as they are counted.
struct Server {
    tls: ServerConnection,
    heard: Vec<u8>,
}

impl Server {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self { tls: ServerConnection::new(config).unwrap(), heard: Vec::new() }
    }

    /// Takes what the client sent and says what the server sends.
    fn receives(&mut self, mut data: &[u8]) -> Vec<u8> {
        while !data.is_empty() {
            self.tls.read_tls(&mut data).unwrap();
            let failed = self.tls.process_new_packets().is_err();
            let mut reader = self.tls.reader();
            while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
                self.heard.extend_from_slice(bytes);
                let length = bytes.len();
                reader.consume(length);
            }
            if failed {
                break;
            }
        }
        self.sends(b"")
    }

    fn sends(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plain).unwrap();
        let mut sealed = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut sealed).unwrap();
        }
        sealed
    }
}

fn endpoint() -> Endpoint {
    Endpoint::Internet("127.0.0.1:6379".parse().unwrap())
}

fn named(name: &str) -> Endpoint {
    Endpoint::Named(name.into(), "127.0.0.1:6379".parse().unwrap())
}

fn taken(wire: &mut Wire) -> Vec<u8> {
    let mut all = Vec::new();
    while !wire.output().is_empty() {
        let output = wire.output().to_vec();
        wire.output_taken(output.len());
        all.extend(output);
    }
    all
}

/// Both sides speak until neither has anything to say, in pieces of `piece` bytes.
fn converse(wire: &mut Wire, server: &mut Server, piece: usize) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let mut answer = Vec::new();
        for bytes in taken(wire).chunks(piece) {
            answer.extend(server.receives(bytes));
        }
        if answer.is_empty() {
            return events;
        }
        for bytes in answer.chunks(piece) {
            wire.received(bytes, 0, &mut |event| events.push(format!("{event:?}")));
        }
    }
}

fn says(wire: &mut Wire, sealed: &[u8], piece: usize) -> Vec<String> {
    let mut events = Vec::new();
    for bytes in sealed.chunks(piece) {
        wire.received(bytes, 0, &mut |event| events.push(format!("{event:?}")));
    }
    events
}

/// A pair that is greeted, but for the answers to `HELLO` and `PING`.
fn pair(piece: usize) -> (Wire, Server) {
    let authority = Authority::new("one");
    let tls = Tls::new(authority.client(None), None);
    let mut server = Server::new(authority.server(authority.signs("127.0.0.1", YEAR), false));
    let mut wire = Wire::new(plain(false), 0, Some(&tls), &endpoint());
    assert_eq!(converse(&mut wire, &mut server, piece), [""; 0]);
    (wire, server)
}

fn greeted(piece: usize) -> (Wire, Server) {
    let (mut wire, mut server) = pair(piece);
    for answer in ["%0\r\n", "+PONG\r\n"] {
        let sealed = server.sends(answer.as_bytes());
        assert_eq!(says(&mut wire, &sealed, piece), [""; 0]);
        converse(&mut wire, &mut server, piece);
    }
    assert!(wire.connection().is_ready(), "{:?}", wire.failure());
    (wire, server)
}

/// TLS records and segments of TCP have nothing to do with each other: a lost byte at any border loses the connection.
#[test]
fn in_pieces_of_any_size() {
    for piece in [1, 2, 3, 5, 7, 16, 100, 1000, 5000, 20_000, 1_000_000] {
        let (mut wire, mut server) = greeted(piece);
        assert_eq!(server.heard, b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n");
        server.heard.clear();
        let large = "x".repeat(40_000);
        get(wire.connection_mut(), 7);
        get(wire.connection_mut(), 8);
        converse(&mut wire, &mut server, piece);
        assert_eq!(server.heard, b"*2\r\n$3\r\nGET\r\n$1\r\n7\r\n*2\r\n$3\r\nGET\r\n$1\r\n8\r\n");
        let sealed = server.sends(format!("$40000\r\n{large}\r\n:1\r\n").as_bytes());
        let events = says(&mut wire, &sealed, piece);
        assert_eq!(events.len(), 2, "{:?}", wire.failure());
        assert!(events[0].contains(&large) && events[0].contains("token: 7"));
        assert!(events[1].contains("token: 8"));
    }
}

/// As above, with one border that wanders through what the server says.
#[test]
fn split_at_every_byte() {
    let authority = Authority::new("one");
    let tls = Tls::new(authority.client(None), None);
    let config = authority.server(authority.signs("127.0.0.1", YEAR), false);
    let mut at = 1;
    loop {
        let mut server = Server::new(Arc::clone(&config));
        let mut wire = Wire::new(plain(false), 0, Some(&tls), &endpoint());
        let hello = taken(&mut wire);
        let flight = server.receives(&hello);
        if at >= flight.len() {
            break;
        }
        let (one, two) = flight.split_at(at);
        assert_eq!(says(&mut wire, one, one.len()), [""; 0]);
        assert!(server.receives(&taken(&mut wire)).is_empty() || wire.failure().is_none());
        says(&mut wire, two, two.len());
        converse(&mut wire, &mut server, 1_000_000);
        assert_eq!(server.heard, b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "split at {at}: {:?}", wire.failure());
        at += 1;
    }
    assert!(at > 500, "the server's first flight is longer than that: {at}");
}

/// More than goes out in one piece must neither be lost nor pile up encrypted.
#[test]
fn output_is_bounded_and_complete() {
    let (mut wire, mut server) = greeted(1_000_000);
    server.heard.clear();
    let value = vec![b'v'; 900_000];
    let write = |out: &mut Vec<u8>| _ = super::Command::new(out, 2).arg(b"ECHO").arg(&value);
    wire.connection_mut().send(1, IO_TIMEOUT_MS, write).unwrap();
    let mut pieces = 0;
    while wire.has_output() {
        let output = wire.output().to_vec();
        assert!(!output.is_empty() && output.len() <= crate::limits::REDIS_FLUSH_BYTES, "{}", output.len());
        // The socket takes a part.
        let (one, two) = output.split_at(output.len() / 3);
        server.receives(one);
        wire.output_taken(one.len());
        assert_eq!(wire.output(), two);
        server.receives(two);
        wire.output_taken(two.len());
        pieces += 1;
    }
    assert!(pieces >= 3);
    assert_eq!(server.heard.len(), b"*2\r\n$4\r\nECHO\r\n$900000\r\n\r\n".len() + value.len());
}

/// A Redis that shuts down says so in TLS; what waits must fail then, not after its time is over.
#[test]
fn a_goodbye_ends_the_connection() {
    let (mut wire, mut server) = greeted(1_000_000);
    get(wire.connection_mut(), 7);
    converse(&mut wire, &mut server, 1_000_000);
    server.tls.send_close_notify();
    let mut sealed = server.sends(b":5\r\n");
    sealed.extend(server.sends(b""));
    let events = says(&mut wire, &sealed, 3);
    assert!(events[0].contains("token: 7"), "{events:?}");
    assert_eq!(wire.failure().unwrap().to_string(), "redis closed the connection");
    wire.received(b"more", 0, &mut |_| panic!("nothing is said any more"));
}

/// Nothing of a command may be sent, or count as sent, before the server has shown who it is.
#[test]
fn commands_wait_for_the_handshake() {
    let authority = Authority::new("one");
    let tls = Tls::new(authority.client(None), None);
    let mut wire = Wire::new(plain(false), 0, Some(&tls), &endpoint());
    get(wire.connection_mut(), 7);
    let hello = taken(&mut wire);
    assert!(hello[0] == 0x16 && !hello.windows(5).any(|bytes| bytes == b"HELLO"));
    assert!(!wire.has_output(), "it would be asked again and again");
    let mut events = Vec::new();
    wire.closed(&mut |event| events.push(event));
    assert!(matches!(&events[..], [super::Incoming::Failed { token: 7, sent: false, .. }]), "{events:?}");
    assert!(wire.failure().unwrap().to_string().contains("during the TLS handshake"));
}

/// What becomes of a connection to a server with this certificate.
fn reason(authority: &Authority, tls: &Tls, endpoint: &Endpoint, identity: Identity, asks: bool) -> String {
    let mut server = Server::new(authority.server(identity, asks));
    let mut wire = Wire::new(plain(false), 0, Some(tls), endpoint);
    converse(&mut wire, &mut server, 1_000_000);
    wire.failure().map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// The operator reads one line in the log when nothing works, and must see what to change.
#[test]
fn reasons_say_what_to_do() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let namesake = Authority::new("one");
    let trusting = Tls::new(authority.client(None), None);
    let expecting = Tls::new(authority.client(None), Some("redis.example".try_into().unwrap()));
    let known = Tls::new(authority.client(Some(authority.signs("gyre", YEAR))), None);
    let by_address = || authority.signs("127.0.0.1", YEAR);
    let by_name = || authority.signs("redis.example", YEAR);
    let (dialled, alias) = (endpoint(), named("redis.example"));
    let table = [
        (&trusting, &dialled, by_address(), false, "none"),
        (&trusting, &alias, by_name(), false, "none"),
        (&expecting, &dialled, by_name(), false, "none"),
        (&expecting, &named("other.example"), by_name(), false, "none"),
        (&known, &dialled, by_address(), true, "none"),
        (&trusting, &dialled, other.signs("127.0.0.1", YEAR), false, "nobody who is trusted here has signed"),
        (&trusting, &dialled, namesake.signs("127.0.0.1", YEAR), false, "nobody who is trusted here has signed"),
        (&trusting, &dialled, by_name(), false, "not for 127.0.0.1 but for DnsName"),
        (&trusting, &alias, by_address(), false, "not for redis.example but for IpAddress"),
        (&expecting, &dialled, by_address(), false, "set tls.server_name"),
        (&trusting, &dialled, authority.signs("127.0.0.1", 2002), false, "certificate has expired"),
        (&trusting, &named("-not a name-"), by_address(), false, "no certificate can be for the name"),
        (&trusting, &dialled, by_address(), true, "redis requires a certificate; set tls.cert_pem"),
    ];
    for (tls, endpoint, identity, asks, expected) in table {
        let reason = reason(&authority, tls, endpoint, identity, asks);
        assert!(reason.contains(expected), "expected {expected}: {reason}");
    }
    // Redis does not know the authority of our certificate.
    let stranger = Tls::new(authority.client(Some(other.signs("gyre", YEAR))), None);
    let reason = reason(&authority, &stranger, &dialled, by_address(), true);
    assert!(reason.contains("redis refused the TLS connection") && reason.contains("tls.cert_pem"), "{reason}");
}

/// One side has TLS and the other has not: nothing works and neither says why, so we must.
#[test]
fn tls_on_one_side_only() {
    let tls = Tls::new(Authority::new("one").client(None), None);
    let with = || Wire::new(plain(false), 0, Some(&tls), &endpoint());
    let without = || Wire::new(plain(false), 0, None, &endpoint());
    let reason = |wire: &Wire| wire.failure().unwrap().to_string();

    let mut wire = with();
    says(&mut wire, b"-ERR unknown command\r\n", 3);
    assert!(reason(&wire).contains("does not speak TLS"), "{}", reason(&wire));
    let mut wire = with();
    taken(&mut wire);
    wire.expire(IO_TIMEOUT_MS, &mut |_| {});
    assert!(reason(&wire).contains("did not answer the TLS handshake"), "{}", reason(&wire));

    // An alert, as what speaks TLS answers a command with.
    let mut wire = without();
    says(&mut wire, b"\x15\x03\x01\x00\x02\x02\x46", 7);
    assert_eq!(reason(&wire), "redis expects TLS; write rediss:// or set tls.enabled");
    let mut wire = without();
    wire.closed(&mut |_| {});
    assert!(reason(&wire).contains("may expect TLS"), "{}", reason(&wire));
    let mut wire = without();
    says(&mut wire, b"%0\r\n", 7);
    wire.closed(&mut |_| {});
    assert_eq!(reason(&wire), "redis closed the connection");

    // There is no TLS on a Unix socket.
    let mut wire = Wire::new(plain(false), 0, Some(&tls), &Endpoint::Unix("/run/redis".into()));
    assert!(wire.output().starts_with(b"*2\r\n$5\r\nHELLO"));
}

/// Noise at any place of a conversation is an end with a reason, never a panic.
#[test]
fn noise() {
    let mut dice = super::Dice(7);
    for _ in 0..300 {
        let (mut wire, mut server) = pair(1_000_000);
        let mut sealed = server.sends(b"%0\r\n+PONG\r\n");
        let at = dice.roll(sealed.len());
        sealed[at] ^= 1 << dice.roll(8);
        says(&mut wire, &sealed, 1 + dice.roll(40));
        // Type and version in the head of a record are those of the time before TLS 1.3 and protect nothing.
        let means_nothing = at < 3;
        assert!(means_nothing || !wire.connection().is_ready(), "{at}");
    }
}
