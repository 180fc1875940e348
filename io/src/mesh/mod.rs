//! The mesh: a bounded queue from every thread of a node to every other, and the wake-ups that go with them.
//!
//! Cores share nothing but this. A message costs a few nanoseconds, a wake-up costs a system call and tens of
//! microseconds of latency, so messages are published as they come and wake-ups once per turn (`Port::flush`), and
//! only to threads that have published that they sleep. Nothing here blocks.

#[cfg(all(loom, test))]
mod loom_wake;
mod port;
mod ring;
mod sync;
mod wake;

pub use port::{Mesh, Port};
pub use wake::Sleeper;
