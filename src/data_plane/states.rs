//! The workers of channel state on core 0, between the store and the control thread, which has the way to the backends.
//!
//! In the core's turn, after the store has taken in what there is; nothing waits. What the store does not take has failed at
//! once. Leases are given back after the clients of the core have left.

use std::collections::BTreeSet;
use std::time::Duration;

use gyre_engine::StateReply;
use gyre_engine::backend::ProxyId;
use gyre_engine::channel_state::{Effect, Workers, WorkersOptions, WorkersStats};
use gyre_engine::limits::{STATE_GRACE_MARGIN_MS, STATE_GRACE_MS};
use gyre_engine::rules::Rules;
use gyre_io::Driver;
use gyre_io::mesh::Port;

use super::parcel::{Parcel, StateBatch, ToControl};
use super::store::Store;
use super::{Core, now};

/// The core that has the workers.
const CARRIER: usize = 0;

/// See the module.
pub(super) struct States {
    workers: Workers,
    names: Vec<Box<str>>,
    effects: Vec<Effect>,
    /// Partitions in which calls of other cores have queued events.
    appended: BTreeSet<u32>,
    has_asked_policy: bool,
}

/// What they report.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateSnapshot {
    pub(crate) stats: WorkersStats,
    /// By backend and partition: age of the oldest event in ms, 0 = none waits.
    pub(crate) lags: Vec<(Box<str>, u32, u64)>,
}

impl States {
    /// `None` = another core has them, or no backend is told of any channel.
    pub(super) fn new(core: &Core, seed: u64) -> Option<Self> {
        let store = core.store.borrow();
        let (partitions, names) = store.as_ref()?.state_backends().filter(|_| usize::from(core.id.0) == CARRIER)?;
        let rules = core.engine.borrow().rules().clone();
        let options = WorkersOptions {
            node_uid: core.settings.node_uid.clone(),
            partitions,
            backends: Vec::new(),
            grace_ms: grace_ms(&rules),
            seed,
        };
        let workers = Workers::new(options, now(&core.driver.borrow()).mono_ms);
        let mut states = Self::of(workers, names);
        states.follow(&rules);
        Some(states)
    }

    fn of(workers: Workers, names: &[Box<str>]) -> Self {
        let (names, effects, appended) = (names.to_vec(), Vec::new(), BTreeSet::new());
        Self { workers, names, effects, appended, has_asked_policy: false }
    }

    /// Backends that are told by new rules, and how often clients renew their entries by them. Backends that are told no more
    /// may still have events waiting.
    pub(super) fn follow(&mut self, rules: &Rules) {
        self.workers.grace_is(grace_ms(rules));
        let namespaces = rules.namespaces.iter().map(|(_, options)| options);
        for events in [&rules.without_namespace].into_iter().chain(namespaces).filter_map(|options| options.state) {
            if let Some(name) = self.names.get(usize::from(events.proxy.0)) {
                self.workers.also_tells(events.proxy, name);
            }
        }
    }

    /// Once per turn, while the store is there.
    pub(super) fn turn(&mut self, core: &Core, driver: &mut Driver) {
        if !self.workers.has_backends() {
            return;
        }
        let now_ms = driver.now_ms();
        {
            let mut store = core.store.borrow_mut();
            let Some(store) = &mut *store else { return };
            if !std::mem::replace(&mut self.has_asked_policy, true) {
                store.ask_policy(now_ms);
            }
            self.appended.extend(store.take_appended());
            self.wake(now_ms);
            for (ticket, reply) in store.take_state_answers() {
                self.workers.answered(ticket, reply, now_ms, &mut self.effects);
            }
            self.workers.turn(now_ms, &mut self.effects);
            self.carry_out(core, store, now_ms);
        }
        match self.workers.next_ms() {
            u64::MAX => {}
            next_ms => driver.wake_within(Duration::from_millis(next_ms.saturating_sub(now_ms))),
        }
    }

