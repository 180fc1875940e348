//! What a host must allow so that Gyre can hold the planned connections, how it is now, and how to change it.
//!
//! Each condition is a knob: data with an id, a reader, the required value as a function of the `Target`, a severity and a
//! remedy. Everything is read from and written to files below a `Host`. Runs at start-up and on the command line, where
//! blocking is fine; never on a core. Depends on nothing else of Gyre, so that the load generator can use it too.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod apply;
mod check;
pub mod count;
mod host;
pub mod knob;
pub mod knobs;
mod persist;
mod readers;
mod script;
mod table;
mod target;
pub mod topology;

pub use apply::{Change, Outcome, apply, plan};
pub use check::{Finding, Report, check};
pub use host::Host;
pub use persist::{Kept, persistent_files};
pub use readers::usable;
pub use script::script;
pub use table::{explain, index, table};
pub use target::{CONNECTIONS_ASSUMED, CONNECTIONS_MAX, Role, Target};
