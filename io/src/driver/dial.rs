//! Outgoing connections: for the load generator, and for whatever a core has to ask others.
//!
//! Runs on the core's thread and never blocks: making a socket is a handful of system calls, connecting is an operation
//! of the ring, or for a Unix socket a system call that ends at once. The slots come from the beginning of the file
//! table, which accepting leaves alone, so that a connection has its id at once. What a connection needs until it is
//! usable is boxed and given back then: an outgoing WebSocket connection costs what an accepted one costs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use gyre_proto::ids::ConnId;
use gyre_proto::ws::{Role, handshake};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Closed, Driver, Handler, Notice, Phase, TimerUse};
use crate::backend::{self, errno};
use crate::limits::{ANSWER_HEAD_MAX, ANSWER_HEADERS_MAX, UNCLAIMED_MS};
use crate::palette::FrameKind;
use crate::websocket::WebSocketOptions;

/// What to connect to, and what to do then.
#[derive(Clone, Copy, Debug)]
pub struct Dial<'a> {
    /// The peer.
    pub target: Target<'a>,
    /// Our address; None lets the kernel choose. One address has some 28,000 ports for each target. Without meaning for a
    /// Unix socket.
    pub source: Option<IpAddr>,
    /// Time for all of it, the upgrade included.
    pub timeout_ms: u64,
    /// What follows the connect.
    pub then: Then<'a>,
}

/// Where a peer listens.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// On TCP.
    Internet(SocketAddr),
    /// On a Unix stream socket with this path. A listener whose backlog is full refuses at once (EAGAIN).
    Unix(&'a Path),
}

/// What becomes of a connection that was dialled.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// It is in stream mode, for `Stream::claim`.
    Stream,
    /// It stays what it is: what arrives goes to `Handler::bytes`, what is sent are frames of `FrameKind::Raw` and no
    /// others.
    Raw,
    /// It becomes a WebSocket.
    WebSocket {
        /// What to ask for.
        request: &'a Arc<UpgradeRequest>,
        /// What to accept. The role is the client's, whatever this says.
        options: WebSocketOptions,
    },
}

/// An upgrade to WebSocket and the answer it must get. Made once and shared: whoever dials a trusted node needs no new
/// key for each connection.
#[derive(PartialEq, Eq, Debug)]
pub struct UpgradeRequest {
    bytes: Vec<u8>,
    accept_key: String,
    subprotocol: Option<String>,
}

impl UpgradeRequest {
    /// A request with the headers every upgrade has and those given. Nothing is escaped: the caller vouches for all of
    /// it. `key` is base64 of 16 bytes.
    pub fn new(host: &str, path: &str, key: &str, subprotocol: Option<&str>, headers: &[(&str, &str)]) -> Self {
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let offer = subprotocol.map(|name| ("Sec-WebSocket-Protocol", name));
        for (name, value) in headers.iter().copied().chain(offer) {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        let subprotocol = subprotocol.map(str::to_owned);
        Self { bytes: text.into_bytes(), accept_key: handshake::accept_key(key), subprotocol }
    }
}

/// What a connection has until it is usable.
pub(crate) struct Dialling {
    then: Next,
    /// The answer so far, if it came in pieces.
    answer: Vec<u8>,
}

/// `Then`, as it is kept.
#[derive(Clone)]
enum Next {
    Stream,
    Raw,
    Upgrade(Arc<UpgradeRequest>),
}

impl Driver {
    /// Begins an outgoing connection. `Handler::dialled` follows when it is usable, `Handler::closed` when it ends, also
    /// if it never was. Until it is usable it takes no frames and no timer.
    ///
    /// # Errors
    /// No socket, no free slot (`CoreOptions::dials_max`), no such source address, or a path too long for a socket.
    /// Nothing follows then.
    ///
    /// # Panics
    /// If more than 255 different options are in use on this core.
    pub fn dial(&mut self, dial: Dial<'_>) -> io::Result<ConnId> {
        let Some(index) = self.dial_slots.take() else {
            return Err(io::Error::other("every slot for outgoing connections is taken; raise dials_max of the core"));
        };
        let made = socket(&dial).and_then(|(socket, connect)| self.ring.adopt(index, socket).map(|()| connect));
        let connect = match made {
            Ok(connect) => connect,
            Err(error) => {
                self.dial_slots.give_back(index);
                return Err(error);
            }
        };
        let (then, options) = match dial.then {
            Then::Stream => (Next::Stream, 0),
            Then::Raw => (Next::Raw, 0),
            Then::WebSocket { request, options } => {
                let options = WebSocketOptions { role: Role::Client, ..options };
                (Next::Upgrade(Arc::clone(request)), self.options_index(options))
            }
        };
        let conn = self.table.open(index, Phase::Dialling);
        self.stats.dials += 1;
        if let Some(slot) = self.table.get(conn) {
            slot.options = options;
            slot.blocked = true;
            slot.cold().dialling = Some(Box::new(Dialling { then, answer: Vec::new() }));
        }
        self.arm_timer(conn, TimerUse::Dialling, self.now_ms.saturating_add(dial.timeout_ms));
        match connect {
            Connect::Internet(target) => self.ring.connect(conn, target),
            Connect::Unix(result) => self.notices.push(Notice::Connected(conn, result)),
        }
        Ok(conn)
    }

