//! Raw outgoing connections, over TCP and over Unix sockets, to peers that do exactly what a test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gyre_io::{Closed, Dial, Driver, FrameKind, Target, Then};
use gyre_proto::ids::ConnId;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::caller::{Caller, Heard};
use super::client::{PATIENCE, noise};

/// Where a peer listens.
#[derive(Clone)]
enum At {
    Internet(SocketAddr),
    Unix(PathBuf),
}

impl At {
    fn dial(&self, driver: &mut Driver, timeout_ms: u64) -> std::io::Result<ConnId> {
        let target = match self {
            Self::Internet(address) => Target::Internet(*address),
            Self::Unix(path) => Target::Unix(path),
        };
        driver.dial(Dial { target, source: None, timeout_ms, then: Then::Raw })
    }
}

/// A peer before anybody called it.
struct Peer {
    listener: Socket,
    at: At,
}

impl Peer {
    fn both() -> [Self; 2] {
        [Self::internet(128), Self::unix(128)]
    }

    fn internet(backlog: i32) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(backlog).unwrap();
        let at = At::Internet(listener.local_addr().unwrap().as_socket().unwrap());
        Self { listener, at }
    }

    fn unix(backlog: i32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gyre-io-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        // A process with this number may have left it.
        let _ = std::fs::remove_file(&path);
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(backlog).unwrap();
        Self { listener, at: At::Unix(path) }
    }

    /// Dials it and takes the connection.
    fn call(&self, caller: &Caller) -> (ConnId, Socket) {
        let conn = dial(caller, &self.at, 20_000);
        let (peer, _) = self.listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(caller.hear(), Heard::Dialled(conn));
        (conn, peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let At::Unix(path) = &self.at {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn dial(caller: &Caller, at: &At, timeout_ms: u64) -> ConnId {
    let at = at.clone();
    caller.run(move |driver| at.dial(driver, timeout_ms).unwrap())
}

fn push(driver: &mut Driver, conn: ConnId, bytes: &[u8]) {
    let frame = driver.frame(FrameKind::Raw, bytes);
    driver.push(conn, frame);
}

/// The next bytes of this connection, as many as there must be.
fn hear_bytes(caller: &Caller, conn: ConnId, len: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < len {
        match caller.hear() {
            Heard::Bytes(of, bytes) if of == conn => heard.extend(bytes),
            other => panic!("{other:?} after {} bytes", heard.len()),
        }
    }
    heard
}

fn until_connections(caller: &Caller, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while caller.run(|driver| driver.connections()) != count {
        assert!(Instant::now() < deadline, "a connection did not end");
        std::thread::yield_now();
    }
}

/// Commands of a turn must reach the other system in their order, and as one packet instead of a thousand; so must what
/// it answers.
#[test]
fn small_frames_go_out_together_and_in_order() {
    for peer in Peer::both() {
        let caller = Caller::start(1);
        let (conn, mut socket) = peer.call(&caller);
        for round in 0..3 {
            let line = move |n: u32| format!("{round}.{n}\r\n");
            let sends = caller.run(move |driver| {
                (0..1000).for_each(|n| push(driver, conn, line(n).as_bytes()));
                driver.stats().sends
            });
            let expected = (0..1000).map(line).collect::<String>().into_bytes();
            let mut bytes = vec![0; expected.len()];
            socket.read_exact(&mut bytes).unwrap();
            assert!(bytes == expected);
            assert_eq!(caller.run(|driver| driver.stats().sends), sends + 1);
            socket.write_all(&bytes).unwrap();
            assert!(hear_bytes(&caller, conn, expected.len()) == expected);
        }
        caller.run(move |driver| driver.close(conn, 0, ""));
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        // Whoever has said goodbye is told nothing more, and the peer's end frees the slot.
        socket.write_all(b"too late").unwrap();
        assert_eq!(caller.run(|driver| driver.connections()), 1);
        drop(socket);
        until_connections(&caller, 0);
        caller.stop();
    }
}

/// A large state that is loaded, or a burst of publications, must come through whole while both sides talk.
#[test]
fn megabytes_pass_both_ways() {
    const TOTAL: usize = 10 << 20;
    const PIECE: usize = 40_000;
    for peer in Peer::both() {
        let caller = Caller::bounded(1, 1 << 20);
        let (conn, mut socket) = peer.call(&caller);
        let echo = std::thread::spawn(move || {
            let mut buffer = vec![0; 100_000];
            let mut total = 0;
            loop {
                let len = socket.read(&mut buffer).unwrap();
                if len == 0 {
                    return total;
                }
                total += len;
                socket.write_all(&buffer[..len]).unwrap();
            }
        });
        let all = Arc::new(noise(TOTAL));
        let mut sent = 0;
        let mut heard = Vec::new();
        while heard.len() < TOTAL {
            let (from, source) = (sent, all.clone());
            sent = caller.run(move |driver| {
                let mut at = from;
                // As a client of a database does it: no more than the connection takes.
                while at < TOTAL && driver.unsent(conn) < 500_000 {
                    let end = TOTAL.min(at + PIECE);
                    push(driver, conn, &source[at..end]);
                    at = end;
                }
                at
            });
            heard.extend(hear_bytes(&caller, conn, (sent - heard.len()).min(100_000)));
        }
        assert!(heard == *all);
        caller.run(move |driver| driver.close(conn, 0, ""));
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        assert_eq!(echo.join().unwrap(), TOTAL);
        caller.stop();
    }
}

/// What was said before the end counts, and a crash must be told from an orderly end.
#[test]
fn ends_of_the_peer_are_told_apart() {
    for peer in Peer::both() {
        let caller = Caller::start(8);
        // Right behind bytes an end is easily missed.
        for round in 0..200 {
            let (conn, mut socket) = peer.call(&caller);
            let why = match (round % 2, &peer.at) {
                (0, At::Internet(_)) => {
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    Closed::PeerReset
                }
                _ => Closed::PeerEof,
            };
            socket.write_all(b"last words").unwrap();
            drop(socket);
            assert_eq!(hear_bytes(&caller, conn, 10), b"last words");
            assert_eq!(caller.hear(), Heard::Closed(conn, why));
            until_connections(&caller, 0);
        }
        // It goes away without having read all we said.
        let (conn, mut socket) = peer.call(&caller);
        caller.run(move |driver| push(driver, conn, b"never read"));
        socket.read_exact(&mut [0; 3]).unwrap();
        drop(socket);
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::PeerReset));
        // It listens no longer but does not say so: what we say is lost, so this is the end.
        let (conn, socket) = peer.call(&caller);
        if matches!(peer.at, At::Unix(_)) {
            socket.shutdown(Shutdown::Read).unwrap();
            caller.run(move |driver| push(driver, conn, b"to nobody"));
        } else {
            drop(socket);
        }
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::PeerEof));
        // The handler may end it while it is handed bytes.
        let (conn, mut socket) = peer.call(&caller);
        socket.write_all(b"abort").unwrap();
        assert_eq!(hear_bytes(&caller, conn, 5), b"abort");
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        until_connections(&caller, 0);
        caller.stop();
    }
}

