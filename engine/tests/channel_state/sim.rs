//! The world and what happens in it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use gyre_engine::StateReply;
use gyre_engine::backend::{ProxyId, StateEvent};
use gyre_engine::channel_state::{AskWhat, Effect};
use gyre_engine::limits::STATE_DELIVERIES_MAX;

use crate::judge::Judge;
use crate::link::Command;
use crate::node::{Client, Node};
use crate::state_model::StateModel;

pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const PROXIES: u16 = 2;
const CHANNELS: u32 = 8;
const TTL_MS: u64 = 60_000;
const RENEW_MS: u64 = 27_000;
/// Of a delivery, as a node waits for it.
const TIMEOUT_MS: u64 = 1_000;

/// Which faults a seed has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) breaks: bool,
    pub(crate) outages: bool,
    pub(crate) deaths: bool,
    pub(crate) backend_fails: bool,
    pub(crate) backend_is_slow: bool,
    pub(crate) small_queue: bool,
}

/// A delivery on its way.
struct Delivery {
    node: String,
    number: u64,
    proxy: ProxyId,
    partition: u32,
    /// The backend has it then; `None` = never.
    arrives_ms: Option<u64>,
    /// The node hears of it then.
    ends_ms: u64,
    ok: bool,
    events: Vec<StateEvent>,
}

pub(crate) struct Sim {
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) now_ms: u64,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) model: StateModel,
    pub(crate) judge: Judge,
    deliveries: Vec<Delivery>,
    /// When a node learns how many there are.
    rumours: Vec<(u64, String, u32)>,
    backend_down_until_ms: [u64; PROXIES as usize],
    pub(crate) store_down_until_ms: u64,
    last_outage_ms: u64,
    next_id: u64,
    pub(crate) trace: Option<VecDeque<String>>,
}