    /// A connect ended.
    pub(super) fn on_connected<H: Handler>(&mut self, handler: &mut H, conn: ConnId, result: Result<u32, i32>) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.blocked = false;
        if slot.phase != Phase::Dialling {
            return self.release(conn);
        }
        if let Err(error) = result {
            return self.finish(conn, Closed::Unreachable(error));
        }
        let Some(dialling) = slot.cold.as_ref().and_then(|cold| cold.dialling.as_ref()) else { return };
        let then = dialling.then.clone();
        if !matches!(then, Next::Stream) {
            slot.receiving = true;
            self.ring.receive_many(conn);
        }
        match then {
            Next::Stream => {
                self.usable(conn, Phase::Stream);
                self.open_stream(conn);
                self.arm_timer(conn, TimerUse::Stream, self.now_ms + UNCLAIMED_MS);
                handler.dialled(self, conn);
            }
            Next::Raw => {
                self.usable(conn, Phase::Raw);
                self.watch_end(conn);
                handler.dialled(self, conn);
            }
            Next::Upgrade(request) => {
                let frame = self.palette.add(FrameKind::Raw, &request.bytes);
                self.queue(conn, self.palette.index(frame));
            }
        }
    }

    /// Bytes of the answer to an upgrade arrived, and maybe frames behind it.
    pub(super) fn on_answer<H: Handler>(&mut self, handler: &mut H, conn: ConnId, bytes: &mut [u8]) {
        let Some(slot) = self.table.get(conn) else { return };
        let Some(dialling) = slot.cold.as_mut().and_then(|cold| cold.dialling.as_mut()) else { return };
        let Next::Upgrade(request) = dialling.then.clone() else { return };
        let mut answer = std::mem::take(&mut dialling.answer);
        // Most answers come whole; only what is incomplete is copied.
        let seen = if answer.is_empty() {
            bytes
        } else {
            answer.extend_from_slice(bytes);
            &mut answer[..]
        };
        match read_answer(seen, &request.accept_key, request.subprotocol.as_deref()) {
            Answer::Accepted { len } => {
                self.usable(conn, Phase::WebSocket);
                handler.dialled(self, conn);
                if self.table.get(conn).is_some_and(|slot| matches!(slot.phase, Phase::WebSocket | Phase::Closing)) {
                    self.feed(handler, conn, &mut seen[len..]);
                }
            }
            Answer::Refused(status) => self.finish(conn, Closed::Refused(status)),
            Answer::Partial => dialling.answer = seen.to_vec(),
        }
    }

    fn usable(&mut self, conn: ConnId, phase: Phase) {
        let Some(slot) = self.table.get(conn) else { return };
        slot.phase = phase;
        slot.cold().dialling = None;
        slot.drop_cold_if_empty();
        self.disarm_timer(conn, TimerUse::Dialling);
    }
}

/// What is left to do for a connect.
enum Connect {
    /// All of it: it takes a round trip.
    Internet(SocketAddr),
    /// Nothing: this came of it.
    Unix(Result<u32, i32>),
}

fn socket(dial: &Dial<'_>) -> io::Result<(Socket, Connect)> {
    let target = match dial.target {
        Target::Internet(target) => target,
        Target::Unix(path) => return unix_socket(path),
    };
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = dial.source {
        backend::bind_without_port(&socket, source)?;
    }
    Ok((socket, Connect::Internet(target)))
}

/// Connects here, because the ring would have a thread of the kernel wait for room in a full backlog: nothing but the
/// peer wakes it, so a deadline could not end it, and two of them would keep every shutdown of this core waiting.
fn unix_socket(path: &Path) -> io::Result<(Socket, Connect)> {
    let address = SockAddr::unix(path).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: too long for a unix socket; use a shorter path", path.display()))
    })?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let result = match socket.connect(&address) {
        Ok(()) => Ok(0),
        Err(error) => Err(error.raw_os_error().unwrap_or(errno::AGAIN)),
    };
    // From here on like every other socket in the ring.
    socket.set_nonblocking(false)?;
    Ok((socket, Connect::Unix(result)))
}

#[derive(PartialEq, Eq, Debug)]
enum Answer {
    /// More of it must come.
    Partial,
    /// The upgrade is done; the head takes this many bytes.
    Accepted { len: usize },
    /// As `Closed::Refused`.
    Refused(u16),
}

