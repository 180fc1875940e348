//! The workers of channel state: for each partition one node in the cluster lets entries expire, declares channels vacant
//! and tells backends what has happened (pro-features.md 1.9, 1.10).
//!
//! Plain data, on the core that carries it (core 0). Time and entropy are arguments, what must happen outside is an
//! [`Effect`], what comes of it an answer with its ticket. A partition is worked on only with its lease, as far as this node's
//! own clock can tell; without it nothing is sent any more, and nothing is remembered.

mod drops;
mod effects;
mod holding;
mod leases;
mod options;
mod partition;
mod queue;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use fastrand::Rng;

use drops::Drops;
pub use effects::{Ask, AskWhat, Effect};
use leases::Leases;
pub use options::{WorkersOptions, WorkersStats};
use partition::{Partition, Stand};
use queue::Need;

use crate::backend::ProxyId;
use crate::limits::{STATE_BATCH_MAX, STATE_CHORES_MAX, STATE_DELIVERIES_MAX, STATE_LEASE_TRUST_MS, STATE_STOP_MS};
use crate::state_store::{StateReply, StateStep, Vacated};
use crate::store::Ticket;

/// See the module.
pub struct Workers {
    node_uid: String,
    partitions: Vec<Partition>,
    backends: Vec<Backend>,
    leases: Leases,
    asked: HashMap<Ticket, Asked>,
    tells: HashMap<u64, Tell>,
    /// Of tickets, deliveries, terms and tokens.
    last: u64,
    rng: Rng,
    grace_ms: u64,
    /// Nothing is due before.
    due_ms: u64,
    stops_since_ms: Option<u64>,
    stats: WorkersStats,
    drops: Drops,
}

struct Backend {
    proxy: ProxyId,
    name: Box<str>,
    in_flight: usize,
    /// Partitions that have a batch for it, once others are through.
    waiting: VecDeque<u32>,
}

/// A call to the store.
struct Asked {
    partition: u32,
    /// Of the partition, when it was made.
    term: u64,
    sent_ms: u64,
    what: What,
}

enum What {
    Take,
    Release,
    Step { is_any_age: bool },
    Expire,
    Vacate,
    Forget { queue: usize },
}

/// A delivery.
struct Tell {
    partition: u32,
    term: u64,
    queue: usize,
}

impl Workers {
    /// Of a node that has just started.
    pub fn new(options: WorkersOptions, now_ms: u64) -> Self {
        let WorkersOptions { node_uid, partitions, backends, grace_ms, seed } = options;
        let mut rng = Rng::with_seed(seed);
        let token: Rc<str> = format!("{node_uid}.0").into();
        let partition = |_| Partition::new(backends.len(), Rc::clone(&token), now_ms, &mut rng);
        Self {
            partitions: (0..partitions).map(partition).collect(),
            backends: backends.into_iter().map(|(proxy, name)| Backend::new(proxy, name)).collect(),
            leases: Leases::new(partitions),
            asked: HashMap::new(),
            tells: HashMap::new(),
            last: 0,
            rng,
            grace_ms,
            due_ms: 0,
            stops_since_ms: None,
            stats: WorkersStats::default(),
            drops: Drops::default(),
            node_uid,
        }
    }

    /// What is due. Cheap while nothing is.
    pub fn turn(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if now_ms < self.due_ms {
            return;
        }
        for number in 0..self.partitions.len() as u32 {
            self.visit(number, now_ms, out);
        }
        if self.stops_since_ms.is_none() && self.leases.takes_surplus(now_ms) {
            self.give_one_back(now_ms, out);
        }
        let next = self.partitions.iter().map(|partition| partition.next_ms(now_ms)).min();
        self.due_ms = next.unwrap_or(u64::MAX);
        if self.stops_since_ms.is_none() {
            self.due_ms = self.due_ms.min(self.leases.surplus_at_ms());
        }
    }

    /// When [`Self::turn`] has something to do again.
    pub fn next_ms(&self) -> u64 {
        self.due_ms
    }

