//! What lies between a socket and a `Connection`: nothing, or TLS.
//!
//! On a core's thread, or on that of whoever speaks to Redis over a socket that blocks: bytes in, bytes out, no socket
//! and no clock in it, like the connection itself. It also knows the two ways in which one side speaks TLS and the other
//! does not, since neither side says so. Must never hand out a byte of a command before the TLS handshake has succeeded.

use super::connection::{Connection, Incoming};
use super::failure::Failure;
use super::handshake::Handshake;
use super::lane::Endpoint;
use super::tls::{Session, Tls};
use crate::limits::REDIS_FLUSH_BYTES;

/// A connection to Redis as its socket sees it.
pub struct Wire {
    connection: Connection,
    session: Option<Session>,
    /// Something has arrived.
    heard: bool,
}

impl Wire {
    /// A connection that was just established to `endpoint`. Its first output is there at once.
    pub fn new(handshake: Handshake, now_ms: u64, tls: Option<&Tls>, endpoint: &Endpoint) -> Self {
        let mut connection = Connection::new(handshake, now_ms);
        let session = match tls.and_then(|tls| tls.session(endpoint)) {
            None => None,
            Some(Ok(session)) => Some(session),
            Some(Err(why)) => {
                connection.fail(why, &mut |_| {});
                None
            }
        };
        Self { connection, session, heard: false }
    }

    /// The protocol above, to ask it for something.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// As `connection`.
    pub fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// `Connection::received`, for what the socket received.
    pub fn received(&mut self, data: &[u8], now_ms: u64, sink: &mut impl FnMut(Incoming)) {
        if data.is_empty() || self.connection.failure().is_some() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.heard, true);
        let connection = &mut self.connection;
        match &mut self.session {
            None if is_first && is_tls(data[0]) => connection.fail(Failure::ExpectsTls, sink),
            None => connection.received(data, now_ms, sink),
            Some(session) => {
                if let Err(why) = session.received(data, |plain| connection.received(plain, now_ms, sink)) {
                    connection.fail(why, sink);
                }
            }
        }
    }

    /// What the socket is to send now: not too much at a time, see `has_output`.
    pub fn output(&mut self) -> &[u8] {
        match &mut self.session {
            None => {
                let output = self.connection.output();
                &output[..output.len().min(REDIS_FLUSH_BYTES)]
            }
            Some(session) => session.output(&mut self.connection),
        }
    }

    /// The first `bytes` of `output` are on their way.
    pub fn output_taken(&mut self, bytes: usize) {
        match &mut self.session {
            None => self.connection.output_taken(bytes),
            Some(session) => session.output_taken(bytes),
        }
    }

    /// Whether there is output without anything else happening.
    pub fn has_output(&self) -> bool {
        match &self.session {
            None => !self.connection.output().is_empty(),
            Some(session) => session.has_output(&self.connection),
        }
    }

    /// When to call `expire` at the latest. None: never.
    pub fn next_deadline(&self) -> Option<u64> {
        self.connection.next_deadline()
    }

    /// `Connection::expire`.
    pub fn expire(&mut self, now_ms: u64, sink: &mut impl FnMut(Incoming)) {
        if self.is_handshaking() && self.next_deadline().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            // A Redis without TLS waits for the end of what it takes for a long line.
            let why = "redis did not answer the TLS handshake in time (io_timeout); check that the address is that of \
                       its TLS port";
            return self.connection.fail(Failure::Tls(why.into()), sink);
        }
        self.connection.expire(now_ms, sink);
    }

    /// The socket is gone.
    pub fn closed(&mut self, sink: &mut impl FnMut(Incoming)) {
        let why = match &self.session {
            Some(_) if self.is_handshaking() => {
                let why = "redis closed the connection during the TLS handshake; check that the address is that of its \
                           TLS port";
                Failure::Tls(why.into())
            }
            None if !self.heard => Failure::ClosedUnanswered,
            _ => Failure::Closed,
        };
        self.connection.fail(why, sink);
    }

    /// Why it has failed; then its socket is to be closed.
    pub fn failure(&self) -> Option<&Failure> {
        self.connection.failure()
    }

    fn is_handshaking(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_handshaking)
    }
}

/// Whether an answer that begins with this byte is TLS: an alert, or a handshake. No reply of Redis begins so.
fn is_tls(first: u8) -> bool {
    matches!(first, 0x15 | 0x16)
}
