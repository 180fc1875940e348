//! Channels whose state is told to a backend: their presence, and what the worker of their partitions asks, as scripts of
//! Redis. Arguments and answers are those in the heads of `engine/lua/state_*.lua`.
//!
//! On a core's thread. All keys of a partition are in one slot of one shard, so what is said about one of its channels has
//! its effect in the order in which it was said: an entry that is renewed and then taken out stays out.

use std::sync::Arc;

use gyre_engine::backend::{ProxyId, StateEvent, StateEventKind};
use gyre_engine::scripts::{Script, StateKey, StateKeys, shard_of_partition};
use gyre_engine::{
    EventId, Expired, Layout, QueuedEvent, StateCall, StateReply, StateStep, StateWhat, StoreCall, Ticket, Vacated,
};
use gyre_io::redis::{Command, Reply};

use super::ask::{self, Kind, token};
use super::{Presence, Store};

/// How channel states are kept.
#[derive(Clone)]
pub(crate) struct StateOptions {
    pub(crate) keys: StateKeys,
    /// How long a channel must be empty before it counts as vacated; may be 0.
    pub(crate) vacated_delay_ms: u64,
    /// Events kept for a backend in one partition.
    pub(crate) queue_max: u64,
    /// Names of the backends, by their ids: the ids of other nodes may be others.
    pub(crate) proxies: Arc<[Box<str>]>,
}

impl StateOptions {
    fn proxy(&self, id: ProxyId) -> Option<&str> {
        self.proxies.get(usize::from(id.0)).map(|name| &**name)
    }
}

impl Store {
    /// How many partitions of channel states there are, and the names of backends by their ids; `None` = no backend is told
    /// of any.
    pub(in crate::data_plane) fn state_backends(&self) -> Option<(u32, &[Box<str>])> {
        self.state.as_ref().map(|state| (state.keys.partitions().get(), &*state.proxies))
    }

    /// Sends what the worker of channel states asks; the answer comes with [`Self::take_state_answers`], with the same
    /// number. False = it cannot go out now.
    pub(in crate::data_plane) fn ask_state(&mut self, number: u64, call: &StateCall<'_>, now_ms: u64) -> bool {
        let is_taken = self.try_ask_state(number, call, now_ms).is_some();
        self.stats.not_taken += u64::from(!is_taken);
        is_taken
    }

    /// Answers that have come since.
    pub(in crate::data_plane) fn take_state_answers(&mut self) -> Vec<(u64, StateReply)> {
        std::mem::take(&mut self.state_answers)
    }

    /// Partitions in which calls of this core have queued events since, each once.
    pub(in crate::data_plane) fn take_appended(&mut self) -> impl Iterator<Item = u32> + use<> {
        std::mem::take(&mut self.appended).into_iter()
    }

    /// Presence of a channel whose state is told.
    pub(super) fn ask_states_presence(
        &mut self,
        ticket: Ticket,
        channel: &str,
        call: StoreCall<'_>,
        now_ms: u64,
    ) -> bool {
        let (Some(state), Presence::Stored { ttl_s, .. }) = (self.state.clone(), &self.presence) else { return false };
        let ttl_s = *ttl_s as i64;
        let partition = state.keys.partition_of(channel);
        let keys = [StateKey::Clients(channel), StateKey::ClientExpiry(channel), StateKey::Live, StateKey::Pending];
        let sent = match call {
            StoreCall::Enter(client, info, layout) => {
                let told = |layout: Layout| layout.filter(|events| events.occupied);
                let events = told(layout).and_then(|events| state.proxy(events.proxy)).map(StateKey::Events);
                let mut payload = std::mem::take(&mut self.payload);
                info.write(&mut payload);
                let at = (partition, keys.into_iter().chain(events));
                let sent = self.ask_script(token(ticket, Kind::Entered), Script::StateAdd, at, 6, now_ms, |out| {
                    out.int(ttl_s).arg(client.to_string().as_bytes()).arg(&payload).arg(channel.as_bytes());
                    out.int(state.queue_max as i64).int(i64::from(partition));
                });
                self.payload = payload;
                sent
            }
            StoreCall::Exit(client, ..) => {
                let at = (partition, keys.into_iter());
                self.ask_script(token(ticket, Kind::Done), Script::StateRemove, at, 3, now_ms, |out| {
                    out.arg(client.to_string().as_bytes()).arg(channel.as_bytes());
                    out.int(state.vacated_delay_ms as i64);
                })
            }
            call => {
                let kind = if matches!(call, StoreCall::Members(_)) { Kind::Members } else { Kind::CountMembers };
                let at = (partition, keys.into_iter().take(2));
                self.ask_script(token(ticket, kind), Script::StateMembers, at, 0, now_ms, |_| {})
            }
        };
        sent.is_some()
    }

