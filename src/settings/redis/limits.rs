//! Numbers that URL and options share, and what they may be.

use crate::config::duration;

/// As the server counts them.
const DATABASE_MAX: u32 = i32::MAX as u32;

const NANOS_PER_MS: u64 = 1_000_000;

/// A database by the digits of its number.
pub(super) fn database(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|db| is_number && *db <= DATABASE_MAX)
}

/// `None` for zero, which means what it would be without.
///
/// # Errors
/// A time that no request can keep.
pub(super) fn timeout_ms(nanos: i64) -> Result<Option<u64>, String> {
    match u64::try_from(nanos) {
        Ok(0) => Ok(None),
        Ok(nanos) if nanos >= NANOS_PER_MS => Ok(Some(nanos.div_ceil(NANOS_PER_MS))),
        Ok(_) => Err(format!("{} is too short, the least is 1ms", duration::format(nanos))),
        Err(_) => Err("cannot be negative; nothing waits for ever".to_owned()),
    }
}
