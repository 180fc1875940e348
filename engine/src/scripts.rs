//! The atomic steps of a channel whose truth is in Redis: Lua text, its SHA1, and the names and envelopes around it.
//!
//! Pure functions on a core's thread; nothing here talks to Redis, waits, or keeps state. What a script takes, returns
//! and does in which order is its contract, in the head of its file under `engine/lua/`. Removing history has none: it
//! is one `DEL` of [`Key::Stream`], meta stays.

mod envelope;
mod keys;
mod shards;
mod state_keys;
mod tags;

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

pub use envelope::Envelope;
pub use keys::{Key, Keys, KeysError, Tagging};
pub use shards::{shard_of, spread};
pub use state_keys::{StateKey, StateKeys, shard_of_partition};

/// One script of `engine/lua/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Script {
    /// Publish with history.
    Publish,
    /// Publish without history, with an idempotency key.
    PublishOnce,
    /// Position and a page of history; creates the epoch.
    History,
    /// Add or renew a client of a channel.
    PresenceAdd,
    /// Remove a client of a channel.
    PresenceRemove,
    /// The clients of a channel.
    Presence,
    /// Numbers of clients and users, with user mapping.
    PresenceStats,
    /// Add or renew a client of a channel whose state is told.
    StateAdd,
    /// Remove one.
    StateRemove,
    /// The clients of such a channel.
    StateMembers,
    /// Take a partition of such channels, or give it back.
    StateLease,
    /// What there is to do in it.
    StateStep,
    /// A live channel of it may have lost its clients.
    StateExpire,
    /// A pending one may be vacated.
    StateVacate,
    /// Forget events of it.
    StateAck,
    /// Renew one time of a user's status.
    UserStatusUpdate,
}

static SHA1S: LazyLock<[String; Script::ALL.len()]> =
    LazyLock::new(|| Script::ALL.map(|script| sha1_hex(script.text())));

impl Script {
    /// All of them, for loading ahead.
    pub const ALL: [Self; 16] = [
        Self::Publish,
        Self::PublishOnce,
        Self::History,
        Self::PresenceAdd,
        Self::PresenceRemove,
        Self::Presence,
        Self::PresenceStats,
        Self::StateAdd,
        Self::StateRemove,
        Self::StateMembers,
        Self::StateLease,
        Self::StateStep,
        Self::StateExpire,
        Self::StateVacate,
        Self::StateAck,
        Self::UserStatusUpdate,
    ];

    /// Name for logs and metrics: that of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishOnce => "publish_once",
            Self::History => "history",
            Self::PresenceAdd => "presence_add",
            Self::PresenceRemove => "presence_remove",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::StateAdd => "state_add",
            Self::StateRemove => "state_remove",
            Self::StateMembers => "state_members",
            Self::StateLease => "state_lease",
            Self::StateStep => "state_step",
            Self::StateExpire => "state_expire",
            Self::StateVacate => "state_vacate",
            Self::StateAck => "state_ack",
            Self::UserStatusUpdate => "user_status_update",
        }
    }

    /// The text for `EVAL` and `SCRIPT LOAD`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Publish => include_str!("../lua/publish.lua"),
            Self::PublishOnce => include_str!("../lua/publish_once.lua"),
            Self::History => include_str!("../lua/history.lua"),
            Self::PresenceAdd => include_str!("../lua/presence_add.lua"),
            Self::PresenceRemove => include_str!("../lua/presence_remove.lua"),
            Self::Presence => include_str!("../lua/presence.lua"),
            Self::PresenceStats => include_str!("../lua/presence_stats.lua"),
            Self::StateAdd => include_str!("../lua/state_add.lua"),
            Self::StateRemove => include_str!("../lua/state_remove.lua"),
            Self::StateMembers => include_str!("../lua/state_members.lua"),
            Self::StateLease => include_str!("../lua/state_lease.lua"),
            Self::StateStep => include_str!("../lua/state_step.lua"),
            Self::StateExpire => include_str!("../lua/state_expire.lua"),
            Self::StateVacate => include_str!("../lua/state_vacate.lua"),
            Self::StateAck => include_str!("../lua/state_ack.lua"),
            Self::UserStatusUpdate => include_str!("../lua/user_status_update.lua"),
        }
    }

    /// The name for `EVALSHA`: 40 lower-case hexadecimal digits.
    pub fn sha1(self) -> &'static str {
        &SHA1S[self as usize]
    }

    /// How many keys it takes. More than one number: leaving the last ones away turns off what they are for.
    /// [`Self::StateStep`] takes any number of queues after these.
    pub fn keys(self) -> RangeInclusive<usize> {
        match self {
            Self::Publish => 2..=3,
            Self::PublishOnce | Self::StateLease | Self::UserStatusUpdate => 1..=1,
            Self::History | Self::Presence | Self::StateMembers | Self::StateAck => 2..=2,
            Self::PresenceAdd | Self::PresenceRemove => 2..=4,
            Self::PresenceStats | Self::StateRemove | Self::StateStep => 4..=4,
            Self::StateAdd => 4..=5,
            Self::StateExpire => 5..=5,
            Self::StateVacate => 5..=6,
        }
    }
}