    fn try_ask_state(&mut self, number: u64, call: &StateCall<'_>, now_ms: u64) -> Option<()> {
        let state = self.state.clone()?;
        let StateCall { partition, token: holder, ref what } = *call;
        let holder = holder.as_bytes();
        let of_channel = |channel| {
            let index = [StateKey::Live, StateKey::Pending];
            [StateKey::Lease, StateKey::Clients(channel), StateKey::ClientExpiry(channel)].into_iter().chain(index)
        };
        match *what {
            StateWhat::Take { .. } | StateWhat::Release => {
                let life_ms = if let StateWhat::Take { life_ms } = *what { life_ms } else { 0 };
                let at = (partition, [StateKey::Lease].into_iter());
                self.ask_script(token(number, Kind::Lease), Script::StateLease, at, 2, now_ms, |out| {
                    out.arg(holder).int(life_ms as i64);
                })
            }
            StateWhat::Step { life_ms, tick_age_max_ms, channels_max, events_max, proxies } => {
                let queues = proxies.iter().map(|id| state.proxy(*id).map(StateKey::Events));
                let queues: Vec<_> = queues.collect::<Option<_>>()?;
                let index = [StateKey::Lease, StateKey::Tick, StateKey::Live, StateKey::Pending];
                let at = (partition, index.into_iter().chain(queues));
                let sent = self.ask_script(token(number, Kind::Step), Script::StateStep, at, 6, now_ms, |out| {
                    out.arg(holder).int(life_ms as i64).int(tick_age_max_ms.map_or(-1, |ms| ms as i64));
                    out.int(channels_max.into()).int(channels_max.into()).int(events_max.into());
                });
                if sent.is_some() {
                    self.asked_queues.insert(number, proxies.into());
                }
                sent
            }
            StateWhat::Expire(channel) => {
                let at = (partition, of_channel(channel));
                self.ask_script(token(number, Kind::Expired), Script::StateExpire, at, 3, now_ms, |out| {
                    out.arg(holder).arg(channel.as_bytes()).int(state.vacated_delay_ms as i64);
                })
            }
            StateWhat::Vacate { channel, proxy } => {
                let events = proxy.and_then(|id| state.proxy(id)).map(StateKey::Events);
                let at = (partition, of_channel(channel).chain(events));
                self.ask_script(token(number, Kind::Vacated), Script::StateVacate, at, 3, now_ms, |out| {
                    out.arg(holder).arg(channel.as_bytes()).int(state.queue_max as i64);
                })
            }
            StateWhat::Forget { proxy, ids } => {
                let at = (partition, [StateKey::Lease, StateKey::Events(state.proxy(proxy)?)].into_iter());
                let values = 1 + ids.len() as u32;
                self.ask_script(token(number, Kind::Forgotten), Script::StateAck, at, values, now_ms, |out| {
                    out.arg(holder);
                    ids.iter().for_each(|id| _ = out.arg(id.to_string().as_bytes()));
                })
            }
        }
    }

