//! Outgoing connections, against a core that serves and against peers that do exactly what a test says.

use std::collections::HashSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};

use gyre_io::{Closed, CoreOptions, Dial, Target, Then, bind_listeners};
use gyre_proto::ids::CoreId;
use gyre_proto::ws::{Opcode, frame_header};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::caller::{Caller, Heard, push, request, websocket};
use super::client::{BINARY, CLOSE, Client, PATIENCE, PING, PONG, TEXT, noise};
use super::server::{Seen, Server, Setup};

const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
     sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes the next connection and reads its request.
fn take(listener: &TcpListener) -> Client {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut peer = Client(stream);
    let head = peer.read_head();
    assert!(
        head.starts_with("GET /ws HTTP/1.1\r\nHost: here\r\n") && head.contains("\r\nX-From: a test\r\n"),
        "{head}"
    );
    peer
}

/// A frame as a server sends it.
fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let (header, len) = frame_header(opcode, payload.len());
    [&header[..len], payload].concat()
}

/// First byte and payload of a short frame, which must be masked.
fn read_masked(peer: &mut Client) -> (u8, Vec<u8>) {
    let head = peer.read(2);
    assert!(head[1] & 0x80 != 0, "not masked");
    let mask = peer.read(4);
    let payload = peer.read(usize::from(head[1] & 0x7f));
    (head[0], payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect())
}

/// What is said must arrive whole on the other side, and the way back, whatever its length.
#[test]
fn messages_pass_both_ways() {
    let server = Server::start(Setup::default());
    let caller = Caller::start(4);
    let conn = caller.websocket(server.address);
    let accepted = server.see_accepted();
    caller.send(conn, TEXT, "grüße".as_bytes());
    assert_eq!(caller.hear(), Heard::Message(conn, Opcode::Text, "grüße".into()));
    caller.run(move |driver| {
        push(driver, conn, TEXT & 0x7f, b"one ");
        push(driver, conn, PING, b"in between");
        push(driver, conn, 0x80, b"two");
    });
    assert_eq!(caller.hear(), Heard::Message(conn, Opcode::Text, b"one two".to_vec()));
    for len in [0, 125, 126, 65_535, 65_536, 4 << 20] {
        caller.send(conn, BINARY, &noise(len));
        assert!(caller.hear() == Heard::Message(conn, Opcode::Binary, noise(len)), "{len}");
    }
    // Our close frame must be masked, or the server calls it a violation.
    caller.run(move |driver| driver.close(conn, 4001, "enough"));
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
    assert_eq!(server.see(), Seen::Closed(accepted, Closed::PeerClosed { code: 4001 }));
    // Both ends of a peer's close.
    let conn = caller.websocket(server.address);
    server.see_accepted();
    caller.send(conn, TEXT, b"close");
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::PeerClosed { code: 4000 }));
    assert_eq!(server.see_closed(), Closed::Local);
    caller.stop();
    server.stop();
}

/// A node's pings must be answered as RFC 6455 wants it, and what it says right behind the upgrade must not be lost,
/// wherever the network cuts it.
#[test]
fn answers_may_be_cut_anywhere() {
    let (listener, address) = listen();
    let caller = Caller::start(4);
    let mut bytes = ACCEPT.as_bytes().to_vec();
    bytes.extend(unmasked(TEXT & 0x7f, b"a push "));
    bytes.extend(unmasked(PING, b"are you there"));
    bytes.extend(unmasked(0x80, b"at once"));
    for cut in (1..bytes.len()).step_by(13).chain([ACCEPT.len(), bytes.len()]) {
        let conn = caller.dial(address, 20_000);
        let mut peer = take(&listener);
        peer.write(&bytes[..cut]);
        std::thread::yield_now();
        peer.write(&bytes[cut..]);
        assert_eq!(caller.hear(), Heard::Dialled(conn));
        assert_eq!(caller.hear(), Heard::Message(conn, Opcode::Text, b"a push at once".to_vec()));
        assert_eq!(read_masked(&mut peer), (PONG, b"are you there".to_vec()));
        peer.write(&unmasked(CLOSE, &4002_u16.to_be_bytes()));
        assert_eq!(read_masked(&mut peer), (CLOSE, 4002_u16.to_be_bytes().to_vec()));
        peer.expect_end();
        drop(peer);
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::PeerClosed { code: 4002 }));
    }
    caller.stop();
}

/// A server that masks is broken, and must be told so.
#[test]
fn masked_frames_are_violations_here() {
    let (listener, address) = listen();
    let caller = Caller::start(4);
    let conn = caller.dial(address, 20_000);
    let mut peer = take(&listener);
    peer.write(ACCEPT.as_bytes());
    peer.send(TEXT, b"masked");
    assert_eq!(caller.hear(), Heard::Dialled(conn));
    assert_eq!(read_masked(&mut peer).1[..2], 1002_u16.to_be_bytes());
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Violation(1002)));
    caller.stop();
}

