//! The time as the engine is told it.

use crate::limits::EXPIRY_MAX_S;

/// Two clocks, read once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds that never go back; the origin does not matter.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: i64,
}

impl Now {
    /// Unix time in seconds.
    pub fn unix_s(&self) -> i64 {
        self.unix_ms / 1000
    }

    /// The monotonic time in `delay_ms`; "never", `u64::MAX`, stays never.
    pub(crate) fn after(&self, delay_ms: u64) -> u64 {
        self.mono_ms.saturating_add(delay_ms)
    }

    /// Seconds until `at_s` (Unix), at least 1 as SDKs index on it, at most a year.
    pub(crate) fn ttl_s(&self, at_s: i64) -> u32 {
        at_s.saturating_sub(self.unix_s()).clamp(1, EXPIRY_MAX_S) as u32
    }

    /// The monotonic time of `at_s` (Unix) plus `delay_ms`.
    pub(crate) fn mono_of(&self, at_s: i64, delay_ms: u64) -> u64 {
        let left_ms = at_s.saturating_mul(1000).saturating_sub(self.unix_ms).max(0) as u64;
        self.mono_ms.saturating_add(left_ms).saturating_add(delay_ms)
    }
}
