//! Pub/Sub channels of Redis that this core hears: those of its channels, and on the first core those in which nodes talk
//! to each other.
//!
//! On a core's thread. A connection for messages that is made anew has no subscriptions: all that are needed are asked for
//! again, in batches (`again.rs`), and the engine hears of each once Redis has confirmed it. What Redis refuses is asked
//! for again after a while for as long as the connection lives.

use std::collections::HashMap;

use gyre_engine::Engine;
use gyre_engine::scripts::Key;
use gyre_io::redis::{Command, Use};

use super::Store;
use super::again::Again;
use super::ask::{self, Kind};
use crate::data_plane::hands::Hands;
use crate::limits::HEAR_AGAIN_RETRY_MS;

pub(super) struct Hearing {
    control: String,
    /// Of this node; only the first core hears both.
    node: Option<String>,
    prefix: String,
    /// By shard.
    again: Vec<Again>,
    batches: HashMap<u64, Batch>,
    next_batch: u64,
    /// Which shard has the turn to carry what is told to other nodes.
    carrier: usize,
}

struct Batch {
    shard: usize,
    /// Empty = those that are not of channels.
    channels: Vec<Box<str>>,
    /// Set when it was refused.
    retry_at_ms: Option<u64>,
}

impl Hearing {
    pub(super) fn new(prefix: &str, node_uid: Option<&str>, shards: usize) -> Self {
        Self {
            control: format!("{prefix}.control"),
            node: node_uid.map(|uid| format!("{prefix}.node.{uid}")),
            prefix: prefix.to_owned(),
            again: (0..shards).map(|_| Again::default()).collect(),
            batches: HashMap::new(),
            next_batch: 0,
            carrier: 0,
        }
    }

    /// What is heard on a shard beside channels.
    fn own(&self, shard: usize) -> impl Iterator<Item = String> {
        let nodes = self.node.as_ref().map(|node| [self.control.clone(), node.clone()]);
        [self.service(shard)].into_iter().chain(nodes.into_iter().flatten())
    }

    /// The channel of a shard that is heard by all and used for nothing else.
    fn service(&self, shard: usize) -> String {
        format!("{}.shard.{shard}", self.prefix)
    }

    /// Whether this core hears what nodes tell each other.
    pub(super) fn hears_nodes(&self) -> bool {
        self.node.is_some()
    }

    /// Whether a Pub/Sub channel is one in which nodes talk.
    pub(super) fn is_of_nodes(&self, name: &[u8]) -> bool {
        name == self.control.as_bytes() || self.node.as_ref().is_some_and(|node| name == node.as_bytes())
    }
}

/// Goes on with what is to be heard again, once per turn.
pub(super) fn hear_on(engine: &mut Engine, hands: &mut Hands<'_>) {
    let shards = hands.store.as_deref().map_or(0, |store| store.hearing.again.len());
    for shard in 0..shards {
        loop {
            let now_ms = hands.driver.now_ms();
            let next = hands.store.as_deref_mut().and_then(|store| store.next_to_read(shard, engine, now_ms));
            let Some(channels) = next else { break };
            for channel in channels {
                engine.heard_anew(&channel, hands);
            }
        }
    }
}

impl Store {
    /// A connection for messages is ready, without subscriptions.
    pub(super) fn hear_anew(&mut self, shard: usize, engine: &Engine, now_ms: u64) {
        if shard >= self.broker.count.get() as usize {
            return;
        }
        self.silences[shard].begins(now_ms);
        self.hear_batch(shard, Vec::new(), now_ms);
        let mut channels = engine.channels_heard();
        channels.retain(|channel| self.broker.of(channel) == shard);
        self.hearing.again[shard].begin(channels);
    }

    /// Asks for a batch. False = it cannot go out now.
    fn hear_batch(&mut self, shard: usize, channels: Vec<Box<str>>, now_ms: u64) -> bool {
        let number = self.hearing.next_batch;
        self.hearing.next_batch += 1;
        let names: Vec<Vec<u8>> = match &*channels {
            [] => self.hearing.own(shard).map(Into::into).collect(),
            channels => channels.iter().map(|channel| self.messages_of(shard, channel)).collect(),
        };
        let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
        let is_taken = self.shards[shard].subscribe(ask::token(number, Kind::Heard), now_ms, &names).is_ok();
        match is_taken {
            true => _ = self.hearing.batches.insert(number, Batch { shard, channels, retry_at_ms: None }),
            // Should the connection have failed meanwhile, all is asked for when there is a new one.
            false => self.refused(number, Batch { shard, channels, retry_at_ms: None }, now_ms),
        }
        is_taken
    }