fn read_answer(bytes: &[u8], accept_key: &str, subprotocol: Option<&str>) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(status) = response.parse(bytes) else { return Answer::Refused(0) };
    let httparse::Status::Complete(len) = status else {
        return if bytes.len() > ANSWER_HEAD_MAX { Answer::Refused(0) } else { Answer::Partial };
    };
    let values = |name: &'static str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    };
    let has_key = values("sec-websocket-accept").any(|key| key == accept_key.as_bytes());
    // What was not offered must not be accepted (RFC 6455, 4.1), and no extension ever is.
    let has_more = values("sec-websocket-extensions").next().is_some()
        || values("sec-websocket-protocol").any(|name| Some(name) != subprotocol.map(str::as_bytes));
    match response.code {
        Some(101) if has_key && !has_more => Answer::Accepted { len },
        code => Answer::Refused(code.unwrap_or(0)),
    }
}

/// The slots kept for outgoing connections: the first ones of the table.
pub(super) struct DialSlots {
    max: u32,
    /// Those from here on were never used.
    fresh: u32,
    free: Vec<u32>,
    /// Not free before the ring was entered: its queue may hold the close of the last connection.
    closing: Vec<u32>,
}

impl DialSlots {
    pub(super) fn new(max: u32) -> Self {
        Self { max, fresh: 0, free: Vec::new(), closing: Vec::new() }
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.fresh == self.max {
            return None;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// Takes a slot back, if it is one of these.
    pub(super) fn give_back(&mut self, index: u32) {
        if index < self.max {
            self.closing.push(index);
        }
    }

    /// The ring was entered, and with it every close queued before.
    pub(super) fn closes_submitted(&mut self) {
        self.free.append(&mut self.closing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    /// Whoever answers something else than a WebSocket upgrade must not be spoken to in frames, and no answer may make
    /// us wait for its end for ever.
    #[test]
    fn answers_are_told_apart() {
        let good = format!("HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nSEC-WEBSOCKET-ACCEPT: {ACCEPT} \r\n\r\n");
        let read = |bytes: &str| read_answer(bytes.as_bytes(), ACCEPT, None);
        assert_eq!(read(&good), Answer::Accepted { len: good.len() });
        assert_eq!(read(&format!("{good}\x01\x02")), Answer::Accepted { len: good.len() });
        for end in 1..good.len() {
            assert_eq!(read(&good[..end]), Answer::Partial, "{end}");
        }
        assert_eq!(read(&good.replace("s3p", "s3q")), Answer::Refused(101));
        assert_eq!(read("HTTP/1.1 101 Switching\r\n\r\n"), Answer::Refused(101));
        assert_eq!(read(&good.replace("101", "200")), Answer::Refused(200));
        assert_eq!(read("HTTP/1.0 503 Busy\r\ncontent-length: 3\r\n\r\nno!"), Answer::Refused(503));
        assert_eq!(read("SSH-2.0-x\r\n"), Answer::Refused(0));
        assert_eq!(read(&format!("HTTP/1.1 101 x\r\na: {}", "y".repeat(ANSWER_HEAD_MAX))), Answer::Refused(0));
        assert_eq!(read(&format!("HTTP/1.1 101 x\r\n{}\r\n", "a: b\r\n".repeat(1000))), Answer::Refused(0));
    }

    /// A server that accepts what was not offered will send frames that this side misreads.
    #[test]
    fn only_what_was_offered_may_be_accepted() {
        for (header, offered, is_accepted) in [
            ("Sec-WebSocket-Protocol: p", Some("p"), true),
            ("Sec-WebSocket-Protocol: q", Some("p"), false),
            ("Sec-WebSocket-Protocol: p, q", Some("p"), false),
            ("Sec-WebSocket-Protocol: p", None, false),
            ("X-Other: p", Some("p"), true),
            ("sec-websocket-extensions: permessage-deflate", Some("p"), false),
        ] {
            let answer = format!("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {ACCEPT}\r\n{header}\r\n\r\n");
            let expected = if is_accepted { Answer::Accepted { len: answer.len() } } else { Answer::Refused(101) };
            assert_eq!(read_answer(answer.as_bytes(), ACCEPT, offered), expected, "{header}");
        }
    }

    /// The example of RFC 6455: nodes that check the request must let us in, and we must know their answer.
    #[test]
    fn a_request_is_complete() {
        let request = UpgradeRequest::new("a:1", "/b?c", "dGhlIHNhbXBsZSBub25jZQ==", Some("p"), &[("X-Y", "z")]);
        assert_eq!(request.accept_key, ACCEPT);
        let text = String::from_utf8(request.bytes).unwrap();
        assert!(text.starts_with("GET /b?c HTTP/1.1\r\nHost: a:1\r\n"), "{text}");
        assert!(text.ends_with("\r\nX-Y: z\r\nSec-WebSocket-Protocol: p\r\n\r\n"), "{text}");
    }

    /// A slot that is given out while its last socket is still to be closed would lose its new socket.
    #[test]
    fn slots_come_back_after_their_close() {
        let mut slots = DialSlots::new(2);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(0), Some(1), None]);
        slots.give_back(1);
        slots.give_back(7);
        assert_eq!(slots.take(), None);
        slots.closes_submitted();
        assert_eq!([slots.take(), slots.take()], [Some(1), None]);
    }
}
