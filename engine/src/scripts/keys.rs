//! The names of a channel's keys and of its Pub/Sub channel in Redis.
//!
//! The names are the reference's (engines.md section 5), so that both can be looked at with the same eyes. They differ
//! in three corners, where the reference's names are those of something else:
//!
//! - In a cluster the keys of a channel share a slot through the hash tag `{channel}`. It is never empty: a channel
//!   that begins with `}` would make it so, its keys would be in different slots and every script refused. Such a
//!   channel is written `}{0}channel`; no other begins so. (A `}` further on cuts the tag, for all keys alike.)
//! - The stream of channel `meta.x` has the name of the meta of channel `x`. It is `streams` instead of `stream`.
//! - Key `c` of channel `a.b` has the name of key `b.c` of channel `a`: a publish would be answered with the result of
//!   another channel. With a dot in the channel it is `results.<bytes of channel>` instead of `result`.
//!
//! Every name is appended to a buffer of the caller: nothing here allocates once that has grown.

use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::shard_of;
use super::tags::{self, EVEN_MAX};

/// How the keys of a channel are kept in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagging {
    /// One Redis, or Sentinel: no slots.
    Standalone,
    /// Redis Cluster with plain Pub/Sub: a slot per channel.
    Cluster,
    /// Redis Cluster with sharded Pub/Sub: a slot per partition. Another number is another place for every channel.
    Partitions(NonZeroU32),
    /// As `Partitions`, with tags that spread evenly over the slots; another place for every channel, too.
    EvenPartitions(NonZeroU32),
}

impl Tagging {
    fn partitions(self) -> Option<NonZeroU32> {
        match self {
            Self::Partitions(count) | Self::EvenPartitions(count) => Some(count),
            Self::Standalone | Self::Cluster => None,
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Pub/Sub channel of messages.
    Messages,
    /// STREAM of items.
    Stream,
    /// HASH of epoch, top offset and version.
    Meta,
    /// HASH of the result remembered for an idempotency key.
    Result(&'a str),
    /// HASH client -> info.
    Clients,
    /// ZSET client -> unix seconds.
    ClientExpiry,
    /// HASH user -> number of clients.
    Users,
    /// ZSET user -> unix seconds.
    UserExpiry,
}

/// Why there can be no such names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The prefix would be read as a part of the hash tag.
    #[error("prefix {0:?} holds a {{, which Redis Cluster reads as the start of a hash tag; choose one without it")]
    Prefix(String),
    /// There are no even tags of so many.
    #[error(
        "sharded_pub_sub_partitions: {0} partitions cannot be spread evenly; choose a power of two up to {EVEN_MAX}, or \
         turn use_precomputed_partition_tags off"
    )]
    NoEvenTags(NonZeroU32),
}

/// In front of a channel whose own tag would be empty.
const ESCAPED: &str = "}{0}";

/// The names of one installation.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Box<str>,
    tagging: Tagging,
    /// By partition. None: their numbers.
    tags: Option<Arc<[Box<str>]>>,
}

impl Keys {
    /// Names below a prefix. Two installations with different prefixes do not see each other.
    pub fn new(prefix: &str, tagging: Tagging) -> Result<Self, KeysError> {
        if tagging != Tagging::Standalone && prefix.contains('{') {
            return Err(KeysError::Prefix(prefix.to_owned()));
        }
        let tags = match tagging {
            Tagging::EvenPartitions(count) => Some(tags::even(count).ok_or(KeysError::NoEvenTags(count))?),
            _ => None,
        };
        Ok(Self { prefix: prefix.into(), tagging, tags })
    }

    /// Messages of channels are published in their slot (`SPUBLISH`).
    pub fn is_sharded(&self) -> bool {
        self.tagging.partitions().is_some()
    }