    fn messages_of(&self, shard: usize, channel: &str) -> Vec<u8> {
        let mut name = Vec::new();
        self.keys[shard].write(&mut name, Key::Messages, channel);
        name
    }

    /// Redis has confirmed a batch, which is then told of (empty = that of no channels), or refused it.
    pub(super) fn batch_answered(&mut self, number: u64, is_heard: bool, now_ms: u64) -> Option<Vec<Box<str>>> {
        let batch = self.hearing.batches.remove(&number)?;
        if is_heard {
            return Some(batch.channels);
        }
        self.refused(number, batch, now_ms);
        None
    }

    fn refused(&mut self, number: u64, batch: Batch, now_ms: u64) {
        if self.shards[batch.shard].is_up(Use::Messages) {
            let retry_at_ms = Some(now_ms + HEAR_AGAIN_RETRY_MS);
            self.hearing.batches.insert(number, Batch { retry_at_ms, ..batch });
        }
    }

    /// A batch of channels was confirmed: the engine hears of it as soon as it can look at their positions.
    pub(super) fn batch_heard(&mut self, channels: Vec<Box<str>>) {
        if let Some(first) = channels.first() {
            let shard = self.broker.of(first);
            self.hearing.again[shard].heard(channels);
        }
    }

    pub(super) fn hear_again_what_was_refused(&mut self, now_ms: u64) {
        let is_due = |batch: &Batch| batch.retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let due: Vec<u64> =
            self.hearing.batches.iter().filter(|(_, batch)| is_due(batch)).map(|(number, _)| *number).collect();
        for number in due {
            let Some(Batch { shard, channels, .. }) = self.hearing.batches.remove(&number) else { continue };
            match channels.is_empty() {
                true => _ = self.hear_batch(shard, channels, now_ms),
                false => self.hearing.again[shard].not_heard(channels),
            }
        }
    }

    /// The connection for messages of a shard is gone, and with it what was to be asked for again.
    pub(super) fn messages_down(&mut self, shard: usize) {
        self.hearing.batches.retain(|_, batch| batch.shard != shard || batch.retry_at_ms.is_none());
        if let Some(again) = self.hearing.again.get_mut(shard) {
            again.end();
        }
    }

    /// The next channels of a shard whose positions are to be looked at, or none now. On the way asks for channels that
    /// are to be heard again, for those that are still needed.
    fn next_to_read(&mut self, shard: usize, engine: &Engine, now_ms: u64) -> Option<Vec<Box<str>>> {
        if self.hearing.again[shard].is_over() {
            return None;
        }
        let is_unconfirmed = |batch: &&Batch| batch.shard == shard && batch.retry_at_ms.is_none();
        let mut unconfirmed = self.hearing.batches.values().filter(is_unconfirmed).count();
        while let Some(mut channels) = self.hearing.again[shard].next_to_hear(unconfirmed) {
            channels.retain(|channel| engine.hears(channel));
            if channels.is_empty() {
                continue;
            }
            if !self.hear_batch(shard, channels, now_ms) {
                break;
            }
            unconfirmed += 1;
        }
        let shard_of_it = &self.shards[shard];
        let unanswered = shard_of_it.takes_commands().then(|| shard_of_it.in_flight())?;
        self.hearing.again[shard].next_to_read(unanswered)
    }

    /// Publishes what this core should then hear itself. False = it cannot go out now.
    pub(super) fn probe(&mut self, shard: usize, now_ms: u64) -> bool {
        let name = self.hearing.service(shard);
        let token = ask::token(shard as u64, Kind::Probe);
        let sent = self.shards[shard].send(token, now_ms, name.as_bytes(), |out| {
            Command::new(out, 3).arg(b"PUBLISH").arg(name.as_bytes()).arg(b"");
        });
        sent.is_ok()
    }

    /// Tells all nodes something, or one of them. Whether Redis took it comes as [`super::answers::ForControl::Told`] with
    /// `number`. False = no shard can carry it now.
    pub(in crate::data_plane) fn tell_nodes(
        &mut self,
        number: u64,
        to: Option<&str>,
        bytes: &[u8],
        now_ms: u64,
    ) -> bool {
        let node = to.map(|uid| format!("{}.node.{uid}", self.hearing.prefix));
        let name = node.as_deref().unwrap_or(&self.hearing.control).as_bytes();
        let shards = self.broker.count.get() as usize;
        for _ in 0..shards {
            self.hearing.carrier = (self.hearing.carrier + 1) % shards;
            let sent = self.shards[self.hearing.carrier].send(ask::token(number, Kind::Nodes), now_ms, name, |out| {
                Command::new(out, 3).arg(b"PUBLISH").arg(name).arg(bytes);
            });
            if sent.is_ok() {
                return true;
            }
        }
        false
    }
}
