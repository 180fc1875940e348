//! The channels whose home is this core: order, history, presence and interest have one writer, here.
//!
//! A call changes one channel and says what follows from it: a reply for the caller, a delivery for the cores with
//! subscribers. Nothing here knows sessions.

mod interest;
mod stream;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use gyre_proto::client::ClientInfo;
use hashbrown::{HashMap, HashSet};

use crate::by_name::{ByName, Named};
use crate::delivery::Delivery;
use crate::limits::IDEMPOTENCY_TTL_MS;
use crate::message::{HistoryCall, HomeCall, HomeReply, PublishCall, SubscribeCall, SubscribeFacts, UnsubscribeCall};
use crate::position::{Epoch, Position};
use crate::session::ClientId;
pub(crate) use interest::Interest;
pub(crate) use interest::Interested;
use stream::Stream;

type Map<K, V> = HashMap<K, V, FixedState>;

/// By idempotency key: the position of the publication, and when it is forgotten.
type Results = Map<Box<str>, (Position, u64)>;

/// A channel whose home is here. Most have subscribers on one core and nothing else, and there are very many of them.
#[derive(Debug)]
struct HomeChannel {
    name: Box<str>,
    interest: Interested,
    kept: Option<Box<Kept>>,
    /// The sweep queue holds an entry for this channel.
    is_queued: bool,
}

/// What outlives a publication.
#[derive(Debug, Default)]
struct Kept {
    stream: Option<Stream>,
    presence: Option<Map<ClientId, Arc<ClientInfo>>>,
    results: Option<Results>,
}

impl Named for HomeChannel {
    fn name(&self) -> &str {
        &self.name
    }
}

impl HomeChannel {
    fn new(name: &str) -> Self {
        Self { name: name.into(), interest: Interested::default(), kept: None, is_queued: false }
    }

    /// Drops what holds nothing any more.
    fn trim(&mut self) {
        self.kept.take_if(|kept| kept.stream.is_none() && kept.presence.is_none() && kept.results.is_none());
    }

    fn is_unused(&self) -> bool {
        self.interest.masks().is_empty() && self.kept.is_none()
    }

