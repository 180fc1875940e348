//! A model of the store outside (Redis): channels with their streams, keys, versions and presence, and the connections of
//! every core to it. Each core has two, one for commands and one for messages, and whatever travels on one keeps its order
//! there and nowhere else: a message may overtake the reply to a call made before it, and the other way round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::kept::{Kept, What};
use gyre_engine::{ClientId, Epoch, Heard, HistoryOptions, Position, StoreCall, StoreRead, StoreReply, Ticket};
use gyre_proto::client::{ClientInfo, Publication};

/// The owned form of a [`StoreCall`].
#[allow(clippy::large_enum_variant, reason = "there are few")]
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Hear,
    Unhear,
    Join(ClientInfo),
    Leave(ClientInfo),
    Publish(Publish),
    Read(Read),
    RemoveHistory,
    Enter(ClientId, ClientInfo),
    Exit(ClientId),
    Members,
    Counts,
}

#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) publication: Publication,
    history: HistoryOptions,
    new_epoch: Epoch,
    key: String,
    version: u64,
    version_epoch: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(super) limit: i64,
    pub(super) since: Option<u64>,
    pub(super) reverse: bool,
    pub(super) meta_ttl_ms: u64,
    pub(super) new_epoch: Epoch,
}

impl Call {
    pub(crate) fn of(call: StoreCall<'_>) -> Self {
        match call {
            StoreCall::Hear => Self::Hear,
            StoreCall::Unhear => Self::Unhear,
            StoreCall::Join(info) => Self::Join(info.clone()),
            StoreCall::Leave(info) => Self::Leave(info.clone()),
            StoreCall::Publish(call) => Self::Publish(Publish {
                publication: call.publication.clone(),
                history: call.history,
                new_epoch: call.new_epoch,
                key: call.idempotency_key.to_owned(),
                version: call.version,
                version_epoch: call.version_epoch.to_owned(),
            }),
            StoreCall::Read(StoreRead { limit, since, reverse, meta_ttl_ms, new_epoch }) => {
                Self::Read(Read { limit, since, reverse, meta_ttl_ms, new_epoch })
            }
            StoreCall::RemoveHistory => Self::RemoveHistory,
            StoreCall::Enter(client, info, _) => Self::Enter(client, info.clone()),
            StoreCall::Exit(client, ..) => Self::Exit(client),
            StoreCall::Members(_) => Self::Members,
            StoreCall::Counts(_) => Self::Counts,
        }
    }

    /// Made on the connection for messages.
    fn is_about_hearing(&self) -> bool {
        matches!(self, Self::Hear | Self::Unhear)
    }
}

/// What travels between a core and the store, each in its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Commands to the store.
    Calls,
    /// `Hear` and `Unhear` to the store.
    Hears,
    /// Messages, and confirmations of `Hear` and `Unhear`.
    Messages,
    /// Replies to commands.
    Replies,
}

/// Both connections of one core.
#[derive(Debug, Default)]
struct End {
    calls: VecDeque<(Ticket, String, Call)>,
    hears: VecDeque<(Ticket, String, Call)>,
    messages: VecDeque<Arrival>,
    replies: VecDeque<(Ticket, StoreReply)>,
    hearing: BTreeSet<String>,
    /// By channel: entries of the log that have left the lane, up to the last one that did.
    served: BTreeMap<String, usize>,
}

/// What reaches a core from the store.
#[allow(clippy::large_enum_variant, reason = "there are few")]
#[derive(Debug)]
pub(crate) enum Arrival {
    Reply(Ticket, StoreReply),
    /// With its number in the log.
    Message(String, Heard, usize),
    /// The channel is heard again.
    Anew(String),
}

/// Life of a presence entry, ms.
const PRESENCE_TTL_MS: u64 = 60_000;
/// Life of an idempotency key, ms.
const KEY_TTL_MS: u64 = 300_000;

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) channels: BTreeMap<String, Kept>,
    ends: Vec<End>,
    pub(crate) now_ms: u64,
    /// Presence entries added or renewed so far.
    pub(crate) entered: u64,
}

impl Store {
    pub(crate) fn new(ends: usize) -> Self {
        Self { ends: (0..ends).map(|_| End::default()).collect(), ..Self::default() }
    }

    /// A core makes a call.
    pub(crate) fn take(&mut self, end: usize, ticket: Ticket, channel: String, call: Call) {
        let end = &mut self.ends[end];
        let lane = if call.is_about_hearing() { &mut end.hears } else { &mut end.calls };
        lane.push_back((ticket, channel, call));
    }

