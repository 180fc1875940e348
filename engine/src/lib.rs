//! Decisions and state of one core of Gyre: sessions, subscribers, channels, permissions, tokens, history, presence.
//!
//! Plain data and functions: no sockets, no clock, no runtime, no entropy of its own. Time is told once per turn, what
//! must happen outside is asked of an [`Outlet`], what another core must do is a [`Message`]. So a seed replays a bug,
//! and a test needs no server.
//!
//! The life of a publish: [`Engine::api_call`] or `commands/publish.rs` -> the home core (`home/`) numbers, stores and
//! prepares it -> [`Message::Deliver`] to each core with interest -> `delivery.rs` pushes it to every subscriber.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acts;
mod alone;
mod asking;
pub mod backend;
mod by_name;
mod calls;
pub mod channel_state;
mod chunks;
mod commands;
mod counters;
mod delivery;
mod ending;
mod engine;
mod home;
mod hub;
mod latest;
pub mod limits;
mod message;
mod now;
mod outlet;
mod position;
mod prolonging;
mod remote;
mod replies;
pub mod rules;
pub mod scripts;
mod seats;
mod server_side;
mod session;
mod sessions;
mod state_store;
mod store;
mod subscription;
mod timers;
pub mod token;
mod user_status;
mod users;

pub use acts::{Act, ActWhat, RefreshAct, SubscribeAct};
pub use counters::Counters;
pub use delivery::Delivery;
pub use engine::{Engine, EngineOptions};
pub use message::*;
pub use now::Now;
pub use outlet::{FrameId, Outlet};
pub use position::{Epoch, Position};
pub use seats::{SeatAnswer, SeatRequest};
pub use session::{ClientId, Handshake};
pub use state_store::{EventId, Expired, QueuedEvent, StateCall, StateReply, StateStep, StateWhat, Vacated};
pub use store::{Heard, Layout, StoreCall, StorePublish, StoreRead, StoreReply, Ticket};