/// Whoever dials must learn why it failed, soon, and the slot must be good for the next attempt.
#[test]
fn what_cannot_be_reached_is_reported() {
    // A slot comes back a turn or two after its end was reported.
    let caller = Caller::start(16);
    let unreachable = |at: &At, errno: Errno| {
        let conn = dial(&caller, at, 20_000);
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Unreachable(errno.raw_os_error())));
    };
    for peer in Peer::both() {
        let at = peer.at.clone();
        // Nobody listens any more; the file of a Unix socket is still there.
        peer.listener.shutdown(Shutdown::Both).unwrap();
        unreachable(&at, Errno::CONNREFUSED);
        drop(peer);
        if matches!(at, At::Unix(_)) {
            unreachable(&at, Errno::NOENT);
        }
    }
    // A path that does not fit is known at once, and takes no slot.
    for _ in 0..3 {
        let long = At::Unix(Path::new("/tmp").join("x".repeat(200)));
        let error = caller.run(move |driver| long.dial(driver, 20_000)).unwrap_err().to_string();
        assert!(error.ends_with("x: too long for a unix socket; use a shorter path"), "{error}");
    }
    until_connections(&caller, 0);
    // Nobody accepts and the backlog holds one.
    let full = Peer::unix(0);
    let waiting = dial(&caller, &full.at, 20_000);
    assert_eq!(caller.hear(), Heard::Dialled(waiting));
    unreachable(&full.at, Errno::AGAIN);
    caller.run(move |driver| driver.abort(waiting));
    assert_eq!(caller.hear(), Heard::Closed(waiting, Closed::Local));
    let full = Peer::internet(0);
    let waiting = dial(&caller, &full.at, 20_000);
    assert_eq!(caller.hear(), Heard::Dialled(waiting));
    let conn = dial(&caller, &full.at, 300);
    assert_eq!(caller.hear(), Heard::Closed(conn, Closed::DialTimeout));
    caller.run(move |driver| driver.abort(waiting));
    assert_eq!(caller.hear(), Heard::Closed(waiting, Closed::Local));
    // Given up in the turn that began it: nothing but its end is heard.
    for peer in Peer::both() {
        let at = peer.at.clone();
        let conn = caller.run(move |driver| {
            let conn = at.dial(driver, 20_000).unwrap();
            driver.close(conn, 0, "");
            conn
        });
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        until_connections(&caller, 0);
    }
    caller.stop();
}

