//! The server API in JSON: requests of application backends, results, envelopes.
//!
//! Only the shapes: what is required, what a field does and which error a call ends with is the caller's affair.
//! Decoding follows Go's `encoding/json` where existing API clients could tell the difference (case of keys, `null`,
//! integer literals), and copies what it keeps. Writing appends to a buffer of the caller's.

use crate::codes::ApiError;

mod acts;
mod batch;
mod fields;
mod messages;
mod replies;
mod requests;
mod write;

pub use batch::{Batch, LegacyCall, LegacyCalls};
pub use fields::{DecodeError, Fields, Value, decode};
pub use messages::*;
pub use write::{WriteJson, write_bare_error, write_error, write_result};

pub use crate::client::{ClientInfo, Disconnect, FilterNode, StreamPosition};
pub use replies::write_legacy_reply;

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, message: error.message.to_owned() }
    }
}