    /// What came of a call to the store.
    pub fn answered(&mut self, ticket: Ticket, reply: StateReply, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(Asked { partition: number, term, sent_ms, what }) = self.asked.remove(&ticket) else { return };
        let partition = &mut self.partitions[number as usize];
        if partition.term != term {
            return;
        }
        if matches!((&what, &reply), (What::Expire | What::Vacate, _)) {
            partition.chores -= 1;
        }
        match (what, reply) {
            (What::Take, reply) => self.take_answered(number, &reply, sent_ms, now_ms),
            (What::Release, _) => {}
            (_, StateReply::Lost) => {
                self.stats.lost += 1;
                self.leave(number, now_ms);
            }
            (What::Step { is_any_age }, StateReply::Step(step)) if now_ms < sent_ms + STATE_LEASE_TRUST_MS => {
                let was_in_grace = partition.is_in_grace();
                partition.stepped(sent_ms, is_any_age, &step, self.grace_ms, now_ms);
                if !was_in_grace && partition.is_in_grace() {
                    self.log_grace(number);
                }
                self.read(number, ticket, *step, now_ms, out);
            }
            (What::Step { .. }, _) => partition.step_failed(now_ms),
            (What::Expire, _) => {}
            (What::Vacate, StateReply::Vacated(Vacated::Told)) => {
                self.stats.vacated += 1;
                partition.poll_spaced(now_ms);
            }
            (What::Vacate, StateReply::Vacated(Vacated::Dropped)) => {
                self.stats.dropped += 1;
                self.drops.note(number, now_ms);
            }
            (What::Vacate, _) => {}
            (What::Forget { queue }, reply) => {
                let ok = matches!(reply, StateReply::Forgotten(_));
                match partition.queues[queue].removed(ok, self.last + 1, now_ms) {
                    // There is more.
                    STATE_BATCH_MAX.. => partition.poll_soon(now_ms),
                    1.. => partition.poll_spaced(now_ms),
                    0 => {}
                }
            }
        }
        self.visit(number, now_ms, out);
    }

    /// What came of a delivery.
    pub fn told(&mut self, number: u64, ok: bool, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(Tell { partition: at, term, queue }) = self.tells.remove(&number) else { return };
        let backend = &mut self.backends[queue];
        backend.in_flight -= 1;
        self.stats.failed += u64::from(!ok);
        let partition = &mut self.partitions[at as usize];
        if partition.term == term {
            let draw = self.rng.f64();
            if let Some(counts) = partition.queues[queue].told(number, ok, now_ms, draw)
                && ok
            {
                self.stats.delivered[0] += counts[0];
                self.stats.delivered[1] += counts[1];
            }
            self.visit(at, now_ms, out);
        }
        while self.backends[queue].in_flight < STATE_DELIVERIES_MAX {
            let Some(next) = self.backends[queue].waiting.pop_front() else { break };
            self.visit(next, now_ms, out);
        }
    }

    /// So many nodes are alive, this one included.
    pub fn nodes_are(&mut self, count: u32, now_ms: u64) {
        if self.leases.nodes_are(count) {
            self.partitions.iter_mut().for_each(|partition| partition.try_soon(now_ms, &mut self.rng));
            self.due_ms = now_ms;
        }
    }

    /// There is something in a queue of a partition.
    pub fn wake(&mut self, partition: u32, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(known) = self.partitions.get_mut(partition as usize) else { return };
        // What is read only once another batch is gone is looked for then.
        if known.queues.iter().any(|queue| !queue.is_busy()) {
            known.poll_spaced(now_ms);
            self.visit(partition, now_ms, out);
        }
    }

    /// A backend that is told of channels from now on.
    pub fn also_tells(&mut self, proxy: ProxyId, name: &str) {
        if self.backends.iter().all(|backend| backend.proxy != proxy) {
            self.backends.push(Backend::new(proxy, name.into()));
            self.partitions.iter_mut().for_each(|partition| partition.queues.push(queue::Queue::default()));
        }
    }

    /// How long nothing expires after nobody could reach the store, ms, from the next time on.
    pub fn grace_is(&mut self, grace_ms: u64) {
        self.grace_ms = grace_ms;
    }

    /// Whether anybody is told of anything.
    pub fn has_backends(&self) -> bool {
        !self.backends.is_empty()
    }

    /// The node stops: gives back what it has, once what backends have before them is through.
    pub fn stop(&mut self, now_ms: u64) {
        if self.stops_since_ms.is_none() {
            self.stops_since_ms = Some(now_ms);
            self.partitions.iter_mut().for_each(|partition| partition.gives_back = true);
            self.due_ms = now_ms;
        }
    }

    /// Whether everything is given back, after [`Self::stop`], as far as it can be.
    pub fn is_stopped(&self, now_ms: u64) -> bool {
        let Some(since_ms) = self.stops_since_ms else { return false };
        let is_left = now_ms >= since_ms + STATE_STOP_MS;
        is_left || (self.asked.is_empty() && !self.partitions.iter().any(Partition::is_mine))
    }

    /// Age of the oldest event by partition and backend, of the partitions that this node has.
    pub fn lags_ms(&self, now_ms: u64) -> impl Iterator<Item = (u32, &str, u64)> {
        let own = self.partitions.iter().zip(0..).filter(|(partition, _)| partition.is_mine());
        own.flat_map(move |(partition, number)| {
            let queues = partition.queues.iter().zip(&self.backends);
            queues.map(move |(queue, backend)| (number, &*backend.name, queue.lag_ms(now_ms)))
        })
    }

    /// See [`WorkersStats`].
    pub fn stats(&self) -> WorkersStats {
        let count = |of: fn(&Partition) -> bool| self.partitions.iter().filter(|partition| of(partition)).count();
        WorkersStats { held: count(Partition::is_mine), in_grace: count(Partition::is_in_grace), ..self.stats.clone() }
    }

