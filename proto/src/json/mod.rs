//! JSON text: checking, reading, writing.
//!
//! Whatever arrives is first walked by the strict checker (`value_end`): no recursion, bounded nesting. Only text that
//! passed goes on to sonic-rs, whose skipping of values recurses without a bound and believes any `\u` escape. Payloads
//! that leave are checked by the same walk, so that what one client may publish no other client chokes on.
//!
//! No state; runs on any core and thread.

mod check;
mod object;
mod read;
mod relaxed;
mod write;

pub use check::is_value;
pub(crate) use object::{Object, object};
pub(crate) use read::{decode, decode_first, raw_bytes};
pub(crate) use write::{number, string};