    /// Appends the name of `key` of a channel to `out`.
    pub fn write(&self, out: &mut Vec<u8>, key: Key<'_>, channel: &str) {
        let family = match key {
            Key::Messages => "client",
            Key::Stream if self.tagging == Tagging::Standalone && channel.starts_with("meta.") => "streams",
            Key::Stream => "stream",
            Key::Meta => "stream.meta",
            Key::Result(_) if channel.contains('.') => "results",
            Key::Result(_) => "result",
            Key::Clients => "presence.data",
            Key::ClientExpiry => "presence.expire",
            Key::Users => "presence.user.clients",
            Key::UserExpiry => "presence.user.expire",
        };
        for part in [&self.prefix, ".", family, "."] {
            out.extend_from_slice(part.as_bytes());
        }
        if family == "results" {
            number(out, channel.len());
            out.push(b'.');
        }
        match (self.tagging, self.tagging.partitions()) {
            // Presence has no Pub/Sub channel that it must be near to: its slots are spread by channel.
            (_, Some(count)) if !key.is_presence() => {
                out.push(b'{');
                let partition = shard_of(channel, count) as usize;
                match &self.tags {
                    Some(tags) => out.extend_from_slice(tags[partition].as_bytes()),
                    None => number(out, partition),
                }
                out.extend_from_slice(b"}.");
                out.extend_from_slice(channel.as_bytes());
            }
            (Tagging::Standalone, _) => out.extend_from_slice(channel.as_bytes()),
            _ => {
                let is_odd = channel.is_empty() || channel.starts_with('}');
                let (open, close) = if is_odd { (ESCAPED, "") } else { ("{", "}") };
                for part in [open, channel, close] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
        if let Key::Result(idempotency_key) = key {
            out.push(b'.');
            out.extend_from_slice(idempotency_key.as_bytes());
        }
    }

    /// The channel that a Pub/Sub channel carries messages of; `None` if the name is none of ours.
    pub fn channel_of<'a>(&self, messages: &'a [u8]) -> Option<&'a str> {
        let rest = std::str::from_utf8(messages).ok()?;
        let rest = rest.strip_prefix(&*self.prefix)?.strip_prefix(".client.")?;
        match self.tagging {
            Tagging::Standalone => Some(rest),
            Tagging::Cluster => match rest.strip_prefix(ESCAPED) {
                Some(channel) => (channel.is_empty() || channel.starts_with('}')).then_some(channel),
                None => {
                    let channel = rest.strip_prefix('{')?.strip_suffix('}')?;
                    (!channel.is_empty() && !channel.starts_with('}')).then_some(channel)
                }
            },
            Tagging::Partitions(count) | Tagging::EvenPartitions(count) => {
                let (tag, channel) = rest.strip_prefix('{')?.split_once("}.")?;
                let partition = shard_of(channel, count);
                let is_its = match &self.tags {
                    Some(tags) => *tags[partition as usize] == *tag,
                    None => super::decimal(tag.as_bytes())? == u64::from(partition),
                };
                is_its.then_some(channel)
            }
        }
    }
}

impl Key<'_> {
    fn is_presence(self) -> bool {
        matches!(self, Self::Clients | Self::ClientExpiry | Self::Users | Self::UserExpiry)
    }
}

