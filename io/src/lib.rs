//! Performing: everything of Gyre that touches the system.
//!
//! One core is one thread: a glommio executor whose foreground task is the `Driver`, which owns an io_uring with all
//! sockets of the core and blocks only there. Connections begin in stream mode (HTTP by hyper over `Stream`) and may
//! become WebSocket connections, which have no task. Cores share nothing but the rings of the `mesh`.
//! This package knows bytes, frames and connections; it never knows channels or sessions.

#![warn(missing_docs)]

mod backend;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "counting")]
mod counting;
mod driver;
pub mod http;
mod limits;
pub mod mesh;
mod outbox;
mod palette;
pub mod redis;
mod stream;
mod websocket;
mod wheel;

pub use backend::{ProbeError, probe, spawn};
#[cfg(feature = "counting")]
pub use counting::CountingAllocator;
pub use driver::{
    BindError, Busy, Closed, CoreHandle, CoreOptions, Dial, Driver, DriverStats, Handler, Listener, Target, Then,
    UpgradeRequest, bind_listeners, receive_buffers, spawn_core,
};
pub use palette::{FrameId, FrameKind};
pub use stream::Stream;
pub use websocket::WebSocketOptions;
