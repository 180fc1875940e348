//! Which other nodes there are, by what they say of themselves, and when this one says the same.
//!
//! On the control thread; the time is an argument. It never holds this node: a node does not drop itself.

use std::collections::HashMap;

use crate::data_plane::NodeInfo;

/// Between two announcements (engines.md 12).
pub(super) const ANNOUNCE_MS: u64 = 3_000;
/// After an announcement that could not be published: a node that was cut off is seen again soon after it is back.
const ANNOUNCE_AGAIN_MS: u64 = 250;
/// Between two searches for nodes that have fallen silent.
const SCAN_MS: u64 = 9_000;
/// Longer than two announcements, so that one may be lost. With the above: a dead node is gone after 7 to 16 s.
const SILENT_MS: u64 = 7_000;
/// How long a node that said it stops is not believed to be there. Its announcements may come after its last word, over
/// another shard; that is a matter of one `io_timeout`, 4 s unless configured. Node ids are not used again.
const LEFT_MS: u64 = 60_000;

/// What an announcement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first one of this node: it should be told of us.
    New,
    Known,
    /// Older than the node's last word.
    Stale,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Registry {
    others: HashMap<String, Entry>,
    /// Nodes that have said they stop: when.
    left: HashMap<String, u64>,
    announce_at_ms: u64,
    scan_at_ms: u64,
}

#[derive(Debug)]
struct Entry {
    info: NodeInfo,
    heard_ms: u64,
}

impl Registry {
    /// The first announcement is due at once.
    pub(super) fn new(now_ms: u64) -> Self {
        Self { others: HashMap::new(), left: HashMap::new(), announce_at_ms: now_ms, scan_at_ms: now_ms + SCAN_MS }
    }

    /// The other nodes, in no order.
    pub(super) fn others(&self) -> impl Iterator<Item = &NodeInfo> {
        self.others.values().map(|entry| &entry.info)
    }

    pub(super) fn len(&self) -> usize {
        self.others.len()
    }

    /// A node has said that it is there.
    pub(super) fn announced(&mut self, info: NodeInfo, now_ms: u64) -> Seen {
        if self.left.contains_key(&info.uid) {
            return Seen::Stale;
        }
        match self.others.insert(info.uid.clone(), Entry { info, heard_ms: now_ms }) {
            None => Seen::New,
            Some(_) => Seen::Known,
        }
    }

    /// A node has said that it stops. What was known of it.
    pub(super) fn left(&mut self, uid: &str, now_ms: u64) -> Option<NodeInfo> {
        self.left.insert(uid.to_owned(), now_ms);
        self.others.remove(uid).map(|entry| entry.info)
    }

    /// Nodes that are dropped now because nothing was heard of them.
    pub(super) fn scan(&mut self, now_ms: u64) -> Vec<NodeInfo> {
        if now_ms < self.scan_at_ms {
            return Vec::new();
        }
        self.scan_at_ms = now_ms + SCAN_MS;
        self.left.retain(|_, left_ms| now_ms.saturating_sub(*left_ms) <= LEFT_MS);
        let is_silent = |entry: &Entry| now_ms.saturating_sub(entry.heard_ms) > SILENT_MS;
        self.others.extract_if(|_, entry| is_silent(entry)).map(|(_, entry)| entry.info).collect()
    }

    /// Whether this node should announce itself now.
    pub(super) fn takes_announcement(&mut self, now_ms: u64) -> bool {
        let is_due = now_ms >= self.announce_at_ms;
        if is_due {
            self.announce_at_ms = now_ms + ANNOUNCE_MS;
        }
        is_due
    }

    /// The last announcement was not published.
    pub(super) fn announce_soon(&mut self, now_ms: u64) {
        self.announce_at_ms = self.announce_at_ms.min(now_ms + ANNOUNCE_AGAIN_MS);
    }