    /// Calls of another core have queued an event.
    pub(super) fn appended(&mut self, partition: u32) {
        self.appended.insert(partition);
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some(partition) = self.appended.pop_first() {
            self.workers.wake(partition, now_ms, &mut self.effects);
        }
    }

    /// What came of a delivery. What follows goes out with the turn.
    pub(super) fn told(&mut self, number: u64, ok: bool, now_ms: u64) {
        self.workers.told(number, ok, now_ms, &mut self.effects);
    }

    /// So many nodes are alive, this one included.
    pub(super) fn nodes_are(&mut self, count: u32, now_ms: u64) {
        self.workers.nodes_are(count, now_ms);
    }

    /// The clients have left. `true` = so have the leases, or they cannot be given back.
    pub(super) fn stop(&mut self, now_ms: u64) -> bool {
        self.workers.stop(now_ms);
        self.workers.is_stopped(now_ms)
    }

    pub(super) fn snapshot(&self, now_ms: u64) -> StateSnapshot {
        let lags = self.workers.lags_ms(now_ms).map(|(partition, name, lag_ms)| (name.into(), partition, lag_ms));
        StateSnapshot { stats: self.workers.stats(), lags: lags.collect() }
    }

    fn carry_out(&mut self, core: &Core, store: &mut Store, now_ms: u64) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Ask(ask) => {
                        let engine = core.engine.borrow();
                        let call = ask.call(|channel| told_of_vacated(engine.rules(), channel));
                        if !store.ask_state(ask.ticket, &call, now_ms) {
                            self.workers.answered(ask.ticket, StateReply::Failed, now_ms, &mut self.effects);
                        }
                    }
                    Effect::Notify { number, proxy, events } => {
                        let batch = Box::new(StateBatch { proxy, events });
                        core.tell_control(ToControl::StateEvents { core: core.id, number, batch });
                    }
                }
            }
        }
    }
}

/// Once per turn of a core that does not have the workers: tells the one that has. Otherwise what its clients' coming has
/// queued would be found only with the next look at the partition.
pub(super) fn pass_on(store: &mut Store, port: &mut Port<Parcel>) {
    store.take_appended().for_each(|partition| port.send(CARRIER, Parcel::Appended(partition)));
}

/// By the rules of now: they may be others than when the channel became occupied.
fn told_of_vacated(rules: &Rules, channel: &str) -> Option<ProxyId> {
    let events = rules.resolve(channel)?.options.state?;
    events.vacated.then_some(events.proxy)
}

/// Every client has renewed its entries once, and a little more.
fn grace_ms(rules: &Rules) -> u64 {
    match rules.client.presence_update_interval_ms {
        u64::MAX => STATE_GRACE_MS,
        interval_ms => interval_ms.saturating_add(STATE_GRACE_MARGIN_MS),
    }
}

#[cfg(test)]
mod tests {
    use gyre_engine::StateStep;
    use gyre_engine::channel_state::{Ask, AskWhat};
    use gyre_io::mesh::Mesh;
    use gyre_io::redis::{Endpoint, Reply, Servers};
    use gyre_proto::ids::CoreId;

    use super::*;
    use crate::config::{Config, Flag, Sources};
    use crate::settings::StoreSettings;
    use crate::settings::proxies::Proxies;

    /// Of a core that has no workers.
    fn store() -> Store {
        let flags = [
            ("engine.type", "redis"),
            ("channel.proxy.state.endpoint", "http://127.0.0.1:1/state"),
            ("channel.without_namespace.presence", "true"),
            ("channel.without_namespace.state_proxy_enabled", "true"),
        ];
        let flags = flags.map(|(path, value)| Flag { path: path.to_owned(), value: value.to_owned() }).into();
        let (config, _) = Config::load(Sources { flags, ..Sources::default() }).unwrap();
        let proxies = Proxies::new(&config).unwrap();
        let servers = Servers::One(Endpoint::Internet(([127, 0, 0, 1], 1).into()));
        let options = StoreSettings::new(&config).unwrap().unwrap().store("node", 2, &[servers.into()], &proxies);
        Store::new(options.unwrap(), CoreId(1), 1)
    }