/// Another system that hangs must not fill our memory, and its connection must be given up once.
#[test]
fn a_peer_that_does_not_read_is_slow_once() {
    const BOUND: usize = 256 * 1024;
    const PIECE: usize = 64 * 1024;
    for peer in Peer::both() {
        let caller = Caller::bounded(1, BOUND as u32);
        let (conn, mut socket) = peer.call(&caller);
        let piece = Arc::new(noise(PIECE));
        // More than all the socket buffers there are.
        for _ in 0..1000 {
            let piece = piece.clone();
            let unsent = caller.run(move |driver| {
                push(driver, conn, &piece);
                driver.unsent(conn) as usize
            });
            assert!(unsent <= BOUND + PIECE, "{unsent}");
        }
        assert_eq!(caller.hear(), Heard::Slow(conn));
        assert_eq!(caller.run(|driver| driver.stats().slow), 1);
        // All that was taken before still arrives, in order.
        caller.run(move |driver| driver.close(conn, 0, ""));
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() > BOUND && bytes.chunks(PIECE).all(|chunk| chunk == &piece[..]), "{}", bytes.len());
        drop(socket);
        until_connections(&caller, 0);
        caller.stop();
    }
}

/// What was pushed before the close must have been said, also if the peer was not ready for it.
#[test]
fn close_says_everything_first() {
    const LEN: usize = 12 << 20;
    for peer in Peer::both() {
        let caller = Caller::start(2);
        let (conn, mut socket) = peer.call(&caller);
        let unsent = caller.run(move |driver| {
            push(driver, conn, &noise(LEN));
            push(driver, conn, b"bye");
            driver.close(conn, 0, "");
            push(driver, conn, b"too late");
            driver.unsent(conn)
        });
        assert_eq!(unsent as usize, LEN + 3);
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() == LEN + 3 && bytes[..LEN] == noise(LEN) && bytes.ends_with(b"bye"), "{}", bytes.len());
        drop(socket);
        // Cut off instead: half a command means nothing, so none of it is kept.
        let (conn, mut socket) = peer.call(&caller);
        caller.run(move |driver| {
            push(driver, conn, &noise(LEN));
            driver.close_discarding(conn, 0, "");
        });
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::Local));
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        drop(socket);
        until_connections(&caller, 0);
        caller.stop();
    }
}

/// A deadline for an answer must fire, and that of the dial must not outlive it.
#[test]
fn timers_of_the_handler_fire() {
    for peer in Peer::both() {
        let caller = Caller::start(1);
        let conn = dial(&caller, &peer.at, 200);
        let (mut socket, _) = peer.listener.accept().unwrap();
        assert_eq!(caller.hear(), Heard::Dialled(conn));
        let now = caller.run(|driver| driver.now_ms());
        while caller.run(|driver| driver.now_ms()) < now + 300 {
            std::thread::yield_now();
        }
        for _ in 0..2 {
            caller.run(move |driver| driver.set_timer(conn, driver.now_ms() + 20));
            assert_eq!(caller.hear(), Heard::Timeout(conn));
        }
        socket.write_all(b"still here").unwrap();
        assert_eq!(hear_bytes(&caller, conn, 10), b"still here");
        drop(socket);
        assert_eq!(caller.hear(), Heard::Closed(conn, Closed::PeerEof));
        caller.stop();
    }
}
