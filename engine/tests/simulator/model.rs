//! What the home core of each channel must have done: its stream, and the log of everything that it told subscribers.
//! Follows client-protocol.md section 9, written apart from the engine.

use std::collections::{BTreeMap, VecDeque};

use gyre_engine::rules::ChannelOptions;
use gyre_engine::{HistoryCall, Position, RecoverFrom};

/// A stream position; the epoch is a number of the model, see [`Model::same_epoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pos {
    pub(crate) epoch: usize,
    pub(crate) offset: u64,
}

/// What subscribers of a channel are told.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When the home core did it.
    pub(crate) beat: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Pub { n: u64, pos: Option<Pos>, is_json: bool, client: String },
    Join(String),
    Leave(String),
}

/// A stored publication: offset, number, whether it is JSON, publisher.
pub(crate) type Item = (u64, u64, bool, String);

pub(crate) struct Stream {
    pub(crate) top: Pos,
    items: VecDeque<Item>,
    items_until_ms: u64,
    meta_until_ms: u64,
    version: u64,
}

pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) home: usize,
    pub(crate) options: ChannelOptions,
    pub(crate) stream: Option<Stream>,
    pub(crate) log: Vec<Entry>,
    /// By idempotency key: result and when it is forgotten.
    keys: BTreeMap<String, (Option<Pos>, u64)>,
}

/// Where a subscription begins.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// First entry of the log that is for the subscriber.
    pub(crate) cursor: usize,
    /// Joins and leaves before this one may be missing.
    pub(crate) lenient_until: usize,
    pub(crate) top: Option<Pos>,
    pub(crate) recovered: Option<Vec<Item>>,
}

pub(crate) struct Publish<'a> {
    pub(crate) n: u64,
    pub(crate) is_json: bool,
    pub(crate) client: &'a str,
    pub(crate) key: &'a str,
    pub(crate) version: u64,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) channels: Vec<Channel>,
    /// How the engine calls the epochs; `None` = not seen yet.
    epochs: Vec<Option<String>>,
    pub(crate) now_ms: u64,
    pub(crate) beat: u64,
}

impl Channel {
    pub(crate) fn new(name: String, home: usize, options: ChannelOptions) -> Self {
        Self { name, home, options, stream: None, log: Vec::new(), keys: BTreeMap::new() }
    }

    fn meta_ttl_ms(&self) -> u64 {
        self.options.history_meta_ttl_s * 1000
    }
}

impl Model {
    pub(crate) fn find(&self, name: &str) -> usize {
        self.channels.iter().position(|c| c.name == name).unwrap_or_else(|| panic!("unknown channel {name}"))
    }

    /// Learns or compares the name of an epoch.
    pub(crate) fn same_epoch(&mut self, epoch: usize, seen: &str) {
        match &self.epochs[epoch] {
            Some(known) => assert_eq!(known, seen, "epoch of the stream"),
            None => {
                assert_eq!(seen.len(), 8, "epoch {seen:?}");
                assert!(!self.epochs.iter().flatten().any(|known| known == seen), "epoch {seen} is not new");
                self.epochs[epoch] = Some(seen.to_owned());
            }
        }
    }

    pub(crate) fn same_position(&mut self, expected: Option<Pos>, offset: u64, epoch: &str) {
        match expected {
            None => assert_eq!((offset, epoch), (0, ""), "position of a channel without a stream"),
            Some(pos) => {
                self.same_epoch(pos.epoch, epoch);
                assert_eq!(offset, pos.offset, "offset");
            }
        }
    }

    pub(crate) fn same_as(&mut self, expected: Option<Pos>, got: Position) {
        self.same_position(expected, got.offset, got.epoch.as_str());
    }

    fn knows(&self, epoch: usize, name: &str) -> bool {
        self.epochs[epoch].as_deref() == Some(name)
    }

    pub(crate) fn tell(&mut self, channel: usize, what: What) {
        let beat = self.beat;
        self.channels[channel].log.push(Entry { beat, what });
    }

    /// Whether positions in `epoch` are over.
    pub(crate) fn is_over(&self, channel: usize, epoch: usize) -> bool {
        self.channels[channel].stream.as_ref().is_none_or(|s| s.top.epoch != epoch || s.meta_until_ms <= self.now_ms)
    }

