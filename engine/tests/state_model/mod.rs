//! A model of the scripts `engine/lua/state_*.lua`: what is kept of channels whose state is told to a backend, by partition.
//! Written from their contracts. The clock is the caller's; nothing is lost unless a test takes it away.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;

use gyre_engine::backend::{ProxyId, StateEvent, StateEventKind};
use gyre_engine::{EventId, Expired, QueuedEvent, StateCall, StateReply, StateStep, StateWhat, Vacated};

/// What every node has configured.
#[derive(Debug, Clone)]
pub(crate) struct StateModel {
    pub(crate) ttl_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) queue_max: usize,
    pub(crate) partitions: BTreeMap<u32, Partition>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    /// Token of the holder, and until when.
    pub(crate) lease: Option<(String, u64)>,
    pub(crate) ticked_ms: Option<u64>,
    /// Expiry of each client by channel.
    pub(crate) clients: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) live: BTreeMap<String, u64>,
    pub(crate) pending: BTreeMap<String, u64>,
    pub(crate) events: BTreeMap<ProxyId, BTreeMap<EventId, StateEvent>>,
    last_id: Option<EventId>,
}

/// What came of adding a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) is_new: bool,
    pub(crate) appended: bool,
    pub(crate) cancelled: bool,
    pub(crate) dropped: bool,
}

impl StateModel {
    pub(crate) fn new(ttl_ms: u64, delay_ms: u64, queue_max: usize) -> Self {
        Self { ttl_ms, delay_ms, queue_max, partitions: BTreeMap::new() }
    }

    pub(crate) fn partition(&mut self, partition: u32) -> &mut Partition {
        self.partitions.entry(partition).or_default()
    }

    /// `proxy` = whom to tell that it is occupied, if anybody.
    pub(crate) fn add(
        &mut self,
        partition: u32,
        channel: &str,
        client: &str,
        proxy: Option<ProxyId>,
        now_ms: u64,
    ) -> Added {
        let (ttl_ms, queue_max) = (self.ttl_ms, self.queue_max);
        let kept = self.partition(partition);
        let clients = kept.clients.entry(channel.to_owned()).or_default();
        clients.retain(|_, expires_ms| *expires_ms > now_ms);
        let is_new = clients.insert(client.to_owned(), now_ms + ttl_ms).is_none();
        let latest_ms = kept.latest_ms(channel, now_ms).expect("one was added");
        let was_live = kept.live.insert(channel.to_owned(), latest_ms).is_some();
        let cancelled = kept.pending.remove(channel).is_some();
        let mut added = Added { is_new, cancelled, ..Added::default() };
        if let (false, false, Some(proxy)) = (was_live, cancelled, proxy) {
            added.appended = kept.append(proxy, channel, StateEventKind::Occupied, queue_max, now_ms);
            added.dropped = !added.appended;
        }
        added
    }

    /// Whether it was there, and whether the channel waits from now on.
    pub(crate) fn remove(&mut self, partition: u32, channel: &str, client: &str, now_ms: u64) -> (bool, bool) {
        let delay_ms = self.delay_ms;
        let kept = self.partition(partition);
        if kept.latest_ms(channel, now_ms).is_none() {
            // The keys live as long as the last client.
            kept.clients.remove(channel);
        }
        if kept.clients.get_mut(channel).and_then(|clients| clients.remove(client)).is_none() {
            return (false, false);
        }
        let latest_ms = kept.latest_ms(channel, now_ms);
        if latest_ms.is_none() {
            kept.clients.remove(channel);
        }
        let Some(score) = kept.live.get_mut(channel) else { return (true, false) };
        match latest_ms {
            Some(latest_ms) => {
                *score = latest_ms;
                (true, false)
            }
            None => {
                kept.wait(channel, now_ms + delay_ms);
                (true, true)
            }
        }
    }

    /// Unexpired clients.
    pub(crate) fn members(&self, partition: u32, channel: &str, now_ms: u64) -> Vec<&str> {
        let clients = self.partitions.get(&partition).and_then(|kept| kept.clients.get(channel));
        let clients = clients.into_iter().flatten().filter(|(_, expires_ms)| **expires_ms > now_ms);
        clients.map(|(client, _)| &**client).collect()
    }

    /// What a worker asks.
    pub(crate) fn ask(&mut self, call: &StateCall<'_>, now_ms: u64) -> StateReply {
        let (delay_ms, queue_max) = (self.delay_ms, self.queue_max);
        let kept = self.partition(call.partition);
        kept.lease.take_if(|(_, until_ms)| *until_ms <= now_ms);
        match call.what {
            StateWhat::Take { life_ms } => return kept.take(call.token, life_ms, now_ms),
            StateWhat::Release => {
                kept.lease.take_if(|(token, _)| token == call.token);
                return StateReply::Lease { is_held: false, left_ms: 0, token: Box::default() };
            }
            _ => {}
        }
        if kept.lease.as_ref().is_none_or(|(token, _)| token != call.token) {
            return StateReply::Lost;
        }
        match call.what {
            StateWhat::Take { .. } | StateWhat::Release => unreachable!("answered above"),
            StateWhat::Step { life_ms, tick_age_max_ms, channels_max, events_max, proxies } => {
                kept.renew(life_ms, now_ms);
                let mut step = kept.tick(tick_age_max_ms, channels_max as usize, now_ms);
                step.events = proxies.iter().map(|proxy| (*proxy, kept.oldest(*proxy, events_max as usize))).collect();
                StateReply::Step(Box::new(step))
            }
            StateWhat::Expire(channel) => StateReply::Expired(kept.expire(channel, delay_ms, now_ms)),
            StateWhat::Vacate { channel, proxy } => StateReply::Vacated(kept.vacate(channel, proxy, queue_max, now_ms)),
            StateWhat::Forget { proxy, ids } => {
                let events = kept.events.entry(proxy).or_default();
                StateReply::Forgotten(ids.iter().filter(|id| events.remove(id).is_some()).count() as u32)
            }
        }
    }
}

