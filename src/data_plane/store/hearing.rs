//! Pub/Sub channels of Redis that this core hears: those of its channels, and on the first core those in which nodes talk
//! to each other.
//!
//! On a core's thread. A connection for messages that is made anew has no subscriptions: all that are needed are asked for
//! again, in batches, and the engine hears of each once Redis has confirmed it. What Redis refuses is asked for again
//! after a while for as long as the connection lives.

use std::collections::HashMap;

use gyre_engine::Engine;
use gyre_engine::scripts::Key;
use gyre_io::redis::{Command, Use};

use super::Store;
use super::ask::{self, Kind};
use crate::limits::{HEAR_AGAIN_BATCH, HEAR_AGAIN_RETRY_MS};

pub(super) struct Hearing {
    control: String,
    /// Of this node; only the first core hears both.
    node: Option<String>,
    prefix: String,
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
    pub(super) fn new(prefix: &str, node_uid: Option<&str>) -> Self {
        Self {
            control: format!("{prefix}.control"),
            node: node_uid.map(|uid| format!("{prefix}.node.{uid}")),
            prefix: prefix.to_owned(),
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
        while !channels.is_empty() {
            let rest = channels.split_off(channels.len().min(HEAR_AGAIN_BATCH));
            self.hear_batch(shard, std::mem::replace(&mut channels, rest), now_ms);
        }
    }

    fn hear_batch(&mut self, shard: usize, channels: Vec<Box<str>>, now_ms: u64) {
        let number = self.hearing.next_batch;
        self.hearing.next_batch += 1;
        let names: Vec<Vec<u8>> = match &*channels {
            [] => self.hearing.own(shard).map(Into::into).collect(),
            channels => channels.iter().map(|channel| self.messages_of(shard, channel)).collect(),
        };
        let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
        // Not taken = the connection has failed meanwhile: all is asked for when there is a new one.
        if self.shards[shard].subscribe(ask::token(number, Kind::Heard), now_ms, &names).is_ok() {
            self.hearing.batches.insert(number, Batch { shard, channels, retry_at_ms: None });
        }
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
        if self.shards[batch.shard].is_up(Use::Messages) {
            let retry_at_ms = Some(now_ms + HEAR_AGAIN_RETRY_MS);
            self.hearing.batches.insert(number, Batch { retry_at_ms, ..batch });
        }
        None
    }

    pub(super) fn hear_again_what_was_refused(&mut self, now_ms: u64) {
        let is_due = |batch: &Batch| batch.retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let due: Vec<u64> =
            self.hearing.batches.iter().filter(|(_, batch)| is_due(batch)).map(|(number, _)| *number).collect();
        for number in due {
            let Some(Batch { shard, channels, .. }) = self.hearing.batches.remove(&number) else { continue };
            self.hear_batch(shard, channels, now_ms);
        }
    }

    /// The connection for messages of a shard is gone, and with it what was to be asked for again.
    pub(super) fn messages_down(&mut self, shard: usize) {
        self.hearing.batches.retain(|_, batch| batch.shard != shard || batch.retry_at_ms.is_none());
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
