//! Reading JSON into values, by the rules that both the client protocol and the server API follow.
//!
//! Unknown keys are ignored, keys match in their case or, failing that, in any case; `null` leaves a field at its
//! default, unless it holds raw JSON; a wrong type is an error. A message is never built from an array.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use sonic_rs::LazyValue;

use super::check;
use super::relaxed::Relaxed;

/// The text is not JSON, or not JSON of the shape wanted. The sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads a `T` from text that holds one JSON value and nothing else but white space.
pub(crate) fn decode<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Malformed> {
    let (value, end) = decode_first(text)?;
    if check::skip_space(text, end) == text.len() { Ok(value) } else { Err(Malformed) }
}

/// Reads a `T` from the first JSON value of `text`; also says where that value ends. The rest is not looked at.
pub(crate) fn decode_first<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<(T, usize), Malformed> {
    let end = check::value_end(text).ok_or(Malformed)?;
    let text = simdutf8::basic::from_utf8(&text[..end]).map_err(|_| Malformed)?;
    // A lone surrogate is valid JSON, though no valid text: it reads as U+FFFD.
    let mut reader = sonic_rs::Deserializer::from_str(text).utf8_lossy();
    let value = T::deserialize(Relaxed(&mut reader)).map_err(|_| Malformed)?;
    Ok((value, end))
}

/// `deserialize_with` of a raw JSON field: the exact text of the value, inner white space kept. `null` is a value like
/// any other here, its four letters: an application that says it means it.
pub(crate) fn raw_bytes<'a, D: Deserializer<'a>>(reader: D) -> Result<Bytes, D::Error> {
    // sonic-rs recognizes its own type and hands over source text without reading it.
    let value = LazyValue::deserialize(reader)?;
    Ok(Bytes::copy_from_slice(value.as_raw_str().as_bytes()))
}
