//! The history of one channel: epoch, top offset and a window of recent publications, in memory.
//!
//! Items and meta have separate lives (engines.md section 2): items go when nothing was published for `ttl_ms`, epoch
//! and top offset only when nothing touched the stream for `meta_ttl_ms`. Time is monotonic ms, handed in.

use std::collections::VecDeque;
use std::sync::Arc;

use gyre_proto::client::Publication;

use crate::latest::recover_latest;
use crate::message::{HistoryCall, HistoryFacts, HistoryOptions, RecoverFrom, SubscribeFacts, Unrecoverable};
use crate::position::{Epoch, Position};
use crate::rules::RecoveryMode;

#[derive(Debug)]
pub(super) struct Stream {
    top: Position,
    /// Ascending offsets without gaps; the last one is `top.offset` unless the window is empty.
    items: VecDeque<Arc<Publication>>,
    items_until_ms: u64,
    meta_until_ms: u64,
    version: u64,
    version_epoch: Box<str>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch, now_ms: u64, meta_ttl_ms: u64) -> Self {
        Self {
            top: Position { offset: 0, epoch },
            items: VecDeque::new(),
            items_until_ms: 0,
            meta_until_ms: now_ms.saturating_add(meta_ttl_ms),
            version: 0,
            version_epoch: "".into(),
        }
    }

    pub(super) fn top(&self) -> Position {
        self.top
    }

    /// Whether a publication of this version is news. Remembers it if so; 0 always is.
    pub(super) fn accept_version(&mut self, version: u64, version_epoch: &str) -> bool {
        if version == 0 {
            return true;
        }
        let same_epoch = version_epoch.is_empty() || version_epoch == &*self.version_epoch;
        if same_epoch && version <= self.version {
            return false;
        }
        self.version = version;
        self.version_epoch = version_epoch.into();
        true
    }

    /// Numbers a publication and keeps it. `options` must be on.
    pub(super) fn append(
        &mut self,
        mut publication: Publication,
        options: HistoryOptions,
        now_ms: u64,
    ) -> (Position, Arc<Publication>) {
        self.expire_items(now_ms);
        self.top.offset += 1;
        publication.offset = self.top.offset;
        let item = Arc::new(publication);
        self.items.push_back(Arc::clone(&item));
        while self.items.len() > options.size {
            self.items.pop_front();
        }
        self.items_until_ms = now_ms.saturating_add(options.ttl_ms);
        self.touch(now_ms, options.meta_ttl_ms);
        (self.top, item)
    }

    /// Renews the life of epoch and top offset; reads do it too.
    pub(super) fn touch(&mut self, now_ms: u64, meta_ttl_ms: u64) {
        self.meta_until_ms = now_ms.saturating_add(meta_ttl_ms);
    }

    pub(super) fn clear(&mut self) {
        self.items = VecDeque::new();
    }

    /// Drops what is over; `false` when the stream itself is.
    pub(super) fn sweep(&mut self, now_ms: u64) -> bool {
        self.expire_items(now_ms);
        now_ms < self.meta_until_ms
    }

    /// When [`Self::sweep`] will have something to do.
    pub(super) fn sweep_at_ms(&self) -> u64 {
        if self.items.is_empty() { self.meta_until_ms } else { self.items_until_ms.min(self.meta_until_ms) }
    }

    fn expire_items(&mut self, now_ms: u64) {
        if !self.items.is_empty() && now_ms >= self.items_until_ms {
            self.clear();
        }
    }

    /// A page of history (client-protocol.md section 14).
    pub(super) fn read(&mut self, call: &HistoryCall, now_ms: u64) -> Result<HistoryFacts, Unrecoverable> {
        self.expire_items(now_ms);
        if let Some((_, epoch)) = &call.since
            && !epoch.is_empty()
            && **epoch != *self.top.epoch.as_str()
        {
            return Err(Unrecoverable);
        }
        let limit = usize::try_from(call.limit).unwrap_or(usize::MAX);
        let since = call.since.as_ref().map(|(offset, _)| *offset);
        let publications = match (call.reverse, since) {
            _ if limit == 0 => Vec::new(),
            (false, None) => self.items.iter().take(limit).cloned().collect(),
            (false, Some(offset)) => self.after(offset).take(limit).cloned().collect(),
            (true, None) => self.items.iter().rev().take(limit).cloned().collect(),
            (true, Some(offset)) => self.before(offset).take(limit).cloned().collect(),
        };
        Ok(HistoryFacts { top: self.top, publications })
    }

    /// The recovery decision (client-protocol.md 9.3 and 10): continuity from `from` to the top, or nothing; in cache mode
    /// the latest publication.
    pub(super) fn recover(&mut self, from: &RecoverFrom, now_ms: u64) -> SubscribeFacts {
        self.expire_items(now_ms);
        if from.mode == RecoveryMode::Cache {
            return recover_latest(from, self.top, self.items.back().cloned());
        }
        let lost = SubscribeFacts { top: Some(self.top), ..SubscribeFacts::default() };
        if !from.epoch.is_empty() && *from.epoch != *self.top.epoch.as_str() {
            return lost;
        }
        let missed = self.top.offset.checked_sub(from.offset);
        let kept = self.items.len() as u64;
        let limit = if from.limit == 0 { u64::MAX } else { from.limit as u64 };
        match missed {
            Some(missed) if missed <= kept && missed <= limit => SubscribeFacts {
                top: Some(self.top),
                publications: self.after(from.offset).cloned().collect(),
                recovered: true,
                is_cache_empty: false,
            },
            _ => lost,
        }
    }

    /// Items with an offset above `offset`, oldest first.
    fn after(&self, offset: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let skip = match self.items.front() {
            Some(first) => (offset + 1).saturating_sub(first.offset),
            None => 0,
        };
        self.items.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// Items with an offset below `offset`, newest first; none when `offset - 1` is not kept.
    fn before(&self, offset: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let first = self.items.front().map_or(u64::MAX, |item| item.offset);
        let take = if offset > self.top.offset + 1 { 0 } else { offset.saturating_sub(first) };
        self.items.iter().take(usize::try_from(take).unwrap_or(usize::MAX)).rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: HistoryOptions = HistoryOptions { size: 3, ttl_ms: 5_000, meta_ttl_ms: 60_000 };

    fn stream_of(count: u64) -> Stream {
        let mut stream = Stream::new(Epoch::random(&mut fastrand::Rng::with_seed(1)), 0, 60_000);
        for _ in 0..count {
            stream.append(Publication::default(), OPTIONS, 0);
        }
        stream
    }

    fn offsets(stream: &mut Stream, limit: i64, since: Option<u64>, reverse: bool, now_ms: u64) -> Vec<u64> {
        let call = HistoryCall { limit, since: since.map(|o| (o, "".into())), reverse, meta_ttl_ms: 60_000 };
        let facts = stream.read(&call, now_ms).expect("epoch is not checked");
        facts.publications.iter().map(|p| p.offset).collect()
    }

    #[test]
    fn keeps_the_newest_and_forgets_after_the_ttl() {
        let mut stream = stream_of(5);
        assert_eq!(offsets(&mut stream, -1, None, false, 0), [3, 4, 5]);
        assert_eq!(offsets(&mut stream, -1, None, false, 4_999), [3, 4, 5]);
        assert_eq!(offsets(&mut stream, -1, None, false, 5_000), [0u64; 0]);
        assert_eq!(stream.top().offset, 5);
        assert!(stream.sweep(59_999));
        assert!(!stream.sweep(60_000));
    }

    #[test]
    fn pages_both_ways() {
        let mut stream = stream_of(3);
        assert_eq!(offsets(&mut stream, 2, None, false, 0), [1, 2]);
        assert_eq!(offsets(&mut stream, 2, Some(2), false, 0), [3]);
        assert_eq!(offsets(&mut stream, 2, Some(3), false, 0), [0u64; 0]);
        assert_eq!(offsets(&mut stream, 2, Some(9), false, 0), [0u64; 0]);
        assert_eq!(offsets(&mut stream, 2, None, true, 0), [3, 2]);
        assert_eq!(offsets(&mut stream, 5, Some(3), true, 0), [2, 1]);
        assert_eq!(offsets(&mut stream, 5, Some(1), true, 0), [0u64; 0]);
        assert_eq!(offsets(&mut stream, 0, None, false, 0), [0u64; 0]);
    }

    #[test]
    fn recovers_only_what_is_whole() {
        let mut stream = stream_of(5);
        let mut recover = |offset, limit| {
            let mode = RecoveryMode::Stream;
            let facts = stream.recover(&RecoverFrom { offset, epoch: "".into(), limit, mode }, 0);
            facts.recovered.then(|| facts.publications.iter().map(|p| p.offset).collect::<Vec<_>>())
        };
        assert_eq!(recover(5, 300), Some(vec![]));
        assert_eq!(recover(2, 300), Some(vec![3, 4, 5]));
        assert_eq!(recover(1, 300), None, "2 was evicted");
        assert_eq!(recover(6, 300), None, "ahead of the top");
        assert_eq!(recover(2, 2), None, "more than the limit");
        let mode = RecoveryMode::Stream;
        let facts = stream.recover(&RecoverFrom { offset: 5, epoch: "other".into(), limit: 300, mode }, 0);
        assert!(!facts.recovered);
    }

    /// What has expired must not be handed over as the current state.
    #[test]
    fn the_latest_is_handed_over_as_long_as_it_is_kept() {
        let mut stream = stream_of(5);
        let mut recover = |now_ms| {
            let from = RecoverFrom { offset: 0, epoch: "".into(), limit: 1, mode: RecoveryMode::Cache };
            let facts = stream.recover(&from, now_ms);
            (facts.recovered, facts.publications.iter().map(|p| p.offset).collect::<Vec<_>>(), facts.is_cache_empty)
        };
        assert_eq!(recover(4_999), (true, vec![5], false));
        assert_eq!(recover(5_000), (false, vec![], true));
    }

    #[test]
    fn an_old_version_is_no_news() {
        let mut stream = stream_of(1);
        assert!(stream.accept_version(5, "a"));
        assert!(!stream.accept_version(5, "a"));
        assert!(!stream.accept_version(4, ""));
        assert!(stream.accept_version(1, "b"));
        assert!(stream.accept_version(0, ""));
        assert!(!stream.accept_version(1, "b"), "a publication without version forgets nothing");
    }
}
