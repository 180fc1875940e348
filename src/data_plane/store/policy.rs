//! Whether the Redis that keeps channel state may throw it away when its memory is full: asked once at the start, of one server
//! of each shard.
//!
//! On core 0. Not everybody may ask, and not every service answers: then nothing is said.

use gyre_io::redis::{Command, Reply};

use super::ask::{Kind, token};
use super::{Presence, Store};

impl Store {
    /// The answers come to [`Self::policy_is`].
    pub(in crate::data_plane) fn ask_policy(&mut self, now_ms: u64) {
        let Presence::Stored { shards, .. } = &self.presence else { return };
        for at in shards.first..shards.first + shards.count.get() as usize {
            // Without permission there is no answer, and without connection nothing to say.
            let _ = self.shards[at].send(token(at as u64, Kind::Policy), now_ms, b"", |out| {
                Command::new(out, 2).arg(b"INFO").arg(b"memory");
            });
        }
    }

    pub(super) fn policy_is(&self, shard: u64, reply: Option<Reply>) {
        let Some(text) = reply.and_then(Reply::into_bytes) else { return };
        if let Some(policy) = policy_of(&text).filter(|policy| policy.starts_with("allkeys-")) {
            tracing::warn!(
                shard,
                policy,
                "maxmemory-policy of redis lets it evict channel state: events can be lost; set it to noeviction or volatile-*"
            );
        }
    }
}

fn policy_of(info: &[u8]) -> Option<&str> {
    let info = std::str::from_utf8(info).ok()?;
    info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operator would lose events under load without having been warned.
    #[test]
    fn the_policy_is_found() {
        let info = b"# Memory\r\nused_memory:1\r\nmaxmemory_policy:allkeys-lru\r\nallocator:x\r\n";
        assert_eq!(policy_of(info), Some("allkeys-lru"));
        assert_eq!(policy_of(b"# Memory\r\n"), None);
        assert_eq!(policy_of(b"\xff"), None);
    }
}
