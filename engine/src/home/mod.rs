//! The channels whose home is this core: order, history, presence and interest have one writer, here.
//!
//! A call changes one channel and says what follows from it: a reply for the caller, a delivery for the cores with
//! subscribers. Nothing here knows sessions.

mod stream;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use gyre_proto::Encoding;
use gyre_proto::client::ClientInfo;
use gyre_proto::ids::CoreId;
use hashbrown::{HashMap, HashSet};

use crate::delivery::Delivery;
use crate::limits::IDEMPOTENCY_TTL_MS;
use crate::message::{HistoryCall, HomeCall, HomeReply, PublishCall, SubscribeCall, SubscribeFacts, UnsubscribeCall};
use crate::position::{Epoch, Position};
use crate::session::ClientId;
use stream::Stream;

type Map<K, V> = HashMap<K, V, FixedState>;

/// By idempotency key: the position of the publication, and when it is forgotten.
type Results = Map<Box<str>, (Position, u64)>;

/// Cores with subscribers of a channel, one bit each, per encoding they need.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Interest {
    json: u128,
    protobuf: u128,
}

impl Interest {
    fn mask_mut(&mut self, encoding: Encoding) -> &mut u128 {
        match encoding {
            Encoding::Json => &mut self.json,
            Encoding::Protobuf => &mut self.protobuf,
        }
    }

    fn is_empty(self) -> bool {
        self.json | self.protobuf == 0
    }

    /// Whether some core needs `encoding`.
    pub(crate) fn needs(self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::Json => self.json != 0,
            Encoding::Protobuf => self.protobuf != 0,
        }
    }

    /// The cores, ascending.
    pub(crate) fn cores(self) -> impl Iterator<Item = CoreId> {
        let mut left = self.json | self.protobuf;
        std::iter::from_fn(move || {
            let core = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                CoreId(core as u16)
            })
        })
    }
}

#[derive(Debug, Default)]
struct HomeChannel {
    interest: Interest,
    stream: Option<Box<Stream>>,
    presence: Option<Box<Map<ClientId, Arc<ClientInfo>>>>,
    results: Option<Box<Results>>,
    /// The sweep queue holds an entry for this channel.
    is_queued: bool,
}

impl HomeChannel {
    fn is_unused(&self) -> bool {
        self.interest.is_empty() && self.stream.is_none() && self.presence.is_none() && self.results.is_none()
    }

    fn sweep_at_ms(&self) -> Option<u64> {
        let results = self.results.as_ref().and_then(|r| r.values().map(|(_, until)| *until).min());
        let stream = self.stream.as_ref().map(|s| s.sweep_at_ms());
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
    channels: Map<Box<str>, HomeChannel>,
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
            channels: HashMap::with_hasher(hasher.clone()),
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

    pub(crate) fn call(&mut self, name: &str, call: HomeCall, now_ms: u64) -> Outcome {
        let channel = match self.channels.get_mut(name) {
            Some(channel) => channel,
            None => self.channels.entry(name.into()).or_default(),
        };
        let had_interest = !channel.interest.is_empty();
        let mut at = Call { channel, name, now_ms, rng: &mut self.rng, hasher: self.hasher.clone() };
        let outcome = match call {
            HomeCall::Subscribe(call) => at.subscribe(call),
            HomeCall::Unsubscribe(call) => at.unsubscribe(call),
            HomeCall::Join(info) => at.tell(|name, interest| Delivery::join(name, &info, interest)),
            HomeCall::Renew(client, info) => {
                if let Some(known) = at.channel.presence.as_mut().and_then(|presence| presence.get_mut(&client)) {
                    *known = info;
                }
                Outcome::default()
            }
            HomeCall::Publish(call) => at.publish(call),
            HomeCall::History(call) => at.history(&call),
            HomeCall::HistoryRemove => {
                if let Some(stream) = &mut at.channel.stream {
                    stream.clear();
                }
                HomeReply::Done.into()
            }
            HomeCall::Presence => at.presence(),
            HomeCall::PresenceStats => at.presence_stats(),
            HomeCall::CheckPosition { held, meta_ttl_ms, .. } => at.check_position(held, meta_ttl_ms),
        };
        match (had_interest, !channel.interest.is_empty()) {
            (false, true) => self.interesting += 1,
            (true, false) => self.interesting -= 1,
            _ => {}
        }
        if channel.is_unused() {
            self.channels.remove(name);
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
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.stream.take_if(|stream| !stream.sweep(now_ms));
            channel.results.take_if(|results| {
                results.retain(|_, (_, until_ms)| *until_ms > now_ms);
                results.is_empty()
            });
            match channel.sweep_at_ms() {
                // Never at once again: an entry that the sweep could not drop must not spin here.
                Some(at_ms) => self.sweeps.push(Reverse((at_ms.max(now_ms + 1), name))),
                None if channel.is_unused() => {
                    self.channels.remove(&name);
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
        self.channel.stream.take_if(|stream| !stream.sweep(now_ms));
        let stream =
            self.channel.stream.get_or_insert_with(|| Box::new(Stream::new(Epoch::random(rng), now_ms, meta_ttl_ms)));
        stream.touch(now_ms, meta_ttl_ms);
        stream
    }

    /// Sends what `prepare` makes to the cores with subscribers, if there are any.
    fn tell(&self, prepare: impl FnOnce(&str, Interest) -> Delivery) -> Outcome {
        let interest = self.channel.interest;
        let delivery = (!interest.is_empty()).then(|| (Arc::new(prepare(self.name, interest)), interest));
        Outcome { reply: None, delivery }
    }

    fn subscribe(&mut self, call: SubscribeCall) -> Outcome {
        *self.channel.interest.mask_mut(call.encoding) |= 1 << call.core.0;
        if let Some((client, info)) = call.member {
            let hasher = self.hasher.clone();
            let presence = self.channel.presence.get_or_insert_with(|| Box::new(HashMap::with_hasher(hasher)));
            presence.insert(client, info);
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
            *self.channel.interest.mask_mut(encoding) &= !(1 << core.0);
        }
        if let Some(client) = call.client {
            self.channel.presence.take_if(|presence| {
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
            && let Some((position, until_ms)) = self.channel.results.as_ref().and_then(|r| r.get(&call.idempotency_key))
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
            let results = self.channel.results.get_or_insert_with(|| Box::new(HashMap::with_hasher(hasher)));
            results.insert(call.idempotency_key, (position, now_ms + IDEMPOTENCY_TTL_MS));
        }
        Outcome { reply: Some(HomeReply::Published(position)), ..outcome }
    }

    fn history(&mut self, call: &HistoryCall) -> Outcome {
        let now_ms = self.now_ms;
        HomeReply::History(self.stream(call.meta_ttl_ms).read(call, now_ms)).into()
    }

    fn presence(&self) -> Outcome {
        let members = self.channel.presence.iter().flat_map(|p| p.iter());
        HomeReply::Presence(members.map(|(client, info)| (*client, Arc::clone(info))).collect()).into()
    }

    fn presence_stats(&self) -> Outcome {
        let Some(presence) = &self.channel.presence else {
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