    /// With the leases of all its partitions.
    fn states(now_ms: u64) -> States {
        let backends = vec![(ProxyId(0), "state".into())];
        let options = WorkersOptions { node_uid: "node".into(), partitions: 8, backends, grace_ms: 0, seed: 1 };
        let mut states = States::of(Workers::new(options, 0), &[]);
        for now_ms in 0..=now_ms {
            states.workers.turn(now_ms, &mut states.effects);
            while let Some(effect) = states.effects.pop() {
                let Effect::Ask(Ask { ticket, what, .. }) = effect else { panic!("{effect:?}") };
                let reply = match what {
                    AskWhat::Take => StateReply::Lease { is_held: true, left_ms: 10_000, token: "".into() },
                    _ => StateReply::Step(Box::new(StateStep {
                        now_ms,
                        ticked_ms: Some(now_ms),
                        ..StateStep::default()
                    })),
                };
                states.workers.answered(ticket, reply, now_ms, &mut states.effects);
            }
        }
        assert_eq!(states.workers.stats().held, 8);
        states
    }

    /// After a reload that makes renewals rarer, an outage would be told as the leaving of everybody: nobody had time to renew.
    #[test]
    fn grace_follows_the_rules() {
        let mut states = states(5_000);
        let mut rules = Rules::default();
        rules.client.presence_update_interval_ms = 60_000;
        states.follow(&rules);
        let (mut late_ms, mut over_ms) = (None, None);
        for now_ms in (65_000..300_000).step_by(50) {
            states.workers.turn(now_ms, &mut states.effects);
            while let Some(effect) = states.effects.pop() {
                let Effect::Ask(Ask { ticket, what, .. }) = effect else { panic!("{effect:?}") };
                let mut step = StateStep { now_ms, ticked_ms: Some(5_000), ..StateStep::default() };
                let reply = match what {
                    AskWhat::Take => StateReply::Lease { is_held: true, left_ms: 10_000, token: "".into() },
                    AskWhat::Step { tick_age_max_ms: Some(_), .. } => {
                        late_ms.get_or_insert(now_ms);
                        StateReply::Step(Box::new(step))
                    }
                    _ => {
                        over_ms.get_or_insert(now_ms);
                        step.ticked_ms = Some(now_ms);
                        StateReply::Step(Box::new(step))
                    }
                };
                states.workers.answered(ticket, reply, now_ms, &mut states.effects);
            }
        }
        let grace_ms = over_ms.expect("the end") - late_ms.expect("the beginning");
        assert!((60_000 + STATE_GRACE_MARGIN_MS..65_000).contains(&grace_ms), "{grace_ms}");
    }

    /// With several cores, most first subscribers would be told of only with the next look at their partition.
    #[test]
    fn what_other_cores_have_queued_is_looked_for_at_once() {
        let (mut ports, mut store) = (Mesh::new(3).unwrap(), store());
        for _ in 0..3 {
            // New, with an event, in partition 5.
            store.note_entered(&Reply::Int(16 * 5 + 2 + 1), 0);
        }
        pass_on(&mut store, &mut ports[1]);
        pass_on(&mut store, &mut ports[1]);
        ports[1].flush();
        let mut states = states(5_000);
        let mut parcels = 0;
        ports[CARRIER].drain(|_, parcel| {
            let Parcel::Appended(partition) = parcel else { panic!("{parcel:?}") };
            states.appended(partition);
            parcels += 1;
        });
        assert_eq!(parcels, 1, "one for all that a turn has brought");
        states.wake(5_000);
        let [Effect::Ask(Ask { partition: 5, what: AskWhat::Step { .. }, .. })] = &states.effects[..] else {
            panic!("{:?}", states.effects)
        };
    }
}
