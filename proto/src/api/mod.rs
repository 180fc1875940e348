//! The server API in JSON: requests of application backends, results, envelopes.
//!
//! Only the shapes: what is required, what a field does and which error a call ends with is the caller's affair.
//! Decoding follows Go's `encoding/json` where existing API clients could tell the difference (case of keys, `null`,
//! integer literals), and copies what it keeps. Writing appends to a buffer of the caller's.

mod acts;
mod fields;
mod requests;
mod results;
mod write;

pub use acts::*;
pub use fields::{DecodeError, Fields, Value, decode};
pub use requests::*;
pub use results::*;
pub use write::{WriteJson, write_bare_error, write_error, write_result};