    /// Calls a script with keys of a partition, at least one. `write` writes its `values`. `None` = it cannot go out now.
    fn ask_script<'k>(
        &mut self,
        token: u64,
        script: Script,
        (partition, keys): (u32, impl Iterator<Item = StateKey<'k>> + Clone),
        values: u32,
        now_ms: u64,
        write: impl FnOnce(&mut Command<'_>),
    ) -> Option<()> {
        let (Some(state), Presence::Stored { shards, .. }) = (&self.state, &self.presence) else { return None };
        let at = shards.first + shard_of_partition(partition, shards.count) as usize;
        let (count, mut keys) = (keys.clone().count() as u32, keys);
        let (first, name) = (&mut self.first, &mut self.name);
        first.clear();
        state.keys.write(first, partition, keys.next()?);
        let lua = &ask::scripts()[script as usize];
        let sent = self.shards[at].send_script(token, now_ms, first, lua, 1 + count + values, |out| {
            out.int(count.into()).arg(first);
            for key in keys {
                name.clear();
                state.keys.write(name, partition, key);
                out.arg(name);
            }
            write(out);
        });
        sent.ok()
    }

    /// What came of a client's coming besides its entry. Anything but an answer of the script is for others to complain of.
    pub(in crate::data_plane) fn note_entered(&mut self, reply: &Reply, now_ms: u64) {
        let &Reply::Int(told) = reply else { return };
        let (partition, dropped, cancelled, appended) = (told >> 4, told & 8 != 0, told & 4 != 0, told & 2 != 0);
        self.stats.state_appended += u64::from(appended);
        self.stats.state_cancelled += u64::from(cancelled);
        if let (true, Ok(partition)) = (appended, u32::try_from(partition)) {
            self.appended.insert(partition);
        }
        if dropped && let Some(count) = self.dropped.note(now_ms) {
            tracing::warn!(partition, count, "a queue of channel state events is full; new ones are dropped");
        }
    }
}

/// `None` = that is no answer to this. `proxies` are those of a step.
pub(super) fn understood(kind: Kind, reply: Reply, proxies: &[ProxyId]) -> Option<StateReply> {
    match kind {
        Kind::Lease => {
            let [is_held, left_ms, token] = <[Reply; 3]>::try_from(reply.into_array()?).ok()?;
            Some(StateReply::Lease {
                is_held: is_held.as_int()? == 1,
                left_ms: left_ms.as_int()?.try_into().ok()?,
                token: text(token)?,
            })
        }
        Kind::Step => step(reply.into_array()?, proxies),
        _ => Some(match (kind, reply.as_int()?) {
            (_, -1) => StateReply::Lost,
            (Kind::Expired, 0) => StateReply::Expired(Expired::No),
            (Kind::Expired, 1) => StateReply::Expired(Expired::Occupied),
            (Kind::Expired, 2) => StateReply::Expired(Expired::Pending),
            (Kind::Vacated, 0) => StateReply::Vacated(Vacated::No),
            (Kind::Vacated, 1) => StateReply::Vacated(Vacated::Occupied),
            (Kind::Vacated, 2) => StateReply::Vacated(Vacated::Told),
            (Kind::Vacated, 3) => StateReply::Vacated(Vacated::Dropped),
            (Kind::Vacated, 4) => StateReply::Vacated(Vacated::Silently),
            (Kind::Forgotten, count) => StateReply::Forgotten(count.try_into().ok()?),
            _ => return None,
        }),
    }
}

fn step(reply: Vec<Reply>, proxies: &[ProxyId]) -> Option<StateReply> {
    let mut parts = reply.into_iter();
    match parts.next()?.as_int()? {
        0 => return Some(StateReply::Lost),
        1 => {}
        _ => return None,
    }
    let now_ms = parts.next()?.as_int()?.try_into().ok()?;
    let ticked_ms = parts.next()?.as_int()?.try_into().ok();
    let (expired, due) = (channels(parts.next()?)?, channels(parts.next()?)?);
    let events = proxies.iter().map(|proxy| {
        let entries = parts.next()?.into_array()?;
        Some((*proxy, entries.into_iter().map(queued).collect::<Option<_>>()?))
    });
    let events = events.collect::<Option<_>>()?;
    Some(StateReply::Step(Box::new(StateStep { now_ms, ticked_ms, expired, due, events })))
}

/// Without those that are no channel's name.
fn channels(reply: Reply) -> Option<Vec<Box<str>>> {
    Some(reply.into_array()?.into_iter().filter_map(text).collect())
}

/// An entry of the stream, as XRANGE gives it.
fn queued(entry: Reply) -> Option<QueuedEvent> {
    let [id, fields] = <[Reply; 2]>::try_from(entry.into_array()?).ok()?;
    Some(QueuedEvent { id: EventId::parse(&id.into_bytes()?)?, event: event(fields.into_array()?) })
}

fn event(fields: Vec<Reply>) -> Option<StateEvent> {
    let [kind, rest] = <[Reply; 2]>::try_from(fields).ok()?.map(text);
    let (kind, rest) = (kind?, rest?);
    let kind = [StateEventKind::Occupied, StateEventKind::Vacated].into_iter().find(|known| known.name() == &*kind)?;
    let (time_ms, channel) = rest.split_once(' ')?;
    Some(StateEvent { time_ms: time_ms.parse().ok()?, channel: channel.into(), kind })
}

fn text(reply: Reply) -> Option<Box<str>> {
    std::str::from_utf8(&reply.into_bytes()?).ok().map(Into::into)
}