    /// Lanes with something on them.
    pub(crate) fn busy_lanes(&self) -> Vec<(usize, Lane)> {
        let lanes = self.ends.iter().enumerate().flat_map(|(at, end)| {
            [
                (!end.calls.is_empty()).then_some((at, Lane::Calls)),
                (!end.hears.is_empty()).then_some((at, Lane::Hears)),
                (!end.messages.is_empty()).then_some((at, Lane::Messages)),
                (!end.replies.is_empty()).then_some((at, Lane::Replies)),
            ]
        });
        lanes.flatten().collect()
    }

    /// Moves the oldest thing of a lane: into the store, or out of it to the core.
    pub(crate) fn step(&mut self, at: usize, lane: Lane) -> Option<Arrival> {
        match lane {
            Lane::Calls => {
                let (ticket, channel, call) = self.ends[at].calls.pop_front()?;
                let reply = self.run(&channel, call);
                self.ends[at].replies.push_back((ticket, reply));
                None
            }
            Lane::Hears => {
                let (ticket, channel, call) = self.ends[at].hears.pop_front()?;
                let end = &mut self.ends[at];
                match call {
                    Call::Hear => end.hearing.insert(channel),
                    _ => end.hearing.remove(&channel),
                };
                end.messages.push_back(Arrival::Reply(ticket, StoreReply::Done));
                None
            }
            Lane::Messages => {
                let arrival = self.ends[at].messages.pop_front();
                if let Some(Arrival::Message(channel, _, number)) = &arrival {
                    self.ends[at].served.insert(channel.clone(), number + 1);
                }
                arrival
            }
            Lane::Replies => self.ends[at].replies.pop_front().map(|(ticket, reply)| Arrival::Reply(ticket, reply)),
        }
    }

    /// The next call fails, with its effect or without.
    pub(crate) fn fail_call(&mut self, at: usize, has_effect: bool) -> Option<(String, Call)> {
        let (ticket, channel, call) = self.ends[at].calls.pop_front()?;
        if has_effect {
            self.run(&channel, call.clone());
        }
        self.ends[at].replies.push_back((ticket, StoreReply::Failed));
        Some((channel, call))
    }

    /// A call about hearing fails, with its effect or without.
    pub(crate) fn fail_hear(&mut self, at: usize, has_effect: bool) {
        let Some((ticket, channel, call)) = self.ends[at].hears.pop_front() else { return };
        let end = &mut self.ends[at];
        match call {
            _ if !has_effect => {}
            Call::Hear => _ = end.hearing.insert(channel),
            _ => _ = end.hearing.remove(&channel),
        }
        end.messages.push_back(Arrival::Reply(ticket, StoreReply::Failed));
    }

    /// The connection for commands breaks: what was on it had its effect or not. Returns the calls that fail.
    pub(crate) fn break_calls(&mut self, at: usize, has_effect: bool) -> Vec<Ticket> {
        let replies: Vec<Ticket> = self.ends[at].replies.drain(..).map(|(ticket, _)| ticket).collect();
        let calls = std::mem::take(&mut self.ends[at].calls);
        let tickets = calls.iter().map(|(ticket, ..)| *ticket).collect::<Vec<_>>();
        for (_, channel, call) in calls.into_iter().filter(|_| has_effect) {
            self.run(&channel, call);
        }
        replies.into_iter().chain(tickets).collect()
    }

    /// The connection for messages breaks: what was on it is lost. Returns the channels that were heard and the calls
    /// that fail.
    pub(crate) fn break_hearing(&mut self, at: usize) -> (Vec<String>, Vec<Ticket>) {
        let end = &mut self.ends[at];
        let asked = std::mem::take(&mut end.hears).into_iter().map(|(ticket, ..)| ticket);
        let answered = std::mem::take(&mut end.messages).into_iter().filter_map(|arrival| match arrival {
            Arrival::Reply(ticket, _) => Some(ticket),
            Arrival::Message(..) | Arrival::Anew(_) => None,
        });
        (std::mem::take(&mut end.hearing).into_iter().collect(), answered.chain(asked).collect())
    }

    /// A channel is heard again.
    pub(crate) fn hear_anew(&mut self, at: usize, channel: &str) {
        self.ends[at].hearing.insert(channel.to_owned());
        self.ends[at].messages.push_back(Arrival::Anew(channel.to_owned()));
    }

