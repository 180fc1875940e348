//! A real core on a loopback port, and clients that are plain TCP sockets.
//!
//! What happens to the server's handler is told to the test through a channel, so nothing here sleeps to wait for a
//! state: it receives with a deadline.

#![allow(clippy::unwrap_used, reason = "tests")]

mod caller;
#[path = "../../src/redis/tests/certificates.rs"]
mod certificates;
mod client;
mod closing;
mod cluster;
mod dial;
mod http;
mod mesh;
mod raw;
mod redis;
mod server;
mod slow;
mod websocket;
