//! The names of the keys behind the state of channels (pro-features.md section 1), and where they are.
//!
//! A channel belongs to one of a number of partitions. All keys of a partition have its number as their hash tag, so a
//! script may touch any of them; with several shards it is the partition that is spread over them, not the channel. The
//! tag comes before the channel, whose own braces mean nothing therefore. Another number of partitions or shards is
//! another place for the state of most channels: a `vacated` may be missed then.

use std::io::Write;
use std::num::NonZeroU32;

use super::shard_of;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKey<'a> {
    /// HASH client -> info, of a channel.
    Clients(&'a str),
    /// ZSET client -> unix ms, of a channel.
    ClientExpiry(&'a str),
    /// ZSET channel -> latest expiry of its clients: those announced as occupied.
    Live,
    /// ZSET channel -> unix ms: those announced as occupied that have been left.
    Pending,
    /// STREAM of events for the backend with this name.
    Events(&'a str),
    /// STRING token of the node that looks after the partition.
    Lease,
    /// STRING unix ms of its last look.
    Tick,
}

/// The names of one installation.
#[derive(Debug, Clone)]
pub struct StateKeys {
    prefix: Box<str>,
    partitions: NonZeroU32,
}

impl StateKeys {
    /// Names below a prefix. Whether it may be used with slots is for [`super::Keys::new`] to say.
    pub fn new(prefix: &str, partitions: NonZeroU32) -> Self {
        Self { prefix: prefix.into(), partitions }
    }

    /// How many there are.
    pub fn partitions(&self) -> NonZeroU32 {
        self.partitions
    }

    /// The partition of a channel.
    pub fn partition_of(&self, channel: &str) -> u32 {
        shard_of(channel, self.partitions)
    }

    /// Appends the name of a key of a partition to `out`.
    pub fn write(&self, out: &mut Vec<u8>, partition: u32, key: StateKey<'_>) {
        let (family, rest) = match key {
            StateKey::Clients(channel) => ("data", Some(channel)),
            StateKey::ClientExpiry(channel) => ("exp", Some(channel)),
            StateKey::Live => ("live", None),
            StateKey::Pending => ("pending", None),
            StateKey::Events(backend) => ("events", Some(backend)),
            StateKey::Lease => ("lease", None),
            StateKey::Tick => ("tick", None),
        };
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{}.chstate.{family}.{{{partition}}}", self.prefix);
        if let Some(rest) = rest {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
    }
}

/// The shard of a partition, `0..shards`.
pub fn shard_of_partition(partition: u32, shards: NonZeroU32) -> u32 {
    shard_of(&partition.to_string(), shards)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn name(key: StateKey<'_>) -> String {
        let mut out = Vec::new();
        StateKeys::new("p", NonZeroU32::new(128).unwrap()).write(&mut out, 7, key);
        String::from_utf8(out).unwrap()
    }

    /// Another version would not find the state of any channel; in a cluster every script would be refused.
    #[test]
    fn names() {
        assert_eq!(name(StateKey::Clients("chat:index")), "p.chstate.data.{7}.chat:index");
        assert_eq!(name(StateKey::ClientExpiry("{x}")), "p.chstate.exp.{7}.{x}");
        assert_eq!(name(StateKey::Live), "p.chstate.live.{7}");
        assert_eq!(name(StateKey::Pending), "p.chstate.pending.{7}");
        assert_eq!(name(StateKey::Events("default")), "p.chstate.events.{7}.default");
        assert_eq!(name(StateKey::Lease), "p.chstate.lease.{7}");
        assert_eq!(name(StateKey::Tick), "p.chstate.tick.{7}");
    }

    /// Two things under one name: a WRONGTYPE for ever, or the members of another channel.
    #[test]
    fn no_name_is_used_twice() {
        let mut seen = HashSet::new();
        for text in ["", "a", "}.a", "live", "{7}", "data.{7}.a"] {
            for key in [StateKey::Clients(text), StateKey::ClientExpiry(text), StateKey::Events(text)] {
                assert!(seen.insert(name(key)), "{key:?}");
            }
        }
        for key in [StateKey::Live, StateKey::Pending, StateKey::Lease, StateKey::Tick] {
            assert!(seen.insert(name(key)), "{key:?}");
        }
    }

    /// One node, or one Redis, would have most of the work.
    #[test]
    fn partitions_are_used_evenly() {
        let keys = StateKeys::new("p", NonZeroU32::new(16).unwrap());
        let mut channels = [0_u32; 16];
        (0..16_000).for_each(|n| channels[keys.partition_of(&format!("chat:{n}")) as usize] += 1);
        assert!(channels.iter().all(|n| n.abs_diff(1000) < 150), "{channels:?}");
        let mut partitions = [0_u32; 4];
        let shards = NonZeroU32::new(4).unwrap();
        (0..128).for_each(|n| partitions[shard_of_partition(n, shards) as usize] += 1);
        assert!(partitions.iter().all(|n| *n >= 16), "{partitions:?}");
    }
}