/// Whoever dials wants to know why it did not work: a wrong path, a wrong port, something that is no web server.
#[test]
fn refusals_are_told_apart() {
    let (listener, address) = listen();
    let caller = Caller::start(4);
    let wrong_key = ACCEPT.replace("s3p", "s3q");
    let endless = format!("HTTP/1.1 101 Switching Protocols\r\nx: {}", "y".repeat(100_000));
    let cases = [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Closed::Refused(403)),
        (&wrong_key, Closed::Refused(101)),
        ("220 mail\r\n", Closed::Refused(0)),
        (&endless, Closed::Refused(0)),
        ("HTTP/1.1 101 Swi", Closed::PeerEof),
        ("", Closed::PeerEof),
    ];
    for (answer, why) in cases {
        let conn = caller.dial(address, 20_000);
        let mut peer = take(&listener);
        // We may hang up before all of it is written.
        let _ = std::io::Write::write_all(&mut peer.0, answer.as_bytes());
        if why == Closed::PeerEof {
            peer.end_writing();
        }
        assert_eq!(caller.hear(), Heard::Closed(conn, why));
        let _ = peer.0.read_to_end(&mut Vec::new());
    }
    drop(listener);
    let conn = caller.dial(address, 20_000);
    let refused = Closed::Unreachable(Errno::CONNREFUSED.raw_os_error());
    assert_eq!(caller.hear(), Heard::Closed(conn, refused));
    caller.stop();
}

/// A node that hangs must not hold slots and dials for ever, whether it hangs before or after it took the connection.
#[test]
fn dials_end_in_time() {
    let caller = Caller::start(8);
    // Nobody accepts and the backlog holds one: further connects get no answer at all.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut open: HashSet<_> = (0..4).map(|_| caller.dial(address, 300)).collect();
    while !open.is_empty() {
        let Heard::Closed(conn, Closed::DialTimeout) = caller.hear() else { panic!("not a timeout") };
        assert!(open.remove(&conn));
    }
    // A dial that is given up while it connects ends as well.
    let conn = caller.dial(address, 20_000);
    caller.run(move |driver| driver.abort(conn));
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
    let conn = caller.run(move |driver| {
        let conn = driver.dial(websocket(address, 20_000, &request())).unwrap();
        driver.close(conn, 1000, "");
        conn
    });
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
    while caller.run(|driver| driver.connections()) > 0 {
        std::thread::yield_now();
    }
    // The deadline does not outlive the dial.
    let server = Server::start(Setup::default());
    let conn = caller.dial(server.address, 300);
    assert_eq!(caller.hear(), Heard::Dialled(conn));
    let now = caller.run(|driver| driver.now_ms());
    while caller.run(|driver| driver.now_ms()) < now + 400 {
        std::thread::yield_now();
    }
    caller.send(conn, TEXT, b"still here");
    assert_eq!(caller.hear(), Heard::Message(conn, Opcode::Text, b"still here".to_vec()));
    caller.stop();
}

/// What cannot begin is an error at once, and costs nothing: not a slot, not a report.
#[test]
fn impossible_dials_are_errors() {
    let server = Server::start(Setup::default());
    let caller = Caller::start(2);
    let address = server.address;
    let dial_from = |source: &str| {
        let source: IpAddr = source.parse().unwrap();
        let result = caller
            .run(move |driver| driver.dial(Dial { source: Some(source), ..websocket(address, 1000, &request()) }));
        result.map_err(|error| error.raw_os_error())
    };
    // TEST-NET-1, which no machine has.
    for _ in 0..10 {
        assert_eq!(dial_from("192.0.2.1"), Err(Some(Errno::ADDRNOTAVAIL.raw_os_error())));
        assert!(dial_from("::1").is_err());
    }
    let first = caller.websocket(server.address);
    caller.websocket(server.address);
    assert_eq!(dial_from("127.0.0.1"), Err(None));
    assert_eq!(caller.run(move |driver| driver.connections()), 2);
    // A slot that came back is good again.
    for at in 0..50 {
        let gone = if at == 0 { first } else { caller.websocket(server.address) };
        caller.run(move |driver| driver.abort(gone));
        assert_eq!(caller.hear(), Heard::Closed(gone, Closed::Local));
        while caller.run(|driver| driver.connections()) > 1 {
            std::thread::yield_now();
        }
    }
    caller.stop();
}