impl Partition {
    /// Expiry of the last unexpired client.
    fn latest_ms(&self, channel: &str, now_ms: u64) -> Option<u64> {
        let latest_ms = self.clients.get(channel)?.values().max().copied()?;
        (latest_ms > now_ms).then_some(latest_ms)
    }

    fn wait(&mut self, channel: &str, until_ms: u64) {
        self.live.remove(channel);
        self.pending.entry(channel.to_owned()).or_insert(until_ms);
    }

    /// False = the queue is full.
    fn append(&mut self, proxy: ProxyId, channel: &str, kind: StateEventKind, max: usize, now_ms: u64) -> bool {
        let events = self.events.entry(proxy).or_default();
        if events.len() >= max {
            return false;
        }
        let id = match self.last_id {
            Some(EventId(ms, seq)) if ms >= now_ms => EventId(ms, seq + 1),
            _ => EventId(now_ms, 0),
        };
        self.last_id = Some(id);
        events.insert(id, StateEvent { time_ms: now_ms, channel: channel.into(), kind });
        true
    }

    fn take(&mut self, token: &str, life_ms: u64, now_ms: u64) -> StateReply {
        let (holder, until_ms) = self.lease.get_or_insert_with(|| (token.to_owned(), 0));
        let is_held = *holder == token;
        if is_held {
            *until_ms = now_ms + life_ms;
        }
        StateReply::Lease { is_held, left_ms: *until_ms - now_ms, token: holder.as_str().into() }
    }

    fn renew(&mut self, life_ms: u64, now_ms: u64) {
        if let Some((_, until_ms)) = &mut self.lease
            && (*until_ms - now_ms) * 3 < life_ms * 2
        {
            *until_ms = now_ms + life_ms;
        }
    }

    fn tick(&mut self, age_max_ms: Option<u64>, max: usize, now_ms: u64) -> StateStep {
        let ticked_ms = self.ticked_ms;
        let mut step = StateStep { now_ms, ticked_ms, ..StateStep::default() };
        let is_old = |(ticked_ms, max_ms)| now_ms > ticked_ms + max_ms;
        if ticked_ms.zip(age_max_ms).is_some_and(is_old) {
            return step;
        }
        if ticked_ms.is_none_or(|ticked_ms| now_ms >= ticked_ms + 1000 || now_ms < ticked_ms) {
            self.ticked_ms = Some(now_ms);
        }
        step.expired = earliest(&self.live, max, now_ms);
        step.due = earliest(&self.pending, max, now_ms);
        step
    }

    fn oldest(&self, proxy: ProxyId, max: usize) -> Vec<QueuedEvent> {
        let events = self.events.get(&proxy).into_iter().flatten().take(max);
        events.map(|(id, event)| QueuedEvent { id: *id, event: Some(event.clone()) }).collect()
    }

    fn expire(&mut self, channel: &str, delay_ms: u64, now_ms: u64) -> Expired {
        let latest_ms = self.latest_ms(channel, now_ms);
        match self.live.get_mut(channel) {
            Some(score) if *score <= now_ms => match latest_ms {
                Some(latest_ms) => {
                    *score = latest_ms;
                    Expired::Occupied
                }
                None => {
                    self.clients.remove(channel);
                    self.wait(channel, now_ms + delay_ms);
                    Expired::Pending
                }
            },
            _ => Expired::No,
        }
    }

    fn vacate(&mut self, channel: &str, proxy: Option<ProxyId>, queue_max: usize, now_ms: u64) -> Vacated {
        if self.pending.get(channel).is_none_or(|due_ms| *due_ms > now_ms) {
            return Vacated::No;
        }
        self.pending.remove(channel);
        if let Some(latest_ms) = self.latest_ms(channel, now_ms) {
            self.live.insert(channel.to_owned(), latest_ms);
            return Vacated::Occupied;
        }
        self.clients.remove(channel);
        match proxy {
            None => Vacated::Silently,
            Some(proxy) => match self.append(proxy, channel, StateEventKind::Vacated, queue_max, now_ms) {
                true => Vacated::Told,
                false => Vacated::Dropped,
            },
        }
    }
}

fn earliest(index: &BTreeMap<String, u64>, max: usize, now_ms: u64) -> Vec<Box<str>> {
    let mut due: Vec<(u64, &str)> = index.iter().map(|(channel, at_ms)| (*at_ms, &**channel)).collect();
    due.retain(|(at_ms, _)| *at_ms <= now_ms);
    due.sort_unstable();
    due.into_iter().take(max).map(|(_, channel)| channel.into()).collect()
}