    /// Does what can be done for a partition now.
    fn visit(&mut self, number: u32, now_ms: u64, out: &mut Vec<Effect>) {
        let partition = &mut self.partitions[number as usize];
        match partition.stand {
            Stand::Away { at_ms, overdue_ms, asks: false } if now_ms >= at_ms.min(overdue_ms) => {
                if self.stops_since_ms.is_some() {
                    partition.never_again();
                } else if now_ms >= overdue_ms || self.leases.may_take() {
                    self.leases.takes(number);
                    partition.asks();
                    self.ask(number, now_ms, What::Take, AskWhat::Take, out);
                } else {
                    partition.not_now(now_ms);
                }
            }
            Stand::Away { .. } => {}
            Stand::Mine { .. } if partition.has_run_out(now_ms) => {
                self.stats.lost += 1;
                self.leave(number, now_ms);
            }
            Stand::Mine { .. } => {
                for queue in 0..self.backends.len() {
                    self.serve(number, queue, now_ms, out);
                }
                if self.partitions[number as usize].may_be_released() {
                    self.release(number, now_ms, out);
                } else if self.partitions[number as usize].may_step(now_ms) {
                    self.step(number, now_ms, out);
                }
            }
        }
        self.due_ms = self.due_ms.min(self.partitions[number as usize].next_ms(now_ms));
    }

    /// Goes on with one queue.
    fn serve(&mut self, number: u32, queue: usize, now_ms: u64, out: &mut Vec<Effect>) {
        let partition = &mut self.partitions[number as usize];
        let backend = &mut self.backends[queue];
        let proxy = backend.proxy;
        match partition.queues[queue].need(now_ms) {
            Need::Wait(_) => {}
            Need::Remove => {
                let ids = partition.queues[queue].remove();
                self.ask(number, now_ms, What::Forget { queue }, AskWhat::Forget { proxy, ids }, out);
            }
            Need::Tell if !partition.may_tell(now_ms) => {}
            Need::Tell if backend.in_flight >= STATE_DELIVERIES_MAX => {
                if !backend.waiting.contains(&number) {
                    backend.waiting.push_back(number);
                }
            }
            Need::Tell => {
                self.last += 1;
                let events = partition.queues[queue].tell(self.last);
                self.tells.insert(self.last, Tell { partition: number, term: partition.term, queue });
                backend.in_flight += 1;
                out.push(Effect::Notify { number: self.last, proxy, events });
            }
        }
    }

    fn step(&mut self, number: u32, now_ms: u64, out: &mut Vec<Effect>) {
        let partition = &mut self.partitions[number as usize];
        let tick_age_max_ms = partition.steps(number, now_ms);
        let free = partition.queues.iter().zip(&self.backends).filter(|(queue, _)| !queue.is_busy());
        let proxies = free.map(|(_, backend)| backend.proxy).collect();
        let what = What::Step { is_any_age: tick_age_max_ms.is_none() };
        self.ask(number, now_ms, what, AskWhat::Step { tick_age_max_ms, proxies }, out);
    }

    /// What was read while the lease was this node's.
    fn read(&mut self, number: u32, ticket: Ticket, step: StateStep, now_ms: u64, out: &mut Vec<Effect>) {
        let partition = &mut self.partitions[number as usize];
        if partition.gives_back {
            return;
        }
        for (proxy, queued) in step.events {
            let at = self.backends.iter().position(|backend| backend.proxy == proxy);
            if let Some(queue) = at.and_then(|at| partition.queues.get_mut(at)) {
                queue.read(ticket, queued, step.now_ms, now_ms);
            }
        }
        // Those that are still being worked on were named again.
        if partition.chores > 0 || partition.is_in_grace() {
            return;
        }
        partition.chores = step.expired.len() + step.due.len();
        if step.expired.len() >= STATE_CHORES_MAX || step.due.len() >= STATE_CHORES_MAX {
            partition.poll_soon(now_ms);
        }
        for channel in step.expired {
            self.ask(number, now_ms, What::Expire, AskWhat::Expire(channel), out);
        }
        for channel in step.due {
            self.ask(number, now_ms, What::Vacate, AskWhat::Vacate(channel), out);
        }
    }

    fn ask(&mut self, partition: u32, sent_ms: u64, what: What, wanted: AskWhat, out: &mut Vec<Effect>) {
        self.last += 1;
        let Partition { term, token, .. } = &self.partitions[partition as usize];
        self.asked.insert(self.last, Asked { partition, term: *term, sent_ms, what });
        out.push(Effect::Ask(Ask { ticket: self.last, partition, token: Rc::clone(token), what: wanted }));
    }
}

impl Backend {
    fn new(proxy: ProxyId, name: Box<str>) -> Self {
        Self { proxy, name, in_flight: 0, waiting: VecDeque::new() }
    }
}