    /// The others may not know of us: this node hears them from now on.
    pub(super) fn announce_now(&mut self, now_ms: u64) {
        self.announce_at_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(uid: &str) -> NodeInfo {
        NodeInfo { uid: uid.to_owned(), ..NodeInfo::default() }
    }

    fn uids<'a>(nodes: impl IntoIterator<Item = &'a NodeInfo>) -> Vec<&'a str> {
        let mut uids: Vec<&str> = nodes.into_iter().map(|node| &*node.uid).collect();
        uids.sort_unstable();
        uids
    }

    /// `info` would miss nodes, or show some that are gone.
    #[test]
    fn nodes_come_and_go() {
        let mut registry = Registry::new(1_000);
        assert_eq!(registry.announced(info("a"), 1_000), Seen::New);
        assert_eq!(registry.announced(info("b"), 3_000), Seen::New);
        assert_eq!(registry.announced(NodeInfo { clients: 5, ..info("a") }, 4_000), Seen::Known);
        assert_eq!(registry.others().map(|node| node.clients).sum::<u32>(), 5, "the latest counts");
        assert_eq!(registry.scan(9_999), [], "not yet");
        assert_eq!(registry.scan(10_000), [], "b was heard 7 s ago");
        assert_eq!(registry.scan(18_999), []);
        assert_eq!(uids(&registry.scan(19_000)), ["a", "b"]);
        assert_eq!(registry.announced(info("a"), 19_001), Seen::New, "it was only cut off");
        assert_eq!(registry.left("a", 19_002), Some(info("a")));
        assert_eq!(registry.left("never seen", 19_002), None);
        assert_eq!(uids(registry.others()), [""; 0]);
    }

    /// A node that stopped would be shown for 16 s more because one of its announcements took another way.
    #[test]
    fn the_last_word_is_the_last() {
        let mut registry = Registry::new(0);
        registry.left("a", 5_000);
        assert_eq!(registry.announced(info("a"), 5_001), Seen::Stale);
        registry.scan(65_000);
        assert_eq!(registry.announced(info("a"), 65_000), Seen::Stale);
        registry.scan(74_001);
        assert_eq!(registry.left.len(), 0, "it is not remembered for ever");
    }

    /// A dead node would stay in `info`, or a living one drop out, whatever comes in which order.
    #[test]
    fn every_history_ends_as_the_rules_say() {
        for seed in 0..3_000_u64 {
            let mut rng = fastrand(seed);
            let mut registry = Registry::new(0);
            let mut now_ms = 0;
            // By node: when it was last heard, and whether it has left.
            let mut model: [(Option<u64>, bool); 4] = [(None, false); 4];
            for _ in 0..60 {
                now_ms += rng() % 4_000;
                let at = (rng() % 4) as usize;
                let uid = ["a", "b", "c", "d"][at];
                let (heard, has_left) = &mut model[at];
                match rng() % 8 {
                    0 => {
                        registry.left(uid, now_ms);
                        (*heard, *has_left) = (None, true);
                    }
                    1..=4 => {
                        let seen = registry.announced(info(uid), now_ms);
                        match has_left {
                            // May be forgotten by now: then it counts as a new node.
                            true if seen == Seen::Stale => {}
                            _ => {
                                assert_eq!(seen == Seen::New, heard.is_none(), "seed {seed}");
                                *heard = Some(now_ms);
                                *has_left = false;
                            }
                        }
                    }
                    _ => {}
                }
                for gone in registry.scan(now_ms) {
                    let at = ["a", "b", "c", "d"].iter().position(|uid| *uid == gone.uid).expect("one of them");
                    let last = model[at].0.take().expect("a node that was there");
                    assert!(now_ms - last > SILENT_MS, "seed {seed}: dropped after {} ms", now_ms - last);
                }
                for node in registry.others() {
                    let at = ["a", "b", "c", "d"].iter().position(|uid| *uid == node.uid).expect("one of them");
                    let last = model[at].0.expect("a node that is there");
                    // One step of this test may be 4 s long.
                    assert!(now_ms - last <= SILENT_MS + SCAN_MS + 4_000, "seed {seed}: {} ms", now_ms - last);
                }
                assert_eq!(registry.len(), model.iter().filter(|(heard, _)| heard.is_some()).count(), "seed {seed}");
            }
        }
    }

    /// A node would not be seen for 3 s more after each hiccup of Redis, or flood it.
    #[test]
    fn announcements_are_due() {
        let mut registry = Registry::new(50);
        assert!(registry.takes_announcement(50));
        assert!(!registry.takes_announcement(3_049));
        assert!(registry.takes_announcement(3_050));
        registry.announce_soon(3_060);
        assert!(!registry.takes_announcement(3_309));
        assert!(registry.takes_announcement(3_310));
        assert!(!registry.takes_announcement(3_311));
        registry.announce_now(3_312);
        assert!(registry.takes_announcement(3_312));
    }

    /// SplitMix64.
    fn fastrand(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }
}