    fn sweep_at_ms(&self) -> Option<u64> {
        let kept = self.kept.as_ref()?;
        let results = kept.results.as_ref().and_then(|r| r.values().map(|(_, until)| *until).min());
        let stream = kept.stream.as_ref().map(|s| s.sweep_at_ms());
        match (results, stream) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// What a call led to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Option<HomeReply>,
    pub(crate) delivery: Option<(Arc<Delivery>, Interest)>,
}

impl From<HomeReply> for Outcome {
    fn from(reply: HomeReply) -> Self {
        Self { reply: Some(reply), delivery: None }
    }
}

#[derive(Debug)]
pub(crate) struct Home {
    channels: ByName<HomeChannel>,
    hasher: FixedState,
    rng: fastrand::Rng,
    /// When to look at a channel again, earliest first.
    sweeps: BinaryHeap<Reverse<(u64, Box<str>)>>,
    /// Channels with subscribers on some core.
    interesting: u64,
}

impl Home {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            channels: ByName::new(hasher.clone()),
            hasher,
            rng: fastrand::Rng::with_seed(seed),
            sweeps: BinaryHeap::new(),
            interesting: 0,
        }
    }

    /// Channels with at least one subscriber.
    pub(crate) fn interesting_channels(&self) -> u64 {
        self.interesting
    }

    /// After a peak: see [`crate::Engine::give_back_memory`].
    pub(crate) fn give_back_memory(&mut self) {
        self.channels.forget_spare();
    }

    pub(crate) fn call(&mut self, name: &str, call: HomeCall, now_ms: u64) -> Outcome {
        let id = self.channels.find_or_insert(name, || HomeChannel::new(name));
        let channel = &mut self.channels[id];
        let had_interest = !channel.interest.masks().is_empty();
        let mut at = Call { channel, name, now_ms, rng: &mut self.rng, hasher: self.hasher.clone() };
        let outcome = match call {
            HomeCall::Subscribe(call) => at.subscribe(call),
            HomeCall::Unsubscribe(call) => at.unsubscribe(call),
            HomeCall::Join(info) => at.tell(|name, interest| Delivery::join(name, &info, interest)),
            HomeCall::Renew(client, info) => {
                let presence = at.channel.kept.as_mut().and_then(|kept| kept.presence.as_mut());
                if let Some(known) = presence.and_then(|presence| presence.get_mut(&client)) {
                    *known = info;
                }
                Outcome::default()
            }
            HomeCall::Publish(call) => at.publish(call),
            HomeCall::History(call) => at.history(&call),
            HomeCall::HistoryRemove => {
                if let Some(stream) = at.channel.kept.as_mut().and_then(|kept| kept.stream.as_mut()) {
                    stream.clear();
                }
                HomeReply::Done.into()
            }
            HomeCall::Presence => at.presence(),
            HomeCall::PresenceStats => at.presence_stats(),
            HomeCall::CheckPosition { held, meta_ttl_ms, .. } => at.check_position(held, meta_ttl_ms),
        };
        channel.trim();
        match (had_interest, !channel.interest.masks().is_empty()) {
            (false, true) => self.interesting += 1,
            (true, false) => self.interesting -= 1,
            _ => {}
        }
        if channel.is_unused() {
            self.channels.remove(id);
        } else if !channel.is_queued
            && let Some(at_ms) = channel.sweep_at_ms()
        {
            channel.is_queued = true;
            self.sweeps.push(Reverse((at_ms, name.into())));
        }
        outcome
    }

    /// Drops what has outlived its time to live. Cheap when nothing has.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        while let Some(Reverse((at_ms, _))) = self.sweeps.peek()
            && *at_ms <= now_ms
            && let Some(Reverse((_, name))) = self.sweeps.pop()
        {
            let Some(id) = self.channels.find(&name) else { continue };
            let channel = &mut self.channels[id];
            if let Some(kept) = &mut channel.kept {
                kept.stream.take_if(|stream| !stream.sweep(now_ms));
                kept.results.take_if(|results| {
                    results.retain(|_, (_, until_ms)| *until_ms > now_ms);
                    results.is_empty()
                });
            }
            channel.trim();
            match channel.sweep_at_ms() {
                // Never at once again: an entry that the sweep could not drop must not spin here.
                Some(at_ms) => self.sweeps.push(Reverse((at_ms.max(now_ms + 1), name))),
                None if channel.is_unused() => {
                    self.channels.remove(id);
                }
                None => channel.is_queued = false,
            }
        }
    }
}

/// One call on one channel.
struct Call<'a> {
    channel: &'a mut HomeChannel,
    name: &'a str,
    now_ms: u64,
    rng: &'a mut fastrand::Rng,
    hasher: FixedState,
}

