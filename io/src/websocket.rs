//! From an HTTP upgrade to a WebSocket connection.
//!
//! The handshake itself is the product's (it answers the HTTP request, with `gyre_proto::ws::handshake`); from
//! `Driver::start_websocket` on, frames are the driver's: it answers pings, echoes the peer's close and hands whole
//! messages to `Handler::message`.

use gyre_proto::ids::ConnId;
use gyre_proto::ws::{DecoderLimits, Role};

use crate::driver::{Driver, Notice, Phase, TimerUse};
use crate::http::Upgrade;

/// What a WebSocket connection accepts from its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebSocketOptions {
    /// Longest message in bytes; a longer one is a violation with code 1009.
    pub message_size_max: usize,
    /// Whether text must be valid UTF-8; if not, it is a violation with code 1007.
    pub validate_utf8: bool,
    /// Which side of the connection this is: the client for connections of `Driver::dial`, else the server.
    pub role: Role,
}

impl WebSocketOptions {
    pub(crate) fn decoder_limits(&self) -> DecoderLimits {
        let Self { message_size_max, validate_utf8, role } = *self;
        DecoderLimits { message_size_max, validate_utf8, role }
    }
}

impl Driver {
    /// Turns a connection that `http::serve` gave back after an upgrade into a WebSocket connection. What the peer has
    /// sent already reaches `Handler::message` in the next turn. Returns the connection's id; stale if it is gone.
    ///
    /// # Panics
    /// If more than 255 different options are in use on this core.
    pub fn start_websocket(&mut self, upgrade: Upgrade, options: WebSocketOptions) -> ConnId {
        let conn = upgrade.conn;
        let options = self.options_index(options);
        let Some(slot) = self.table.get(conn) else { return conn };
        if slot.phase != Phase::Stream {
            return conn;
        }
        slot.phase = Phase::WebSocket;
        slot.options = options;
        let cold = slot.cold();
        let mut leftover = Vec::from(upgrade.leftover);
        let mut broken = false;
        if let Some(stream) = cold.stream.take() {
            leftover.extend_from_slice(stream.unread());
            broken = stream.broken;
        }
        let has_leftover = !leftover.is_empty();
        cold.leftover = leftover;
        slot.drop_cold_if_empty();
        self.disarm_timer(conn, TimerUse::Stream);
        if has_leftover {
            self.notify(Notice::Leftover(conn));
        }
        self.resume_receive(conn, broken);
        conn
    }

    pub(crate) fn options_index(&mut self, options: WebSocketOptions) -> u8 {
        let known = &mut self.websocket_options;
        let index = known.iter().position(|other| *other == options).unwrap_or_else(|| {
            known.push(options);
            known.len() - 1
        });
        u8::try_from(index).unwrap_or_else(|_| panic!("more than 255 different WebSocket options on one core"))
    }
}
