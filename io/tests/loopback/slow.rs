//! Peers that do not read.

use gyre_io::Closed;

use super::client::{BINARY, Client, TEXT, noise};
use super::server::{Seen, Server, Setup};

/// Short sends for everything here, and still more than a loopback segment: with less, each send would wait for a
/// delayed acknowledgement.
const SMALL: Option<usize> = Some(128 * 1024);

/// A slow client is told once, and what it gets until then are whole frames: its parser must survive to the close.
#[test]
fn over_the_bound_a_peer_is_cut_off_once() {
    let server = Server::start(Setup { outbox_bytes_max: 256 * 1024, send_buffer_bytes: SMALL, ..Setup::default() });
    let mut client = Client::websocket(server.address);
    let conn = server.see_accepted();
    // More than all the socket buffers there are, over several turns.
    for _ in 0..400 {
        client.send(TEXT, b"flood 100 1");
    }
    assert_eq!(server.see(), Seen::Slow(conn));
    let whole = noise(100 * 1024);
    let mut frames = 0;
    let close = loop {
        let (opcode, payload) = client.read_frame();
        if opcode != BINARY {
            break payload;
        }
        assert!(payload == whole);
        frames += 1;
    };
    assert!((1..400).contains(&frames), "{frames}");
    assert_eq!(close, b"\x0b\xc0slow");
    drop(client);
    assert_eq!(server.see(), Seen::Closed(conn, Closed::Local));
    server.stop();
}

/// A client that pauses and then catches up must have lost nothing.
#[test]
fn below_the_bound_nothing_is_lost() {
    let server = Server::start(Setup { send_buffer_bytes: SMALL, ..Setup::default() });
    let mut client = Client::websocket(server.address);
    for _ in 0..100 {
        client.send(TEXT, b"flood 100 3");
        client.send(TEXT, b"mark");
    }
    let whole = noise(100 * 1024);
    for _ in 0..100 {
        for _ in 0..3 {
            let (opcode, payload) = client.read_frame();
            assert!(opcode == BINARY && payload == whole);
        }
        assert_eq!(client.read_frame(), (TEXT, b"mark".to_vec()));
    }
}

/// Many frames for a healthy client in one turn are not slowness.
#[test]
fn a_burst_larger_than_the_bound_is_fine_for_one_who_reads() {
    let server = Server::start(Setup { outbox_bytes_max: 64 * 1024, ..Setup::default() });
    let mut client = Client::websocket(server.address);
    server.see_accepted();
    client.send(TEXT, b"flood 1 200");
    for _ in 0..200 {
        assert_eq!(client.read_frame().1.len(), 1024);
    }
    client.send(TEXT, b"abort");
    client.expect_end();
    assert_eq!(server.see_closed(), Closed::Local);
    server.stop();
}

/// A slow client that goes away while we wait for room must free its slot.
#[test]
fn a_blocked_peer_that_vanishes_is_reported() {
    let server = Server::start(Setup { send_buffer_bytes: SMALL, ..Setup::default() });
    for _ in 0..5 {
        let mut client = Client::websocket(server.address);
        server.see_accepted();
        client.send(TEXT, b"flood 1000 20");
        assert_eq!(client.read(3).len(), 3);
        drop(client);
        // A reset if bytes had arrived that nobody will read, otherwise the end of its direction.
        let why = server.see_closed();
        assert!(matches!(why, Closed::PeerReset | Closed::PeerEof), "{why:?}");
    }
    server.stop();
}

/// Many slow clients at once: their unsent bytes and those of the healthy ones must not be mixed up.
#[test]
fn many_blocked_peers_keep_their_bytes_apart() {
    let server = Server::start(Setup { send_buffer_bytes: SMALL, ..Setup::default() });
    let mut clients: Vec<Client> = (0..40).map(|_| Client::websocket(server.address)).collect();
    for round in 0..10 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(TEXT, format!("flood {} 4", 20 + at).as_bytes());
            client.send(TEXT, format!("{at} in {round}").as_bytes());
        }
    }
    for round in 0..10 {
        for (at, client) in clients.iter_mut().enumerate() {
            let whole = noise((20 + at) * 1024);
            for _ in 0..4 {
                assert!(client.read_frame() == (BINARY, whole.clone()));
            }
            assert_eq!(client.read_frame(), (TEXT, format!("{at} in {round}").into_bytes()));
        }
    }
}