/// The offset of a stream entry, from its id `<offset>-0`.
pub fn offset_of(entry_id: &[u8]) -> Option<u64> {
    decimal(entry_id.strip_suffix(b"-0")?)
}

/// A number as this module and the scripts write it: digits only, no zero in front.
fn decimal(digits: &[u8]) -> Option<u64> {
    let is_plain = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || !digits.starts_with(b"0"));
    if !is_plain {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn sha1_hex(text: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong name makes every EVALSHA a NOSCRIPT: each call would carry the whole text.
    #[test]
    fn names_are_those_of_redis() {
        assert_eq!(sha1_hex("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        for script in Script::ALL {
            assert_eq!(script.sha1(), sha1_hex(script.text()), "{}", script.name());
            assert_eq!(script.sha1().len(), 40);
        }
    }

    /// A key that is not declared is refused by stores that lock by declared keys, or is looked up in another slot.
    #[test]
    fn every_key_is_declared() {
        for script in Script::ALL {
            let is_code = |line: &&str| !line.starts_with("--") && *line != CLOCK;
            let code = script.text().lines().filter(is_code);
            for line in code.clone() {
                for call in line.split("call(").skip(1) {
                    let key = call.split([',', ')']).nth(1).unwrap_or_default().trim();
                    let is_declared = key.starts_with("KEYS[") || key.ends_with("_key") || key == "messages";
                    assert!(is_declared, "{}: {line}", script.name());
                }
                let is_local = !line.contains("_key =") || line.contains("KEYS[");
                assert!(is_local, "{}: a key that is not from KEYS: {line}", script.name());
            }
            let used = (1..=9).rev().find(|n| code.clone().any(|line| line.contains(&format!("KEYS[{n}]"))));
            assert_eq!(used, Some(*script.keys().end()), "{}", script.name());
        }
    }

    /// The one line that reads a clock. Tests have another in its place.
    const CLOCK: &str = "local time = redis.call('TIME')";

    /// Clocks and random numbers inside a script differ between versions of Redis and from what a test can set.
    #[test]
    fn scripts_have_no_clock_and_no_dice() {
        for script in Script::ALL {
            for word in ["TIME", "math.random", "os.", "SCAN", "KEYS *", "CONFIG"] {
                let code = script.text().lines().filter(|line| !line.starts_with("--"));
                let found = code.filter(|line| *line != CLOCK).any(|line| line.contains(word));
                assert!(!found, "{}: {word}", script.name());
            }
        }
    }

    /// A publication read with a wrong offset is delivered twice or never.
    #[test]
    fn entry_ids() {
        assert_eq!(offset_of(b"1-0"), Some(1));
        assert_eq!(offset_of(b"9007199254740993-0"), Some(9_007_199_254_740_993));
        for id in ["", "-0", "1", "1-1", "01-0", "+1-0", "1-0-0", "x-0", "18446744073709551616-0"] {
            assert_eq!(offset_of(id.as_bytes()), None, "{id}");
        }
    }
}