/// A core that serves and dials keeps the slots of both apart: clients must not take those of our own connections, nor
/// the other way round.
#[test]
fn dialled_and_accepted_share_a_table() {
    let listeners = bind_listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = listeners[0].address().unwrap();
    let options = CoreOptions { listeners, connections_max: 4, dials_max: 2, ..CoreOptions::new(CoreId(7)) };
    let caller = Caller::with(options);
    let (peer, peer_address) = listen();
    let accept = || {
        let client = Client::connect(address);
        let Heard::Accepted(conn) = caller.hear() else { panic!("not accepted") };
        assert!(conn.index >= 2);
        (client, conn)
    };
    for _ in 0..3 {
        let dialled = [caller.dial(peer_address, 20_000), caller.dial(peer_address, 20_000)];
        assert!(dialled.iter().all(|conn| conn.index < 2) && dialled[0].index != dialled[1].index);
        let (mut first, first_conn) = accept();
        let (mut second, second_conn) = accept();
        // Full for both.
        assert!(caller.run(move |driver| driver.dial(websocket(peer_address, 20_000, &request())).is_err()));
        Client::connect(address).expect_end();
        for conn in [dialled[0], dialled[1], first_conn, second_conn] {
            caller.run(move |driver| driver.abort(conn));
            assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        }
        first.expect_end();
        second.expect_end();
        for _ in dialled {
            // What it read may be the request or nothing.
            let _ = peer.accept().unwrap().0.read_to_end(&mut Vec::new());
        }
        while caller.run(|driver| driver.connections()) > 0 {
            std::thread::yield_now();
        }
    }
    caller.stop();
}

/// The load generator's day: thousands of connections from several addresses, none of which may get another's bytes.
#[test]
fn thousands_from_several_addresses() {
    const COUNT: u32 = 2000;
    // Slots there come back somewhat after their end was seen.
    let server = Server::start(Setup { connections_max: 2 * COUNT, ..Setup::default() });
    let caller = Caller::start(COUNT);
    let address = server.address;
    for round in 0..2 {
        let dialled: HashSet<_> = caller.run(move |driver| {
            let request = request();
            let dial = |at: u32| {
                let source = Some(IpAddr::from([127, 0, 1, (at % 4) as u8 + 1]));
                driver.dial(Dial { source, ..websocket(address, 20_000, &request) }).unwrap()
            };
            (0..COUNT).map(dial).collect()
        });
        assert_eq!(dialled.len(), COUNT as usize);
        let mut open = HashSet::new();
        for _ in 0..COUNT {
            let Heard::Dialled(conn) = caller.hear() else { panic!("not dialled") };
            assert!(dialled.contains(&conn) && open.insert(conn));
        }
        let all: Vec<_> = open.iter().copied().collect();
        caller.run(move |driver| all.iter().for_each(|&conn| push(driver, conn, TEXT, format!("{conn:?}").as_bytes())));
        let mut silent = open.clone();
        while !silent.is_empty() {
            let Heard::Message(conn, Opcode::Text, data) = caller.hear() else { panic!("no message") };
            assert_eq!(data, format!("{conn:?}").into_bytes());
            assert!(silent.remove(&conn));
        }
        if round == 0 {
            // All at once, so that the second round finds every slot free.
            let all: Vec<_> = open.iter().copied().collect();
            caller.run(move |driver| all.iter().for_each(|&conn| driver.abort(conn)));
            while !open.is_empty() {
                let Heard::Closed(conn, Closed::Local) = caller.hear() else { panic!("not closed") };
                assert!(open.remove(&conn));
            }
            for _ in 0..2 * COUNT {
                assert!(matches!(
                    server.see(),
                    Seen::Accepted(_) | Seen::Closed(_, Closed::PeerEof | Closed::PeerReset)
                ));
            }
            while caller.run(|driver| driver.connections()) > 0 {
                std::thread::yield_now();
            }
        }
    }
    caller.stop();
}

/// Requests to other nodes' APIs go through the same door.
#[test]
fn a_dialled_stream_speaks_http() {
    let server = Server::start(Setup::default());
    let caller = Caller::start(2);
    let target = Target::Internet(server.address);
    let dial = Dial { target, source: None, timeout_ms: 20_000, then: Then::Stream };
    let conn = caller.run(move |driver| driver.dial(dial).unwrap());
    assert_eq!(caller.hear(), Heard::Dialled(conn));
    let (answer, closed) = match (caller.hear(), caller.hear()) {
        (Heard::Answer(answer), closed) | (closed, Heard::Answer(answer)) => (answer, closed),
        other => panic!("{other:?}"),
    };
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\n1"), "{answer:?}");
    assert_eq!(closed, Heard::Closed(conn, Closed::PeerEof));
    caller.stop();
}
