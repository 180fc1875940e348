//! Rings between all cores of a node.

#[cfg(all(loom, test))]
mod loom_wake;
mod sync;
mod wake;

pub use wake::Sleeper;
