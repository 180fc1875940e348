//! The world and what happens in it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use gyre_engine::StateReply;
use gyre_engine::backend::ProxyId;
use gyre_engine::channel_state::{AskWhat, Effect};

use crate::backends::Delivery;
use crate::judge::Judge;
use crate::link::Command;
use crate::node::Node;
use crate::state_model::StateModel;

pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const PROXIES: u16 = 2;
pub(crate) const CHANNELS: u32 = 8;
const TTL_MS: u64 = 60_000;
pub(crate) const RENEW_MS: u64 = 27_000;

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

pub(crate) struct Sim {
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) now_ms: u64,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) model: StateModel,
    pub(crate) judge: Judge,
    pub(crate) deliveries: Vec<Delivery>,
    /// When a node learns how many there are.
    pub(crate) rumours: Vec<(u64, String, u32)>,
    pub(crate) backend_down_until_ms: [u64; PROXIES as usize],
    pub(crate) store_down_until_ms: u64,
    pub(crate) last_outage_ms: u64,
    pub(crate) next_id: u64,
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

    /// Until this time, event by event.
    pub(crate) fn run(&mut self, until_ms: u64) {
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

    pub(crate) fn send(&mut self, uid: &str, command: Command) {
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

    pub(crate) fn carry_effects(&mut self, uid: &str) {
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
    pub(crate) fn carry_out(&mut self, uid: &str, command: Command) -> Option<StateReply> {
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
}

pub(crate) fn partition_of(channel: &str) -> u32 {
    number_of(channel) % PARTITIONS
}

pub(crate) fn proxy_of(channel: &str) -> ProxyId {
    ProxyId((number_of(channel) / PARTITIONS) as u16 % PROXIES)
}

fn number_of(channel: &str) -> u32 {
    channel[1..].parse().expect("a number")
}
