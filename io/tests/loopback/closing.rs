//! How connections end, and that their slots come back.

use std::time::Instant;

use gyre_io::Closed;

use super::client::{CLOSE, Client, TEXT, close_frame, frame};
use super::server::{Seen, Server, Setup};

/// The close handshake a browser starts: its code comes back, then the connection ends.
#[test]
fn a_peers_close_is_answered() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    let conn = server.see_accepted();
    let mut bytes = frame(TEXT, b"last words");
    bytes.extend(close_frame(4321));
    bytes.extend(frame(TEXT, b"never heard"));
    client.write(&bytes);
    assert_eq!(client.read_frame(), (TEXT, b"last words".to_vec()));
    assert_eq!(client.read_close(), (4321, String::new()));
    client.expect_end();
    assert_eq!(server.see(), Seen::Closed(conn, Closed::PeerClosed { code: 4321 }));
    let mut client = Client::websocket(server.address);
    server.see_accepted();
    client.send(CLOSE, b"");
    // Ending its direction at once must not cost it the answer.
    client.end_writing();
    assert_eq!(client.read_frame(), (CLOSE, vec![]));
    client.expect_end();
    assert_eq!(server.see_closed(), Closed::PeerClosed { code: 1005 });
    server.stop();
}

/// Disconnect codes must reach clients, and what was sent before them.
#[test]
fn our_close_waits_for_the_peers() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    server.see_accepted();
    client.send(TEXT, b"json 1");
    client.send(TEXT, b"close");
    assert_eq!(client.read_frame(), (TEXT, b"{\"n\":0}".to_vec()));
    assert_eq!(client.read_close(), (4000, "as you wish".to_owned()));
    client.send(TEXT, b"ignored by now");
    client.write(&close_frame(4000));
    client.expect_end();
    assert_eq!(server.see_closed(), Closed::Local);
    server.stop();
}

/// A peer that does not answer must not hold its slot.
#[test]
fn an_unanswered_close_ends_after_five_seconds() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    server.see_accepted();
    let start = Instant::now();
    client.send(TEXT, b"close");
    assert_eq!(client.read_close().0, 4000);
    client.expect_end();
    assert!(start.elapsed().as_secs() >= 4);
    assert_eq!(server.see_closed(), Closed::Local);
    server.stop();
}

/// Without a close frame, as for 3000.
#[test]
fn an_abort_says_nothing() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    server.see_accepted();
    client.send(TEXT, b"abort");
    client.expect_end();
    assert_eq!(server.see_closed(), Closed::Local);
    server.stop();
}

/// Phones vanish: each such connection must be reported once, or presence keeps ghosts.
#[test]
fn vanished_peers_are_reported() {
    let server = Server::start(Setup::default());
    for at in 0..20 {
        let client = Client::websocket(server.address);
        server.see_accepted();
        if at % 2 == 0 {
            // Makes the kernel send a reset.
            socket2::SockRef::from(&client.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(client);
        let expected = if at % 2 == 0 { Closed::PeerReset } else { Closed::PeerEof };
        assert_eq!(server.see_closed(), expected);
    }
    server.stop();
}

/// Broken frames are answered with the code of the violation.
#[test]
fn violations_are_named() {
    let server = Server::start(Setup { message_size_max: 1000, ..Setup::default() });
    let too_big = frame(TEXT, &[b'x'; 1001]);
    let cases: [(&[u8], u16); 4] =
        [(b"\x81\x02hi", 1002), (b"\xf1\x80aaaa", 1002), (&frame(TEXT, b"\xff"), 1007), (&too_big[..8], 1009)];
    for (bytes, code) in cases {
        let mut client = Client::websocket(server.address);
        server.see_accepted();
        client.write(bytes);
        assert_eq!(client.read_close().0, code);
        client.expect_end();
        assert_eq!(server.see_closed(), Closed::Violation(code));
    }
    server.stop();
}

/// Slots are the scarce thing of a core: with room for two, many clients in a row must all be served, while others
/// come and find it full.
#[test]
fn a_full_table_recovers() {
    let server = Server::start(Setup { connections_max: 2, ..Setup::default() });
    let mut first = Client::websocket(server.address);
    let first_conn = server.see_accepted();
    let mut generations = Vec::new();
    for _ in 0..10 {
        let mut second = Client::websocket(server.address);
        let conn = server.see_accepted();
        assert_ne!(conn.index, first_conn.index);
        generations.push(conn.generation);
        // Nobody takes this one; the kernel closes it.
        let mut third = Client::connect(server.address);
        third.expect_end();
        second.send(TEXT, b"abort");
        second.expect_end();
        assert_eq!(server.see(), Seen::Closed(conn, Closed::Local));
    }
    assert!(generations.is_sorted_by(|a, b| a < b));
    first.send(TEXT, b"still here");
    assert_eq!(first.read_frame(), (TEXT, b"still here".to_vec()));
    server.stop();
}
