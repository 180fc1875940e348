//! Load generator for Centrifugo-compatible servers, as a library so that its parts can be tested.
//!
//! An independent witness: it shares the ring and the wire codecs with the node, never its decisions. A run goes
//! through these modules in this order: `options` (what was asked for), `plan` (does this host allow it), `load` (the
//! cores of the generator, which fill `live`), `screen` and `sample` (what is seen meanwhile, on a thread of their
//! own), `record` (what is kept), `report` and `compare` (what is read afterwards). Nothing outside `load` runs on a
//! core of the generator, so everything else may block.

#![forbid(unsafe_code)]

pub mod assertion;
pub mod codes;
pub mod compare;
pub mod hlog;
pub mod live;
pub mod load;
pub mod options;
mod outputs;
pub mod plan;
pub mod record;
pub mod report;
pub mod sample;
pub mod screen;
pub mod session;
pub mod summary;
pub mod units;
pub mod watch;
