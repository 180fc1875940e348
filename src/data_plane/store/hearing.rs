//! Pub/Sub channels of Redis that this core hears: those of its channels, and on the first core those in which nodes talk
//! to each other.
//!
//! On a core's thread. A connection for messages that is made anew has no subscriptions: all that are needed are asked for
//! again, in batches (`again.rs`), and the engine hears of each once Redis has confirmed it. What Redis refuses is asked
//! for again after a while for as long as the connection lives.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gyre_engine::Engine;
use gyre_engine::scripts::Key;
use gyre_io::redis::{Command, Use, slot_of};

use super::Store;
use super::again::{Again, Batch};
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
    batches: HashMap<u64, Kept>,
    /// With sharded Pub/Sub, slots by shard whose channels are to be asked for again.
    unheard: BTreeSet<(usize, u16)>,
    next_batch: u64,
    /// Which shard has the turn to carry what is told to other nodes.
    carrier: usize,
}

/// A batch that is not confirmed.
struct Kept {
    shard: usize,
    /// Empty = what is heard beside channels.
    batch: Batch,
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
            unheard: BTreeSet::new(),
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
        self.hear_batch(shard, Batch { slot: None, channels: Vec::new() }, now_ms);
        if self.keys[shard].is_sharded() {
            // Channels have other connections, by slot.
            return;
        }
        let mut channels = engine.channels_heard();
        channels.retain(|channel| self.broker.of(channel) == shard);
        self.hearing.again[shard].begin(channels);
    }

    /// The channels of a slot are not heard any more, and can be again.
    pub(super) fn unheard(&mut self, shard: usize, slot: u16) {
        self.hearing.unheard.insert((shard, slot));
    }

    /// Asks for the channels of slots again, of all slots together: there may be as many as the cluster has.
    pub(super) fn hear_unheard(&mut self, engine: &Engine) {
        if self.hearing.unheard.is_empty() {
            return;
        }
        let unheard = std::mem::take(&mut self.hearing.unheard);
        let is_of = |kept: &Kept| kept.batch.slot.is_some_and(|slot| unheard.contains(&(kept.shard, slot)));
        self.hearing.batches.retain(|_, kept| kept.retry_at_ms.is_none() || !is_of(kept));
        let mut by_slot: BTreeMap<(usize, u16), Vec<Box<str>>> =
            unheard.into_iter().map(|of| (of, Vec::new())).collect();
        for channel in engine.channels_heard() {
            let shard = self.broker.of(&channel);
            if !self.keys[shard].is_sharded() {
                continue;
            }
            let slot = slot_of(&self.messages_of(shard, &channel));
            if let Some(channels) = by_slot.get_mut(&(shard, slot)) {
                channels.push(channel);
            }
        }
        for ((shard, slot), channels) in by_slot {
            self.hearing.again[shard].begin_slot(slot, channels);
        }
    }

    /// Asks for a batch. False = it cannot go out now.
    fn hear_batch(&mut self, shard: usize, batch: Batch, now_ms: u64) -> bool {
        let number = self.hearing.next_batch;
        self.hearing.next_batch += 1;
        let names: Vec<Vec<u8>> = match &*batch.channels {
            [] => self.hearing.own(shard).map(Into::into).collect(),
            channels => channels.iter().map(|channel| self.messages_of(shard, channel)).collect(),
        };
        let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
        let (token, own) = (ask::token(number, Kind::Heard), &mut self.shards[shard]);
        let sent = match batch.slot {
            None => own.subscribe(token, now_ms, &names),
            Some(_) => own.subscribe_in_slot(token, now_ms, &names),
        };
        let kept = Kept { shard, batch, retry_at_ms: None };
        match sent.is_ok() {
            true => _ = self.hearing.batches.insert(number, kept),
            // Should the connection have failed meanwhile, all is asked for when there is a new one.
            false => self.refused(number, kept, now_ms),
        }
        sent.is_ok()
    }

    fn messages_of(&self, shard: usize, channel: &str) -> Vec<u8> {
        let mut name = Vec::new();
        self.keys[shard].write(&mut name, Key::Messages, channel);
        name
    }

    /// Redis has confirmed a batch, which is then told of (empty = that of no channels), or refused it.
    pub(super) fn batch_answered(&mut self, number: u64, is_heard: bool, now_ms: u64) -> Option<Batch> {
        let kept = self.hearing.batches.remove(&number)?;
        if is_heard {
            return Some(kept.batch);
        }
        self.refused(number, kept, now_ms);
        None
    }

    fn refused(&mut self, number: u64, kept: Kept, now_ms: u64) {
        // Slots have connections of their own.
        if kept.batch.slot.is_some() || self.shards[kept.shard].is_up(Use::Messages) {
            let retry_at_ms = Some(now_ms + HEAR_AGAIN_RETRY_MS);
            self.hearing.batches.insert(number, Kept { retry_at_ms, ..kept });
        }
    }

    /// A batch of channels was confirmed: the engine hears of it as soon as it can look at their positions.
    pub(super) fn batch_heard(&mut self, batch: Batch) {
        if let Some(first) = batch.channels.first() {
            let shard = self.broker.of(first);
            self.hearing.again[shard].heard(batch);
        }
    }

    pub(super) fn hear_again_what_was_refused(&mut self, now_ms: u64) {
        let is_due = |kept: &Kept| kept.retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let due: Vec<u64> =
            self.hearing.batches.iter().filter(|(_, kept)| is_due(kept)).map(|(number, _)| *number).collect();
        for number in due {
            let Some(Kept { shard, batch, .. }) = self.hearing.batches.remove(&number) else { continue };
            match batch.channels.is_empty() {
                true => _ = self.hear_batch(shard, batch, now_ms),
                false => self.hearing.again[shard].not_heard(batch),
            }
        }
    }

    /// The connection for messages of a shard is gone, and with it what was to be asked for again.
    pub(super) fn messages_down(&mut self, shard: usize) {
        let is_lost = |kept: &Kept| kept.shard == shard && kept.batch.slot.is_none() && kept.retry_at_ms.is_some();
        self.hearing.batches.retain(|_, kept| !is_lost(kept));
        if let Some(again) = self.hearing.again.get_mut(shard)
            && !self.keys[shard].is_sharded()
        {
            again.end();
        }
    }

    /// The next channels of a shard whose positions are to be looked at, or none now. On the way asks for channels that
    /// are to be heard again, for those that are still needed.
    fn next_to_read(&mut self, shard: usize, engine: &Engine, now_ms: u64) -> Option<Vec<Box<str>>> {
        if self.hearing.again[shard].is_over() {
            return None;
        }
        let is_unconfirmed = |kept: &&Kept| kept.shard == shard && kept.retry_at_ms.is_none();
        let unconfirmed = self.hearing.batches.values().filter(is_unconfirmed);
        let mut unconfirmed = unconfirmed.map(|kept| kept.batch.channels.len()).sum();
        while let Some(mut batch) = self.hearing.again[shard].next_to_hear(unconfirmed) {
            batch.channels.retain(|channel| engine.hears(channel));
            let (slot, count) = (batch.slot, batch.channels.len());
            if count == 0 {
                continue;
            }
            match self.hear_batch(shard, batch, now_ms) {
                true => unconfirmed += count,
                // Another slot has another connection.
                false if slot.is_some() => {}
                false => break,
            }
        }
        let own = &self.shards[shard];
        let can_be_read =
            |slot: Option<u16>| slot.map_or_else(|| own.takes_commands(), |slot| own.takes_commands_of(slot));
        self.hearing.again[shard].next_to_read(own.in_flight(), can_be_read).map(|batch| batch.channels)
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
