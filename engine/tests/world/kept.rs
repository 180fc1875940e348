//! What the model of the store keeps of one channel.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gyre_engine::{ClientId, Epoch, Heard, HistoryFacts, Position};
use gyre_proto::client::{ClientInfo, Publication};

use super::store::Read;

/// Everything that was told to the subscribers of a channel, in the order of the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Publication(Publication, Position),
    Join(ClientInfo),
    Leave(ClientInfo),
}

impl What {
    pub(super) fn heard(self) -> Heard {
        match self {
            Self::Publication(publication, at) => Heard::Publication(publication, at),
            Self::Join(info) => Heard::Join(info),
            Self::Leave(info) => Heard::Leave(info),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) top: Option<Position>,
    pub(super) meta_until_ms: u64,
    pub(super) items: VecDeque<Publication>,
    pub(super) items_until_ms: u64,
    pub(super) version: u64,
    pub(super) version_epoch: String,
    pub(super) keys: BTreeMap<String, (Position, u64)>,
    pub(crate) members: BTreeMap<ClientId, (ClientInfo, u64)>,
    pub(crate) log: Vec<What>,
}

impl Kept {
    /// The top of the stream, which is made on first access and renewed by every one.
    pub(super) fn touch(&mut self, new_epoch: Epoch, meta_ttl_ms: u64, now_ms: u64) -> Position {
        if self.meta_until_ms <= now_ms {
            self.top = None;
        }
        if self.items_until_ms <= now_ms {
            self.items.clear();
        }
        if self.top.is_none() {
            self.items.clear();
            (self.version, self.version_epoch) = (0, String::new());
        }
        self.meta_until_ms = now_ms.saturating_add(meta_ttl_ms);
        *self.top.get_or_insert(Position { offset: 0, epoch: new_epoch })
    }

    pub(super) fn read(&mut self, call: &Read, now_ms: u64) -> HistoryFacts {
        let top = self.touch(call.new_epoch, call.meta_ttl_ms, now_ms);
        let limit = usize::try_from(call.limit).unwrap_or(usize::MAX);
        let items = self.items.iter();
        let publications: Vec<&Publication> = match (call.reverse, call.since) {
            (false, since) => items.filter(|item| item.offset > since.unwrap_or(0)).take(limit).collect(),
            (true, None) => items.rev().take(limit).collect(),
            (true, Some(since)) => items.rev().filter(|item| item.offset < since).take(limit).collect(),
        };
        HistoryFacts { top, publications: publications.into_iter().map(|item| Arc::new(item.clone())).collect() }
    }

    /// Whether the stream with this epoch is still there.
    pub(crate) fn is_epoch(&self, epoch: &str, now_ms: u64) -> bool {
        self.meta_until_ms > now_ms && self.top.is_some_and(|top| top.epoch.as_str() == epoch)
    }
}