impl Sim {
    pub(crate) fn new(seed: u64, traces: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_calm = rng.u32(..5) == 0;
        let mut some = || !is_calm && rng.bool();
        let mix = Mix {
            breaks: some(),
            outages: some(),
            deaths: some(),
            backend_fails: some(),
            backend_is_slow: some(),
            small_queue: some() && some(),
        };
        let delay_ms = [200, 1_000, 5_000][rng.usize(..3)];
        let queue_max = if mix.small_queue { 3 } else { 100_000 };
        let mut sim = Self {
            rng,
            mix,
            now_ms: 1_000_000,
            nodes: BTreeMap::new(),
            model: StateModel::new(TTL_MS, delay_ms, queue_max),
            judge: Judge::default(),
            deliveries: Vec::new(),
            rumours: Vec::new(),
            backend_down_until_ms: [0; PROXIES as usize],
            store_down_until_ms: 0,
            last_outage_ms: 0,
            next_id: 0,
            trace: traces.then(VecDeque::new),
        };
        for _ in 0..sim.rng.u32(1..=3) {
            sim.start_node();
        }
        sim
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now_ms = self.now_ms;
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 600 {
                trace.pop_front();
            }
            trace.push_back(format!("{now_ms} {}", what()));
        }
    }

    pub(crate) fn play(&mut self) {
        for _ in 0..self.rng.u32(20..150) {
            self.act();
            let pause_ms = match self.rng.u32(..10) {
                0 => self.rng.u64(..20_000),
                1..5 => self.rng.u64(..3_000),
                _ => self.rng.u64(..200),
            };
            self.run(self.now_ms + pause_ms);
        }
    }

    /// All faults are over, and everything comes to rest.
    pub(crate) fn rest(&mut self) {
        self.note(|| "rest".to_owned());
        self.store_down_until_ms = 0;
        self.backend_down_until_ms = [0; PROXIES as usize];
        self.mix = Mix {
            breaks: false,
            outages: false,
            deaths: false,
            backend_fails: false,
            backend_is_slow: false,
            small_queue: self.mix.small_queue,
        };
        if self.nodes.values().all(|node| node.is_stopping) {
            self.start_node();
        }
        self.nodes.values_mut().for_each(|node| (node.link.down_until_ms, node.link.is_fast) = (0, true));
        // Expiry, grace, delay, a lease that must run out, the longest retry.
        self.run(self.now_ms + TTL_MS + 30_000 + 5_000 + 15_000 + 20_000 + 5_000);
        let occupied: Vec<String> = self.joined().map(|(channel, _)| channel.to_owned()).collect();
        let queued: usize =
            self.model.partitions.values().flat_map(|kept| kept.events.values()).map(BTreeMap::len).sum();
        assert_eq!(queued, 0, "events nobody told of");
        self.judge.rest(&occupied);
        let held: usize = self.nodes.values().map(|node| node.workers.stats().held).sum();
        assert_eq!(held, PARTITIONS as usize, "partitions held");
    }

    /// Clients that have an entry, or should.
    pub(crate) fn joined(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.values().flat_map(|node| {
            let joined = node.clients.iter().filter(|(_, client)| client.is_in);
            joined.map(move |((channel, _), _)| (&**channel, node))
        })
    }

    fn act(&mut self) {
        match self.rng.u32(..40) {
            0..14 => self.join(),
            14..26 => self.leave(),
            26..29 => {
                for _ in 0..self.rng.u32(1..30) {
                    if self.rng.bool() { self.join() } else { self.leave() }
                }
            }
            29 if self.nodes.len() < 4 => self.start_node(),
            30 => self.stop_node(),
            31 if self.mix.deaths => self.kill_node(),
            32 | 33 if self.mix.breaks => {
                if let Some(uid) = self.any_node() {
                    let down_ms = if self.rng.bool() { 0 } else { self.rng.u64(..30_000) };
                    self.break_link(&uid, down_ms, true);
                }
            }
            34 if self.mix.outages && self.now_ms > self.last_outage_ms + 120_000 => self.break_store(),
            35..38 if self.mix.backend_fails => {
                let proxy = self.rng.usize(..usize::from(PROXIES));
                let down_ms = if self.rng.bool() { self.rng.u64(..2_000) } else { self.rng.u64(..60_000) };
                self.note(|| format!("backend {proxy} fails for {down_ms}"));
                self.backend_down_until_ms[proxy] = self.now_ms + down_ms;
            }
            _ => {}
        }
    }

    fn any_node(&mut self) -> Option<String> {
        let uids: Vec<String> =
            self.nodes.iter().filter(|(_, node)| !node.is_stopping).map(|(uid, _)| uid.clone()).collect();
        self.rng.choice(uids)
    }

    fn join(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.next_id += 1;
        let (channel, client) = (format!("c{}", self.rng.u32(..CHANNELS)), format!("k{}", self.next_id));
        self.note(|| format!("{uid}: {client} joins {channel}"));
        let renew_ms = self.now_ms + self.rng.u64(1_000..RENEW_MS + 1_000);
        let node = self.nodes.get_mut(&uid).expect("alive");
        node.clients.insert((channel.clone(), client.clone()), Client { renew_ms, is_in: false });
        self.send(&uid, Command::Enter(partition_of(&channel), channel, client));
    }

    fn leave(&mut self) {
        let Some(uid) = self.any_node() else { return };
        let keys: Vec<_> = self.nodes[&uid].clients.keys().cloned().collect();
        let Some((channel, client)) = self.rng.choice(keys) else { return };
        self.note(|| format!("{uid}: {client} leaves {channel}"));
        self.nodes.get_mut(&uid).expect("alive").clients.remove(&(channel.clone(), client.clone()));
        self.send(&uid, Command::Exit(partition_of(&channel), channel, client));
    }

    fn start_node(&mut self) {
        self.next_id += 1;
        let (uid, seed) = (format!("n{}", self.next_id), self.rng.u64(..));
        self.note(|| format!("{uid} starts"));
        self.nodes.insert(uid.clone(), Node::new(&uid, seed, self.now_ms));
        self.spread_rumour(..2_000);
    }

    fn stop_node(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.note(|| format!("{uid} stops"));
        let node = self.nodes.get_mut(&uid).expect("alive");
        node.is_stopping = true;
        let clients: Vec<_> = std::mem::take(&mut node.clients).into_keys().collect();
        let clock_ms = node.clock_ms(self.now_ms);
        for (channel, client) in clients {
            self.send(&uid, Command::Exit(partition_of(&channel), channel, client));
        }
        self.nodes.get_mut(&uid).expect("alive").workers.stop(clock_ms);
        self.spread_rumour(..500);
    }

    fn kill_node(&mut self) {
        let Some(uid) = self.any_node() else { return };
        self.note(|| format!("{uid} dies"));
        let mut node = self.nodes.remove(&uid).expect("alive");
        node.link.break_off(self.now_ms, &mut self.rng);
        for (_, command) in node.link.zombies {
            self.carry_out(&uid, command);
        }
        self.deliveries.retain(|delivery| delivery.node != uid || delivery.arrives_ms.is_some());
        self.spread_rumour(7_000..16_000);
    }

    fn spread_rumour(&mut self, after_ms: impl std::ops::RangeBounds<u64> + Clone) {
        let count = self.nodes.values().filter(|node| !node.is_stopping).count() as u32;
        let uids: Vec<String> = self.nodes.keys().cloned().collect();
        for uid in uids {
            let at_ms = self.now_ms + self.rng.u64(after_ms.clone());
            self.rumours.push((at_ms, uid, count));
        }
    }

    fn break_store(&mut self) {
        let down_ms = match self.rng.u32(..3) {
            0 => self.rng.u64(..10_000),
            1 => self.rng.u64(..30_000),
            _ => self.rng.u64(60_000..100_000),
        };
        self.note(|| format!("store down for {down_ms}"));
        self.last_outage_ms = self.now_ms + down_ms;
        self.store_down_until_ms = self.now_ms + down_ms;
        let uids: Vec<String> = self.nodes.keys().cloned().collect();
        for uid in uids {
            self.break_link(&uid, down_ms, false);
        }
    }

    fn break_link(&mut self, uid: &str, down_ms: u64, is_own: bool) {
        self.note(|| format!("{uid}: link breaks for {down_ms}"));
        let node = self.nodes.get_mut(uid).expect("alive");
        let failed = node.link.break_off(self.now_ms, &mut self.rng);
        // What was on its way to a store that is down is lost.
        if !is_own {
            node.link.zombies.clear();
        }
        node.link.down_until_ms = node.link.down_until_ms.max(self.now_ms + down_ms);
        if is_own {
            node.cut_off_ms = Some(self.now_ms + down_ms);
        }
        let clock_ms = node.clock_ms(self.now_ms);
        for ticket in failed {
            node.workers.answered(ticket, StateReply::Failed, clock_ms, &mut node.effects);
        }
        self.carry_effects(uid);
    }

    /// Until this time, event by event.
    fn run(&mut self, until_ms: u64) {
        loop {
            let mut next_ms = self.nodes.values().map(Node::next_ms).min().unwrap_or(u64::MAX);
            for delivery in &self.deliveries {
                next_ms = next_ms.min(delivery.ends_ms).min(delivery.arrives_ms.unwrap_or(u64::MAX));
            }
            next_ms = self.rumours.iter().map(|(at_ms, ..)| *at_ms).fold(next_ms, u64::min);
            if next_ms > until_ms {
                self.now_ms = until_ms;
                return;
            }
            assert!(next_ms + 5 >= self.now_ms, "time goes back");
            self.now_ms = self.now_ms.max(next_ms);
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.deliver();
        let now_ms = self.now_ms;
        let (due, later) = std::mem::take(&mut self.rumours).into_iter().partition(|(at_ms, ..)| *at_ms <= now_ms);
        self.rumours = later;
        for (_, uid, count) in due {
            if let Some(node) = self.nodes.get_mut(&uid) {
                node.workers.nodes_are(count, node.clock_ms(now_ms));
            }
        }
        let uids: Vec<String> = self.nodes.keys().cloned().collect();
        for uid in uids {
            if self.nodes[&uid].next_ms() <= now_ms {
                self.turn_of(&uid);
            }
            let node = &self.nodes[&uid];
            if node.is_stopping && node.workers.is_stopped(node.clock_ms(now_ms)) && node.link.on_the_way.is_empty() {
                self.note(|| format!("{uid} has stopped"));
                self.nodes.remove(&uid);
            }
        }
    }

    fn turn_of(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        loop {
            let link = &mut self.nodes.get_mut(uid).expect("alive").link;
            let is_due = |queue: &VecDeque<(u64, Command)>| queue.front().is_some_and(|(at_ms, _)| *at_ms <= now_ms);
            let command = match (is_due(&link.zombies), is_due(&link.on_the_way)) {
                (true, _) => {
                    let (_, command) = link.zombies.pop_front().expect("seen");
                    self.carry_out(uid, command);
                    continue;
                }
                (_, true) => link.on_the_way.pop_front().expect("seen").1,
                _ => break,
            };
            let ticket = match &command {
                Command::Ask(ask) => Some(ask.ticket),
                _ => None,
            };
            let reply = self.carry_out(uid, command);
            if let (Some(ticket), Some(reply)) = (ticket, reply) {
                let Self { nodes, rng, .. } = self;
                nodes.get_mut(uid).expect("alive").link.answer(ticket, reply, now_ms, rng);
            }
        }
        let node = self.nodes.get_mut(uid).expect("alive");
        let clock_ms = node.clock_ms(now_ms);
        while node.link.back.front().is_some_and(|(at_ms, ..)| *at_ms <= now_ms) {
            let (_, ticket, reply) = node.link.back.pop_front().expect("seen");
            node.workers.answered(ticket, reply, clock_ms, &mut node.effects);
        }
        node.workers.turn(clock_ms, &mut node.effects);
        let mut renewals = Vec::new();
        for ((channel, client), kept) in &mut node.clients {
            if kept.renew_ms <= now_ms {
                kept.renew_ms = now_ms + RENEW_MS;
                renewals.push(Command::Enter(partition_of(channel), channel.clone(), client.clone()));
            }
        }
        for command in renewals {
            self.send(uid, command);
        }
        self.carry_effects(uid);
    }

    fn send(&mut self, uid: &str, command: Command) {
        let Self { nodes, rng, now_ms, .. } = self;
        let node = nodes.get_mut(uid).expect("alive");
        if node.link.down_until_ms > *now_ms || self.store_down_until_ms > *now_ms {
            if let Command::Ask(ask) = command {
                let clock_ms = node.clock_ms(*now_ms);
                node.workers.answered(ask.ticket, StateReply::Failed, clock_ms, &mut node.effects);
            }
            return;
        }
        node.link.send(command, *now_ms, rng);
    }

    fn carry_effects(&mut self, uid: &str) {
        loop {
            let effects = std::mem::take(&mut self.nodes.get_mut(uid).expect("alive").effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Ask(ask) => {
                        if !matches!(ask.what, AskWhat::Step { .. }) {
                            self.note(|| format!("{uid}: {ask:?}"));
                        }
                        self.send(uid, Command::Ask(ask));
                    }
                    Effect::Notify { number, proxy, events } => self.notify(uid, number, proxy, events),
                }
            }
        }
    }

    /// What the store does.
    fn carry_out(&mut self, uid: &str, command: Command) -> Option<StateReply> {
        let now_ms = self.now_ms;
        match command {
            Command::Enter(partition, channel, client) => {
                let added = self.model.add(partition, &channel, &client, Some(proxy_of(&channel)), now_ms);
                if added.appended {
                    self.note(|| format!("queued: {channel} occupied"));
                    self.judge.queued(&channel, now_ms);
                }
                self.judge.dropped(&channel, added.dropped);
                if let Some(node) = self.nodes.get_mut(uid) {
                    if let Some(client) = node.clients.get_mut(&(channel, client)) {
                        client.is_in = true;
                    }
                    if added.appended {
                        let clock_ms = node.clock_ms(now_ms);
                        node.workers.wake(partition, clock_ms, &mut node.effects);
                        self.carry_effects(uid);
                    }
                }
                None
            }
            Command::Exit(partition, channel, client) => {
                self.model.remove(partition, &channel, &client, now_ms);
                None
            }
            Command::Ask(ask) => {
                let call = ask.call(|channel| Some(proxy_of(channel)));
                let reply = self.model.ask(&call, now_ms);
                if matches!(ask.what, AskWhat::Take) {
                    self.note(|| format!("{uid}: {}: {reply:?}", ask.partition));
                }
                if let AskWhat::Vacate(channel) = &ask.what {
                    self.vacated(uid, channel, &reply);
                }
                Some(reply)
            }
        }
    }

    fn vacated(&mut self, uid: &str, channel: &str, reply: &StateReply) {
        use gyre_engine::Vacated;
        let now_ms = self.now_ms;
        self.note(|| format!("{uid}: vacate {channel}: {reply:?}"));
        match reply {
            StateReply::Vacated(Vacated::Told) => self.judge.queued(channel, now_ms),
            StateReply::Vacated(Vacated::Dropped) => self.judge.dropped(channel, true),
            _ => return,
        }
        // Who was cut off alone could not renew, and nobody can know that it is alive.
        let is_innocent = |node: &Node| node.cut_off_ms.is_none_or(|at_ms| now_ms > at_ms + RENEW_MS + 5_000);
        let is_there = self.joined().any(|(own, node)| own == channel && is_innocent(node));
        assert!(!is_there, "{channel} is called vacant and is not");
    }

    fn notify(&mut self, uid: &str, number: u64, proxy: ProxyId, events: Vec<StateEvent>) {
        let now_ms = self.now_ms;
        self.note(|| format!("{uid}: tells {proxy:?} {number} {events:?}"));
        let partition = partition_of(&events[0].channel);
        assert!(events.len() <= 100 && events.iter().all(|event| partition_of(&event.channel) == partition));
        assert!(events.iter().all(|event| proxy_of(&event.channel) == proxy), "the wrong backend");
        for other in &self.deliveries {
            let is_same = other.partition == partition && other.proxy == proxy && other.ends_ms > now_ms;
            // A dead node's request may still be on its way to the backend.
            assert!(!is_same || !self.nodes.contains_key(&other.node), "{uid} and {} tell at once", other.node);
        }
        let own = self.deliveries.iter().filter(|delivery| delivery.node == uid && delivery.proxy == proxy);
        assert!(own.count() < STATE_DELIVERIES_MAX);
        let takes_ms = match self.mix.backend_is_slow {
            true => self.rng.u64(..1_500),
            false => self.rng.u64(..20),
        };
        let is_down = self.backend_down_until_ms[usize::from(proxy.0)] > now_ms;
        let arrives = !is_down || self.rng.u32(..4) == 0;
        let ok = !is_down && takes_ms < TIMEOUT_MS;
        let ends_ms = now_ms + if arrives || self.rng.bool() { takes_ms.min(TIMEOUT_MS) } else { TIMEOUT_MS };
        // It has what it answers, and maybe what it does not.
        let arrives_ms = arrives.then(|| now_ms + self.rng.u64(..=takes_ms.min(TIMEOUT_MS - 1)));
        let node = uid.to_owned();
        self.deliveries.push(Delivery { node, number, proxy, partition, arrives_ms, ends_ms, ok, events });
    }

    fn deliver(&mut self) {
        let now_ms = self.now_ms;
        for delivery in &mut self.deliveries {
            if delivery.arrives_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
                self.judge.told(&delivery.events);
            }
        }
        let over = |delivery: &mut Delivery| delivery.ends_ms <= now_ms && delivery.arrives_ms.is_none();
        let over: Vec<Delivery> = self.deliveries.extract_if(.., over).collect();
        for Delivery { node: uid, number, ok, .. } in over {
            let Some(node) = self.nodes.get_mut(&uid) else { continue };
            let clock_ms = node.clock_ms(now_ms);
            node.workers.told(number, ok, clock_ms, &mut node.effects);
            self.carry_effects(&uid);
        }
    }
}

pub(crate) fn partition_of(channel: &str) -> u32 {
    number_of(channel) % PARTITIONS
}

fn proxy_of(channel: &str) -> ProxyId {
    ProxyId((number_of(channel) / PARTITIONS) as u16 % PROXIES)
}

fn number_of(channel: &str) -> u32 {
    channel[1..].parse().expect("a number")
}
