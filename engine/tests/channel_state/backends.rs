//! The backends: what reaches them and when, and what the nodes hear of it.

use gyre_engine::backend::{ProxyId, StateEvent};
use gyre_engine::limits::{STATE_BATCH_MAX, STATE_DELIVERIES_MAX};

use crate::sim::{Sim, partition_of, proxy_of};

/// Of a delivery, as a node waits for it.
const TIMEOUT_MS: u64 = 1_000;

/// A delivery on its way.
pub(crate) struct Delivery {
    pub(crate) node: String,
    pub(crate) number: u64,
    pub(crate) proxy: ProxyId,
    pub(crate) partition: u32,
    /// The backend has it then; `None` = never.
    pub(crate) arrives_ms: Option<u64>,
    /// The node hears of it then.
    pub(crate) ends_ms: u64,
    pub(crate) ok: bool,
    pub(crate) events: Vec<StateEvent>,
}

impl Sim {
    pub(crate) fn notify(&mut self, uid: &str, number: u64, proxy: ProxyId, events: Vec<StateEvent>) {
        let now_ms = self.now_ms;
        self.note(|| format!("{uid}: tells {proxy:?} {number} {events:?}"));
        let partition = partition_of(&events[0].channel);
        assert!(
            events.len() <= STATE_BATCH_MAX && events.iter().all(|event| partition_of(&event.channel) == partition)
        );
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

    pub(crate) fn deliver(&mut self) {
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