fn number(out: &mut Vec<u8>, number: usize) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ODD: [&str; 14] =
        ["news", "chat:1", "meta.x", "x", "meta.meta.x", "a.b", "a", "a}.b", "}", "}x}", "}}", "{x}", "{}", "}{0}x"];

    fn all(result: &str) -> [Key<'_>; 8] {
        [
            Key::Messages,
            Key::Stream,
            Key::Meta,
            Key::Result(result),
            Key::Clients,
            Key::ClientExpiry,
            Key::Users,
            Key::UserExpiry,
        ]
    }

    fn partitions() -> Tagging {
        Tagging::Partitions(NonZeroU32::new(16).unwrap())
    }

    fn even() -> Tagging {
        Tagging::EvenPartitions(NonZeroU32::new(16).unwrap())
    }

    fn name(tagging: Tagging, key: Key<'_>, channel: &str) -> String {
        let mut out = Vec::new();
        Keys::new("p", tagging).unwrap().write(&mut out, key, channel);
        String::from_utf8(out).unwrap()
    }

    /// As Redis Cluster computes it: CRC16/XMODEM of the first non-empty tag, else of the whole key.
    fn slot(key: &str) -> u16 {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        let crc = hashed.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        });
        crc % 16384
    }

    /// Operators and tools look for these names.
    #[test]
    fn names() {
        for (key, standalone, cluster, sharded) in [
            (Key::Messages, "p.client.c", "p.client.{c}", "p.client.{T}.c"),
            (Key::Stream, "p.stream.c", "p.stream.{c}", "p.stream.{T}.c"),
            (Key::Meta, "p.stream.meta.c", "p.stream.meta.{c}", "p.stream.meta.{T}.c"),
            (Key::Result("k.1"), "p.result.c.k.1", "p.result.{c}.k.1", "p.result.{T}.c.k.1"),
            (Key::Clients, "p.presence.data.c", "p.presence.data.{c}", "p.presence.data.{c}"),
            (Key::ClientExpiry, "p.presence.expire.c", "p.presence.expire.{c}", "p.presence.expire.{c}"),
            (Key::Users, "p.presence.user.clients.c", "p.presence.user.clients.{c}", "p.presence.user.clients.{c}"),
            (Key::UserExpiry, "p.presence.user.expire.c", "p.presence.user.expire.{c}", "p.presence.user.expire.{c}"),
        ] {
            assert_eq!(name(Tagging::Standalone, key, "c"), standalone);
            assert_eq!(name(Tagging::Cluster, key, "c"), cluster);
            let partition = shard_of("c", NonZeroU32::new(16).unwrap());
            assert_eq!(name(partitions(), key, "c"), sharded.replace('T', &partition.to_string()));
        }
        assert_eq!(name(even(), Key::Stream, "c"), "p.stream.{40}.c");
        assert_eq!(name(even(), Key::Clients, "c"), "p.presence.data.{c}");
        assert_eq!(name(Tagging::Cluster, Key::Stream, "}c"), "p.stream.}{0}}c");
        assert_eq!(name(Tagging::Standalone, Key::Stream, "meta.c"), "p.streams.meta.c");
        assert_eq!(name(Tagging::Standalone, Key::Result("k"), "a.c"), "p.results.3.a.c.k");
    }

    /// A script whose keys are in two slots is refused: such a channel could not be published to at all.
    #[test]
    fn keys_of_a_channel_share_a_slot() {
        assert_eq!(slot("123456789"), 12739, "the check value of CRC16/XMODEM");
        assert_ne!(slot("p.stream.{}x}"), slot("p.stream.meta.{}x}"), "what an empty tag does");
        for channel in ODD {
            let keys = all("k}{1");
            let share = |tagging, keys: &[Key<'_>]| {
                let mut slots = keys.iter().map(|key| slot(&name(tagging, *key, channel)));
                let first = slots.next();
                slots.all(|slot| Some(slot) == first)
            };
            assert!(share(Tagging::Cluster, &keys), "{channel}");
            for tagging in [partitions(), even()] {
                assert!(share(tagging, &keys[..4]) && share(tagging, &keys[4..]), "{channel}");
            }
        }
    }

    /// Two things under one name: a publish answered with another channel's result, or a WRONGTYPE for ever.
    #[test]
    fn no_name_is_used_twice() {
        for tagging in [Tagging::Standalone, Tagging::Cluster, partitions(), even()] {
            let mut seen = HashMap::new();
            for channel in ODD {
                for result in ["k", "b.k", "b}.k", "x.k", ""] {
                    for key in all(result) {
                        let name = name(tagging, key, channel);
                        let before = seen.insert(name.clone(), (key, channel));
                        assert!(
                            before.is_none_or(|known| known == (key, channel)),
                            "{name}: {before:?}, {key:?} {channel}"
                        );
                    }
                }
            }
        }
    }

    /// A message would reach the subscribers of another channel, or nobody.
    #[test]
    fn channels_are_read_back() {
        for tagging in [Tagging::Standalone, Tagging::Cluster, partitions(), even()] {
            let keys = Keys::new("p", tagging).unwrap();
            for channel in ODD {
                let messages = name(tagging, Key::Messages, channel);
                assert_eq!(keys.channel_of(messages.as_bytes()), Some(channel), "{messages}");
                let other = messages.replacen('p', "q", 1);
                assert_eq!(keys.channel_of(other.as_bytes()), None, "another prefix");
                (0..messages.len()).for_each(|at| {
                    keys.channel_of(&messages.as_bytes()[..at]);
                });
            }
            assert_eq!(keys.channel_of(b"p.client.\xff"), None);
        }
        let cluster = Keys::new("p", Tagging::Cluster).unwrap();
        for foreign in ["p.client.news", "p.client.{}", "p.client.{}x}", "p.client.{x", "p.client.}{0}x"] {
            assert_eq!(cluster.channel_of(foreign.as_bytes()), None, "{foreign}");
        }
        let sharded = Keys::new("p", partitions()).unwrap();
        for foreign in ["p.client.{99}.news", "p.client.{x}.news", "p.client.news"] {
            assert_eq!(sharded.channel_of(foreign.as_bytes()), None, "{foreign}");
        }
    }

    /// The whole installation would be refused its scripts, key by key.
    #[test]
    fn a_prefix_must_not_open_a_tag() {
        assert!(Keys::new("a{b", Tagging::Standalone).is_ok());
        for tagging in [Tagging::Cluster, partitions(), even()] {
            let error = Keys::new("a{b", tagging).unwrap_err().to_string();
            assert!(error.starts_with("prefix \"a{b\" holds a {"), "{error}");
        }
    }
}