    /// The log of a channel as far as it has reached one of these cores.
    pub(crate) fn served(&self, ends: std::ops::Range<usize>, channel: &str) -> usize {
        self.ends[ends].iter().filter_map(|end| end.served.get(channel)).copied().max().unwrap_or(0)
    }

    /// Channels that some core hears.
    pub(crate) fn heard(&self) -> Vec<&String> {
        self.ends.iter().flat_map(|end| &end.hearing).collect()
    }

    /// What [`Self::step`] would move.
    pub(crate) fn peek(&self, at: usize, lane: Lane) -> String {
        let end = &self.ends[at];
        match lane {
            Lane::Calls => format!("{:?}", end.calls.front()),
            Lane::Hears => format!("{:?}", end.hears.front()),
            Lane::Messages => format!("{:?}", end.messages.front()),
            Lane::Replies => format!("{:?}", end.replies.front()),
        }
    }

    /// Everything that was kept is gone; connections stay.
    pub(crate) fn lose_data(&mut self) {
        for kept in self.channels.values_mut() {
            let log = std::mem::take(&mut kept.log);
            *kept = Kept { log, ..Kept::default() };
        }
    }

    /// Clients that have an entry in presence.
    pub(crate) fn present(&mut self, channel: &str) -> Vec<ClientId> {
        let now_ms = self.now_ms;
        let kept = self.channels.entry(channel.to_owned()).or_default();
        kept.members.retain(|_, (_, until_ms)| *until_ms > now_ms);
        kept.members.keys().copied().collect()
    }

    fn tell(&mut self, channel: &str, what: What) {
        let number = self.channels.get(channel).map_or(0, |kept| kept.log.len());
        for end in &mut self.ends {
            if end.hearing.contains(channel) {
                end.messages.push_back(Arrival::Message(channel.to_owned(), what.clone().heard(), number));
            }
        }
        self.channels.entry(channel.to_owned()).or_default().log.push(what);
    }

    fn run(&mut self, channel: &str, call: Call) -> StoreReply {
        let now_ms = self.now_ms;
        let kept = self.channels.entry(channel.to_owned()).or_default();
        kept.members.retain(|_, (_, until_ms)| *until_ms > now_ms);
        match call {
            Call::Hear | Call::Unhear => unreachable!("made on the other connection"),
            Call::Join(info) => self.tell(channel, What::Join(info)),
            Call::Leave(info) => self.tell(channel, What::Leave(info)),
            Call::Publish(call) => return StoreReply::Published(self.publish(channel, call)),
            Call::Read(call) => return StoreReply::Read(kept.read(&call, now_ms)),
            Call::RemoveHistory => kept.items.clear(),
            Call::Enter(client, info) => {
                self.entered += 1;
                kept.members.insert(client, (info, now_ms + PRESENCE_TTL_MS));
            }
            Call::Exit(client) => _ = kept.members.remove(&client),
            Call::Members => {
                let members = kept.members.iter().map(|(client, (info, _))| (*client, Arc::new(info.clone())));
                return StoreReply::Members(members.collect());
            }
            Call::Counts => {
                let users: BTreeSet<_> = kept.members.values().map(|(info, _)| &info.user).collect();
                return StoreReply::Counts(kept.members.len() as u32, users.len() as u32);
            }
        }
        StoreReply::Done
    }

    fn publish(&mut self, channel: &str, call: Publish) -> Position {
        let now_ms = self.now_ms;
        let kept = self.channels.get_mut(channel).expect("made for the call");
        if let Some((at, until_ms)) = kept.keys.get(&call.key)
            && *until_ms > now_ms
        {
            return *at;
        }
        let mut publication = call.publication;
        let mut at = Position::NONE;
        if call.history.is_on() {
            at = kept.touch(call.new_epoch, call.history.meta_ttl_ms, now_ms);
            if call.version != 0 {
                let is_same = call.version_epoch.is_empty() || call.version_epoch == kept.version_epoch;
                if is_same && call.version <= kept.version {
                    return at;
                }
                (kept.version, kept.version_epoch) = (call.version, call.version_epoch);
            }
            at.offset += 1;
            kept.top = Some(at);
            publication.offset = at.offset;
            kept.items.push_back(publication.clone());
            while kept.items.len() > call.history.size {
                kept.items.pop_front();
            }
            kept.items_until_ms = now_ms + call.history.ttl_ms;
        }
        if !call.key.is_empty() {
            kept.keys.insert(call.key, (at, now_ms + KEY_TTL_MS));
        }
        self.tell(channel, What::Publication(publication, at));
        at
    }
}
