//! Redis, as a core speaks to it. `connection` is the protocol without a connection: bytes in, replies and messages out.
//! `wire` adds TLS; `lane` puts both on a connection of the driver and makes a new one when that fails; `client` is the pair of lanes that a
//! core has to one server.
//!
//! Runs on a core's thread inside its turn. `connection` knows no socket, no clock (milliseconds are arguments) and no
//! driver: what arrived is handed in, what lies in the output buffer is sent, once per turn. So every split point and
//! every broken byte can be tried in a test, and a simulated Redis can sit on the other side.
//! It never blocks, never retries and never panics on what Redis, or something that is not Redis, sends.

mod client;
mod cluster;
mod command;
mod connection;
mod failure;
mod handshake;
mod lane;
mod outages;
mod pubsub;
mod reply;
mod scan;
mod script;
mod shard;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use client::{Client, ClientOptions, Event};
pub use cluster::{SLOTS, SlotMap, SlotMapError, slot_of};
pub use command::Command;
pub use connection::{Connection, Incoming, SendError};
pub use failure::Failure;
pub use handshake::{Greeting, Handshake};
pub use lane::{Endpoint, Use};
pub use outages::Outages;
pub use reply::{Reply, ReplyError};
pub use script::Script;
pub use shard::{Messages, Servers, Shard, ShardOptions};
pub use tls::Tls;
pub use wire::Wire;
