//! How many partitions this node should have, and which it has.
//!
//! Nodes do not talk about it: each takes what is free up to its share, and gives back what it has above. What nobody takes
//! (a node that does not take part counts as one that does, a dead one for a while) is taken by whoever sees it free for long,
//! and kept until the number of nodes changes: else it would go back and forth.

use std::collections::HashSet;

use crate::limits::STATE_GIVE_BACK_MS;

/// See the module.
pub(super) struct Leases {
    partitions: u32,
    nodes: u32,
    /// Being taken.
    attempts: HashSet<u32>,
    held: HashSet<u32>,
    /// Of those, not counted in the share.
    kept: HashSet<u32>,
    /// Of those, on their way out.
    leaving: HashSet<u32>,
    give_back_at_ms: u64,
}

impl Leases {
    pub(super) fn new(partitions: u32) -> Self {
        let none = HashSet::new;
        Self { partitions, nodes: 1, attempts: none(), held: none(), kept: none(), leaving: none(), give_back_at_ms: 0 }
    }

    /// `true` = that is news.
    pub(super) fn nodes_are(&mut self, count: u32) -> bool {
        let count = count.max(1);
        let is_news = self.nodes != count;
        if is_news {
            self.nodes = count;
            self.kept.clear();
        }
        is_news
    }

    fn share(&self) -> usize {
        self.partitions.div_ceil(self.nodes) as usize
    }

    /// Above this they are given back: a little over the share, for nodes do not see each other come and go at the same time.
    fn most(&self) -> usize {
        self.share() + 1 + self.share() / 16
    }

    fn counted(&self) -> usize {
        self.held.len() - self.kept.len()
    }

    pub(super) fn may_take(&self) -> bool {
        self.counted() + self.attempts.len() < self.share()
    }

    /// Has it now. Over the share it is kept: nobody else took it.
    pub(super) fn taken(&mut self, partition: u32) {
        self.attempts.remove(&partition);
        self.held.insert(partition);
        if self.counted() > self.share() {
            self.kept.insert(partition);
        }
    }

    pub(super) fn is_kept(&self, partition: u32) -> bool {
        self.kept.contains(&partition)
    }

    /// Attempts to take it.
    pub(super) fn takes(&mut self, partition: u32) {
        self.attempts.insert(partition);
    }

    pub(super) fn left(&mut self, partition: u32) {
        self.attempts.remove(&partition);
        self.held.remove(&partition);
        self.kept.remove(&partition);
        self.leaving.remove(&partition);
    }

    pub(super) fn gives_back(&mut self, partition: u32) {
        self.leaving.insert(partition);
    }

    fn has_surplus(&self) -> bool {
        self.counted() > self.most() + self.leaving.len()
    }

    /// Whether one is to be given back now.
    pub(super) fn takes_surplus(&mut self, now_ms: u64) -> bool {
        let is_due = self.has_surplus() && now_ms >= self.give_back_at_ms;
        if is_due {
            self.give_back_at_ms = now_ms + STATE_GIVE_BACK_MS;
        }
        is_due
    }

    /// When to look again.
    pub(super) fn surplus_at_ms(&self) -> u64 {
        if self.has_surplus() { self.give_back_at_ms } else { u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One node would do the work of all, or a partition would be nobody's.
    #[test]
    fn shares() {
        let mut leases = Leases::new(128);
        (0..128).for_each(|partition| leases.takes(partition));
        assert!(!leases.may_take() && !leases.takes_surplus(0));
        (0..128).for_each(|partition| leases.taken(partition));
        assert!(leases.nodes_are(3) && !leases.nodes_are(3));
        let mut now_ms = 0;
        while leases.surplus_at_ms() < u64::MAX {
            now_ms = leases.surplus_at_ms().max(now_ms);
            assert!(leases.takes_surplus(now_ms));
            let first = *leases.held.iter().next().expect("it has some");
            leases.left(first);
        }
        assert_eq!(leases.held.len(), 46, "a third, and a little more");
        assert!((3_000..5_000).contains(&now_ms), "not all at once: {now_ms}");
        leases.held.clear();
        (0..43).for_each(|partition| leases.taken(partition));
        assert!(!leases.may_take());
        (43..128).for_each(|partition| leases.takes(partition));
        assert!(!leases.has_surplus(), "attempts are no surplus");
        (43..128).for_each(|partition| leases.taken(partition));
        assert_eq!((leases.held.len(), leases.has_surplus()), (128, false), "nobody else wants them");
        leases.nodes_are(2);
        assert!(leases.has_surplus(), "somebody may want them now");
    }
}
