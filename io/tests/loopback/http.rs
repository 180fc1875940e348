//! HTTP on the same connections.

use gyre_io::Closed;
use gyre_io::http::HttpLimits;

use super::client::{Client, PING, PONG, TEXT, UPGRADE, close_frame, frame, noise};
use super::server::{Server, Setup};

fn post(body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// API clients keep connections and pipeline: every answer must come, in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Setup::default());
    let mut client = Client::connect(server.address);
    server.see_accepted();
    let bodies: Vec<Vec<u8>> = (0..500).map(|at| noise(at * 7)).collect();
    let mut all: Vec<u8> = bodies.iter().flat_map(|body| post(body)).collect();
    let rest = all.split_off(all.len() / 2);
    let mut writer = Client(client.0.try_clone().unwrap());
    let writing = std::thread::spawn(move || {
        for part in all.chunks(1234) {
            writer.write(part);
        }
        writer.write(&rest);
    });
    for body in &bodies {
        assert!(client.read_answer() == (200, body.clone()));
    }
    writing.join().unwrap();
    drop(client);
    assert_eq!(server.see_closed(), Closed::PeerEof);
    server.stop();
}

/// Bodies far larger than what we buffer, in both directions, also to a client that reads late.
#[test]
fn large_bodies_pass() {
    let server = Server::start(Setup { send_buffer_bytes: Some(128 * 1024), ..Setup::default() });
    let mut client = Client::connect(server.address);
    let body = noise(5 << 20);
    client.write(&post(&body));
    assert!(client.read_answer() == (200, body));
    client.write(b"GET /long HTTP/1.1\r\nhost: here\r\n\r\n");
    assert!(client.read_answer() == (200, noise(8 << 20)));
}

/// A client whose connection ended with such an answer, and was not told, would lose its next request.
#[test]
fn answers_before_the_body_are_sent_behind_it_or_end_the_connection() {
    let server = Server::start(Setup::default());
    let mut client = Client::connect(server.address);
    let head = |more: &str| format!("POST /connections HTTP/1.1\r\nhost: here\r\n{more}\r\n");
    for (more, body) in [
        ("content-length: 2\r\n", noise(2)),
        ("content-length: 200000\r\n", noise(200_000)),
        ("transfer-encoding: chunked\r\n", b"2\r\nab\r\n0\r\n\r\n".to_vec()),
    ] {
        client.write(head(more).as_bytes());
        let (first, rest) = body.split_at(1);
        client.write(first);
        client.write(rest);
        assert!(!client.read_head().contains("close"));
        assert_eq!(client.read(1), b"1");
    }
    client.write(head("content-length: 300000\r\n").as_bytes());
    client.write(&noise(300_000));
    assert!(client.read_head().contains("connection: close"));
    client.read(1);
    client.expect_end();
    let mut client = Client::connect(server.address);
    client.write(head("content-length: 2\r\nexpect: 100-continue\r\n").as_bytes());
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
    client.read(1);
    client.expect_end();
}

/// Clients send their connect command right behind the upgrade; it must not be lost, wherever the network cuts it.
#[test]
fn bytes_behind_an_upgrade_are_fed() {
    let server = Server::start(Setup::default());
    let mut bytes = b"GET /connections HTTP/1.1\r\nhost: here\r\n\r\n".to_vec();
    bytes.extend_from_slice(UPGRADE.as_bytes());
    bytes.extend(frame(TEXT, b"one"));
    bytes.extend(frame(TEXT, &[b'2'; 5000]));
    bytes.extend(frame(PING, b"p"));
    bytes.extend(close_frame(1000));
    for cut in (0..bytes.len()).step_by(97).chain([bytes.len()]) {
        let mut client = Client::connect(server.address);
        server.see_accepted();
        client.write(&bytes[..cut]);
        std::thread::yield_now();
        client.write(&bytes[cut..]);
        assert_eq!(client.read_answer(), (200, b"1".to_vec()));
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.read_frame(), (TEXT, b"one".to_vec()));
        assert_eq!(client.read_frame(), (TEXT, vec![b'2'; 5000]));
        assert_eq!(client.read_frame(), (PONG, b"p".to_vec()));
        assert_eq!(client.read_close().0, 1000);
        client.expect_end();
        drop(client);
        assert_eq!(server.see_closed(), Closed::PeerClosed { code: 1000 });
        // The slot comes back only after this; the next client asks for the number of connections.
        wait_for_connections(&server, 1);
    }
    server.stop();
}