impl Call<'_> {
    /// The stream, made on first access and renewed by every one.
    fn stream(&mut self, meta_ttl_ms: u64) -> &mut Stream {
        let (now_ms, rng) = (self.now_ms, &mut *self.rng);
        let kept = self.channel.kept.get_or_insert_default();
        kept.stream.take_if(|stream| !stream.sweep(now_ms));
        let stream = kept.stream.get_or_insert_with(|| Stream::new(Epoch::random(rng), now_ms, meta_ttl_ms));
        stream.touch(now_ms, meta_ttl_ms);
        stream
    }

    /// Sends what `prepare` makes to the cores with subscribers, if there are any.
    fn tell(&self, prepare: impl FnOnce(&str, Interest) -> Delivery) -> Outcome {
        let interest = self.channel.interest.masks();
        let delivery = (!interest.is_empty()).then(|| (Arc::new(prepare(self.name, interest)), interest));
        Outcome { reply: None, delivery }
    }

    fn subscribe(&mut self, call: SubscribeCall) -> Outcome {
        self.channel.interest.add(call.core, call.encoding);
        if let Some((client, info)) = call.member {
            let hasher = self.hasher.clone();
            let kept = self.channel.kept.get_or_insert_default();
            kept.presence.get_or_insert_with(|| HashMap::with_hasher(hasher)).insert(client, info);
        }
        let now_ms = self.now_ms;
        let facts = match call.position {
            None => SubscribeFacts::default(),
            Some(position) => {
                let stream = self.stream(position.meta_ttl_ms);
                match &position.recover {
                    Some(from) => stream.recover(from, now_ms),
                    None => SubscribeFacts { top: Some(stream.top()), ..SubscribeFacts::default() },
                }
            }
        };
        HomeReply::Subscribed(facts).into()
    }

    fn unsubscribe(&mut self, call: UnsubscribeCall) -> Outcome {
        if let Some((core, encoding)) = call.lost_interest {
            self.channel.interest.remove(core, encoding);
        }
        if let (Some(client), Some(kept)) = (call.client, &mut self.channel.kept) {
            kept.presence.take_if(|presence| {
                presence.remove(&client);
                presence.is_empty()
            });
        }
        match call.leave {
            Some(info) => self.tell(|name, interest| Delivery::leave(name, &info, interest)),
            None => Outcome::default(),
        }
    }

    fn publish(&mut self, call: PublishCall) -> Outcome {
        let now_ms = self.now_ms;
        if !call.idempotency_key.is_empty()
            && let Some(results) = self.channel.kept.as_ref().and_then(|kept| kept.results.as_ref())
            && let Some((position, until_ms)) = results.get(&call.idempotency_key)
            && *until_ms > now_ms
        {
            return HomeReply::Published(*position).into();
        }
        let (position, outcome) = if call.history.is_on() {
            let stream = self.stream(call.history.meta_ttl_ms);
            if !stream.accept_version(call.version, &call.version_epoch) {
                return HomeReply::Published(stream.top()).into();
            }
            let (position, item) = stream.append(call.publication, call.history, now_ms);
            (position, self.tell(|name, interest| Delivery::publication(name, &item, position, interest)))
        } else {
            let none = Position::NONE;
            (none, self.tell(|name, interest| Delivery::publication(name, &call.publication, none, interest)))
        };
        if !call.idempotency_key.is_empty() {
            let hasher = self.hasher.clone();
            let kept = self.channel.kept.get_or_insert_default();
            let results = kept.results.get_or_insert_with(|| HashMap::with_hasher(hasher));
            results.insert(call.idempotency_key, (position, now_ms + IDEMPOTENCY_TTL_MS));
        }
        Outcome { reply: Some(HomeReply::Published(position)), ..outcome }
    }

    fn history(&mut self, call: &HistoryCall) -> Outcome {
        let now_ms = self.now_ms;
        HomeReply::History(self.stream(call.meta_ttl_ms).read(call, now_ms)).into()
    }

    fn presence(&self) -> Outcome {
        let members = self.channel.kept.iter().filter_map(|kept| kept.presence.as_ref()).flatten();
        HomeReply::Presence(members.map(|(client, info)| (*client, Arc::clone(info))).collect()).into()
    }

    fn presence_stats(&self) -> Outcome {
        let Some(presence) = self.channel.kept.as_ref().and_then(|kept| kept.presence.as_ref()) else {
            return HomeReply::PresenceStats { clients: 0, users: 0 }.into();
        };
        let mut users = HashSet::with_hasher(self.hasher.clone());
        users.extend(presence.values().map(|info| info.user.as_str()));
        HomeReply::PresenceStats { clients: presence.len() as u32, users: users.len() as u32 }.into()
    }

    fn check_position(&mut self, held: Position, meta_ttl_ms: u64) -> Outcome {
        let top = self.stream(meta_ttl_ms).top();
        if top == held { Outcome::default() } else { HomeReply::PositionLost(held).into() }
    }
}