    /// The stream, made on first access and renewed by every one.
    pub(crate) fn access(&mut self, channel: usize) -> &mut Stream {
        let now_ms = self.now_ms;
        let channel = &mut self.channels[channel];
        let meta_until_ms = now_ms + channel.meta_ttl_ms();
        if channel.stream.as_ref().is_none_or(|s| s.meta_until_ms <= now_ms) {
            self.epochs.push(None);
            channel.stream = Some(Stream {
                top: Pos { epoch: self.epochs.len() - 1, offset: 0 },
                items: VecDeque::new(),
                items_until_ms: 0,
                meta_until_ms,
                version: 0,
            });
        }
        let stream = channel.stream.as_mut().expect("just made");
        stream.meta_until_ms = meta_until_ms;
        if stream.items_until_ms <= now_ms {
            stream.items.clear();
        }
        stream
    }

    /// Accepts a publication; returns the position told to the publisher. `at` = where in the log it belongs.
    pub(crate) fn publish(&mut self, channel: usize, publish: &Publish<'_>, at: Option<usize>) -> Option<Pos> {
        let now_ms = self.now_ms;
        if let Some((pos, until_ms)) = self.channels[channel].keys.get(publish.key)
            && *until_ms > now_ms
        {
            return *pos;
        }
        let &ChannelOptions { history_size, history_ttl_s, .. } = &self.channels[channel].options;
        let mut pos = None;
        if history_size > 0 && history_ttl_s > 0 {
            let stream = self.access(channel);
            if publish.version != 0 {
                if publish.version <= stream.version {
                    return Some(stream.top);
                }
                stream.version = publish.version;
            }
            stream.top.offset += 1;
            stream.items.push_back((stream.top.offset, publish.n, publish.is_json, publish.client.to_owned()));
            if stream.items.len() > history_size {
                stream.items.pop_front();
            }
            stream.items_until_ms = now_ms + history_ttl_s * 1000;
            pos = Some(stream.top);
        }
        let what = What::Pub { n: publish.n, pos, is_json: publish.is_json, client: publish.client.to_owned() };
        let entry = Entry { beat: self.beat, what };
        let channel = &mut self.channels[channel];
        if !publish.key.is_empty() {
            channel.keys.insert(publish.key.to_owned(), (pos, now_ms + 300_000));
        }
        channel.log.insert(at.unwrap_or(channel.log.len()), entry);
        pos
    }

    pub(crate) fn remove_history(&mut self, channel: usize) {
        if let Some(stream) = &mut self.channels[channel].stream {
            stream.items.clear();
        }
    }

    /// `None` = error 112.
    pub(crate) fn read(&mut self, channel: usize, call: &HistoryCall) -> Option<(Pos, Vec<Item>)> {
        let top = self.access(channel).top;
        if let Some((_, epoch)) = &call.since
            && !epoch.is_empty()
            && !self.knows(top.epoch, epoch)
        {
            return None;
        }
        let items = &self.channels[channel].stream.as_ref().expect("accessed").items;
        let mut page: Vec<Item> = match (&call.since, call.reverse) {
            (None, false) => items.iter().cloned().collect(),
            (None, true) => items.iter().rev().cloned().collect(),
            (Some((since, _)), false) => items.iter().filter(|item| item.0 > *since).cloned().collect(),
            (Some((since, _)), true) => {
                let is_kept = items.iter().any(|item| item.0 + 1 == *since);
                items.iter().rev().filter(|item| is_kept && item.0 < *since).cloned().collect()
            }
        };
        if call.limit >= 0 {
            page.truncate(call.limit as usize);
        }
        Some((top, page))
    }

    /// The home core notes a subscriber now. `position`: it is positioned, and perhaps recovers.
    pub(crate) fn start(&mut self, channel: usize, position: Option<Option<&RecoverFrom>>) -> Start {
        let cursor = self.channels[channel].log.len();
        let mut start = Start { cursor, lenient_until: 0, top: None, recovered: None };
        let Some(recover) = position else { return start };
        let top = self.access(channel).top;
        start.top = Some(top);
        let Some(from) = recover else { return start };
        if !from.epoch.is_empty() && !self.knows(top.epoch, &from.epoch) {
            return start;
        }
        let items = &self.channels[channel].stream.as_ref().expect("accessed").items;
        let missed: Vec<Item> = items.iter().filter(|item| item.0 > from.offset).cloned().collect();
        let is_whole = match missed.first() {
            None => top.offset == from.offset,
            Some(first) => first.0 == from.offset + 1 && (from.limit == 0 || missed.len() <= from.limit),
        };
        start.recovered = is_whole.then_some(missed);
        start
    }
}