fn wait_for_connections(server: &Server, expected: usize) {
    let start = std::time::Instant::now();
    let mut client = Client::connect(server.address);
    server.see_accepted();
    loop {
        client.write(b"GET /connections HTTP/1.1\r\nhost: here\r\n\r\n");
        if client.read_answer().1 == expected.to_string().into_bytes() {
            break;
        }
        assert!(start.elapsed() < super::client::PATIENCE);
    }
    drop(client);
    assert_eq!(server.see_closed(), Closed::PeerEof);
}

/// Slow and endless heads and bodies must not hold connections.
#[test]
fn heads_are_bounded_in_size_and_time() {
    let limits = HttpLimits { head_bytes_max: 8192, head_ms: 300, body_ms: 400, idle_ms: 600 };
    let server = Server::start(Setup { limits, ..Setup::default() });
    let mut large = Client::connect(server.address);
    server.see_accepted();
    large.write(b"GET / HTTP/1.1\r\nx: ");
    large.write(&[b'x'; 9000]);
    assert_eq!(large.read_answer().0, 431);
    drop(large);
    server.see_closed();

    let mut late = Client::connect(server.address);
    server.see_accepted();
    late.write(b"GET / HTTP/1.1\r\nx: ");
    assert_eq!(late.read_answer().0, 408);
    late.expect_end();
    drop(late);
    assert_eq!(server.see_closed(), Closed::Local);

    let mut stuck = Client::connect(server.address);
    server.see_accepted();
    stuck.write(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\n\r\nx");
    stuck.expect_end();
    assert_eq!(server.see_closed(), Closed::Local);

    let mut silent = Client::connect(server.address);
    server.see_accepted();
    silent.expect_end();
    assert_eq!(server.see_closed(), Closed::Local);

    let mut idle = Client::connect(server.address);
    server.see_accepted();
    idle.write(&post(b"x"));
    assert_eq!(idle.read_answer(), (200, b"x".to_vec()));
    // A second head has its own time, counted from its first byte.
    idle.write(b"GET / HTTP/1.1\r\nx: ");
    assert_eq!(idle.read_answer().0, 408);
    drop(idle);
    server.see_closed();

    let mut idle = Client::connect(server.address);
    server.see_accepted();
    idle.write(&post(b"x"));
    assert_eq!(idle.read_answer(), (200, b"x".to_vec()));
    let start = std::time::Instant::now();
    idle.expect_end();
    assert!(start.elapsed().as_millis() >= 500);
    assert_eq!(server.see_closed(), Closed::Local);
    server.stop();
}

/// Whoever stops in the middle of a request would keep the process from ending, for longer than it may take.
#[test]
fn draining_ends_half_requests() {
    let server = Server::start(Setup::default());
    let begin = |bytes: &[u8]| {
        let mut client = Client::connect(server.address);
        server.see_accepted();
        client.write(bytes);
        client
    };
    let mut head = begin(b"POST /echo HTTP/1.1\r\nhost: h");
    let mut body = begin(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\nab");
    let mut stuck = begin(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\nab");
    // Behind the others on the same core.
    let mut last = begin(&post(b"x"));
    assert_eq!(last.read_answer(), (200, b"x".to_vec()));
    server.drain();
    assert_eq!(head.read_answer().0, 408);
    body.write(b"cd");
    assert_eq!(body.read_answer(), (200, b"abcd".to_vec()));
    stuck.expect_end();
    drop((head, body, stuck, last));
    for _ in 0..4 {
        server.see_closed();
    }
    server.stop();
}

/// At shutdown, idle HTTP connections must not keep the process waiting, and WebSockets are not touched.
#[test]
fn draining_ends_idle_http_connections() {
    let server = Server::start(Setup::default());
    let mut websocket = Client::websocket(server.address);
    server.see_accepted();
    let mut fresh = Client::connect(server.address);
    server.see_accepted();
    let mut idle = Client::connect(server.address);
    server.see_accepted();
    idle.write(&post(b"x"));
    assert_eq!(idle.read_answer(), (200, b"x".to_vec()));
    server.drain();
    idle.expect_end();
    fresh.expect_end();
    drop((idle, fresh));
    server.see_closed();
    server.see_closed();
    websocket.send(TEXT, b"still");
    assert_eq!(websocket.read_frame(), (TEXT, b"still".to_vec()));
    server.stop();
}
