//! Messages and timers of WebSocket connections.

use gyre_io::Closed;

use super::client::{BINARY, Client, PING, PONG, TEXT, frame, noise};
use super::server::{Seen, Server, Setup};

/// A message must arrive whole however the network cuts it.
#[test]
fn messages_come_back_however_they_are_cut() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    let text = "grüße 👋".as_bytes();
    for byte in frame(TEXT, text) {
        client.write(&[byte]);
    }
    assert_eq!(client.read_frame(), (TEXT, text.to_vec()));
    let mut all = frame(TEXT & 0x7f, b"one ");
    all.extend(frame(PING, b"in between"));
    all.extend(frame(0x00, b"two "));
    all.extend(frame(0x80, b"three"));
    all.extend(frame(BINARY, b""));
    for part in all.chunks(7) {
        client.write(part);
    }
    assert_eq!(client.read_frame(), (PONG, b"in between".to_vec()));
    assert_eq!(client.read_frame(), (TEXT, b"one two three".to_vec()));
    assert_eq!(client.read_frame(), (BINARY, vec![]));
}

/// Large messages exercise every buffer boundary and, on the way back, short sends.
#[test]
fn large_messages_come_back() {
    let server = Server::start(Setup { send_buffer_bytes: Some(128 * 1024), ..Setup::default() });
    let mut client = Client::websocket(server.address);
    for len in [125, 126, 2048, 65_535, 65_536, 1 << 20, 16 << 20] {
        let data = noise(len);
        client.send(BINARY, &data);
        let (opcode, echo) = client.read_frame();
        assert!(opcode == BINARY && echo == data, "{len}");
    }
}

/// What was pushed in one turn is one frame of messages joined by newlines, sixteen at most: clients count on it.
#[test]
fn messages_of_a_turn_share_frames() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    client.send(TEXT, b"json 20");
    let joined = |range: std::ops::Range<u32>| {
        let messages: Vec<String> = range.map(|number| format!("{{\"n\":{number}}}")).collect();
        messages.join("\n").into_bytes()
    };
    assert_eq!(client.read_frame(), (TEXT, joined(0..16)));
    assert_eq!(client.read_frame(), (TEXT, joined(16..20)));
}

/// A thousand clients at once, each with its own bytes, must never see those of another.
#[test]
fn many_connections_keep_their_bytes_apart() {
    let server = Server::start(Setup { connections_max: 2000, ..Setup::default() });
    let mut clients: Vec<Client> = (0..1000).map(|_| Client::websocket(server.address)).collect();
    for round in 0..3 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(TEXT, format!("{at} in {round}").repeat(1 + at % 50).as_bytes());
        }
        for (at, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_frame(), (TEXT, format!("{at} in {round}").repeat(1 + at % 50).into_bytes()));
        }
    }
}

/// Pings and session deadlines hang on this: replaced deadlines must not fire, cleared ones neither.
#[test]
fn a_timer_fires_once_and_only_the_last() {
    let server = Server::start(Setup::default());
    let mut client = Client::websocket(server.address);
    let conn = server.see_accepted();
    for words in ["timer 30", "timer 120", "hush"] {
        client.send(TEXT, words.as_bytes());
    }
    assert_eq!(client.read_frame(), (TEXT, b"timeout".to_vec()));
    let Seen::Timeout(first) = server.see() else { panic!("no timeout") };
    for words in ["timer 30", "clear", "timer 20", "never", "timer 60"] {
        client.send(TEXT, words.as_bytes());
    }
    assert_eq!(client.read_frame(), (TEXT, b"timeout".to_vec()));
    let Seen::Timeout(second) = server.see() else { panic!("no timeout") };
    assert!(second >= first + 60, "{first} {second}");
    // Closing a connection takes its timer along.
    client.send(TEXT, b"timer 50");
    client.send(TEXT, b"abort");
    client.expect_end();
    assert_eq!(server.see(), Seen::Closed(conn, Closed::Local));
    let mut other = Client::websocket(server.address);
    server.see_accepted();
    other.send(TEXT, b"timer 200");
    let Seen::Timeout(_) = server.see() else { panic!("no timeout") };
    server.stop();
}
